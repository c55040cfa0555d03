"""What becomes of an event: its rules, how many are taken at once, that it counts once, and what is kept of it."""

import gzip
import json
import re
import zlib
from datetime import timedelta
from urllib.parse import quote

import pytest

from pixel import clock, envelope
from pixel.extensions import journal, warehouse
from tests.cast import READ, WRITE, Workspace, error, load, stored

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: Without the time in it: every process of a run must name the tests alike.
ZIPPED = gzip.compress(b"{}", mtime=0)
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def desk(app):
    """A caller whose website is only ever sent single events that nobody counts."""
    workspace = Workspace(app, "desk.example")
    caller = workspace.key(READ, WRITE)
    caller.site = workspace.site
    return caller


def told(response):
    """What is wrong, by field."""
    assert error(response) == (400, "invalid_body"), response.text
    return response.json["error"]["details"]


def shown(caller, site, **event):
    """The event as it would be stored."""
    whole = {"website_id": site, "name": "pageview", "path": "/", **event}
    response = caller.post("/pixel/events?dry_run=true", json={k: v for k, v in whole.items() if v is not ...})
    assert response.status_code == 200, response.text
    return response.json["data"]["event"]


# -- the fields, one by one. `...` takes a field out.


def ahead(**duration):
    return clock.rfc3339(clock.now() + timedelta(**duration))


PAYMENT = {"name": "payment", "amount": 1, "currency": "EUR", "transaction_id": "t", "path": ...}
CUSTOM = {"name": "custom", "goal": "signup", "path": ...}
IDS = ("event_id", "visitor_id", "session_id", "user_id")
TAGS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "gclid", "fbclid", "msclkid", "ttclid")


@pytest.mark.parametrize(
    "event",
    [
        *({name: value} for name in IDS for value in ("a", "x" * 128, "ü é 😀", "a/b\\c'\"", "%00")),
        *({name: value} for name in TAGS for value in ("", "google", "x" * 500, "'; DROP TABLE events; --")),
        {"name": "pageview", "path": ..., "url": "https://ada.example/a"},
        {"timestamp": "2010-01-01T00:00:00Z"},
        {"timestamp": "2024-02-29T23:59:59.123456789+05:30"},
        {"timestamp": "2024-02-29t23:59:59z"},
        {"path": "/"},
        {"path": "/" + "a" * 1999},
        {"path": "/a b?c#d/ü"},
        {"url": "http://ada.example:8080/"},
        {"url": "https://ada.example?x=1", "path": ...},
        {"url": "https://[2001:db8::1]/x"},
        {"url": "https://" + "a" * 253 + "/"},
        {"url": "https://ü.example/"},
        {"url": "https://ada.example/" + "a" * 1999},
        {"title": ""},
        {"title": "two\nlines\t" + "x" * 900},
        {"hostname": "www.ada.example"},
        {"referrer": ""},
        {"referrer": "no url at all"},
        {"referrer": "https://other.example/" + "x" * 3000},
        {"ip": "203.0.113.7"},
        {"ip": "2001:db8::7"},
        {"user_agent": "x" * 2000},
        {"language": "de-DE"},
        {"screen": "1920x1080"},
        {"country": "de"},
        {"device": "mobile", "browser": "Lynx", "os": "Plan 9"},
        CUSTOM,
        CUSTOM | {"goal": "x" * 64},
        *(CUSTOM | {"value": value} for value in (0, -1, 1.5, 10**15, -1e15)),
        PAYMENT,
        *(PAYMENT | {"amount": amount} for amount in (0, -5, 19.99, "19.99", "-0.0001", 99999999999999)),
        PAYMENT | {"currency": "jpy"},
        PAYMENT | {"provider": "stripe"},
        PAYMENT | {"transaction_id": "x" * 128},
        {"props": {}},
        {"props": {f"k{i}": "x" * 1000 for i in range(50)}},
        {"props": {"text": "a\nb", "int": 1, "float": 1.5, "true": True, "x" * 100: False}},
    ],
    ids=lambda event: json.dumps({k: v for k, v in event.items() if v is not ...})[:60],
)
def test_a_good_event_is_taken(desk, event):
    whole = {"website_id": desk.site, "name": "pageview", "path": "/", **event}
    response = desk.post("/pixel/events", json={k: v for k, v in whole.items() if v is not ...})
    assert response.status_code == 202, response.text
    assert response.json["data"].keys() == {"status", "event_id", "website_id", "name"}
    assert response.json["data"]["status"] == "accepted"


NOT_TEXT = (1, 1.5, True, None, [], ["a"], {})
LIST = "Must be one of: pageview, custom, payment."
ZONE = "Must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z."


