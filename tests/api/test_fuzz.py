"""Whatever is sent, to whatever address: never a 500, always the envelope, always found by its id."""

import gzip
import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pixel import metrics, pipes, request_log
from pixel.extensions import journal
from pixel.intake.schemas import Event, Identity
from tests.api.test_errors import REQUEST_ID
from tests.cast import READ, WRITE, Caller, Workspace, load

EXAMPLES = 1500
TAKING = ("/pixel/events", "/pixel/events/batch", "/pixel/identify")

words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "0", "-1", "true", "null", "NaN", "1e999", "self", "message", "'", '"', "\\", "\x00", "%", "..", "//"]
    ),
    st.sampled_from([str(2**63), "9" * 400, "x" * 3000, "2026-01-31", "p_top_pages", "WEBSITE", "{workspace:String}"]),
)
segments = st.one_of(
    words, st.sampled_from(["me", "pixel", "events", "batch", "metrics", "websites", "identify", "", ".", *pipes.all()])
)
paths = st.one_of(
    st.sampled_from(
        ["/me", "/pixel/websites", "/pixel/metrics", "/pixel/events", "/pixel/events/batch", "/pixel/identify"]
    ),
    st.sampled_from(sorted(pipes.all())).map(lambda name: f"/pixel/metrics/{name}"),
    words.map(lambda word: f"/pixel/metrics/{quote(word, safe='')}"),
    words.map(lambda word: f"/pixel/events/{quote(word, safe='')}"),
    st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(quote(part, safe="") for part in parts)),
    st.binary(max_size=10).map(lambda raw: "/" + quote(raw, safe="")),
)
parameters = st.sampled_from(
    [*metrics.COMMON, *metrics.FILTERS, "dry_run", "metric", "granularity", "compare", "currency"]
)
queries = st.one_of(
    st.just(""),
    st.lists(st.tuples(parameters | words, words), max_size=4).map(
        lambda pairs: "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    ),
    st.binary(max_size=30).map(lambda raw: quote(raw, safe="=&;+")),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
right = {
    "website_id": "WEBSITE", "name": "pageview", "path": "/", "visitor_id": "v", "user_id": "u",
}  # fmt: skip
mutated = st.dictionaries(
    st.sampled_from([*Event().fields, *Identity().fields]) | words, values | words, max_size=4
).map(lambda changes: right | changes)
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=60),
    (values | mutated).map(lambda value: json.dumps(value).encode()),
    st.lists(mutated | values, max_size=3).map(lambda events: json.dumps({"events": events}).encode()),
    st.lists(mutated, max_size=3).map(lambda events: b"\n".join(json.dumps(event).encode() for event in events)),
    mutated.map(lambda event: gzip.compress(json.dumps(event).encode())),
)
methods = st.sampled_from(["GET", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
header = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=30)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(["application/json", "application/x-ndjson", "text/plain"]) | header,
        "Content-Encoding": st.sampled_from(["gzip", "identity", "br"]) | header,
        "X-Request-Id": header,
        "User-Agent": header,
        "Accept": header,
        "Cookie": header,
        "Range": header,
        "If-None-Match": header,
        "X-Forwarded-For": header,
        "Origin": header,
        "Idempotency-Key": header,
    },
)


@pytest.mark.case(111)
def test_nothing_that_is_sent_breaks_anything(app):
    workspace = Workspace(app, "fuzz.example")
    callers = {"key": workspace.key(READ, WRITE), "reader": workspace.key(READ), "nobody": Caller(app)}
    seen = {}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        who=st.sampled_from(["key", "key", "key", "reader", "nobody"]),
        authorization=st.none() | header,
        method=methods,
        path=paths,
        query=queries,
        body=bodies,
        sent=headers,
        aimed=st.booleans(),
        media_type=st.sampled_from([*["application/json"] * 7, "text/csv"]),
    )
    def call(who, authorization, method, path, query, body, sent, aimed, media_type):
        if aimed:
            method, path = "POST", path if path in TAKING else TAKING[len(body) % 3]
            query = ""
            sent = {**sent, "Content-Type": media_type, "Content-Encoding": "identity"}
        if who == "nobody" and authorization is not None:
            sent = {**sent, "Authorization": authorization}
        body = body.replace(b"WEBSITE", workspace.site.encode())
        query = query.replace("WEBSITE", workspace.site)
        whole = f"{path}?{query}" if query else path
        response = callers[who].call(method, whole, headers=sent, data=body)
        assert response.status_code < 500, response.text
        request_id = response.headers["X-Request-Id"]
        assert REQUEST_ID.fullmatch(request_id)
        if method != "HEAD":
            keys = {"data", "meta"} if response.status_code < 400 else {"error", "meta"}
            assert response.mimetype == "application/json"
            assert response.json.keys() == keys
            assert response.json["meta"]["request_id"] == request_id
        seen[request_id] = response.status_code

    call()
    assert len(seen) >= EXAMPLES * 0.9
    assert {200, 202, 400, 401, 404, 405, 415} <= set(seen.values())
    journal.close()
    load(app)
    with app.app_context():
        for request_id, status in seen.items():
            assert request_log.find(request_id)["status"] == status
