-- title: Is the pixel working?
-- about: Whether events arrive from each website, and what was dropped in the last 24 hours. The range and the filters do
--   not matter. A website from which nothing ever came, and of which nothing was dropped in 24 hours, has no row.
-- returns website_id: The website.
-- returns status: ok: an event of a person arrived within 24 hours. silent: some did, but before. no_data: none ever did.
-- returns last_event_at: When the last event of a person arrived, in UTC; null if none did.
-- returns events_24h: Events of people that arrived within 24 hours.
-- returns duplicates_24h: Repeated events within 24 hours, which were not counted again.
-- returns rejected_24h: Events that were refused within 24 hours.
-- returns bots_24h: Events of bots within 24 hours.
-- returns without_visitor_24h: Of the events of people, those without a visitor.
SELECT
    website_id,
    multiIf(sum(events) > 0, 'ok', sum(known) > 0, 'silent', 'no_data') AS status,
    if(sum(known) = 0, NULL, iso(max(last)))  AS last_event_at,
    sum(events)                               AS events_24h,
    sum(duplicates)                           AS duplicates_24h,
    sum(rejected)                             AS rejected_24h,
    sum(bots)                                 AS bots_24h,
    sum(without_visitor)                      AS without_visitor_24h
FROM (
    SELECT
        website_id,
        maxIf(received_at, bot = '')          AS last,
        countIf(bot = '')                     AS known,
        countIf(bot = '' AND received_at > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR) AS events,
        countIf(bot != '' AND received_at > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR) AS bots,
        countIf(bot = '' AND visitor = 0 AND received_at > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR) AS without_visitor,
        0                                     AS duplicates,
        0                                     AS rejected
    FROM events
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
    GROUP BY website_id

    UNION ALL

    SELECT
        website_id,
        toDateTime64(0, 3, 'UTC'),
        0,
        0,
        sumIf(events, reason = 'bot'),
        0,
        sumIf(events, reason = 'duplicate'),
        sumIf(events, reason NOT IN ('duplicate', 'bot'))
    FROM drops
    WHERE workspace_id = {workspace:String} AND website_id IN {websites:Array(String)}
        AND at > {now:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR
    GROUP BY website_id
)
GROUP BY website_id
ORDER BY website_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
