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
-- Source     channel, source, medium, campaign and AI assistant of a session are those of its first event; an event
--            without a visitor stands for itself.
-- Filters    channel, source, medium, campaign and llm_engine ask the session; every other name asks the event. Values of
--            one name are alternatives, names must all hold. Events are counted when they are kept; a session is counted,
--            whole, when any of its events is kept, even one after `until`.
-- Bounce     a session that is exactly one pageview.
-- Money      amounts of different currencies are never added. Where one is counted, it is the one asked for, else the one
--            with the most payments (refunds too) in the range, whatever the filters; of equals the first in the alphabet.
--
-- A visitor's events are gathered as one array of numbers (`hit`), because arrays of anything else cost many times as
-- much, and are sorted, cut and counted by functions of arrays, because windows do as well.

-- Whether `value` passes the filters: of each name that is filtered by, they hold the name, and 'name=value' for each
-- value that is let through. Without the name it is the constant true, and the column behind `value` is not even read.
CREATE OR REPLACE FUNCTION kept AS (filters, name, value) ->
    NOT has(filters, name) OR has(filters, concat(name, '=', value));

-- The first hit there could be at a time in milliseconds since 1970; the milliseconds of a hit, and its time.
CREATE OR REPLACE FUNCTION hit_at AS (milliseconds) ->
    bitShiftLeft(toUInt64(greatest(milliseconds - 1262304000000, 0)), 23);

CREATE OR REPLACE FUNCTION at AS (hit) -> toInt64(bitShiftRight(hit, 23)) + 1262304000000;

CREATE OR REPLACE FUNCTION time_of_hit AS (hit) -> fromUnixTimestamp64Milli(at(hit), 'UTC');

-- What a hit is, and what the filters make of it: `is_kept` of the event itself, `is_from` of its own source.
CREATE OR REPLACE FUNCTION is_view AS (hit) -> bitAnd(hit, 12) = 0;

CREATE OR REPLACE FUNCTION is_goal AS (hit) -> bitAnd(hit, 12) = 4;

CREATE OR REPLACE FUNCTION is_payment AS (hit) -> bitAnd(hit, 12) = 8;

CREATE OR REPLACE FUNCTION is_kept AS (hit) -> bitTest(hit, 1);

CREATE OR REPLACE FUNCTION is_from AS (hit) -> bitTest(hit, 0);

CREATE OR REPLACE FUNCTION is_within AS (hit, since, until) -> hit >= since AND hit < until;

-- A range with 24 hours before and after it, in which its sessions are whole.
CREATE OR REPLACE FUNCTION is_near AS (hit, since, until) ->
    hit >= greatest(since, 724775731200000) - 724775731200000 AND hit < until + 724775731200000;

-- Of one visitor's sorted hits the pause before each, in milliseconds; before the first there is none.
CREATE OR REPLACE FUNCTION pauses_of AS (hits) -> arrayDifference(arrayMap(hit -> bitShiftRight(hit, 23), hits));

-- Whether a pause parts two sessions. Without a visitor each hit stands alone.
CREATE OR REPLACE FUNCTION parts AS (pause, visitor) -> pause > 1800000 OR visitor = 0;

-- The first hit of each hit's session: what fills an array, like what splits one, leaves its first element.
CREATE OR REPLACE FUNCTION heads_by AS (hits, pauses, visitor) ->
    arrayFill((hit, pause) -> parts(pause, visitor), hits, pauses);

-- The sessions themselves, as arrays of hits.
CREATE OR REPLACE FUNCTION sessions_of AS (hits, visitor) ->
    arraySplit((hit, pause) -> parts(pause, visitor), hits, pauses_of(hits));

-- Of the kept hits 1 for the first of each session and another number for the rest; of the others it says nothing. And the
-- same where there are no filters.
CREATE OR REPLACE FUNCTION firsts_of AS (hits, heads) ->
    arrayEnumerateUniq(arrayMap((hit, head) -> if(is_kept(hit), head, 0), hits, heads));

CREATE OR REPLACE FUNCTION firsts_unfiltered AS (hits, heads) ->
    arrayMap((head, last) -> head != last, heads, arrayShiftRight(heads, 1));

-- What goes with the hits, in the hits' order.
CREATE OR REPLACE FUNCTION in_order AS (values, hits) -> arraySort((value, hit) -> hit, values, hits);

