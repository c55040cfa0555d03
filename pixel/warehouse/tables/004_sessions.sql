-- What every report means by a filter, a visitor, a session and its source. Computed when asked, from the events' own
-- times, so that the order of arrival, a replay or a backfill cannot change an answer.
--
-- Visitor    a distinct `visitor` that is not 0. An event whose visitor is 0 has none: it counts as an event, is never a
--            visitor and belongs to no session.
-- Session    one visitor's events on one website, of whatever name, in the order of `hit` (time, then a number made of the
--            event_id), with no pause of more than 30 minutes; a pause of exactly 30 minutes continues it. Bots' events
--            are taken out before (bots=exclude), left in (include), or are all there is (only).
-- In range   an event by its own time, a session by its start: since <= time < until. A session is always whole: what lies
--            up to 24 hours before or after the range is read with it, and one that runs further is cut there.
-- Source     channel, source, medium and campaign of a session are those of its first event; an event without a visitor
--            stands for itself.
-- Filters    channel, source, medium and campaign ask the session; every other name asks the event. Values of one name are
--            alternatives, names must all hold. Events are counted when they are kept; a session is counted, whole, when
--            any of its events is kept, even one after `until`.
-- Bounce     a session that is exactly one pageview.
-- Money      amounts of different currencies are never added. Where one is counted, it is the one asked for, else the one
--            with the most payments (refunds too) among the kept events of the range, the first in the alphabet of equals.
--
-- A visitor's events are gathered as one array of numbers (`hit`), because arrays of anything else cost many times as
-- much, and are sorted, cut and counted by functions of arrays, because windows do as well.

-- Whether `value` passes those of the filters ('name=value') that begin with `prefix` ('name='). Without one it is the
-- constant true, and then the column behind `value` is not even read.
CREATE OR REPLACE FUNCTION kept AS (filters, prefix, value) ->
    NOT arrayExists(filter -> startsWith(filter, prefix), filters) OR has(filters, concat(prefix, value));

-- The first hit there could be at a time; the milliseconds since 1970 of a hit, and its time.
CREATE OR REPLACE FUNCTION hit_at AS (time) ->
    bitShiftLeft(toUInt64(greatest(toUnixTimestamp64Milli(time) - 1262304000000, 0)), 23);

CREATE OR REPLACE FUNCTION at AS (hit) -> toInt64(bitShiftRight(hit, 23)) + 1262304000000;

CREATE OR REPLACE FUNCTION time_of_hit AS (hit) -> fromUnixTimestamp64Milli(at(hit), 'UTC');

-- What a hit is, and what the filters make of it: `is_kept` of the event itself, `is_from` of its own source.
CREATE OR REPLACE FUNCTION is_view AS (hit) -> bitAnd(hit, 12) = 0;

CREATE OR REPLACE FUNCTION is_goal AS (hit) -> bitAnd(hit, 12) = 4;

CREATE OR REPLACE FUNCTION is_payment AS (hit) -> bitAnd(hit, 12) = 8;

CREATE OR REPLACE FUNCTION is_kept AS (hit) -> bitTest(hit, 1);

CREATE OR REPLACE FUNCTION is_from AS (hit) -> bitTest(hit, 0);

CREATE OR REPLACE FUNCTION is_within AS (hit, since, until) -> hit >= hit_at(since) AND hit < hit_at(until);

-- Of one visitor's sorted hits, whether each begins a session; and the sessions. Without a visitor each stands alone.
CREATE OR REPLACE FUNCTION starts_of AS (hits, visitor) -> arrayMap(
    (pause, place) -> place = 1 OR visitor = 0 OR pause > 1800000,
    arrayDifference(arrayMap(hit -> toInt64(bitShiftRight(hit, 23)), hits)), arrayEnumerate(hits));

CREATE OR REPLACE FUNCTION sessions_of AS (hits, visitor) ->
    arraySplit((hit, start) -> start, hits, starts_of(hits, visitor));

-- What goes with the hits, in the hits' order.
CREATE OR REPLACE FUNCTION in_order AS (values, hits) -> arraySort((value, hit) -> hit, values, hits);

-- A share from 0 to 1; of nothing it is 0.
CREATE OR REPLACE FUNCTION rate AS (part, whole) -> if(whole = 0, 0, round(part / greatest(whole, 1), 4));

-- A mean of milliseconds in seconds; of nothing it is 0.
CREATE OR REPLACE FUNCTION mean_seconds AS (milliseconds, number) ->
    if(number = 0, 0, round(milliseconds / greatest(number, 1) / 1000, 1));

-- 2026-11-24T09:30:00.000Z from a time in UTC.
CREATE OR REPLACE FUNCTION iso AS (time) -> concat(replaceOne(toString(time), ' ', 'T'), 'Z');

CREATE OR REPLACE FUNCTION session_id AS (website_id, visitor, started) ->
    concat('ses_', leftPad(lower(hex(sipHash64(website_id, visitor, started))), 16, '0'));

-- The events that a question is about: those of the range and of a day around it, bots settled. `person` is the visitor
-- on this website; `marked` is the hit with what the filters make of the event in its last two bits.
CREATE OR REPLACE VIEW asked_events AS
SELECT
    *,
    bitXor(visitor, cityHash64(website_id)) AS person,
    hit
        + 2 * (kept({filters:Array(String)}, 'path=',         path)
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
            AND kept({filters:Array(String)}, 'goal=',         goal))
        + (kept({filters:Array(String)}, 'channel=', channel)
            AND kept({filters:Array(String)}, 'source=',   source)
            AND kept({filters:Array(String)}, 'medium=',   medium)
            AND kept({filters:Array(String)}, 'campaign=', campaign)) AS marked
FROM events
WHERE workspace_id = {workspace:String}
    AND website_id IN {websites:Array(String)}
    AND _partition_id BETWEEN toString(toYYYYMM({since:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR))
        AND toString(toYYYYMM({until:DateTime64(3, 'UTC')} + INTERVAL 24 HOUR))
    AND is_within(hit, {since:DateTime64(3, 'UTC')} - INTERVAL 24 HOUR, {until:DateTime64(3, 'UTC')} + INTERVAL 24 HOUR)
    AND ({bots:String} = 'include' OR (bot != '') = ({bots:String} = 'only'));

-- The events that reports about events count: in range and kept by every filter. Only a filter by source needs sessions.
CREATE OR REPLACE VIEW kept_events AS
SELECT *
FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                  since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                  bots = {bots:String}, filters = {filters:Array(String)})
WHERE is_within(hit, {since:DateTime64(3, 'UTC')}, {until:DateTime64(3, 'UTC')})
    AND is_kept(marked)
    AND (NOT arrayExists(f -> match(f, '^(channel|source|medium|campaign)='), {filters:Array(String)})
        OR if(visitor = 0, is_from(marked), (person, marked) IN (
            SELECT person, arrayJoin(session)
            FROM (
                SELECT person, arrayJoin(sessions_of(arraySort(groupArray(marked)), any(visitor))) AS session
                FROM asked_events(workspace = {workspace:String}, websites = {websites:Array(String)},
                                  since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')},
                                  bots = {bots:String}, filters = {filters:Array(String)})
                WHERE visitor != 0
                GROUP BY person
            )
            WHERE is_from(session[1]))));
