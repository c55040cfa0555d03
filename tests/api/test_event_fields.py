"""The fields of an event, one by one; `...` takes a field out."""

import json
from datetime import timedelta

import pytest

from pixel import clock
from tests.cast import error, told


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


@pytest.mark.parametrize(
    ("fields", "message"), [(900, "890 more unknown fields."), (70_000, "Has more than 1,000 values.")]
)
def test_very_many_unknown_fields_get_a_short_response(caller, fields, message):
    body = json.dumps({f"k{i}": 0 for i in range(fields)})
    response = caller.post("/pixel/events", data=body, content_type="application/json")
    assert told(response)["_body"] == [message]
    assert len(response.data) < 5000


def test_a_response_lists_ten_wrong_props_and_counts_the_others(ada, caller):
    messages = told(caller.sends(ada.site, props={f"k{n}": [] for n in range(50)}))
    assert len(messages) == 11
    assert messages["props.k0"] == ["Must be text, a number, true or false."]
    assert messages["props._more"] == ["40 more wrong keys."]


def test_the_nearest_fields_are_looked_up_for_a_few_names_of_a_request(ada, caller):
    wrong = [{"website_id": ada.site, "name": "pageview", "path": "/", f"urll{n}": 1, "pathh": 1} for n in range(30)]
    results = caller.post("/pixel/events/batch", json={"events": wrong}).json["data"]["results"]
    said = [result["errors"][f"urll{n}"][0] for n, result in enumerate(results)]
    assert said == ["Unknown field. Did you mean url?"] * 9 + ["Unknown field."] * 21
    assert {result["errors"]["pathh"][0] for result in results} == {"Unknown field. Did you mean path?"}


@pytest.mark.parametrize("space", ["\u0085", "\ufeff", "\u2003"])
def test_what_python_or_json_schema_takes_for_a_space_is_in_no_hostname(ada, caller, space):
    assert error(caller.sends(ada.site, hostname=f"a{space}b.example")) == (400, "invalid_body")
