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
SELECT path, visitors, pageviews, entrances, exits, bounce_rate, avg_seconds
FROM (
    SELECT
        page,
        -- Each visitor's first view of a page is known, which costs less than to tell visitors apart; but a visitor of
        -- several websites is gathered several times.
        sum(nth = 1 AND visitor != 0 AND length({websites:Array(String)}) = 1)
            + uniqExactIf(visitor, visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        count()                                             AS pageviews,
        sum(enters)                                         AS entrances,
        sum(leaves)                                         AS exits,
        rate(sum(enters AND hit = head AND ends), entrances) AS bounce_rate,
        mean_seconds(sum(next * NOT ends), sum(NOT ends)) AS avg_seconds
    FROM (
        SELECT
            page, visitor, nth, hit, head, next,
            parts(next, visitor)                             AS ends,
            visitor != 0 AND head >= {since:UInt64}          AS begun,
            begun AND before != head                         AS enters,
            begun AND after != head                          AS leaves
        FROM (
            SELECT
                visitor,
                groupArray(noted)                            AS unsorted,
                arraySort(unsorted)                          AS hits,
                in_order(groupArray(page), unsorted)         AS pages,
                pauses_of(hits)                              AS pauses,
                heads_by(hits, pauses, visitor)              AS heads,
                arrayMap((hit, head) -> head * is_view(hit), hits, heads) AS heads_of_views
            FROM (
                SELECT
                    visitor,
                    cityHash64(path) AS page,
                    person(visitor, website_id) AS person,
                    noted(marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign,
                            utm_term, utm_content, country, device, browser, os, language, llm_engine, goal, channel,
                            source, medium, campaign),
                        is_view(hit) AND is_within(hit, {since:UInt64}, {until:UInt64})) AS noted
                FROM events
                WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                    AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
            )
            GROUP BY person, visitor
        )
        ARRAY JOIN
            hits AS hit, heads AS head, pages AS page,
            arrayShiftLeft(pauses, 1, 1800001) AS next,
            arrayEnumerateUniq(arrayMap((page, hit, head) -> page * (is_noted(hit) AND is_from(head)), pages, hits, heads))
                AS nth,
            -- The session of the last view before, and of the first one after.
            arrayShiftRight(arrayFill(head -> head != 0, heads_of_views), 1)       AS before,
            arrayShiftLeft(arrayReverseFill(head -> head != 0, heads_of_views), 1) AS after
        WHERE is_noted(hit) AND is_from(head)
    )
    GROUP BY page
) AS figures
INNER JOIN (
    SELECT cityHash64(path) AS page, path
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    GROUP BY path
) AS names USING (page)
ORDER BY visitors DESC, pageviews DESC, path
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
