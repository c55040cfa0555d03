-- title: Funnel
-- about: How many visitors take each step after the one before it, later in time, within the window of their first step.
--   Each visitor counts for the furthest of all their tries, each of which is on one website. Steps are events in the
--   range that the filters keep.
-- steps: list of 2..10. The steps in order, each one of path:/pricing, path:/blog/* (all that begins so), goal:signup and
--   payment (a refund is one too); repeated, or in one value with commas between them.
-- window_hours: 1..2160, default 168. How long after the first step the others may come.
-- returns step: Number of the step, from 1.
-- returns label: The step as it was asked for.
-- returns visitors: Distinct visitors who took it and all before it.
-- returns conversion_rate: Share of those who took the first step, 0 to 1.
-- returns drop_off: Visitors who took the step before it and not this one; 0 for the first.
WITH (
    SELECT (groupArray(reached), groupArray(people))
    FROM (
        SELECT reached, count() AS people
        FROM (
            SELECT visitor, max(furthest) AS reached
            FROM (
                SELECT
                    visitor,
                    groupArray(hit)                            AS unsorted,
                    arrayMap(hit -> at(hit), arraySort(unsorted)) AS times,
                    in_order(groupArray(taken), unsorted)      AS bits,
                    arrayMax(arrayMap(way -> length(within_window(way, {window_hours:UInt32})),
                        ways_of(times, bits, {steps:Array(String)}))) AS furthest
                FROM (
                    SELECT
                        person, visitor, hit,
                        is_step({steps:Array(String)}[1], hit, path, goal) * 2
                        + is_step({steps:Array(String)}[2], hit, path, goal) * 4
                        + is_step({steps:Array(String)}[3], hit, path, goal) * 8
                        + is_step({steps:Array(String)}[4], hit, path, goal) * 16
                        + is_step({steps:Array(String)}[5], hit, path, goal) * 32
                        + is_step({steps:Array(String)}[6], hit, path, goal) * 64
                        + is_step({steps:Array(String)}[7], hit, path, goal) * 128
                        + is_step({steps:Array(String)}[8], hit, path, goal) * 256
                        + is_step({steps:Array(String)}[9], hit, path, goal) * 512
                        + is_step({steps:Array(String)}[10], hit, path, goal) * 1024 AS taken
                    FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                     since = {since:UInt64}, until = {until:UInt64},
                                     bots = {bots:String}, filters = {filters:Array(String)})
                    WHERE visitor != 0 AND taken != 0
                )
                GROUP BY person, visitor
            )
            GROUP BY visitor
        )
        GROUP BY reached
    )
) AS found
SELECT
    step,
    {steps:Array(String)}[step]                                                 AS label,
    arraySum((reached, people) -> if(reached >= step, people, 0), found.1, found.2) AS visitors,
    rate(visitors, arraySum((reached, people) -> if(reached >= 1, people, 0), found.1, found.2)) AS conversion_rate,
    if(step = 1, 0,
       arraySum((reached, people) -> if(reached = step - 1, people, 0), found.1, found.2)) AS drop_off
FROM (SELECT 1)
ARRAY JOIN arrayEnumerate({steps:Array(String)}) AS step
WHERE (
    SELECT count()
    FROM (
        SELECT 1
        FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
        LIMIT 1
    )
) > 0
ORDER BY step
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