-- Whether an event is a step: path:/pricing, path:/blog/*, goal:signup or payment; '' is none.
CREATE OR REPLACE FUNCTION is_step AS (step, hit, path, goal) ->
    if(startsWith(step, 'path:'),
        is_view(hit) AND if(endsWith(step, '*'),
            startsWith(path, substring(step, 6, length(step) - 6)), path = substring(step, 6)),
        if(step = 'payment', is_payment(hit), is_goal(hit) AND step = concat('goal:', goal)));

-- One visitor's ways through steps: of events in order, when each was and which steps it is (bit n for step n), from each
-- that is the first step the times at which the next ones are taken, each as early as can be and later than the one
-- before. It goes from the last step to the first: from an event, the way leads on by the first way that begins later.
CREATE OR REPLACE FUNCTION ways_of AS (times, bits, steps) -> arrayFold(
    (ways, step) -> arrayMap(
        (time, taken, way) -> if(bitTest(taken, step), arrayPushFront(way, time), emptyArrayInt64()),
        times, bits,
        -- Of no events at all there is no next one either.
        arrayReverseFill(
            (way, time, next) -> next != time,
            arrayPopFront(arrayPushBack(arrayReverseFill(way -> notEmpty(way), ways), emptyArrayInt64())),
            times, arrayPopFront(arrayPushBack(times, 0)))),
    arrayReverse(arrayEnumerate(steps)),
    arrayMap(time -> emptyArrayInt64(), times));

CREATE OR REPLACE FUNCTION within_window AS (way, hours) -> arrayFilter(time -> time - way[1] <= hours * 3600000, way);

-- What an attribution is made of.
CREATE OR REPLACE FUNCTION named AS (attribution) ->
    CAST(attribution, 'Tuple(channel String, source String, medium String, campaign String)');

-- A share from 0 to 1; of nothing it is 0.
CREATE OR REPLACE FUNCTION rate AS (part, whole) -> if(whole = 0, 0, round(part / greatest(whole, 1), 4));

-- A mean of milliseconds in seconds; of nothing it is 0.
CREATE OR REPLACE FUNCTION mean_seconds AS (milliseconds, number) ->
    if(number = 0, 0, round(milliseconds / greatest(number, 1) / 1000, 1));

-- 2026-11-24T09:30:00.000Z from a time in UTC.
CREATE OR REPLACE FUNCTION iso AS (time) -> concat(replaceOne(toString(time), ' ', 'T'), 'Z');

CREATE OR REPLACE FUNCTION session_id AS (website_id, visitor, started) ->
    concat('ses_', leftPad(lower(hex(sipHash64(website_id, visitor, started))), 16, '0'));

-- Whether a question is about an event: it is of the range or of a day around it, and bots are settled. Partitions are
-- left out by the hint, which costs nothing a row.
CREATE OR REPLACE FUNCTION is_asked AS (hit, partition, bot, since, until, bots) ->
    is_near(hit, since, until)
    AND indexHint(partition BETWEEN toString(toYYYYMM(time_of_hit(since) - INTERVAL 24 HOUR))
        AND toString(toYYYYMM(time_of_hit(until) + INTERVAL 24 HOUR)))
    AND (bots = 'include' OR (bot != '') = (bots = 'only'));

-- Whether an event is of the range itself, and bots are settled.
CREATE OR REPLACE FUNCTION is_counted AS (hit, partition, bot, since, until, bots) ->
    is_within(hit, since, until)
    AND indexHint(partition BETWEEN toString(toYYYYMM(time_of_hit(since))) AND toString(toYYYYMM(time_of_hit(until))))
    AND (bots = 'include' OR (bot != '') = (bots = 'only'));

-- A hit with what the filters make of its event in its last two bits.
CREATE OR REPLACE FUNCTION marked AS (
    filters, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign, utm_term, utm_content, country, device,
    browser, os, language, llm_engine, goal, channel, source, medium, campaign
) ->
    hit
        + 2 * (kept(filters, 'path',         path)
            AND kept(filters, 'hostname',     hostname)
            AND kept(filters, 'referrer',     referrer)
            AND kept(filters, 'utm_source',   utm_source)
            AND kept(filters, 'utm_medium',   utm_medium)
            AND kept(filters, 'utm_campaign', utm_campaign)
            AND kept(filters, 'utm_term',     utm_term)
            AND kept(filters, 'utm_content',  utm_content)
            AND kept(filters, 'country',      country)
            AND kept(filters, 'device',       device)
            AND kept(filters, 'browser',      browser)
            AND kept(filters, 'os',           os)
            AND kept(filters, 'language',     language)
            AND kept(filters, 'goal',         goal))
        + (kept(filters, 'channel',          channel)
            AND kept(filters, 'source',       source)
            AND kept(filters, 'medium',       medium)
            AND kept(filters, 'campaign',     campaign)
            AND kept(filters, 'llm_engine',   llm_engine));

-- The same where there are no filters.
CREATE OR REPLACE FUNCTION unfiltered AS (hit) -> hit + 3;

-- A marked hit with whether it is kept and `yes` too in the place of whether it is kept; and the same without filters.
CREATE OR REPLACE FUNCTION noted AS (marked, yes) -> if(yes, marked, bitAnd(marked, 18446744073709551613));

CREATE OR REPLACE FUNCTION noted_unfiltered AS (hit, yes) -> hit + 1 + 2 * yes;

CREATE OR REPLACE FUNCTION is_noted AS (noted) -> bitTest(noted, 1);

-- The visitor of an event on its website.
CREATE OR REPLACE FUNCTION person AS (visitor, website_id) -> bitXor(visitor, cityHash64(website_id));

-- The events that a question is about. A view takes some 12 ms to understand, so reports that are asked all the time and
-- need sessions say this themselves. For a question without filters, both views stand for files of their names beside the
-- reports (see pixel/pipes), which are understood in a third of the time.
CREATE OR REPLACE VIEW asked_events AS
SELECT
    *,
    person(visitor, website_id) AS person,
    marked({filters:Array(String)}, hit, path, hostname, referrer, utm_source, utm_medium, utm_campaign, utm_term,
        utm_content, country, device, browser, os, language, llm_engine, goal, channel, source, medium, campaign) AS marked
FROM events
WHERE workspace_id = {workspace:String}
    AND website_id IN {websites:Array(String)}
    AND is_asked(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String});

-- The events that reports about events count: in range and kept by every filter. Only a filter by source needs sessions.
-- It says again what `asked_events` says, because a view within a view takes twice as long to understand.
CREATE OR REPLACE VIEW kept_events AS
SELECT
    *,
    person(visitor, website_id) AS person
FROM events
WHERE workspace_id = {workspace:String}
    AND website_id IN {websites:Array(String)}
    AND is_counted(hit, _partition_id, bot, {since:UInt64}, {until:UInt64}, {bots:String})
    AND kept({filters:Array(String)}, 'path',         path)
    AND kept({filters:Array(String)}, 'hostname',     hostname)
    AND kept({filters:Array(String)}, 'referrer',     referrer)
    AND kept({filters:Array(String)}, 'utm_source',   utm_source)
    AND kept({filters:Array(String)}, 'utm_medium',   utm_medium)
    AND kept({filters:Array(String)}, 'utm_campaign', utm_campaign)
    AND kept({filters:Array(String)}, 'utm_term',     utm_term)
    AND kept({filters:Array(String)}, 'utm_content',  utm_content)
    AND kept({filters:Array(String)}, 'country',      country)
    AND kept({filters:Array(String)}, 'device',       device)
    AND kept({filters:Array(String)}, 'browser',      browser)
    AND kept({filters:Array(String)}, 'os',           os)
    AND kept({filters:Array(String)}, 'language',     language)
    AND kept({filters:Array(String)}, 'goal',         goal)
    AND (NOT hasAny({filters:Array(String)}, ['channel', 'source', 'medium', 'campaign', 'llm_engine'])
        OR (person, hit) IN (
            SELECT person, bitAnd(arrayJoin(session), 18446744073709551614)
            FROM (
                SELECT
                    person(visitor, website_id) AS person,
                    arrayJoin(sessions_of(arraySort(groupArray(
                        hit + (kept({filters:Array(String)}, 'channel',    channel)
                           AND kept({filters:Array(String)}, 'source',     source)
                           AND kept({filters:Array(String)}, 'medium',     medium)
                           AND kept({filters:Array(String)}, 'campaign',   campaign)
                           AND kept({filters:Array(String)}, 'llm_engine', llm_engine)))), any(visitor))) AS session
                FROM events
                WHERE workspace_id = {workspace:String}
                    AND website_id IN {websites:Array(String)}
                    AND is_near(hit, {since:UInt64}, {until:UInt64})
                    AND ({bots:String} = 'include' OR (bot != '') = ({bots:String} = 'only'))
                GROUP BY person
            )
            WHERE is_from(session[1])));
