"""The CPU time of a request depends on its size, not on what its texts say."""

import gc
import gzip
import io
import itertools
import json
import time
from urllib.parse import quote, quote_plus

import pytest

from tests.cast import READ, WRITE, Workspace, addresses
from tests.collect.pages import FIREFOX
from tests.pages import person

#: The most expensive texts of `n` characters that could be constructed, by what they are expensive for.
TEXTS = {
    "NFKC expanders": lambda n: "\ufdfa" * n,
    "NFKC expanders in labels": lambda n: _cut("\ufdfa" * 59 + ".", n),
    "decomposing marks": lambda n: "\u0344" * n,
    "combining runs": lambda n: _cut("a" + "\u0301\u0323" * n, n),
    "Hangul": lambda n: "\ud55c" * n,
    "distinct Hangul in labels": lambda n: _cut("".join(chr(0xAC00 + 97 * i) for i in range(30)) + ".", n),
    "Arabic in labels": lambda n: _cut("".join(chr(0x628 + i) for i in range(20)) + ".", n),
    "letters with umlauts between dots": lambda n: _cut("\u00fc.", n),
    "emoji": lambda n: "\U0001f600" * n,
    "dots": lambda n: "." * n,
    "labels": lambda n: _cut("a.", n),
    "slashes": lambda n: "/" * n,
    "deep path": lambda n: _cut("a/", n),
    "dot segments": lambda n: _cut("../", n),
    "parameters": lambda n: _cut("a&", n),
    "parameters with a value": lambda n: _cut("a=1&", n),
    "tags": lambda n: _cut("utm_source=1&", n),
    "secret parameters": lambda n: _cut("&key=1", n),
    "escaped percent signs": lambda n: _cut("%25", n),
    "nested escapes": lambda n: "%" + _cut("25", n - 1),
    "percent signs": lambda n: "%" * n,
    "split escapes": lambda n: _cut("%%34%31", n),
    "bytes that are not UTF-8": lambda n: _cut("%ff", n),
    "plus signs": lambda n: "+" * n,
    "at signs": lambda n: "@" * n,
    "addresses": lambda n: _cut("x@a. ", n),
    "a long name before an at sign": lambda n: "a" * (n - 1) + "@",
    "a long domain": lambda n: _cut("x@" + "-" * 200, n),
    "digits": lambda n: "1" * n,
    "digits and spaces": lambda n: _cut("1 ", n),
    "twelve digits": lambda n: _cut("1 1 1 1 1 1 1 1 1 1 1 1x ", n),
    "pairs of digits": lambda n: _cut("1-1--", n),
    "quotes": lambda n: '"' * n,
    "secret fields": lambda n: _cut('"ip":"', n),
    "an open secret field": lambda n: _cut('"ip":"' + '\\"' * n, n),
    "backslashes": lambda n: "\\" * n,
    "JSON escapes": lambda n: _cut("\\u0041", n),
    "keys": lambda n: _cut("pxl_a_b ", n),
    "tokens": lambda n: _cut("eyJaaaaa..-", n),
    "colons": lambda n: ":" * n,
    "semicolons": lambda n: ";" * n,
    "list items": lambda n: _cut("a,", n),
    "weighted items": lambda n: _cut("a;q=1,", n),
    "header parameters": lambda n: _cut('a="b"; ', n),
    "cookies": lambda n: _cut("a=b; ", n),
    "quoted cookies": lambda n: _cut('a="\\054";', n),
    "almost a bot": lambda n: _cut("bo", n),
    "almost an address": lambda n: _cut("+ http:", n),
    "product words": lambda n: _cut("Android Mozilla/5.0 ", n),
    "spaces": lambda n: " " * (n - 1) + "x",
}
#: The part of each text by which it differs from all texts before it, so that no cache knows it.
UNIQUE = 6
ROUNDS, TRIES = 3, 6
#: The limit, and what a request may cost more in any case: some plain requests are refused within 0.2 ms.
MOST_TIMES, SMALL_SECONDS = 2, 0.0003
_numbers = itertools.count(100_000)


