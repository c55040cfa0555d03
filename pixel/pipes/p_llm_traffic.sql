-- title: AI assistants
-- about: Visits that an AI assistant sent: sessions whose first event came from one, by visitors. An event without a
--   visitor stands for itself.
-- returns llm_engine: The assistant, such as chatgpt, claude or perplexity.
-- returns visitors: Distinct visitors with an event in the range, in a session that it sent.
-- returns sessions: Sessions starting in the range that it sent.
-- returns pageviews: Pageviews in the range, in sessions that it sent.
-- returns top_path: The page most viewed in them, the first in the alphabet of equals; empty without pageviews.
SELECT
    llm_engine,
    sum(people) + uniqExactMerge(several)                             AS visitors,
    sum(visits)                                                       AS sessions,
    sum(views)                                                        AS pageviews,
    arraySort(one -> (-one.2, one.1), groupArrayIf((CAST(path, 'String'), views), views > 0))[1].1 AS top_path
FROM (
    SELECT
        engine,
        page,
        -- As for pages: each visitor's first event from an assistant is known, but a visitor of several websites is
        -- gathered several times.
        countIf(counts AND nth = 1 AND visitor != 0 AND length({websites:Array(String)}) = 1)           AS people,
        uniqExactStateIf(visitor, counts AND visitor != 0 AND length({websites:Array(String)}) != 1)    AS several,
        countIf(nth_of_session = 1 AND visitor != 0 AND is_within(head, {since:UInt64}, {until:UInt64})) AS visits,
        toInt64(countIf((is_within(hit, {since:UInt64}, {until:UInt64}) AS counts) AND is_view(hit)))    AS views
    FROM (
        SELECT
            visitor,
            groupArray(marked)                                  AS unsorted,
            arraySort(unsorted)                                 AS hits,
            in_order(groupArray(page), unsorted)                AS pages,
            heads_by(hits, pauses_of(hits), visitor)            AS heads,
            arrayFill((engine, hit, head) -> hit = head, in_order(groupArray(own), unsorted), hits, heads) AS engines
        FROM (
            SELECT
                visitor, hit,
                cityHash64(path) AS page,
                -- 0 for none, and a function of one column alone, which is asked once for each of its values.
                bitXor(cityHash64(llm_engine), cityHash64('')) AS own,
                person(visitor, website_id) AS person,
                marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign, utm_term,
                    utm_content, country, device, browser, os, language, llm_engine, goal, channel, source, medium, campaign)
                    AS marked
            FROM events
            WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
                AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
        )
        GROUP BY person, visitor
        HAVING arrayMax(groupArray(own)) != 0
    )
    ARRAY JOIN
        hits AS hit, pages AS page, engines AS engine, heads AS head,
        arrayEnumerateUniq(arrayMap((engine, hit, head) ->
            if(is_within(hit, {since:UInt64}, {until:UInt64}) AND is_kept(hit) AND is_from(head), engine, 0),
            engines, hits, heads)) AS nth,
        firsts_of(hits, heads) AS nth_of_session
    WHERE engine != 0 AND is_from(head) AND is_kept(hit)
    GROUP BY engine, page
) AS figures
INNER JOIN (
    SELECT cityHash64(path) AS page, path
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    GROUP BY path
) AS pages USING (page)
INNER JOIN (
    SELECT bitXor(cityHash64(llm_engine), cityHash64('')) AS engine, llm_engine
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND llm_engine != ''
    GROUP BY llm_engine
) AS engines USING (engine)
GROUP BY llm_engine
HAVING visitors > 0 OR sessions > 0 OR pageviews > 0
ORDER BY visitors DESC, pageviews DESC, llm_engine
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
