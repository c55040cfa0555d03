-- title: Referrers
-- about: The hosts that pageviews came from, by visitors. Each pageview is counted under its own referrer; pageviews
--   without one are left out.
-- returns referrer: The host that linked to the page.
-- returns visitors: Distinct visitors with such a pageview.
-- returns sessions: Sessions starting in the range with such a pageview in the range.
-- returns pageviews: Pageviews that came from it.
SELECT referrer, visitors, sessions, pageviews
FROM (
    SELECT
        host,
        uniqExactIf(visitor, visitor != 0)                        AS visitors,
        uniqExactIf((person, head), visitor != 0
            AND is_within(head, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})) AS sessions,
        count()                                                   AS pageviews
    FROM (
        SELECT person, visitor, hit, host, head
        FROM (
            SELECT
                person,
                any(visitor)                                        AS visitor,
                groupArray(marked)                                  AS unsorted,
                arraySort(unsorted)                                 AS hits,
                in_order(groupArray(if(referrer = '', 0, cityHash64(referrer))), unsorted) AS hosts,
                heads_of(hits, nexts_of(hits), visitor)             AS heads
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                              bots = {bots:String}, filters = {filters:Array(String)})
            GROUP BY person
            HAVING max(referrer) != ''
        )
        ARRAY JOIN hits AS hit, hosts AS host, heads AS head
        WHERE host != 0 AND is_view(hit) AND is_kept(hit) AND is_from(head)
            AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
    )
    GROUP BY host
) AS figures
INNER JOIN (
    SELECT cityHash64(referrer) AS host, referrer
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND referrer != ''
    GROUP BY referrer
) AS names USING (host)
ORDER BY visitors DESC, pageviews DESC, referrer
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
