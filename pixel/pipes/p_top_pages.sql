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
        -- A visitor's first view of each page is marked, which costs less than to tell visitors apart; but a visitor of
        -- several websites is gathered several times.
        countIf(first AND length({websites:Array(String)}) = 1)
            + uniqExactIf(visitor, visitor != 0 AND length({websites:Array(String)}) != 1) AS visitors,
        count()                                              AS pageviews,
        countIf(enters)                                      AS entrances,
        countIf(leaves)                                      AS exits,
        rate(countIf(enters AND alone), entrances)           AS bounce_rate,
        mean_seconds(sum(stay), countIf(stays))              AS avg_seconds
    FROM (
        SELECT
            any(visitor)                                     AS visitor,
            groupArray(marked)                               AS unsorted,
            arraySort(unsorted)                              AS hits,
            in_order(groupArray(cityHash64(path)), unsorted) AS pages,
            starts_of(hits, visitor)                         AS starts,
            arrayPushBack(arrayPopFront(starts), 1)          AS ends,
            arrayFill((hit, start) -> start, hits, starts)   AS firsts,
            arrayMap(hit -> is_view(hit), hits)              AS views,
            arrayCumSum(views)                               AS seen,
            arrayFill((n, start) -> start, arrayMap((n, view) -> n - view, seen, views), starts) AS seen_before,
            arrayReverseFill((n, end) -> end, seen, ends)    AS seen_at_end,
            arrayMap((hit, view, first) -> view AND is_kept(hit) AND is_from(first)
                AND is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}),
                hits, views, firsts)                         AS shown
        FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                          since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                          bots = {bots:String}, filters = {filters:Array(String)})
        GROUP BY person
    )
    ARRAY JOIN
        pages AS page,
        shown AS is_shown,
        arrayMap((n, page, show) -> show AND n = 1 AND visitor != 0,
            arrayEnumerateUniq(arrayMap((page, show) -> if(show, page, 0), pages, shown)), pages, shown) AS first,
        arrayMap((n, before, first) -> n - before = 1 AND visitor != 0
            AND is_within(first, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}),
            seen, seen_before, firsts) AS enters,
        arrayMap((n, last, first) -> n = last AND visitor != 0
            AND is_within(first, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')}),
            seen, seen_at_end, firsts) AS leaves,
        arrayMap((start, end) -> start AND end, starts, ends) AS alone,
        arrayMap(end -> NOT end, ends) AS stays,
        arrayMap((hit, next, end) -> if(end, 0, at(next) - at(hit)), hits, arrayPushBack(arrayPopFront(hits), 0), ends) AS stay
    WHERE is_shown
    GROUP BY page
) AS figures
INNER JOIN (
    SELECT DISTINCT cityHash64(path) AS page, path
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
) AS names USING (page)
ORDER BY visitors DESC, pageviews DESC, path
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
