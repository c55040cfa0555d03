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
        countIf(nth = 1 AND visitor != 0 AND length({websites:Array(String)}) = 1)
            + uniqExactIf(visitor, visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        count()                                              AS pageviews,
        countIf(enters)                                      AS entrances,
        countIf(leaves)                                      AS exits,
        rate(countIf(enters AND head = hit AND ends), entrances) AS bounce_rate,
        mean_seconds(sumIf(at(next) - at(hit), NOT ends), countIf(NOT ends)) AS avg_seconds
    FROM (
        SELECT
            visitor, page, nth, hit, next, head, ends_session(hit, next, visitor) AS ends,
            is_within(head, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}) AND visitor != 0 AS counts,
            counts AND before != head AS enters,
            counts AND after != head  AS leaves
        FROM (
            SELECT
                any(visitor)                                     AS visitor,
                groupArray(marked)                               AS unsorted,
                arraySort(unsorted)                              AS hits,
                in_order(groupArray(cityHash64(path)), unsorted) AS pages,
                nexts_of(hits)                                   AS nexts,
                heads_of(hits, nexts, visitor)                   AS heads,
                arrayMap((hit, head) -> if(is_view(hit), head, 0), hits, heads) AS heads_of_views
            FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                              since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                              bots = {bots:String}, filters = {filters:Array(String)})
            GROUP BY person
        )
        ARRAY JOIN
            hits AS hit, pages AS page, nexts AS next, heads AS head,
            arrayEnumerateUniq(arrayMap((page, hit, head) -> if(is_view(hit) AND is_kept(hit) AND is_from(head)
                AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}), page, 0),
                pages, hits, heads)) AS nth,
            -- The session of the last view before, and of the first one after.
            arrayPushFront(arrayPopBack(arrayFill(head -> head != 0, heads_of_views)), 0)         AS before,
            arrayPushBack(arrayPopFront(arrayReverseFill(head -> head != 0, heads_of_views)), 0)  AS after
        WHERE is_view(hit) AND is_kept(hit) AND is_from(head)
            AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
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