def _cut(text, n):
    return (text * (n // len(text) + 1))[:n]


class World:
    """Callers of every public endpoint."""

    def __init__(self, app):
        self.app = app
        self.workspace = Workspace(app, "cost.example")
        self.site = self.workspace.site
        self.secret = self.workspace.key(READ, WRITE).secret
        owner = person(app, self.workspace.id, "owner", support=True)
        self.cookie = "; ".join(f"{c.key}={c.value}" for c in owner.browser._cookies.values())

    def request(self, method, target, headers=(), body=b"", content_type="application/json"):
        """The environ of a request from an address of its own, as the server makes it."""
        path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query, "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost", "REMOTE_ADDR": next(addresses), "HTTP_USER_AGENT": FIREFOX,
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
        }  # fmt: skip
        if method == "POST":
            environ |= {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
        for name, value in dict(headers).items():
            name = name.upper().replace("-", "_")
            # Of as many bytes as a plain header of so many characters.
            sent = value.encode()[: len(value)].decode("latin-1")
            environ[name if name == "CONTENT_TYPE" else f"HTTP_{name}"] = sent
        return environ

    def seconds(self, environ):
        """The CPU time of this thread for one request."""
        statuses = []
        started = time.thread_time()
        response = self.app.wsgi_app(environ, lambda status, headers, exc_info=None: statuses.append(status))
        b"".join(response)
        spent = time.thread_time() - started
        if hasattr(response, "close"):
            response.close()
        status = int(statuses[0][:3])
        assert status < 500, (environ["REQUEST_METHOD"], environ["PATH_INFO"][:100], environ["QUERY_STRING"][:100])
        return spent

    # -- the endpoints, each with one text

    def hit(self, **fields):
        whole = {"website_id": self.site, "name": "pageview", "url": "https://cost.example/a", **fields}
        return self.request("POST", "/api/event", {"Origin": "https://cost.example"}, _json(whole), "text/plain")

    def event(self, **fields):
        whole = {"website_id": self.site, "name": "pageview", "path": "/", **fields}
        return self.call("POST", "/api/v1/pixel/events", body=_json(whole))

    def identify(self, **fields):
        whole = {"website_id": self.site, "visitor_id": "v", "user_id": "u", **fields}
        return self.call("POST", "/api/v1/pixel/identify", body=_json(whole))

    def image(self, query, **headers):
        return self.request("GET", f"/pixel.gif?website_id={self.site}&{query}", headers)

    def call(self, method, target, body=b"", **headers):
        return self.request(method, target, {"Authorization": f"Bearer {self.secret}", **headers}, body)

    def hit_with(self, header, value):
        headers = {"Origin": "https://cost.example", header: value}
        whole = {"website_id": self.site, "name": "pageview", "url": "https://cost.example/a"}
        return self.request("POST", "/api/event", headers, _json(whole), "text/plain")

    def report(self, text: str) -> dict:
        report = {"document-uri": f"https://x/{text}", "effective-directive": text, "blocked-uri": f"https://{text}"}
        return self.request("POST", "/csp-reports", {}, _json({"csp-report": report}), "application/csp-report")

    def page(self, target, **headers):
        return self.request("GET", target, {"Cookie": self.cookie, **headers})

    def form(self, path, **fields):
        # Without its token: every field is read and checked all the same. Each field has as many bytes as a plain one.
        body = "&".join(f"{name}={quote_plus(text)[: len(text)]}" for name, text in fields.items()).encode()
        return self.request("POST", path, {"Cookie": self.cookie}, body, "application/x-www-form-urlencoded")


def _json(value):
    return json.dumps(value, ensure_ascii=False).encode()


def _query(text):
    """A text as a part of an address, with as many characters: what an address may not contain is escaped."""
    return quote(text, safe="%&=+/?#@:;,.-_~!$'()*\"\\[]{}|^`<>")[: len(text)]


LINES = ("title", "goal", "path", "url", "referrer", "hostname", "language", "screen", "user_id", "event_id")
TAGS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "gclid")

#: Each text of each public endpoint: its length in characters, and the request that has it.
FIELDS = {
    **{f"hit {name}": (500, lambda w, t, name=name: w.hit(**{name: t})) for name in (*TAGS, "title", "visitor_id")},
    "hit hostname": (253, lambda w, t: w.hit(hostname=t)),
    "hit hostname and referrer": (
        230, lambda w, t: w.hit(hostname=t, referrer=f"https://x{t[UNIQUE:]}/", utm_source=t),
    ),
    "hit referrer": (3980, lambda w, t: w.hit(referrer=f"https://{t}")),
    "hit referrer's path": (3980, lambda w, t: w.hit(referrer=f"https://a.example/{t}")),
    "hit url's host": (253, lambda w, t: w.hit(url=f"https://{t}/")),
    "hit url's path": (1990, lambda w, t: w.hit(url=f"https://a.example/{t}")),
    "hit url's query": (3900, lambda w, t: w.hit(url=f"https://a.example/?{t}")),
    "hit url's tag": (3900, lambda w, t: w.hit(url=f"https://a.example/?utm_source={t}")),
    "hit url's route": (1900, lambda w, t: w.hit(url=f"https://a.example/#/{t}")),
    "hit first": (1000, lambda w, t: w.hit(name="custom", goal="g", first=t)),
    "hit props": (1000, lambda w, t: w.hit(name="custom", goal="g", props={f"k{i}": t for i in range(10)})),
    "hit value": (1000, lambda w, t: w.hit(name="custom", goal="g", props={"value": t})),
    "hit amount": (1000, lambda w, t: w.hit(name="payment", amount=t, currency="EUR", transaction_id=t[:100])),
    "hit timestamp": (1000, lambda w, t: w.hit(timestamp=t)),
    "hit unknown field": (100, lambda w, t: w.hit(**{t: "x"})),
    "hit website": (100, lambda w, t: w.hit(website_id=t)),
    "hit 16 KB": (1000, lambda w, t: w.hit(**{f"k{i}": t for i in range(3)}, title=t, referrer=t * 3)),
    **{f"hit {name} header": (7900, lambda w, t, name=name: w.hit_with(name, t)) for name in (
        "User-Agent", "Referer", "Origin", "Accept-Language", "Cookie", "Authorization", "X-Request-Id", "Accept",
        "Content-Type", "Content-Encoding", "X-Forwarded-For", "DNT",
    )},
    "hit short User-Agent": (300, lambda w, t: w.hit_with("User-Agent", t)),
    "image url": (3900, lambda w, t: w.image("url=" + _query(t))),
    "image query": (7900, lambda w, t: w.image(_query(t))),
    "image Referer": (7900, lambda w, t: w.image("", Referer=t)),
    **{f"event {name}": (500, lambda w, t, name=name: w.event(**{name: t})) for name in LINES},
    "event user_agent": (2000, lambda w, t: w.event(user_agent=t)),
    "event ip": (45, lambda w, t: w.event(ip=t)),
    "event currency": (1000, lambda w, t: w.event(name="payment", amount="1", currency=t, transaction_id="t")),
    "event country": (1000, lambda w, t: w.event(country=t)),
    "event query": (7900, lambda w, t: w.call("POST", "/api/v1/pixel/events?" + _query(t), body=b"{}")),
    "event Authorization": (7900, lambda w, t: w.request("POST", "/api/v1/pixel/events", {"Authorization": t})),
    "event key": (7900, lambda w, t: w.request("POST", "/api/v1/pixel/events", {"Authorization": f"Bearer {t}"})),
    "event name": (7900, lambda w, t: w.event(name=t)),
    "identify email": (254, lambda w, t: w.identify(email=t)),
    "identify traits": (1000, lambda w, t: w.identify(traits={f"k{i}": t for i in range(10)})),
    "batch line": (7900, lambda w, t: w.call(
        "POST", "/api/v1/pixel/events/batch", body=_json({"name": t}), **{"Content-Type": "application/x-ndjson"})),
    "filter": (2000, lambda w, t: w.call("GET", f"/api/v1/pixel/metrics/p_top_pages?limit=0&path={_query(t)}")),
    "funnel steps": (2000, lambda w, t: w.call("GET", f"/api/v1/pixel/metrics/p_funnel?limit=0&steps={_query(t)}")),
    "report query": (7900, lambda w, t: w.call("GET", f"/api/v1/pixel/metrics/p_top_pages?limit=0&{_query(t)}")),
    "report name": (500, lambda w, t: w.call("GET", f"/api/v1/pixel/metrics/{t}")),
    "visitor id": (2500, lambda w, t: w.call("GET", f"/api/v1/pixel/visitors/{t}?oops=1")),
    "event id": (2500, lambda w, t: w.call("GET", f"/api/v1/pixel/events/{t}?oops=1")),
    "path of the API": (7900, lambda w, t: w.call("GET", f"/api/v1/{t}")),
    "query token": (7900, lambda w, t: w.request("GET", f"/v0/pipes/p_top_pages.json?token={_query(t)}")),
    "query without a key": (7900, lambda w, t: w.request("GET", f"/api/v1/me?{_query(t)}")),
    "cookie without a key": (7900, lambda w, t: w.request("GET", "/api/v1/me", {"Cookie": t})),
    "body without a key": (7900, lambda w, t: w.request("POST", "/api/v1/pixel/events", body=t.encode()[: len(t)])),
    "report of a violation": (1300, lambda w, t: w.report(t)),
    "path of a page": (7900, lambda w, t: w.request("GET", f"/{t}")),
    "path that needs a session": (7900, lambda w, t: w.request("GET", f"/requests/{t}")),
    "sign-in's next": (7900, lambda w, t: w.request("GET", f"/sign-in?next={_query(t)}")),
    "sign-in cookie": (7900, lambda w, t: w.request("GET", "/sign-in", {"Cookie": t})),
    "sign-in form": (2000, lambda w, t: w.form("/sign-in", email=t, password=t, next=t)),
    "website form": (2000, lambda w, t: w.form("/websites/new", domain=t, name=t, timezone=t)),
    "hosts of a website": (2000, lambda w, t: w.form(f"/websites/{w.site}/change", name="x", timezone="UTC", hosts=t)),
    "invitation": (2000, lambda w, t: w.form("/settings/members", email=t, role="viewer")),
    "key form": (2000, lambda w, t: w.form("/settings/api-keys/new", name=t, expires="date", expires_on=t, form=t)),
    "script Accept-Encoding": (7900, lambda w, t: w.request("GET", "/pixel.js", {"Accept-Encoding": t})),
    "script If-None-Match": (7900, lambda w, t: w.request("GET", "/pixel.js", {"If-None-Match": t})),
}  # fmt: skip


@pytest.fixture(scope="module")
def here(app):
    return World(app)


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def unique(text):
    return f"{next(_numbers):0{UNIQUE}}{text[UNIQUE:]}"


@pytest.mark.case(51)
@pytest.mark.parametrize("field", FIELDS)
def test_no_text_costs_more_than_twice_a_plain_one(here, no_garbage_collection, field):
    length, request = FIELDS[field]
    texts = {"plain": "a" * length} | {name: make(length) for name, make in TEXTS.items()}
    cheapest = dict.fromkeys(texts, float("inf"))
    suspects = list(texts)
    for attempt in range(TRIES):
        for _ in range(ROUNDS if attempt == 0 else 5 * ROUNDS):
            # Plain and hostile requests take turns, so that whatever else this machine does slows down both.
            for name in suspects:
                cheapest[name] = min(cheapest[name], here.seconds(request(here, unique(texts[name]))))
        most = max(MOST_TIMES * cheapest["plain"], cheapest["plain"] + SMALL_SECONDS)
        slow = [name for name in texts if cheapest[name] > most]
        if not slow:
            return
        suspects = ["plain", *slow]
    raise AssertionError({name: round(cheapest[name] / cheapest["plain"], 1) for name in slow})


#: Bodies of a hit that are no text: by what they are expensive for, the members besides those of a plain hit.
BODIES = {
    "a thousand numbers": {"x": [1] * 990},
    "a thousand lists": {"x": [[]] * 990},
    "unknown fields": {f"{chr(97 + n % 26)}tis{n}orvid": 1 for n in range(900)},
    "almost known fields": {f"{name}{n}": 1 for n, name in enumerate(("refferer", "visitorid", "utm_sorce", "tittle"))},
    "wrong props": {"props": {f"{n:02}" * 50: [] for n in range(50)}},
    "a time out of range": {"timestamp": "2001-01-01T00:00:00Z", "first": "a=1&" * 250},
    "ten thousand numbers": {"x": [1] * 10_000},
    "ten thousand keys": {f"k{n}": 1 for n in range(6_000)},
}


@pytest.mark.parametrize("body", BODIES)
def test_no_body_of_a_hit_costs_more_than_twice_a_plain_one(here, no_garbage_collection, body):
    size = len(_json(BODIES[body]))
    props = {f"k{n}": "a" * 1000 for n in range(size // 1000)} | {"k": "a" * (size % 1000)}
    _compare(here, lambda: here.hit(name="custom", goal="g", props=props), lambda: here.hit(**BODIES[body]))


NDJSON, PACKED = {"Content-Type": "application/x-ndjson"}, {"Content-Encoding": "gzip"}
_LINES = 1000


def _lines(line):
    return b"\n".join([line] * _LINES)


def _events(events):
    return _json({"events": events})


#: Batches of bad events, by what they are expensive for.
BATCHES = {
    "a key twice": (_lines(b"{%s}" % b",".join(b'"%d":1' % n for n in [*range(998), 0])), NDJSON),
    "a key twice among few": (_lines(b"{%s}" % b",".join(b'"%d":1' % n for n in [*range(190), 0])), NDJSON),
    "unknown fields of every event": (_events([{f"utm_{n}_{k}": 1 for k in range(20)} for n in range(_LINES)]), {}),
    "long unknown fields": (_events([{"\u00fc" * 99 + str(n): 1 for n in range(10)}] * _LINES), {}),
    "every field wrong": (_events([dict.fromkeys(("website_id", "name", *LINES, *TAGS), 1)] * _LINES), {}),
    "wrong props": (_events([{"props": {f"{n:02}" * 50: [] for n in range(50)}}] * _LINES), {}),
    "no object": (_events([0] * _LINES), {}),
    "ten thousand events": (_events([0] * 10_000), {}),
    "a hundred thousand keys": (_events([{f"k{n}": 0 for n in range(100_000)}]), {}),
    "a key of a megabyte": (_events([{"k" * (1 << 20): 0}]), {}),
    "lists": (_lines(b"[%s]" % b",".join([b"[]"] * 199)), NDJSON),
    "more values than there may be": (_lines(b"[%s]" % b",".join([b"1"] * 5000)), NDJSON),
    "brackets": (_lines(b"[" * 10_000), NDJSON),
    "escapes": (_lines(b'{"a":"%s"}' % (rb"\ud83d\ude00" * 800)), NDJSON),
    "lone surrogates": (_lines(b'{"a":"%s"}' % (rb"\ud83d" * 1600)), NDJSON),
}  # fmt: skip


@pytest.mark.case(46)
@pytest.mark.parametrize("batch", BATCHES)
def test_no_batch_costs_more_than_twice_a_valid_one(here, no_garbage_collection, batch):
    """The valid batch has a thousand events with all the props that an event may have, and as many bytes."""
    body, headers = BATCHES[batch]
    length = min(1000, max(1, len(body) // (_LINES * 50) - 10))
    event = {
        "website_id": here.site,
        "name": "custom",
        "goal": "g",
        "props": {f"k{n}": "a" * length for n in range(50)},
    }
    valid = _events([event] * _LINES)
    assert len(valid) >= 0.8 * len(body)

    def post(body, headers):
        return here.call("POST", "/api/v1/pixel/events/batch", gzip.compress(body, 1), **headers, **PACKED)

    _compare(here, lambda: post(valid, {}), lambda: post(body, headers))


def _compare(here, plain, hostile):
    """Assert that the CPU time of one request is at most twice that of another, by the least of several tries."""
    least_plain = least_hostile = float("inf")
    for _ in range(ROUNDS * TRIES):
        least_plain = min(least_plain, here.seconds(plain()))
        least_hostile = min(least_hostile, here.seconds(hostile()))
        if least_hostile <= max(MOST_TIMES * least_plain, least_plain + SMALL_SECONDS):
            return
    raise AssertionError(f"{least_hostile / least_plain:.1f} times")
