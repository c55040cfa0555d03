-- title: Events
-- about: What kinds of event arrived in the range, most frequent first.
-- returns name: pageview, custom or payment.
-- returns goal: The goal's name; empty for other events.
-- returns events: Events of this kind.
-- returns visitors: Distinct visitors with such an event.
-- returns first_seen: Time of the first in the range, in UTC.
-- returns last_seen: Time of the last in the range, in UTC.
-- returns props: Keys seen in their props, in alphabetical order.
SELECT
    name,
    goal,
    count()                                        AS events,
    uniqExactIf(visitor, visitor != 0)             AS visitors,
    iso(time_of_hit(min(hit)))                     AS first_seen,
    iso(time_of_hit(max(hit)))                     AS last_seen,
    arraySort(groupUniqArrayArray(mapKeys(props))) AS props
FROM kept_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                 since = {since:UInt64}, until = {until:UInt64},
                 bots = {bots:String}, filters = {filters:Array(String)})
GROUP BY name, goal
ORDER BY events DESC, name, goal
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
