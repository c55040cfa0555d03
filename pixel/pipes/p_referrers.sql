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
        -- As for pages: each visitor's first view from a host is known, but a visitor of several websites is gathered
        -- several times.
        countIf(nth = 1 AND visitor != 0 AND length({websites:Array(String)}) = 1)
            + uniqExactIf(visitor, visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        countIf(nth_of_session = 1 AND visitor != 0 AND is_within(head, {since:UInt64}, {until:UInt64})) AS sessions,
        count()                                                   AS pageviews
    FROM (
        SELECT
            visitor,
            arraySort(groupArray(noted))                          AS hits,
            -- Of the views that came from somewhere alone.
            groupArrayIf(noted, is_noted(noted))                  AS unsorted,
            in_order(groupArrayIf(came_from, is_noted(noted)), unsorted) AS hosts,
            arrayFilter((head, hit) -> is_noted(hit), heads_by(hits, pauses_of(hits), visitor), hits) AS heads
        FROM (
            SELECT
                visitor,
                cityHash64(referrer) AS came_from,
                person(visitor, website_id) AS person,
                noted(marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign,
                        utm_term, utm_content, country, device, browser, os, language, llm_engine, goal, channel, source,
                        medium, campaign),
                    referrer != '' AND is_view(hit) AND is_within(hit, {since:UInt64}, {until:UInt64})) AS noted
            FROM events
            WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
        )
        GROUP BY person, visitor
        HAVING notEmpty(unsorted)
    )
    ARRAY JOIN
        hosts AS host,
        heads AS head,
        arrayEnumerateUniq(arrayMap((host, head) -> if(is_from(head), host, 0), hosts, heads)) AS nth,
        arrayEnumerateUniq(hosts, heads) AS nth_of_session
    WHERE is_from(head)
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
