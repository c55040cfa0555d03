-- What every report means by a filter, a visitor, a session and its source. Computed when asked, from the events' own
-- times, so that the order of arrival, a replay or a backfill cannot change an answer.
--
-- Visitor    a distinct `visitor` that is not 0. An event whose visitor is 0 has none: it counts as an event, is never a
--            visitor and belongs to no session.
-- Session    one visitor's events on one website, of whatever name, ordered by time and then event_id, with no pause of
--            more than 30 minutes; a pause of exactly 30 minutes continues it. Bots' events are taken out before
--            (bots=exclude), left in (include), or are all there is (only).
-- In range   an event by its own time, a session by its start: since <= time < until. A session is always whole: what lies
--            up to 24 hours before or after the range is read with it, and one that runs further is cut there.
-- Source     channel, source, medium and campaign of a session are those of its first event; an event without a visitor
--            stands for itself.
-- Filters    channel, source, medium and campaign ask the session; every other name asks the event. Values of one name are
--            alternatives, names must all hold. Events are counted when they are kept; a session is counted, whole, when
--            any of its events is kept, even one after `until`.
-- Bounce     a session that is exactly one pageview.
-- Money      amounts of different currencies are never added. One currency is counted: the one asked for, else the one with
--            the most payments (refunds too) among the kept events of the range, the first in the alphabet of equals.

-- Whether `value` passes those of the filters ('name=value') that begin with `prefix` ('name='). Without one it is the
-- constant true, and then the column behind `value` is not even read.
CREATE OR REPLACE FUNCTION kept AS (filters, prefix, value) ->
    NOT arrayExists(filter -> startsWith(filter, prefix), filters) OR has(filters, concat(prefix, value));

-- One visitor's events, as tuples that begin (at, event_id), cut into sessions: an array of arrays, in order. Arrays,
-- not window functions: the small sorts cost the same however many parts the table is in.
CREATE OR REPLACE FUNCTION sessions_of AS (hits) ->
    arraySplit((hit, pause) -> pause > 1800000, arraySort(hits), arrayDifference(arraySort(hits).1));

-- A share from 0 to 1; of nothing it is 0.
CREATE OR REPLACE FUNCTION rate AS (part, whole) -> if(whole = 0, 0, round(part / greatest(whole, 1), 4));

-- A mean of milliseconds in seconds; of nothing it is 0.
CREATE OR REPLACE FUNCTION mean_seconds AS (milliseconds, number) ->
    if(number = 0, 0, round(milliseconds / greatest(number, 1) / 1000, 1));

-- 2026-11-24T09:30:00.000Z from a time in UTC.
CREATE OR REPLACE FUNCTION iso AS (time) -> concat(replaceOne(toString(time), ' ', 'T'), 'Z');

CREATE OR REPLACE FUNCTION session_id AS (website_id, visitor, started) ->
    concat('ses_', leftPad(lower(hex(sipHash64(website_id, visitor, started))), 16, '0'));

-- The events sessions are made of: those of the range and of a day around it, bots settled. `kept` and `source_kept` say
-- what the filters make of the event itself; a session takes `source_kept` from its first event.
CREATE OR REPLACE VIEW counted_events AS
SELECT
    *,
    toUnixTimestamp64Milli(timestamp) AS at,
    timestamp >= {since:DateTime64(3, 'UTC')} AND timestamp < {until:DateTime64(3, 'UTC')} AS in_range,
    kept({filters:Array(String)}, 'path=',         path)
        AND kept({filters:Array(String)}, 'hostname=',     hostname)
        AND kept({filters:Array(String)}, 'referrer=',     referrer)
        AND kept({filters:Array(String)}, 'utm_source=',   utm_source)
        AND kept({filters:Array(String)}, 'utm_medium=',   utm_medium)
        AND kept({filters:Array(String)}, 'utm_campaign=', utm_campaign)
        AND kept({filters:Array(String)}, 'utm_term=',     utm_term)
        AND kept({filters:Array(String)}, 'utm_content=',  utm_content)
        AND kept({filters:Array(String)}, 'country=',      country)
        AND kept({filters:Array(String)}, 'device=',       device)
        AND kept({filters:Array(String)}, 'browser=',      browser)
        AND kept({filters:Array(String)}, 'os=',           os)
        AND kept({filters:Array(String)}, 'language=',     language)
        AND kept({filters:Array(String)}, 'llm_engine=',   llm_engine)
        AND kept({filters:Array(String)}, 'goal=',         goal) AS kept,
    kept({filters:Array(String)}, 'channel=', channel)
        AND kept({filters:Array(String)}, 'source=',   source)
        AND kept({filters:Array(String)}, 'medium=',   medium)
        AND kept({filters:Array(String)}, 'campaign=', campaign) AS source_kept
