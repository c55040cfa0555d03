"""What the bench asks: sources of requests, as bytes that are ready to be sent."""

import csv
import itertools
import json
import random
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from pixel import clock

#: Events in a batch.
BATCH = 1000
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile "
    "Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
)
#: What reports that must be asked something are asked.
NEEDED = {
    "p_funnel": {"steps": "path:/pages/0,path:/pages/1*,goal:signup"},
    "p_funnel_v2": {"steps": "path:/pages/0,path:/pages/1*,goal:signup"},
    "p_visitor_profile": {"visitor_id": "visitor-1"},
    "p_visitor_timeline": {"visitor_id": "visitor-1"},
}
#: The domain of the website that browsers are on.
BROWSED = "example.org"
_RECORDED = Path(__file__).parents[1] / "data" / "user_agents.tsv"
_numbers = itertools.count(1)


def events(website, key):
    """Requests with one event each, no event twice."""
    patterns = _patterns(website)
    return lambda: _post("/pixel/events", key, _event(patterns))


def batches(website, key):
    """Requests with BATCH events each, no event twice."""
    patterns = _patterns(website)
    return lambda: _post(
        "/pixel/events/batch", key, b'{"events":[%s]}' % b",".join([_event(patterns) for _ in range(BATCH)])
    )


def hits(website, bots=False):
    """Requests as the pixel sends them, of people's browsers or of bots, at many addresses; no hit twice."""
    patterns = [_hit(website, agent) for agent in _agents(bots)]
    random.Random(1).shuffle(patterns)

    def request():
        number = next(_numbers)
        head, body = patterns[number % len(patterns)]
        body %= (number % 5000, number, number % 100)
        return head % (number >> 8 & 31, number & 255, len(body)) + body

    return request


def me(key):
    """The same question again and again."""
    request = _get("/me", key)
    return lambda: request


def reports(website, key, pipes):
    """The reports of these pipes on a website, in turn."""
    questions = [urlencode({"website_id": website, **NEEDED.get(pipe, {})}) for pipe in pipes]
    requests = itertools.cycle(
        [_get(f"/pixel/metrics/{pipe}?{asked}", key) for pipe, asked in zip(pipes, questions, strict=True)]
    )
    return lambda: next(requests)


def _patterns(website):
    """Events, one for each browser, with places for an id, a page and a visitor."""
    event = {
        "website_id": website,
        "name": "pageview",
        "event_id": "bench-%d",
        "url": "https://example.com/pages/%d?utm_source=news&utm_medium=email",
        "referrer": "https://www.google.com/",
        "visitor_id": "visitor-%d",
        "title": "A page of the example",
        "language": "en-US",
    }
    return [json.dumps(event | {"user_agent": agent}).encode() for agent in AGENTS]


@cache
def _agents(bots):
    with _RECORDED.open() as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row["user_agent"] for row in rows if bool(row["bot"]) == bots]


def _hit(website, agent):
    """The head of a hit, with places for two parts of an address and a length; its body, for a visitor, id and page."""
    body = {
        "website_id": website,
        "name": "pageview",
        "visitor_id": "visitor-%d",
        "event_id": "bench-%d",
        "timestamp": clock.rfc3339(clock.now()),
        "url": f"https://{BROWSED}/pages/%d?utm_source=news",
        "title": "A page of the example",
        "referrer": "https://www.google.com/",
        "screen": "1920x1080",
        "props": {},
    }
    head = (
        "POST /api/event HTTP/1.1\r\nHost: pixel.example\r\nX-Forwarded-For: 10.0.%d.%d\r\n"
        f"Origin: https://{BROWSED}\r\nReferer: https://{BROWSED}/\r\nAccept: */*\r\n"
        "Accept-Language: en-US,en;q=0.9\r\nContent-Type: text/plain;charset=UTF-8\r\n"
        f"User-Agent: {agent.replace('%', '%%')}\r\nContent-Length: %d\r\n\r\n"
    )
    return head.encode(), json.dumps(body).encode()


def _event(patterns):
    number = next(_numbers)
    return patterns[number % len(patterns)] % (number, number % 100, number % 5000)


def _get(path, key):
    return f"GET /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def _post(path, key, body):
    head = (
        f"POST /api/v1{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
