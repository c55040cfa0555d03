-- title: Funnel by source
-- about: The funnel for each source: where the session came from in which a visitor took the first step, of the earliest
--   try that led as far as any. With the time between steps on that way. A try is on one website.
-- steps: list of 2..10. The steps in order, each one of path:/pricing, path:/blog/* (all that begins so), goal:signup and
--   payment (a refund is one too); repeated, or in one value with commas between them.
-- window_hours: 1..2160, default 168. How long after the first step the others may come.
-- returns entry_channel: Channel of the session of the first step.
-- returns entry_source: Source of the session of the first step.
-- returns step: Number of the step, from 1.
-- returns label: The step as it was asked for.
-- returns visitors: Distinct visitors from this source who took it and all before it.
-- returns conversion_rate: Share of those who took the first step, 0 to 1.
-- returns drop_off: Visitors who took the step before it and not this one; 0 for the first.
-- returns median_seconds_from_previous: Median of the time since the step before it; null for the first.
SELECT
    entry_channel,
    entry_source,
    step,
    {steps:Array(String)}[step]                    AS label,
    visitors,
    rate(visitors, max(visitors) OVER entry)         AS conversion_rate,
    if(step = 1, 0, lagInFrame(visitors) OVER entry_steps - visitors) AS drop_off,
    if(step = 1 OR visitors = 0, NULL, round(median / 1000, 1)) AS median_seconds_from_previous
FROM (
    SELECT
        entry_channel,
        entry_source,
        step,
        countIf(length(way) >= step)                 AS visitors,
        quantileExactInclusiveIf(0.5)(if(step = 1, 0, way[step] - way[step - 1]), length(way) >= step) AS median
    FROM (
        -- Of several websites that one counts on which the way leads furthest or, of equals, starts first.
        SELECT argMin(came, rank) AS origin, argMin(longest, rank) AS way
        FROM (
            SELECT
                visitor,
                arrayMap(way -> within_window(way, {window_hours:UInt32}), ways_of(times, bits, {steps:Array(String)})) AS ways,
                arrayMax(arrayMap(way -> length(way), ways))                      AS furthest,
                arrayFirstIndex(way -> length(way) = furthest, ways)              AS place,
                ways[place]                                                       AS longest,
                steps_taken[place]                                                AS first,
                bitShiftLeft(toUInt64(10 - furthest), 60) + bitShiftRight(first, 4) AS rank,
                origins[indexOf(hits, first)]                                     AS came
            FROM (
                SELECT
                    visitor, hits, origins,
                    arrayFilter((hit, step, head) -> step != 0 AND is_kept(hit) AND is_from(head)
                        AND is_within(hit, {since:UInt64}, {until:UInt64}), hits, own, heads) AS steps_taken,
                    arrayMap(hit -> at(hit), steps_taken)                             AS times,
                    arrayFilter((step, hit, head) -> step != 0 AND is_kept(hit) AND is_from(head)
                        AND is_within(hit, {since:UInt64}, {until:UInt64}), own, hits, heads) AS bits
                FROM (
                    SELECT
                        any(visitor)                                                  AS visitor,
                        groupArray(marked)                                            AS unsorted,
                        arraySort(unsorted)                                           AS hits,
                        in_order(groupArray(taken), unsorted)                         AS own,
                        heads_by(hits, pauses_of(hits), visitor)                      AS heads,
                        arrayFill((origin, hit, head) -> hit = head, in_order(groupArray(origin), unsorted), hits, heads) AS origins
                    FROM (
                        SELECT
                            person, visitor, marked,
                            cityHash64(attribution) AS origin,
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
                        FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                          since = {since:UInt64}, until = {until:UInt64},
                                          bots = {bots:String}, filters = {filters:Array(String)})
                        WHERE visitor != 0
                    )
                    GROUP BY person
                    HAVING bitTest(groupBitOr(taken), 1)
                )
            )
            WHERE furthest > 0
        )
        GROUP BY visitor
    ) AS taken
    INNER JOIN (
        SELECT
            cityHash64(attribution) AS origin,
            named(attribution).channel AS entry_channel,
            named(attribution).source AS entry_source
        FROM events
        WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
        GROUP BY attribution
    ) AS names USING (origin)
    ARRAY JOIN arrayEnumerate({steps:Array(String)}) AS step
    GROUP BY entry_channel, entry_source, step
)
WINDOW entry AS (PARTITION BY entry_channel, entry_source),
       entry_steps AS (PARTITION BY entry_channel, entry_source ORDER BY step ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
ORDER BY max(visitors) OVER entry DESC, entry_channel, entry_source, step
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
