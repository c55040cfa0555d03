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
        sum(bitTest(facts, 0))
            + uniqExactIf(visitor, visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        count()                                             AS pageviews,
        sum(bitTest(facts, 1))                              AS entrances,
        sum(bitTest(facts, 2))                              AS exits,
        rate(sum(bitTest(facts, 3)), entrances)             AS bounce_rate,
        mean_seconds(sumIf(stay, stay >= 0), countIf(stay >= 0)) AS avg_seconds
    FROM (
        SELECT
            any(visitor)                                     AS visitor,
            groupArray(marked)                               AS unsorted,
            arraySort(unsorted)                              AS hits,
            in_order(groupArray(cityHash64(path)), unsorted) AS pages,
            nexts_of(hits)                                   AS nexts,
            heads_of(hits, nexts, visitor)                   AS heads,
            arrayMap((hit, head) -> is_view(hit) AND is_kept(hit) AND is_from(head)
                AND is_within(hit, {since:UInt64}, {until:UInt64}), hits, heads) AS counted,
            -- How long it is until the visitor's next event in the session; -1 when there is none.
            arrayMap((hit, next) -> if(ends_session(hit, next, visitor), -1, at(next) - at(hit)), hits, nexts) AS stays,
            -- The session of the last view before, and of the first one after.
            arrayMap((hit, head) -> if(is_view(hit), head, 0), hits, heads) AS heads_of_views,
            arrayPushFront(arrayPopBack(arrayFill(head -> head != 0, heads_of_views)), 0)         AS befores,
            arrayPushBack(arrayPopFront(arrayReverseFill(head -> head != 0, heads_of_views)), 0)  AS afters
        FROM (
            SELECT
                visitor, hit, path,
                person(visitor, website_id) AS person,
                marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign, utm_term,
                    utm_content, country, device, browser, os, language, llm_engine, goal, channel, source, medium, campaign)
                    AS marked
            FROM events
            WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
        )
        GROUP BY person
    )
    ARRAY JOIN
        pages AS page, counted AS counts, stays AS stay,
        -- Of each event in four bits: whether it is the visitor's first view of the page, an entrance, an exit, a bounce.
        arrayMap(
            (hit, stay, head, nth, before, after) -> (visitor != 0) * (
                (nth = 1 AND length({websites:Array(String)}) = 1)
                + (head >= {since:UInt64}) * (
                    2 * (before != head) + 4 * (after != head) + 8 * (before != head AND head = hit AND stay < 0))),
            hits, stays, heads, arrayEnumerateUniq(arrayMap((page, counts) -> if(counts, page, 0), pages, counted)),
            befores, afters) AS facts
    WHERE counts
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
