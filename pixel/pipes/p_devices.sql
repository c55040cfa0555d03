-- title: Devices
-- about: What kinds of device visitors use.
-- returns device: desktop, mobile, tablet or tv, or what the sender called it; empty where it is not known.
-- returns visitors: Distinct visitors with any event in the range.
-- returns pageviews: Their pageviews, and those without a visitor.
SELECT
    device,
    uniqExactIf(visitor, visitor != 0)  AS visitors,
    countIf(is_view(hit))               AS pageviews
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)})
GROUP BY device
ORDER BY visitors DESC, pageviews DESC, device
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
