-- title: Goals
-- about: Goals reached in the range, most often reached first. The conversion rate is the share of all visitors whom the
--   filters keep.
-- returns goal: The goal's name.
-- returns conversions: How often it was reached.
-- returns visitors: Distinct visitors who reached it.
-- returns conversion_rate: Share of the visitors with any event in the range, 0 to 1.
-- returns value: Sum of the values that came with it.
SELECT
    goal,
    conversions,
    visitors,
    rate(visitors, uniqExactIfMerge(anyone) OVER ()) AS conversion_rate,
    value
FROM (
    SELECT
        goal,
        is_goal(hit)                              AS reached,
        count()                                   AS conversions,
        uniqExactIf(visitor, visitor != 0)        AS visitors,
        round(sum(ifNull(value, 0)), 6)           AS value,
        uniqExactIfState(visitor, visitor != 0)   AS anyone
    FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                     since = {since:UInt64}, until = {until:UInt64},
                     bots = {bots:String}, filters = {filters:Array(String)})
    GROUP BY goal, reached
)
QUALIFY reached
ORDER BY conversions DESC, goal
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
