"""What a body may be: strict JSON, one event or many, in lines, packed."""

import gzip
import json
import zlib

import pytest
from flask import Flask

from pixel import envelope
from tests.cast import Caller, error, stored, told

JSON = "application/json"
NDJSON = "application/x-ndjson"
#: Without the time in it: every process of a run must name the tests alike.
ZIPPED = gzip.compress(b"{}", mtime=0)


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
@pytest.mark.case(35, 36, 37, 40, 41, 43)
def test_a_body_that_is_not_strict_json_is_refused_as_a_whole(desk, body, said):
    for path in ("/pixel/events", "/pixel/identify"):
        messages = told(desk.post(path, data=body, content_type=JSON))
        assert list(messages) == ["_body"]
        assert said is None or said in messages["_body"][0]


@pytest.mark.case(47)
@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a": 1} x', "line 1, column 10"),
        (b'{\n  "a": 1,\n  // why\n}', "line 3, column 3"),
        (b"{\n  'a': 1}", "line 2, column 3"),
    ],
)
def test_a_slip_in_json_is_told_by_its_line_and_column(desk: Caller, body: bytes, place: str) -> None:
    [message] = told(desk.post("/pixel/events", data=body, content_type=JSON))["_body"]
    assert message.startswith("Not JSON: ")
    assert place in message


EVENT = {"website_id": "WEBSITE", "name": "pageview", "path": "/"}
#: For each endpoint that takes a body: its address, and a body with one misspelt field.
MISSPELT = {
    "api.accept_event": ("/api/v1/pixel/events", {**EVENT, "titel": "x"}),
    "api.accept_batch": ("/api/v1/pixel/events/batch", {"events": [{**EVENT, "titel": "x"}]}),
    "api.identify": ("/api/v1/pixel/identify", {"website_id": "WEBSITE", "visitor_id": "v", "emial": "a@b.example"}),
    "api.mint_token": ("/api/v1/pixel/metrics/p_top_pages/token", {"limt": 5}),
    "api.mint_visitor_token": ("/api/v1/pixel/visitors/v/token", {"limt": 5}),
    "collect.take_hit": ("/api/event", {**EVENT, "titel": "x"}),
}


@pytest.mark.case(48)
@pytest.mark.parametrize("endpoint", MISSPELT)
def test_a_misspelt_field_is_named_with_the_nearest_one_everywhere(app: Flask, desk: Caller, endpoint: str) -> None:
    takes_body = {rule.endpoint for rule in app.url_map.iter_rules() if "POST" in rule.methods}
    assert {name for name in takes_body if name.split(".")[0] in ("api", "collect")} == MISSPELT.keys()
    path, body = MISSPELT[endpoint]
    body = json.loads(json.dumps(body).replace("WEBSITE", desk.site))
    headers = {"Authorization": f"Bearer {desk.secret}", "Origin": "https://desk.example"}
    answer = app.test_client().post(path, json=body, headers=headers)
    details = answer.json["data"]["results"][0]["errors"] if "batch" in path else told(answer)
    near = {"titel": "title", "emial": "email", "limt": "limit"}
    assert any(details.get(name, [""])[0].endswith(f"Did you mean {meant}?") for name, meant in near.items())


@pytest.mark.case(48)
@pytest.mark.parametrize(
    ("wrapper", "details"),
    [
        ({"events": [EVENT], "evnts": []}, {"evnts": ["Unknown field. Did you mean events?"]}),
        ({"evnts": [EVENT]}, {"evnts": ["Unknown field. Did you mean events?"],
                              "events": ["Missing data for required field."]}),
        ({}, {"events": ["Missing data for required field."]}),
        ({"events": {"0": EVENT}}, {"events": ["Must be a list."]}),
        ({"events": "[]"}, {"events": ["Must be a list."]}),
        ({"events": None}, {"events": ["Field may not be null."]}),
        ({"events": [EVENT], "website_id": "x", "zzz": 1},
         {"website_id": ["Unknown field."], "zzz": ["Unknown field."]}),
        ({"events": 1, "Events": []}, {"events": ["Must be a list."], "Events": ["Unknown field. Did you mean events?"]}),
        ([EVENT], {"_body": ['Must be a JSON object with one field, "events", a list.']}),
    ],
    ids=str,
)  # fmt: skip
def test_each_fault_beside_the_events_of_a_batch_is_named(desk: Caller, wrapper: object, details: dict) -> None:
    assert told(desk.post("/pixel/events/batch", json=wrapper)) == details


@pytest.mark.case(46, 48)
def test_ten_thousand_fields_beside_the_events_are_refused_in_a_few_words(desk: Caller) -> None:
    wrapper = {"events": [], **{f"{number}" + "x" * 50: 0 for number in range(10_000)}}
    refused = desk.post("/pixel/events/batch", json=wrapper)
    assert told(refused)["_body"] == ["9990 more unknown fields."]
    assert len(refused.data) < 3_000


def test_twenty_levels_and_the_largest_integer_are_still_json(ada, caller):
    deep = json.loads("[" * 19 + "]" * 19)
    assert told(caller.sends(ada.site, props={"deep": 1}, oops=deep)).keys() == {"oops"}
    assert caller.sends(ada.site, props={"n": 2**63 - 1, "m": -(2**63)}).status_code == 202


# -- many at once


@pytest.mark.case(26)
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
    assert told(desk.post("/pixel/events/batch", data=body, content_type=JSON)).keys() <= {"_body", "events", "x"}


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
