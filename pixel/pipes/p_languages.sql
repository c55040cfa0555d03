-- title: Languages
-- about: What languages visitors' browsers ask for.
-- returns language: Language tag as it was sent, such as en-GB; empty where it is not known.
-- returns visitors: Distinct visitors with any event in the range.
-- returns pageviews: Their pageviews, and those without a visitor.
SELECT
    language,
    uniqExactIf(visitor, visitor != 0)  AS visitors,
    countIf(is_view(hit))               AS pageviews
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)})
GROUP BY language
ORDER BY visitors DESC, pageviews DESC, language
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
