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
    uniqExactMerge(people)                                                        AS visitors,
    uniqExactMerge(visits)                                                        AS sessions,
    sum(views)                                                                    AS pageviews,
    arraySort(one -> (-one.2, one.1), groupArrayIf((page, views), views > 0))[1].1 AS top_path
FROM (
    SELECT
        engine,
        page,
        uniqExactStateIf(visitor, visitor != 0 AND counts)                        AS people,
        uniqExactStateIf((person, head), visitor != 0 AND is_within(head, {since:UInt64}, {until:UInt64})) AS visits,
        toInt64(countIf(is_view(hit) AND counts))                                 AS views
    FROM (
        SELECT person, visitor, hit, page, engine, head, is_within(hit, {since:UInt64}, {until:UInt64}) AS counts
        FROM (
            SELECT
                person,
                any(visitor)                                        AS visitor,
                groupArray(marked)                                  AS unsorted,
                arraySort(unsorted)                                 AS hits,
                in_order(groupArray(if(llm_engine = '', 0, cityHash64(llm_engine))), unsorted) AS own,
                in_order(groupArray(path), unsorted)                AS pages,
                heads_of(hits, nexts_of(hits), visitor)             AS heads,
                arrayFill((engine, hit, head) -> hit = head, own, hits, heads) AS engines
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = {since:UInt64}, until = {until:UInt64},
                              bots = {bots:String}, filters = {filters:Array(String)})
            GROUP BY person
            HAVING max(llm_engine) != ''
        )
        ARRAY JOIN hits AS hit, pages AS page, engines AS engine, heads AS head
        WHERE engine != 0 AND is_from(head) AND is_kept(hit)
    )
    GROUP BY engine, page
) AS figures
INNER JOIN (
    SELECT cityHash64(llm_engine) AS engine, llm_engine
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)} AND llm_engine != ''
    GROUP BY llm_engine
) AS names USING (engine)
GROUP BY llm_engine
HAVING visitors > 0 OR sessions > 0 OR pageviews > 0
ORDER BY visitors DESC, pageviews DESC, llm_engine
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