@pytest.mark.parametrize(
    ("event", "field", "message"),
    [
        *(({name: value}, name, None) for name in (*IDS, "website_id") for value in (*NOT_TEXT, "", "x" * 129, "a\nb")),
        *(({name: "\u200b"}, name, "Must have printable characters only.") for name in IDS),
        *(({name: " " * n}, name, "Must not be spaces alone.") for name in (*IDS, "website_id") for n in (1, 128)),
        *(({name: value}, name, None) for name in TAGS for value in (*NOT_TEXT, "x" * 501, "a\x1fb")),
        ({"website_id": ...}, "website_id", None),
        ({"website_id": "nope"}, "website_id", "No such website in this workspace."),
        ({"name": ...}, "name", None),
        *(({"name": value}, "name", LIST) for value in ("", "Pageview", "click", 1, [], {})),
        *(
            ({"timestamp": value}, "timestamp", ZONE)
            for value in ("", "now", 1700000000, "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00Z", " 2026-01-31T12:00:00Z",
                          "2026-01-31T12:00:00+01", "20260131T120000Z", "2026-W01-1T12:00:00Z", True, [], "2026-01-31T12:00:00Z\n")
        ),
        *(
            ({"timestamp": value}, "timestamp", "There is no such time.")
            for value in ("2025-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "2025-01-01T25:00:00Z", "2025-01-01T00:00:61Z",
                          "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2025-01-01T00:00:00+25:00")
        ),
        ({"timestamp": "2009-12-31T23:59:59Z"}, "timestamp", "Must not be before 2010."),
        ({"timestamp": "2010-01-01T00:00:00+00:01"}, "timestamp", "Must not be before 2010."),
        ({"timestamp": "9999-01-01T00:00:00Z"}, "timestamp", "Must not be more than 5 minutes ahead."),
        ({"path": ...}, "path", "Required for a pageview, unless url is given."),
        *(({"path": value}, "path", None) for value in (*NOT_TEXT, "", "a", " /", "/" + "a" * 2000, "/a\nb", "/\x7f")),
        *(
            ({"url": value}, "url", None)
            for value in (*NOT_TEXT, "", "/relative", "ada.example", "ftp://ada.example/", "javascript:alert(1)", "https://",
                          "https:///x", "https://[::1", "https://a:99999/", "https://a:b/", "https://ada.example/" + "a" * 2000,
                          "https://ada.example/\n", "https://ada.example/?" + "a" * 4000, "http://a b/", "http://a\\b/", "https://[v1.a b]/",
                          "https://" + "a" * 254 + "/")
        ),
        *(({"title": value}, "title", None) for value in (*NOT_TEXT, "x" * 1001)),
        *(({"hostname": value}, "hostname", None) for value in (*NOT_TEXT, "x" * 254, "a b", "a/b", "a\\b", "a:80", "a@b", "a\x01b")),
        *(({"referrer": value}, "referrer", None) for value in (*NOT_TEXT, "x" * 4001, "a\nb")),
        *(
            ({"ip": value}, "ip", "Must be an IPv4 or IPv6 address.")
            for value in (1, 2130706433, True, [], "", "localhost", "256.1.1.1", "1.2.3", "1.2.3.4/8", " 1.2.3.4", ":::")
        ),
        *(({"user_agent": value}, "user_agent", None) for value in (*NOT_TEXT, "x" * 2001)),
        *(({"language": value}, "language", None) for value in (*NOT_TEXT, "x" * 36)),
        *(({"screen": value}, "screen", None) for value in (*NOT_TEXT, "x" * 21)),
        *(({"country": value}, "country", None) for value in (*NOT_TEXT, "D1", "é!")),
        *(({"country": value}, "country", "Must have 2 characters.") for value in ("", "D", "DEU")),
        *(({name: value}, name, None) for name in ("device", "browser", "os") for value in (*NOT_TEXT, "x" * 65)),
        (CUSTOM | {"goal": ...}, "goal", "Required for a custom event."),
        *((CUSTOM | {"goal": value}, "goal", None) for value in (*NOT_TEXT, "", "x" * 65)),
        *((CUSTOM | {"value": value}, "value", "Must be a number.") for value in ("1", True, [], {})),
        *((CUSTOM | {"value": value}, "value", "Must be from -1e15 to 1e15.") for value in (10**15 + 1, -2e15, 1e308)),
        ({"goal": "signup"}, "goal", "Only for a custom event."),
        ({"value": 1}, "value", "Only for a custom event."),
        ({"amount": 1}, "amount", "Only for a payment."),
        (CUSTOM | {"currency": "EUR"}, "currency", "Only for a payment."),
        ({"transaction_id": "t"}, "transaction_id", "Only for a payment."),
        ({"provider": "stripe"}, "provider", "Only for a payment."),
        *((PAYMENT | {name: ...}, name, "Required for a payment.") for name in ("amount", "currency", "transaction_id")),
        *(
            (PAYMENT | {"amount": value}, "amount", "Must be a decimal number in major units, such as 19.99.")
            for value in ("", "1,50", "1e3", "€1", "+1", ".5", "1.", " 1", "NaN", "-Infinity", True, [], "１")
        ),
        *(
            (PAYMENT | {"amount": value}, "amount", "Must have at most 14 digits before the point and 4 after it.")
            for value in (10**14, -(10**14), "1.00001", 1e300, 1e-300, 2**63 - 1, "1" * 20)
        ),
        *(
            (PAYMENT | {"currency": value}, "currency", "Must be an ISO 4217 currency code such as EUR.")
            for value in ("", "EURO", "€", "XXZ", 978, [], "ß")
        ),
        *((PAYMENT | {"transaction_id": value}, "transaction_id", None) for value in (*NOT_TEXT, "", "x" * 129)),
        *((PAYMENT | {"provider": value}, "provider", None) for value in (*NOT_TEXT, "x" * 65)),
        *(({"props": value}, "props", None) for value in (1, "a", True, None, [], [["a", "b"]])),
        ({"props": {f"k{i}": 1 for i in range(51)}}, "props", "Must have at most 50 keys."),
        ({"props": {"k": "x" * 1001}}, "props.k", "Must have at most 1000 characters."),
        *(({"props": {"k": value}}, "props.k", "Must be text, a number, true or false.") for value in ([], {}, {"a": 1})),
        ({"props": {"x" * 101: 1}}, "props." + "x" * 100, None),
        ({"props": {"": 1}}, "props.", None),
    ],
    ids=lambda part: json.dumps({k: v for k, v in part.items() if v is not ...})[:60] if isinstance(part, dict) else "",
)  # fmt: skip
def test_a_wrong_field_is_named_with_what_is_wrong_with_it(desk, event, field, message):
    whole = {"website_id": desk.site, "name": "pageview", "path": "/", **event}
    messages = told(desk.post("/pixel/events", json={k: v for k, v in whole.items() if v is not ...}))
    assert list(messages) == [field]
    assert messages[field] == [message] if message else all(isinstance(m, str) for m in messages[field])


