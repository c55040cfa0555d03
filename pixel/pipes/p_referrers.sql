-- title: Referrers
-- about: The hosts that pageviews came from, by visitors. Each pageview is counted under its own referrer; pageviews
--   without one are left out.
-- returns referrer: The host that linked to the page.
-- returns visitors: Distinct visitors with such a pageview.
-- returns sessions: Sessions starting in the range with such a pageview in the range.
-- returns pageviews: Pageviews that came from it.
SELECT
    referrer,
    uniqExactIf(visitor, visitor != 0)                                AS visitors,
    uniqExactIf((website_id, visitor, started), started != 0)         AS sessions,
    count()                                                           AS pageviews
FROM (
    SELECT website_id, visitor, started, referrer
    FROM (
        SELECT website_id, visitor, hits, if(hits.5[1], hits.1[1], 0) AS started
        FROM (
            SELECT
                website_id,
                visitor,
                arrayJoin(sessions_of(groupArray(
                    (at, event_id, name = 'pageview' AND referrer != '', referrer, in_range, kept, source_kept)))) AS hits
            FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                                bots = {bots:String}, filters = {filters:Array(String)})
            WHERE visitor != 0
            GROUP BY website_id, visitor
        )
        WHERE hits.7[1]
    )
    ARRAY JOIN hits.3 AS referred, hits.4 AS referrer, hits.5 AS in_range, hits.6 AS kept
    WHERE referred AND in_range AND kept

    UNION ALL

    SELECT website_id, 0, 0, referrer
    FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                        since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                        bots = {bots:String}, filters = {filters:Array(String)})
    WHERE visitor = 0 AND name = 'pageview' AND referrer != '' AND in_range AND kept AND source_kept
)
GROUP BY referrer
ORDER BY visitors DESC, pageviews DESC, referrer
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
