"""Events by the million, made by the warehouse itself: what reports are measured on, where the way in is not the matter."""

#: Visits of a month: visitors that come again, pages of which some are read far more, one of thirty events a goal, one
#: of two hundred a payment. `{sites}` websites share them alike; the first is the one that is asked about.
_EVENTS = """
INSERT INTO events (workspace_id, website_id, name, event_id, event_key, request_id, timestamp, received_at, visitor_id,
    hostname, path, referrer, channel, source, llm_engine, country, device, browser, os, language, goal, amount, currency)
SELECT
    '{workspace}',
    if(visit % {sites} = 0, '{website}', concat('admx_poured', leftPad(toString(visit % {sites}), 8, '0'))),
    multiIf(kind < 0.005, 'payment', kind < 0.035, 'custom', 'pageview') AS name,
    concat('poured-', toString(visit), '-', toString(place)) AS event_id,
    lower(hex(MD5(event_id))),
    '',
    addMilliseconds(begin, toInt64(place * 120000 * (pause + 0.05))) AS timestamp,
    timestamp,
    concat('visitor-', toString(visitor)),
    'example.com',
    concat('/pages/', toString(toUInt32(2000 * pow(page, 3)))),
    if(place = 0, ['', 'google.com', 'news.ycombinator.com', 'chatgpt.com'][came + 1], ''),
    ['Direct', 'Organic Search', 'Referral', 'AI Assistants'][came + 1],
    ['Direct', 'Google', 'news.ycombinator.com', 'ChatGPT'][came + 1],
    if(came = 3 AND place = 0, 'chatgpt', ''),
    ['US', 'DE', 'GB', 'IN', 'FR'][visitor % 5 + 1],
    ['desktop', 'mobile'][visitor % 2 + 1],
    ['Chrome', 'Safari', 'Firefox'][visitor % 3 + 1],
    ['Windows', 'iOS', 'Linux'][visitor % 3 + 1],
    ['en-US', 'de-DE'][visitor % 2 + 1],
    if(name = 'custom', 'signup', ''),
    if(name = 'payment', 29, 0),
    if(name = 'payment', 'EUR', '')
FROM (
    SELECT
        visit, visitor, begin, place, came,
        randCanonical(place + visit) AS kind, randCanonical(visit * 7 + place) AS pause,
        randCanonical(visit * 13 + place) AS page
    FROM (
        SELECT
            number AS visit,
            toUInt64({visitors} * pow(randCanonical(1), 2)) AS visitor,
            now64(3) - toIntervalMillisecond(toInt64(3600000 + randCanonical(2) * 2580000000)) AS begin,
            rand(3) % 4 AS came,
            toUInt32(1 + least(12, -log(randCanonical(4) + 1e-9) / 0.5)) AS events
        FROM numbers({first}, {last} - {first})
    )
    ARRAY JOIN range(events) AS place
)
"""
EVENTS_A_VISIT = 2.53
_VISITS_AT_ONCE = 400_000


def statements(workspace, website, number, sites=1, visitors=100_000):
    """The statements that make about `number` events."""
    visits = int(number / EVENTS_A_VISIT)
    for first in range(0, visits, _VISITS_AT_ONCE):
        yield _EVENTS.format(
            workspace=workspace, website=website, sites=sites, visitors=visitors * (10 if sites > 1 else 1),
            first=first, last=min(visits, first + _VISITS_AT_ONCE),
        )  # fmt: skip
