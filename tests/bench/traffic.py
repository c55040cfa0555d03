"""What the bench asks: sources of requests, as bytes that are ready to be sent."""

import itertools
import json
from urllib.parse import urlencode

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