FROM events
WHERE workspace_id = {workspace:String}
    AND has({websites:Array(String)}, website_id)
    AND timestamp >= {since:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR
    AND timestamp < {until:DateTime64(3, 'UTC')} + INTERVAL 24 HOUR
    AND ({bots:String} = 'include' OR (bot != '') = ({bots:String} = 'only'));

-- The events that reports about events count: in range and kept by every filter. Only a filter by source needs sessions:
-- events of one visitor at one time are in one session, so the time finds it.
CREATE OR REPLACE VIEW kept_events AS
SELECT *
FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                    since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                    bots = {bots:String}, filters = {filters:Array(String)})
WHERE in_range
    AND kept
    AND (NOT arrayExists(f -> match(f, '^(channel|source|medium|campaign)='), {filters:Array(String)})
        OR if(visitor = 0, source_kept, (website_id, visitor, at) IN (
            SELECT website_id, visitor, arrayJoin(hits.1)
            FROM (
                SELECT website_id, visitor, arrayJoin(sessions_of(groupArray((at, event_id, source_kept)))) AS hits
                FROM counted_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                    since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                                    bots = {bots:String}, filters = {filters:Array(String)})
                WHERE visitor != 0
                GROUP BY website_id, visitor
            )
            WHERE hits.3[1])));

-- What a clock in `timezone` shows at `time`, as if it were UTC; and the time at which it shows that.
CREATE OR REPLACE FUNCTION clock_at AS (time, timezone) ->
    time + toIntervalSecond(timezoneOffset(toTimeZone(time, timezone)));

CREATE OR REPLACE FUNCTION time_of AS (clock, timezone) ->
    toTimeZone(toDateTime64(toString(clock), 3, timezone), 'UTC');

-- The bucket of a series that holds `time`: when it starts on the clocks of `timezone` (in seconds, as if that were UTC)
-- and, for minutes and hours, those clocks' offset, so that the hour which clocks repeat is two. Weeks start on Monday.
CREATE OR REPLACE FUNCTION bucket_of AS (time, granularity, timezone) -> (
    toInt64(
        if(granularity = 'minute', intDiv(toUnixTimestamp(clock_at(time, timezone)), 60) * 60,
        if(granularity = 'hour',   intDiv(toUnixTimestamp(clock_at(time, timezone)), 3600) * 3600,
        if(granularity = 'week',   toInt64(toMonday(toDate(time, timezone))) * 86400,
        if(granularity = 'month',  toInt64(toStartOfMonth(toDate(time, timezone))) * 86400,
                                   toInt64(toDate(time, timezone)) * 86400))))),
    toInt64(if(granularity IN ('minute', 'hour'), timezoneOffset(toTimeZone(time, timezone)), 0)));

-- 2026-10-25, or 2026-10-25T02:00:00+02:00.
CREATE OR REPLACE FUNCTION bucket_name AS (bucket, granularity) -> if(
    granularity IN ('minute', 'hour'),
    concat(formatDateTime(toDateTime(bucket.1, 'UTC'), '%Y-%m-%dT%H:%i:%S'), if(bucket.2 < 0, '-', '+'),
           formatDateTime(toDateTime(abs(bucket.2), 'UTC'), '%H:%i')),
    toString(toDate(intDiv(bucket.1, 86400))));

-- Enough times (in milliseconds) to meet every bucket from `first` to `last`: clocks all over the world are apart by
-- quarters of an hour.
CREATE OR REPLACE FUNCTION times_between AS (first, last, granularity) -> if(
    first > last, [], arrayPushBack(range(first, last, if(granularity = 'minute', 60000, 900000)), last));