@pytest.mark.parametrize(("minutes", "fine"), [(4, True), (6, False)])
def test_a_clock_may_be_five_minutes_ahead(desk, minutes, fine):
    response = desk.sends(desk.site, timestamp=ahead(minutes=minutes))
    assert response.status_code == 202 if fine else told(response).keys() == {"timestamp"}


@pytest.mark.parametrize(
    ("unknown", "said"),
    [
        ("visitorid", "Unknown field. Did you mean visitor_id?"),
        ("urll", "Unknown field. Did you mean url?"),
        ("workspace_id", "Unknown field."),
        ("zzzzzzzz", "Unknown field."),
        ("_schema", "Unknown field."),
        ("message", "Unknown field."),
        ("self", "Unknown field."),
        ("a.b", "Unknown field."),
    ],
)
def test_an_unknown_field_is_an_error_that_names_the_nearest(desk, unknown, said):
    messages = told(
        desk.post("/pixel/events", json={"website_id": desk.site, "name": "pageview", "path": "/", unknown: "x"})
    )
    assert len(messages) == 1
    assert next(iter(messages.values()))[0].startswith(said)


@pytest.mark.parametrize(
    "name", ["workspace_id", "request_id", "received_at", "event_key", "bot", "channel", "visitor", "country_code"]
)
def test_what_is_the_servers_own_cannot_be_set(desk, name):
    assert name in told(desk.sends(desk.site, **{name: "x"}))


def test_all_wrong_fields_are_told_at_once(ada, caller):
    assert told(caller.sends(ada.site, visitor_id=1, utm_source=2, oops=3)).keys() == {
        "visitor_id",
        "utm_source",
        "oops",
    }


def test_a_hundred_thousand_unknown_fields_are_answered_in_a_few_words(caller):
    body = json.dumps({f"k{i}": 0 for i in range(70_000)})
    response = caller.post("/pixel/events", data=body, content_type=JSON)
    assert told(response)["_body"] == ["69990 more unknown fields."]
    assert len(response.data) < 5000


def test_the_nearest_fields_are_looked_up_for_a_few_names_of_a_request(ada, caller):
    wrong = [{"website_id": ada.site, "name": "pageview", "path": "/", f"urll{n}": 1, "pathh": 1} for n in range(30)]
    results = caller.post("/pixel/events/batch", json={"events": wrong}).json["data"]["results"]
    said = [result["errors"][f"urll{n}"][0] for n, result in enumerate(results)]
    assert said == ["Unknown field. Did you mean url?"] * 19 + ["Unknown field."] * 11
    assert {result["errors"]["pathh"][0] for result in results} == {"Unknown field. Did you mean path?"}


