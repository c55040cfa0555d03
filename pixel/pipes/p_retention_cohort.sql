-- title: Retention
-- about: Of the visitors who came for the first time in each day, week or month of the range, how many came in each one
--   after. The first time is that of all their events that the filters keep, not only of those in the range.
-- granularity: one of day, week, month; default week. Length of a period; weeks start on Monday.
-- returns cohort: First day of the period in which they came first.
-- returns period: How many periods later; 0 is the first.
-- returns visitors: Distinct visitors of the cohort with any event in that period. Periods without any are left out.
-- returns rate: Share of the cohort, 0 to 1.
--
-- The periods come from the server, which knows the zones: their names, and their starts in milliseconds.
SELECT
    {names:Array(String)}[indexOf({starts:Array(Int64)}, first_slot)] AS cohort,
    indexOf({starts:Array(Int64)}, slot) - indexOf({starts:Array(Int64)}, first_slot) AS period,
    visitors,
    rate(visitors, max(visitors) OVER (PARTITION BY first_slot)) AS rate
FROM (
    SELECT first_slot, slot, count() AS visitors
    FROM (
        SELECT
            roundDown(at(min(hit)), {starts:Array(Int64)}) AS first_slot,
            arrayJoin(groupUniqArray(roundDown(at(hit), {starts:Array(Int64)}))) AS slot
        FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                         since = 0, until = {until:UInt64},
                         bots = {bots:String}, filters = {filters:Array(String)})
        WHERE visitor != 0
        GROUP BY visitor
        HAVING min(hit) >= {since:UInt64}
    )
    GROUP BY first_slot, slot
)
ORDER BY first_slot, slot
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
