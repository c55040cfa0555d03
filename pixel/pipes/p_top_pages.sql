-- title: Top pages
-- about: Pages by visitors, most visited first. Entrances, exits and the bounce rate are about the sessions that start
--   in the range; every figure is about pageviews in the range.
-- returns path: The page's path, without host and query.
-- returns visitors: Distinct visitors who viewed it.
-- returns pageviews: Its pageviews, those without a visitor too.
-- returns entrances: Sessions whose first pageview it was.
-- returns exits: Sessions whose last pageview it was.
-- returns bounce_rate: Share of its entrances that were the session's only event, 0 to 1.
-- returns avg_seconds: Mean time from a view of it to the visitor's next event in the session; views with none are left out.
SELECT
    path,
    uniqExactIf(visitor, visitor != 0)                               AS visitors,
    count()                                                          AS pageviews,
    countIf(session_counts AND position = first_view)                AS entrances,
    countIf(session_counts AND position = last_view)                 AS exits,
    rate(countIf(session_counts AND session_events = 1), entrances)  AS bounce_rate,
    mean_seconds(sumIf(next_at - at, next_at > 0), countIf(next_at > 0)) AS avg_seconds
FROM (
    SELECT
        visitor, path, position, at, next_at, session_counts, first_view, last_view, session_events
    FROM (
        SELECT
            visitor,
            hits.3                                               AS is_view,
            hits.5                                               AS in_range,
            in_range[1]                                          AS session_counts,
            length(hits)                                         AS session_events,
            indexOf(is_view, 1)                                  AS first_view,
            length(hits) + 1 - indexOf(arrayReverse(is_view), 1) AS last_view,
            arrayPushBack(arrayPopFront(hits.1), 0)              AS next_times,
            hits
        FROM (
            SELECT
                visitor,
                arrayJoin(sessions_of(groupArray(
                    (at, event_id, name = 'pageview', path, in_range, kept, source_kept)))) AS hits
            FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                                bots = {bots:String}, filters = {filters:Array(String)})
            WHERE visitor != 0
            GROUP BY website_id, visitor
        )
        WHERE hits.7[1]
    )
    ARRAY JOIN
        hits.1 AS at, hits.4 AS path, hits.6 AS kept, is_view AS viewed, in_range AS counts, next_times AS next_at,
        arrayEnumerate(hits) AS position
    WHERE viewed AND counts AND kept

    UNION ALL

    SELECT 0, path, 0, 0, 0, 0, 0, 0, 0
    FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                        since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                        bots = {bots:String}, filters = {filters:Array(String)})
    WHERE visitor = 0 AND name = 'pageview' AND in_range AND kept AND source_kept
)
GROUP BY path
ORDER BY visitors DESC, pageviews DESC, path
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