# -- strictly JSON


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Not JSON"),
        (b" ", "Not JSON"),
        (b"null", "object"),
        (b"5", "object"),
        (b'"text"', "object"),
        (b"true", "object"),
        (b"[]", "object"),
        (b'[{"name": "pageview"}]', "object"),
        (b"{", "Not JSON"),
        (b"{}x", "Not JSON"),
        (b"{} {}", "Not JSON"),
        (b"{'a': 1}", "Not JSON"),
        (b'{"a": 1,}', "Not JSON"),
        (b'{"a": 1} // words', "Not JSON"),
        (b'{"a": 01}', "Not JSON"),
        (b'{"a": +1}', "Not JSON"),
        (b'{"a": .5}', "Not JSON"),
        (b'{"a": "\t"}', "Not JSON"),
        (b'{"a": "\x00"}', "Not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": -1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "64 bits"),
        (b'{"a": 1, "a": 1}', "'a'"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "'b'"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": "\\\\\\u0000"}', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"a": "\xc0\x80"}', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), None),
        ('{"a": 1}'.encode("utf-32"), None),
        (b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", "20 levels"),
        (b'{"a": ' * 21 + b"1" + b"}" * 21, "20 levels"),
        (b"[" * 100_000, None),
        (b'{"a":' * 100_000, None),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_a_body_that_is_not_strict_json_is_refused_as_a_whole(desk, body, said):
    for path in ("/pixel/events", "/pixel/identify"):
        messages = told(desk.post(path, data=body, content_type=JSON))
        assert list(messages) == ["_body"]
        assert said is None or said in messages["_body"][0]


def test_twenty_levels_and_the_largest_integer_are_still_json(ada, caller):
    deep = json.loads("[" * 19 + "]" * 19)
    assert told(caller.sends(ada.site, props={"deep": 1}, oops=deep)).keys() == {"oops"}
    assert caller.sends(ada.site, props={"n": 2**63 - 1, "m": -(2**63)}).status_code == 202


# -- many at once


def test_a_bad_event_of_a_batch_costs_no_good_one(app, ada, bob, caller):
    good = {"website_id": ada.site, "name": "pageview", "path": "/good"}
    events = [good, {}, good | {"event_id": "mine"}, 5, good | {"website_id": bob.site}, good | {"oops": 1}, None, good]
    response = caller.post("/pixel/events/batch", json={"events": events})
    assert response.status_code == 202
    data = response.json["data"]
    assert (data["accepted"], data["rejected"]) == (3, 5)
    assert [result["status"] == "accepted" for result in data["results"]] == [
        True,
        False,
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    assert data["results"][2]["event_id"] == "mine"
    assert data["results"][1]["errors"].keys() == {"website_id", "name"}
    assert data["results"][3]["errors"] == {"_body": ["Must be a JSON object."]}
    assert data["results"][4]["errors"] == {"website_id": ["No such website in this workspace."]}
    assert len(stored(app, ada.site)) == 3
    assert stored(app, bob.site) == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("type_", [JSON, NDJSON])
def test_a_batch_comes_as_json_or_lines_packed_or_not(app, ada, caller, packed, type_):
    events = [{"website_id": ada.site, "name": "pageview", "path": f"/{i}"} for i in range(3)]
    body = json.dumps({"events": events}) if type_ == JSON else "\r\n".join(map(json.dumps, events)) + "\n\n"
    headers = {"Content-Type": type_} | ({"Content-Encoding": "gzip"} if packed else {})
    data = gzip.compress(body.encode()) if packed else body.encode()
    response = caller.post("/pixel/events/batch", data=data, headers=headers)
    assert response.status_code == 202, response.text
    assert response.json["data"]["accepted"] == 3
    assert {row["path"] for row in stored(app, ada.site)} == {"/0", "/1", "/2"}


def test_a_broken_line_costs_only_itself(ada, caller):
    good = json.dumps({"website_id": ada.site, "name": "pageview", "path": "/"}).encode()
    lines = [good, b"{", b"\xff", b'{"a": NaN}', good, b"[" * 50_000, b"null", good]
    results = caller.post("/pixel/events/batch", data=b"\n".join(lines), content_type=NDJSON).json["data"]["results"]
    assert [r["status"] for r in results] == [
        "accepted",
        *["rejected"] * 3,
        "accepted",
        "rejected",
        "rejected",
        "accepted",
    ]
    assert all(list(r["errors"]) == ["_body"] for r in results if r["status"] == "rejected")


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"null", b'{"events": null}', b'{"events": {}}', b'{"events": "x"}', b'{"events": [], "x": 1}',
     b'{"events": []}', b'{"events": [NaN]}', b""],
)  # fmt: skip
def test_a_batch_is_an_object_with_a_list_of_events(desk, body):
    assert told(desk.post("/pixel/events/batch", data=body, content_type=JSON)).keys() <= {"_body", "events"}


def test_a_batch_has_at_most_a_thousand_events(app, ada, caller):
    events = [{"website_id": ada.site, "name": "pageview", "path": "/"}] * 1001
    for options in (
        {"json": {"events": events}},
        {"data": "\n".join(map(json.dumps, events)), "content_type": NDJSON},
    ):
        assert told(caller.post("/pixel/events/batch", **options)) == {
            "events": ["Must have 1 to 1000 events, not 1001."]
        }
    assert stored(app, ada.site) == []
    assert caller.post("/pixel/events/batch", json={"events": events[:1000]}).json["data"]["accepted"] == 1000
    assert told(caller.post("/pixel/events/batch", data=b"\n\n", content_type=NDJSON)).keys() == {"events"}
    assert len(stored(app, ada.site)) == 1000


def test_of_too_many_lines_none_is_read(caller, monkeypatch):
    monkeypatch.setattr(envelope, "loads", None)
    for lines, says in ((1001, "1001"), (500_000, "100000 or more")):
        sent = caller.post("/pixel/events/batch", data=b"x\n" * lines, content_type=NDJSON)
        assert told(sent) == {"events": [f"Must have 1 to 1000 events, not {says}."]}


def test_ten_mebibytes_are_taken_and_one_byte_more_is_not(ada, caller):
    body = json.dumps({"events": [{"website_id": ada.site, "name": "pageview", "path": "/"}]}).encode()
    body += b" " * ((10 << 20) - len(body))
    assert caller.post("/pixel/events/batch", data=body, content_type=JSON).status_code == 202
    assert error(caller.post("/pixel/events/batch", data=body + b" ", content_type=JSON)) == (413, "payload_too_large")


@pytest.mark.parametrize("size", [(10 << 20) + 1, 500 << 20])
def test_what_inflates_past_the_limit_is_refused(caller, size):
    response = caller.post(
        "/pixel/events/batch", data=zeros(size), headers={"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    )
    assert error(response) == (413, "payload_too_large")
    assert response.json["error"]["details"] == {"limit_bytes": 10 << 20}


def zeros(size):
    """So many zeros, gzipped, without ever having them all."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join(
        [packer.compress(block) for _ in range(size >> 20)] + [packer.compress(bytes(size % (1 << 20))), packer.flush()]
    )


@pytest.mark.parametrize("data", [b"", b"x", b"{}", ZIPPED[:-1], ZIPPED[:12], ZIPPED + b"x"])
def test_what_is_not_gzip_is_refused(desk, data):
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    assert list(told(desk.post("/pixel/events/batch", data=data, headers=headers))) == ["_body"]


# -- trying, without storing


def test_a_dry_run_shows_the_event_and_stores_nothing(app, ada, caller):
    event = {"website_id": ada.site, "name": "pageview", "url": "https://ada.example/x?utm_source=s", "event_id": "dry"}
    event["timestamp"] = "2026-01-31T12:00:00.5+01:00"
    response = caller.post("/pixel/events?dry_run=true", json=event)
    assert response.status_code == 200
    row = response.json["data"]["event"]
    assert (row["path"], row["utm_source"], row["timestamp"]) == ("/x", "s", "2026-01-31T11:00:00.500Z")
    assert RFC3339.fullmatch(row["received_at"])
    assert "workspace_id" not in row
    response = caller.post("/pixel/events/batch?dry_run=true", json={"events": [event, {}]})
    assert response.status_code == 200
    assert [r["status"] for r in response.json["data"]["results"]] == ["accepted", "rejected"]
    identity = {"website_id": ada.site, "visitor_id": "v", "user_id": "u"}
    response = caller.post("/pixel/identify?dry_run=true", json=identity)
    assert response.status_code == 200
    assert RFC3339.fullmatch(response.json["data"]["identity"]["received_at"])
    assert "workspace_id" not in response.text
    assert stored(app, ada.site) == stored(app, ada.site, "identities") == []
    assert error(caller.get("/pixel/events/dry")) == (404, "event_not_found")
    assert caller.post("/pixel/events?dry_run=false", json=event).status_code == 202


@pytest.mark.parametrize("path", ["/pixel/events", "/pixel/events/batch", "/pixel/identify"])
@pytest.mark.parametrize("query", ["dry_run=1", "dry_run=", "dry_run=True", "dry_run=true&dry_run=true", "dry_run"])
def test_dry_run_is_true_or_false(desk, path, query):
    response = desk.post(f"{path}?{query}", json={})
    assert error(response) == (400, "invalid_query")
    assert list(response.json["error"]["details"]) == ["dry_run"]


def test_a_dry_run_validates_as_the_real_thing(ada, caller):
    assert told(caller.post("/pixel/events?dry_run=true", json={"website_id": "nope", "name": "pageview", "path": "/"}))


# -- what is kept of an event


def test_an_event_is_stored_as_it_was_sent(app, ada, caller):
    sent = {
        "event_id": "e-1", "timestamp": "2026-01-31T12:00:00.123+01:00", "visitor_id": "v-1", "session_id": "s-1", "user_id": "u-1",
        "path": "/a'b\\c\"d", "title": "Tab\tand ü\nline", "hostname": "WWW.ada.example", "language": "de", "screen": "1x1",
        "country": "ch", "device": "fridge", "browser": "b", "os": "o", "goal": "g", "value": -1.5,
        "props": {"a": "x\ny", "n": 1, "f": 1.5, "t": True, "q'": "\\"},
    }  # fmt: skip
    request_id = caller.sends(ada.site, name="custom", **sent).json["meta"]["request_id"]
    (row,) = stored(app, ada.site)
    same = sent.keys() - {"timestamp", "hostname", "country", "props"}
    assert {name: row[name] for name in same} == {name: sent[name] for name in same}
    assert row["timestamp"].startswith("2026-01-31T11:00:00.123")
    assert (row["hostname"], row["country"], row["name"]) == ("www.ada.example", "CH", "custom")
    assert row["props"] == {"a": "x\ny", "n": "1", "f": "1.5", "t": "true", "q'": "\\"}
    assert (row["request_id"], row["workspace_id"]) == (request_id, ada.id)


@pytest.mark.parametrize("amount", [19.99, "-0.0001", 99999999999999, "12345678901234.5678", 0.1])
def test_money_is_kept_to_the_cent(app, ada, caller, amount):
    caller.sends(ada.site, name="payment", amount=amount, currency="eur", transaction_id="t", provider="p")
    (row,) = stored(app, ada.site)
    with app.app_context():
        asked = "SELECT toString(amount) AS amount FROM events WHERE website_id = {site:String}"
        assert float(warehouse.query(asked, {"site": ada.site})["data"][0]["amount"]) == float(amount)
    assert row["currency"] == "EUR"


def test_the_names_decide_the_table(app, ada, caller):
    caller.sends(ada.site)
    caller.sends(ada.site, name="custom", goal="g")
    caller.sends(ada.site, name="payment", amount=1, currency="EUR", transaction_id="t")
    for table, name in (("pageviews", "pageview"), ("custom_goals", "custom"), ("visitor_payments", "payment")):
        assert [row["name"] for row in stored(app, ada.site, table)] == [name]


def test_an_address_is_split_into_host_path_and_tags(ada, caller):
    url = "https://Shop.Ada.example:8443/a/b%20c?utm_source=news&utm%5Fmedium=mail&utm_campaign=a+b&gclid=g1&x=1#frag"
    row = shown(caller, ada.site, url=url, path=...)
    assert (row["hostname"], row["path"]) == ("shop.ada.example", "/a/b%20c")
    assert (row["utm_source"], row["utm_medium"], row["utm_campaign"], row["gclid"]) == ("news", "mail", "a b", "g1")
    assert "x=1" not in json.dumps(row)


def test_what_is_given_beside_an_address_goes_before_it(ada, caller):
    row = shown(
        caller,
        ada.site,
        url="https://a.example/x?utm_source=url",
        path="/own",
        hostname="own.example",
        utm_source="own",
    )
    assert (row["hostname"], row["path"], row["utm_source"]) == ("own.example", "/own", "own")


@pytest.mark.parametrize("click_id", ["gclid", "fbclid", "msclkid", "ttclid"])
def test_click_ids_make_a_paid_channel_and_may_come_in_the_address(desk, click_id):
    by_address = shown(desk, desk.site, url=f"https://ada.example/?{click_id}=x", path=...)
    by_field = shown(desk, desk.site, **{click_id: "x"})
    assert by_address[click_id] == by_field[click_id] == "x"
    assert by_address["source"] == by_field["source"] != ""
    assert by_address["channel"] == by_field["channel"] not in ("", "Direct")


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        ({}, {"channel": "Direct", "referrer": "", "llm_engine": ""}),
        (
            {"referrer": "https://www.google.com/search?q=x"},
            {"channel": "Organic Search", "source": "Google", "referrer": "google.com"},
        ),
        ({"referrer": "https://chatgpt.com/"}, {"llm_engine": "chatgpt"}),
        ({"utm_source": "perplexity"}, {"llm_engine": "perplexity"}),
        ({"referrer": "https://friend.example/post?id=1"}, {"channel": "Referral", "referrer": "friend.example"}),
        ({"referrer": "https://desk.example/before"}, {"channel": "Direct", "referrer": ""}),
        (
            {"referrer": "https://shop.desk.example/", "hostname": "shop.desk.example"},
            {"channel": "Direct", "referrer": ""},
        ),
        (
            {"referrer": "https://chatgpt.com/", "utm_source": "news", "utm_medium": "email"},
            {"source": "news", "medium": "email"},
        ),
    ],
)
def test_the_source_is_told_from_tags_and_referrer(desk, event, facts):
    row = shown(desk, desk.site, **event)
    assert {name: row[name] for name in facts} == facts


def test_the_browser_is_told_from_the_user_agent_unless_given(ada, caller):
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
    row = shown(caller, ada.site, user_agent=phone)
    assert (row["device"], row["os"], row["bot"]) == ("mobile", "iOS", "")
    assert shown(caller, ada.site, user_agent=phone, device="fridge")["device"] == "fridge"
    assert shown(caller, ada.site, user_agent="Googlebot/2.1 (+http://www.google.com/bot.html)")["bot"]


def test_a_visitor_is_derived_from_address_and_browser_and_the_address_is_not_kept(app, ada, caller):
    ip, agent = "198.51.100.77", "Canary Browser 7.7"
    other_site = ada.website("second.example")
    sent = [
        (ada.site, {"ip": ip, "user_agent": agent}),
        (ada.site, {"ip": ip, "user_agent": agent}),
        (ada.site, {"ip": "198.51.100.78", "user_agent": agent}),
        (ada.site, {"ip": ip, "user_agent": agent + "x"}),
        (other_site, {"ip": ip, "user_agent": agent}),
        (ada.site, {"ip": ip}),
        (ada.site, {"user_agent": agent}),
        (ada.site, {"ip": ip, "user_agent": agent, "visitor_id": "own"}),
    ]
    visitors = [shown(caller, site, **event).get("visitor_id", "") for site, event in sent]
    assert visitors[0] == visitors[1]
    assert len({*visitors[:5]}) == 4
    assert visitors[5:] == ["", "", "own"]
    for site, event in sent:
        assert caller.sends(site, **event).status_code == 202
    assert told(caller.sends(ada.site, ip=ip, user_agent=agent, oops=1))
    assert nowhere(app, ip)


def nowhere(app, *words):
    """Whether none of `words` is in the journal or in any text of the warehouse; it is looked at before and after loading."""
    journal.flush()
    raw = b"".join(path.read_bytes() for path in journal.folder.glob("*"))
    load(app)
    with app.app_context():
        for table in ("events", "requests", "identities"):
            for word in words:
                text = f"SELECT count() AS n FROM {table} WHERE position(toString(tuple(*)), {{word:String}}) > 0"
                assert warehouse.query(text, {"word": word})["data"][0]["n"] == 0, (table, word)
    return not any(word.encode() in raw for word in words)


def test_an_event_without_a_visitor_counts_as_an_event_only(ada, caller):
    caller.sends(ada.site)
    assert [(row["visitors"], row["pageviews"]) for row in caller.rows("p_top_pages")] == [(0, 1)]


# -- once


def paths(app, site):
    return [row["path"] for row in stored(app, site)]


def test_an_event_id_counts_once_within_24_hours_and_the_first_wins(app, ada, caller, moved_clock):
    caller.sends(ada.site, event_id="e", path="/first")
    caller.sends(ada.site, event_id="e", path="/again-at-once")
    load(app)
    caller.sends(ada.site, event_id="e", path="/again-loaded")
    moved_clock.forward(hours=23, minutes=59)
    caller.sends(ada.site, event_id="e", path="/again-late")
    assert paths(app, ada.site) == ["/first"]
    moved_clock.forward(minutes=2)
    caller.sends(ada.site, event_id="e", path="/another-day")
    assert paths(app, ada.site) == ["/first", "/another-day"]


def test_an_event_id_is_each_websites_own(app, ada, bob, caller):
    other = ada.website("other.example")
    for site in (ada.site, other):
        caller.sends(site, event_id="shared")
    bob.key(WRITE).sends(bob.site, event_id="shared")
    assert [len(paths(app, site)) for site in (ada.site, other, bob.site)] == [1, 1, 1]


def test_one_id_twice_in_a_batch_counts_once(app, ada, caller):
    event = {"website_id": ada.site, "name": "pageview", "event_id": "e"}
    response = caller.post("/pixel/events/batch", json={"events": [event | {"path": f"/{i}"} for i in range(5)]})
    assert response.json["data"]["accepted"] == 5
    assert paths(app, ada.site) == ["/0"]


def test_events_without_an_id_each_count_and_are_given_one(app, ada, caller):
    given = {caller.sends(ada.site).json["data"]["event_id"] for _ in range(3)}
    assert len(given) == len(paths(app, ada.site)) == 3
    assert all(caller.get(f"/pixel/events/{id}").status_code == 200 for id in given)


def test_a_payment_counts_once_for_ever_by_website_provider_and_transaction(app, ada, caller, moved_clock):
    def pays(site=ada.site, **more):
        whole = {"name": "payment", "amount": 1, "currency": "EUR", "transaction_id": "t", **more}
        assert caller.sends(site, **whole).status_code == 202

    other = ada.website("other.example")
    pays(event_id="a")
    pays(event_id="b", amount=2)
    load(app)
    moved_clock.forward(days=400)
    pays(event_id="c", amount=3)
    assert [row["event_id"] for row in stored(app, ada.site)] == ["a"]
    pays(event_id="d", provider="stripe")
    pays(event_id="e", transaction_id="t2")
    pays(event_id="f", site=other)
    assert {row["event_id"] for row in stored(app, ada.site)} == {"a", "d", "e"}
    assert len(stored(app, other)) == 1


# -- receipts


def test_a_receipt_says_accepted_and_then_stored(app, ada, caller, monkeypatch):
    with app.app_context():
        loading = warehouse.start()._loading
    with loading:
        sent = caller.sends(ada.site, event_id="r-1")
        waiting = caller.get("/pixel/events/r-1").json["data"]
    load(app)
    done = caller.get("/pixel/events/r-1").json["data"]
    assert (waiting["status"], done["status"]) == ("accepted", "stored")
    assert done.keys() == {"status", "event_id", "website_id", "name", "received_at", "request_id"}
    assert waiting | {"status": "stored"} == done
    assert (done["event_id"], done["website_id"], done["name"]) == ("r-1", ada.site, "pageview")
    assert done["request_id"] == sent.json["meta"]["request_id"]
    assert done["received_at"].endswith("Z")


@pytest.mark.parametrize(
    "event_id",
    ["a b", "a/b", "/", "ü😀", "a'b\\c\"d", "a%2Fb", "a?b#c", "..", "a\\", "{id:String}", "batch", "é" * 128],
)
def test_every_event_id_that_is_taken_can_be_asked_for(app, desk, event_id):
    assert desk.sends(desk.site, event_id=event_id).status_code == 202
    for _ in range(2):
        response = desk.get(f"/pixel/events/{quote(event_id, safe='')}")
        assert response.status_code == 200, response.text
        assert response.json["data"]["event_id"] == event_id
        load(app)


@pytest.mark.parametrize("loaded", [False, True])
def test_another_workspaces_event_is_not_there(app, ada, bob, caller, loaded):
    bob.key(WRITE).sends(bob.site, event_id="of-bob")
    hidden = ada.website("hidden.example")
    caller.sends(hidden, event_id="hidden")
    if loaded:
        load(app)
    restricted = ada.key(READ, website_ids=[ada.site])
    for who, id in ((caller, "of-bob"), (restricted, "of-bob"), (restricted, "hidden"), (caller, "nope")):
        assert error(who.get(f"/pixel/events/{id}")) == (404, "event_not_found")
    assert caller.get("/pixel/events/hidden").status_code == 200


def test_of_two_websites_events_with_one_id_a_receipt_can_be_chosen(app, ada, bob, caller):
    other = ada.website("other.example")
    for site in (ada.site, other):
        caller.sends(site, event_id="same")
        load(app)
        assert caller.get(f"/pixel/events/same?website_id={site}").json["data"]["website_id"] == site
    assert error(caller.get(f"/pixel/events/same?website_id={bob.site}")) == (404, "website_not_found")


# -- identify


def test_a_visitor_is_identified(app, ada, caller):
    sent = {
        "website_id": ada.site,
        "visitor_id": "v",
        "user_id": "u",
        "email": "Jane@Example.com",
        "traits": {"plan": "pro", "n": 1},
    }
    response = caller.post("/pixel/identify", json=sent)
    assert response.status_code == 202
    assert response.json["data"] == {"status": "accepted", "website_id": ada.site, "visitor_id": "v"}
    (row,) = stored(app, ada.site, "identities")
    assert (row["visitor_id"], row["user_id"], row["email"]) == ("v", "u", "jane@example.com")
    assert row["traits"] == {"plan": "pro", "n": "1"}
    assert (row["workspace_id"], row["request_id"]) == (ada.id, response.json["meta"]["request_id"])


@pytest.mark.parametrize("given", [{"user_id": "u"}, {"email": "a@b.c"}, {"email": "ü@münchen.example"}])
def test_an_id_or_an_address_is_enough(desk, given):
    assert desk.post("/pixel/identify", json={"website_id": desk.site, "visitor_id": "v", **given}).status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ...}, "_body"),
        ({"website_id": ...}, "website_id"),
        ({"website_id": "nope"}, "website_id"),
        ({"visitor_id": ...}, "visitor_id"),
        ({"visitor_id": ""}, "visitor_id"),
        ({"visitor_id": 1}, "visitor_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": None}, "user_id"),
        *(({"email": value}, "email") for value in (1, "", "a", "a@", "@b", "a b@c.d", "a@b@c", "x" * 65 + "@b.c", "a@" + "b" * 255, "a@b\n")),
        ({"traits": []}, "traits"),
        ({"traits": {"a": None}}, "traits.a"),
        ({"traits": {"a": {}}}, "traits.a"),
        ({"trait": {}}, "trait"),
        ({"workspace_id": "x"}, "workspace_id"),
    ],
)  # fmt: skip
def test_a_wrong_identify_is_refused_by_field(desk, change, field):
    whole = {"website_id": desk.site, "visitor_id": "v", "user_id": "u"} | change
    response = desk.post("/pixel/identify", json={k: v for k, v in whole.items() if v is not ...})
    assert list(told(response)) == [field]


def test_another_workspaces_visitor_cannot_be_identified(app, bob, caller):
    body = {"website_id": bob.site, "visitor_id": "v", "user_id": "u"}
    assert told(caller.post("/pixel/identify", json=body)) == {"website_id": ["No such website in this workspace."]}
    assert stored(app, bob.site, "identities") == []


# -- websites


def test_websites_are_listed_newest_first(ada, caller):
    second = ada.website("second.example", timezone="Europe/Berlin")
    listed = caller.get("/pixel/websites").json["data"]
    assert [site["id"] for site in listed] == [second, ada.site]
    assert listed[0].keys() == {"id", "domain", "name", "timezone", "createdAt"}
    assert listed[0] | {"id": "", "createdAt": ""} == {
        "id": "", "domain": "second.example", "name": "second.example", "timezone": "Europe/Berlin", "createdAt": "",
    }  # fmt: skip
    assert all(site["id"].startswith("admx_") and site["createdAt"].endswith("Z") for site in listed)


@pytest.mark.parametrize("space", ["\u0085", "\ufeff", "\u2003"])
def test_what_python_or_json_schema_takes_for_a_space_is_in_no_hostname(ada, caller, space):
    assert error(caller.sends(ada.site, hostname=f"a{space}b.example")) == (400, "invalid_body")
