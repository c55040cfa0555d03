-- title: Realtime visitors
-- about: Visitors and pageviews in each of the last 60 minutes that has any event, newest first. The range asked for
--   does not matter: it is always the hour that ends now.
-- returns minute: Start of the minute, in UTC.
-- returns visitors: Distinct visitors with any event in that minute.
-- returns pageviews: Pageviews in that minute.
-- returns live_visitors: Distinct visitors with any event in the last 5 minutes; the same on every row.
SELECT
    iso(start)                          AS minute,
    visitors,
    pageviews,
    uniqExactIfMerge(live) OVER ()      AS live_visitors
FROM (
    SELECT
        toStartOfMinute(time_of_hit(hit))   AS start,
        uniqExactIf(visitor, visitor != 0)  AS visitors,
        countIf(is_view(hit))               AS pageviews,
        uniqExactIfState(
            visitor, visitor != 0 AND hit >= hit_at(toUnixTimestamp64Milli({now:DateTime64(3, 'UTC')}) - 299999)) AS live
    FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                     since = hit_at(toUnixTimestamp64Milli({now:DateTime64(3, 'UTC')}) - 3599999),
                     until = hit_at(toUnixTimestamp64Milli({now:DateTime64(3, 'UTC')}) + 1),
                     bots = {bots:String}, filters = {filters:Array(String)})
    GROUP BY start
)
ORDER BY minute DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
