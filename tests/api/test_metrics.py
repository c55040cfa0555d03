"""Asking reports: which there are, what they take, and whose figures they give."""

from datetime import date, timedelta
from urllib.parse import quote

import pytest

from pixel import clock, letters, metrics, pipes
from tests.cast import NEEDED, READ, WRITE, Workspace, error, load

PIPES = sorted(pipes.all())
TOP = "/pixel/metrics/p_top_pages"


@pytest.fixture(scope="module")
def desk(app):
    """A caller of a workspace whose one website never has an event."""
    workspace = Workspace(app, "desk.example", timezone="Europe/Berlin")
    caller = workspace.key(READ)
    caller.site = workspace.site
    return caller


def told(response):
    assert error(response) == (400, "invalid_query"), response.text
    return response.json["error"]["details"]


def asked(response):
    """The question as it was understood."""
    assert response.status_code == 200, response.text
    return response.json["meta"]["query"]


def test_the_catalogue_describes_every_report(desk):
    listed = desk.get("/pixel/metrics").json["data"]
    assert [one["name"] for one in listed] == PIPES
    for one in listed:
        assert one["title"]
        assert one["about"]
        assert all(column["name"] and column["about"] for column in one["columns"])
        assert {"website_id", "from", "to", "limit", "offset", *metrics.FILTERS} <= {
            p["name"] for p in one["parameters"]
        }
        assert "workspace" not in {parameter["name"] for parameter in one["parameters"]}


@pytest.mark.parametrize("pipe", PIPES)
def test_a_report_answers_in_the_warehouses_own_form_with_the_columns_of_the_catalogue(app, ada, caller, pipe):
    for _ in range(2):
        response = caller.get(f"/pixel/metrics/{pipe}", query_string=NEEDED.get(pipe, {}))
        data = response.json["data"]
        assert data.keys() == {"data", "meta", "rows", "statistics", "data_status"}
        assert data["data_status"] == "ok"
        assert data["statistics"].keys() == {"elapsed", "rows_read", "bytes_read"}
        assert {column["name"] for column in data["meta"]} == set(pipes.all()[pipe].columns)
        assert all(column["type"] for column in data["meta"])
        assert data["rows"] == len(data["data"])
        facts = {"visitor_id": "v", "referrer": "https://chatgpt.com/", "country": "DE"}
        caller.sends(ada.site, **facts)
        caller.sends(ada.site, name="custom", goal="signup", **facts)
        caller.sends(ada.site, name="payment", amount=5, currency="EUR", transaction_id="t", **facts)
        load(app)
    assert data["rows"] >= 1


@pytest.mark.parametrize("pipe", PIPES)
@pytest.mark.parametrize("how", ["one website", "all websites"])
def test_a_website_without_events_gives_no_rows(desk, pipe, how):
    response = desk.get(
        f"/pixel/metrics/{pipe}",
        query_string=NEEDED.get(pipe, {}) | ({"website_id": desk.site} if how == "one website" else {}),
    )
    assert response.json["data"]["data"] == []
    assert response.json["data"]["rows"] == 0


def test_a_workspace_without_websites_gives_no_rows(app, ada):
    nothing = ada.key(READ, website_ids=[])
    assert nothing.get("/pixel/websites").json["data"] == []
    for pipe in PIPES:
        response = nothing.get(f"/pixel/metrics/{pipe}", query_string=NEEDED.get(pipe, {}))
        assert response.json["data"]["data"] == [], pipe


@pytest.mark.parametrize(
    ("pipe", "near"),
    [("p_top_page", "p_top_pages"), ("top_pages", "p_top_pages"), ("P_TOP_PAGES", "p_top_pages"), ("p_referers", "p_referrers"),
     ("xyz", None), ("_hidden", None), ("p_top_pages.sql", "p_top_pages"), ("'; DROP TABLE events; --", None),
     ("p_top_pages\x00", "p_top_pages"), ("ü" * 500, None), ("__class__", None), ("..", None)],
)  # fmt: skip
@pytest.mark.case(52)
def test_an_unknown_report_is_told_with_the_nearest(desk, pipe, near):
    response = desk.get(f"/pixel/metrics/{quote(pipe)}")
    assert error(response) == (400, "invalid_pipe")
    details = response.json["error"]["details"]
    assert details["pipe"] == pipe[:100]
    assert near is None or details["did_you_mean"] == near
    assert near is not None or details.keys() <= {"pipe", "did_you_mean"}


# -- parameters


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ["1", "1000", "050"]),
        ("offset", ["0", "1000000000"]),
        ("from", ["2026-01-31", "2024-02-29"]),
        ("bots", ["exclude", "include", "only"]),
        *((name, ["x", "", "x" * 2000, "ü 😀"]) for name in metrics.FILTERS),
    ],
)
def test_a_good_parameter_is_taken_and_told_back(desk, name, values):
    for value in values:
        query = asked(desk.get(TOP, query_string={name: value, **({"to": value} if name == "from" else {})}))
        if name in metrics.FILTERS:
            assert query["filters"] == {name: [letters.upper(value) if name == "country" else value]}
        else:
            assert str(query[name]) == str(int(value) if value.isdigit() else value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ["0", "-1", "1001", "1e3", "1.0", "", "x", "٣", "+5", " 5", "1000000000", "9" * 5000, "0x1", "NaN", "5;"]),
        ("offset", ["-1", "1000000001", str(2**63), "9" * 5000, "", "x", "1.5"]),
        ("from", ["", "x", "2026-1-1", "20260101", "2026-02-30", "2026-01-31T00:00:00Z", "0000-01-01", "1969-12-31", "9999-12-31",
                  "2026-W01-1", "2026-001", "٢٠٢٦-٠١-٠١", "-026-01-01", "2026-01-31 "]),
        ("to", ["", "x", "2026-13-01", "20260101", "9999-12-31", "1970-01-01", "2026-W01-1", "yesterday"]),
        ("bots", ["", "Exclude", "yes"]),
        ("website_id", ["", "x" * 2001]),
        *((name, ["x" * 2001]) for name in metrics.FILTERS),
        ("workspace", ["ws_x"]),
        ("workspace_id", ["ws_x"]),
        ("websites", ["x"]),
        ("since", ["2026-01-01"]),
        ("until", ["2026-01-01"]),
        ("now", ["2026-01-01"]),
        ("timezone", ["UTC"]),
        ("filters", ["path=/"]),
        ("order_by", ["1; DROP TABLE events"]),
        ("oops", ["", "x"]),
    ],
)  # fmt: skip
@pytest.mark.case(52, 54)
def test_a_bad_parameter_is_named(desk, name, values):
    for value in values:
        assert list(told(desk.get(TOP, query_string={name: value}))) == [name], value


@pytest.mark.parametrize("name", ["limit", "offset", "from", "to", "bots", "website_id"])
def test_what_is_no_filter_is_given_once(desk, name):
    assert told(desk.get(TOP, query_string={name: ["1", "1"]}))[name][0] == "Given more than once."


def test_the_nearest_parameter_is_named(desk):
    assert told(desk.get(f"{TOP}?limt=5")) == {"limt": ["Unknown parameter. Did you mean limit?"]}
    assert "granularity" in told(desk.get("/pixel/metrics/p_metric_series?granularty=day"))["granularty"][0]


def test_all_wrong_parameters_are_told_at_once(desk):
    assert told(desk.get(f"{TOP}?limit=0&offset=-1&from=x&oops=1")).keys() == {"limit", "offset", "from", "oops"}


@pytest.mark.parametrize(
    ("pipe", "parameter"),
    [(pipe.name, parameter) for pipe in pipes.all().values() for parameter in pipe.parameters],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_a_reports_own_parameters_take_what_they_say_and_nothing_else(desk, pipe, parameter):
    def ask(value):
        return desk.get(f"/pixel/metrics/{pipe}", query_string=NEEDED.get(pipe, {}) | {parameter.name: value})

    if parameter.default is None:
        assert told(desk.get(f"/pixel/metrics/{pipe}")) == {parameter.name: ["Required."]}
    else:
        given = asked(desk.get(f"/pixel/metrics/{pipe}", query_string=NEEDED.get(pipe, {})))
        assert str(given[parameter.name]) == parameter.default
    for word in parameter.words:
        assert asked(ask(word))[parameter.name] == word
    if parameter.words:
        assert told(ask("oops")).keys() == told(ask("")).keys() == {parameter.name}
    if parameter.low is not None and not parameter.several:
        assert asked(ask(parameter.low))[parameter.name] == parameter.low
        assert asked(ask(parameter.high))[parameter.name] == parameter.high
        assert told(ask(parameter.low - 1)).keys() == told(ask(parameter.high + 1)).keys() == {parameter.name}
    assert told(desk.get(TOP, query_string={parameter.name: "x"})).keys() == {parameter.name}


def test_revenue_is_asked_for_in_a_currency_that_there_is(ada, caller):
    caller.sends(ada.site, name="payment", amount=5, currency="EUR", transaction_id="t")
    for currency in ("EUR", "eur", ""):
        assert [row["revenue"] for row in caller.rows("p_traffic_sources", currency=currency)] == [5]
        assert caller.rows("p_metric_series", currency=currency, metric="revenue")[-1]["value"] == 5
    for currency in ("EURO", "\0", "XXZ", " ", "E"):
        refused = caller.get("/pixel/metrics/p_traffic_sources", query_string={"currency": currency})
        assert told(refused) == {"currency": ["Must be an ISO 4217 currency code such as EUR."]}
    assert told(caller.get("/pixel/metrics/p_traffic_sources?currency=EUR&currency=USD")) == {
        "currency": ["Given more than once."]
    }


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (["path:/a,path:/b/*,goal:x,payment"], ["path:/a", "path:/b/*", "goal:x", "payment"]),
        (["path:/a,b", "payment"], ["path:/a,b", "payment"]),
        (["path:/a, path:/b/*,  goal:x,\npayment"], ["path:/a", "path:/b/*", "goal:x", "payment"]),
        (["goal:a,b,payment"], ["goal:a,b", "payment"]),
        (["path:/1"] * 10, ["path:/1"] * 10),
        (["goal:'\\", "path:/{x:String}"], ["goal:'\\", "path:/{x:String}"]),
    ],
)
def test_steps_come_one_by_one_or_with_commas(desk, given, steps):
    assert asked(desk.get("/pixel/metrics/p_funnel", query_string={"steps": given}))["steps"] == steps


@pytest.mark.parametrize(
    "given",
    [["path:/a"], ["path:/"] * 11, ["path:a", "payment"], ["goal:", "payment"], ["payments", "payment"], ["", "payment"],
     ["path:/a" + "x" * 2000, "payment"], ["/a", "/b"], ["payment,"], ["x" * 5000]],
)  # fmt: skip
def test_what_is_no_step_is_refused(desk, given):
    assert told(desk.get("/pixel/metrics/p_funnel", query_string={"steps": given})).keys() == {"steps"}


# -- days


def test_the_last_thirty_days_of_the_websites_zone_are_the_default(desk):
    query = asked(desk.get(TOP))
    today = clock.now().astimezone(metrics.ZoneInfo("Europe/Berlin")).date()
    assert query.keys() >= {"website_id", "from", "to", "timezone", "filters", "limit", "offset"}
    assert (query["from"], query["to"]) == (str(today - timedelta(days=29)), str(today))
    assert (query["timezone"], query["limit"], query["offset"], query["filters"]) == ("Europe/Berlin", 50, 0, {})
    assert query["website_id"] == [desk.site]
    assert asked(desk.get(f"{TOP}?website_id={desk.site}"))["website_id"] == desk.site


def test_one_end_of_the_range_is_enough(desk):
    assert asked(desk.get(f"{TOP}?to=2026-01-31"))["from"] == "2026-01-02"
    assert asked(desk.get(f"{TOP}?from=2026-11-01"))["to"] >= "2026-11-24"


@pytest.mark.parametrize(
    ("first", "last", "fine"),
    [("2026-01-01", "2026-01-01", True), ("2026-01-02", "2026-01-01", False), ("2024-01-01", "2026-01-31", True),
     ("2024-01-01", "2026-02-01", False), ("2024-01-31", "2026-02-27", True), ("2024-01-31", "2026-02-28", False),
     ("2023-11-15", "2025-12-14", True), ("2023-11-15", "2025-12-15", False), ("1971-01-01", "2199-12-31", False),
     ("2199-12-31", "2199-12-31", True), ("1971-01-01", "1971-01-01", True)],
)  # fmt: skip
def test_a_range_has_at_most_twenty_five_months(desk, first, last, fine):
    response = desk.get(TOP, query_string={"from": first, "to": last})
    assert response.status_code == 200 if fine else told(response).keys() == {"from"}


def test_both_days_are_included_in_the_zone_of_the_website(ada, caller):
    tokyo = ada.website("tokyo.example", timezone="Asia/Tokyo")
    for path, moment in (
        ("/before", "2026-03-01T14:59:59.999Z"),
        ("/first", "2026-03-01T15:00:00Z"),
        ("/last", "2026-03-03T14:59:59.999Z"),
        ("/after", "2026-03-03T15:00:00Z"),
    ):
        caller.sends(tokyo, path=path, timestamp=moment)
    rows = caller.rows("p_top_pages", website_id=tokyo, from_="2026-03-02", to="2026-03-03")
    assert {row["path"] for row in rows} == {"/first", "/last"}


@pytest.mark.parametrize("granularity", ["minute", "month"])
def test_the_longest_series_there_is_is_answered(ada, caller, granularity):
    first = date(2024, 11, 1)
    caller.sends(ada.site, timestamp="2024-11-01T00:00:00Z")
    rows = caller.rows("p_metric_series", from_=first, to="2026-11-24", granularity=granularity, limit=1000)
    assert len(rows) == (1000 if granularity == "minute" else 25)


# -- whose


def test_another_websites_figures_are_not_there_as_if_it_did_not_exist(app, ada, bob, caller):
    bob.key(WRITE).sends(bob.site, path="/secret")
    other = ada.website("other.example")
    caller.sends(other, path="/other")
    caller.sends(ada.site, path="/mine")
    restricted = ada.key(READ, website_ids=[ada.site])
    for pipe in PIPES:
        answers = {
            response.text.replace(response.json["meta"]["request_id"], "")
            for who, site in (
                (caller, bob.site),
                (caller, "admx_00000000000000"),
                (restricted, other),
                (restricted, bob.site),
            )
            for response in [
                who.get(f"/pixel/metrics/{pipe}", query_string=NEEDED.get(pipe, {}) | {"website_id": site})
            ]
            if error(response) == (404, "website_not_found")
        }
        assert len(answers) == 1
    assert {row["path"] for row in caller.rows("p_top_pages")} == {"/mine", "/other"}
    assert {row["path"] for row in restricted.rows("p_top_pages")} == {"/mine"}
    assert asked(restricted.get(TOP))["website_id"] == [ada.site]


# -- filters


def test_values_of_one_filter_are_alternatives_and_filters_must_all_hold(ada, caller):
    for path, country in (("/a", "DE"), ("/b", "DE"), ("/c", "DE"), ("/a", "CH")):
        caller.sends(ada.site, path=path, country=country)
    rows = caller.rows("p_top_pages", path=["/a", "/b"], country="DE")
    assert {(row["path"], row["pageviews"]) for row in rows} == {("/a", 1), ("/b", 1)}
    assert asked(caller.get(f"{TOP}?path=/a&path=/b&country=DE"))["filters"] == {
        "path": ["/a", "/b"],
        "country": ["DE"],
    }


def test_an_assistant_is_a_filter_of_whole_visits(ada, caller):
    caller.sends(ada.site, visitor_id="v", path="/asked", referrer="https://claude.ai/")
    caller.sends(ada.site, visitor_id="v", path="/read")
    caller.sends(ada.site, visitor_id="w", path="/other")
    (assistant,) = caller.rows("p_llm_traffic", llm_engine="claude")
    assert (assistant["llm_engine"], assistant["sessions"], assistant["pageviews"]) == ("claude", 1, 2)
    assert {row["path"] for row in caller.rows("p_top_pages", llm_engine="claude")} == {"/asked", "/read"}
    assert sum(row["events"] for row in caller.rows("p_events_catalog", llm_engine="claude")) == 2


def test_a_country_may_be_in_lower_case(ada, caller):
    caller.sends(ada.site, path="/a", country="us")
    caller.sends(ada.site, path="/b", country="CH")
    assert [row["path"] for row in caller.rows("p_top_pages", country="us")] == ["/a"]


def test_limit_and_offset_cut_the_rows(ada, caller):
    for path in "abc":
        caller.sends(ada.site, path="/" + path)
    assert [row["path"] for row in caller.rows("p_top_pages", limit=2)] == ["/a", "/b"]
    assert [row["path"] for row in caller.rows("p_top_pages", limit=2, offset=2)] == ["/c"]
    assert caller.rows("p_top_pages", offset=10**9) == []


HOSTILE = [
    "/'", "/''", '/"', "/\\", "/\\'", "/\\\\", "/';DROP TABLE events;--", "/--", "/*", "/%", "/_", "/%00", "/\\0", "/\\n", "/\\x41",
    "/{workspace:String}", "/{limit:UInt32}", "/$1", "/?a=b&c=d", "/a,b", "/a','b", "/]", "/['", "/=", "/path=/x", "/NULL", "/ü",
    "/😀", "/a b", "/%(x)s", "/{}", "/:x", "/`", "/#", "/\u2028", "/" + "\\" * 50, "/' OR '1'='1", "/x' OR 1=1 --",
]  # fmt: skip


@pytest.mark.case(52)
def test_hostile_values_are_plain_data_wherever_they_stand(app, ada, caller):
    events = [{"website_id": ada.site, "name": "pageview", "path": value, "title": value} for value in HOSTILE]
    goals = [
        {"website_id": ada.site, "name": "custom", "goal": value[:64], "utm_campaign": value} for value in HOSTILE[:20]
    ]
    sent = caller.post("/pixel/events/batch", json={"events": events + goals}).json["data"]
    assert sent["rejected"] == 0, sent
    load(app)
    assert {row["path"] for row in caller.rows("p_top_pages", limit=1000)} == set(HOSTILE)
    for value in HOSTILE[:12]:
        response = caller.get(TOP, query_string={"path": value})
        assert [(row["path"], row["pageviews"]) for row in response.json["data"]["data"]] == [(value, 1)]
    goals = [value[:64] for value in HOSTILE[:20]]
    assert {row["goal"] for row in caller.rows("p_events_catalog", goal=goals)} == set(goals)
    assert len(caller.rows("p_top_pages", path=HOSTILE, limit=1000)) == len(HOSTILE)


UNSENDABLE = ["\x00", "a\x00b", "\n", "\t", "\r\n", "\x1b[31m", "\ufeff", "\x7f", "(", "[a-", "x" * 2000]


@pytest.mark.parametrize("name", metrics.FILTERS)
@pytest.mark.case(52)
def test_no_value_of_a_filter_breaks_a_report(desk, name):
    values = UNSENDABLE + HOSTILE
    for pipe in ("p_traffic_sources", "p_events_catalog"):
        response = desk.get(f"/pixel/metrics/{pipe}", query_string={name: values})
        assert asked(response)["filters"] == {name: [letters.upper(v) for v in values] if name == "country" else values}
        assert response.json["data"]["data"] == []


def test_a_filter_has_at_most_a_hundred_values(desk):
    assert desk.get(TOP, query_string={"path": ["/x"] * 100}).status_code == 200
    assert told(desk.get(TOP, query_string={"path": ["/x"] * 101})) == {"path": ["Given more than 100 times."]}
    full = {name: ["x" * 2000] * 100 for name in metrics.FILTERS[:3]}
    assert desk.get(TOP, query_string=full).status_code == 200


def test_what_is_dropped_is_told_by_the_healthcheck(app, ada, caller):
    desk, now = ada.site, "p_pixel_healthcheck"
    assert caller.rows(now) == []
    assert error(caller.sends(desk, path="no slash")) == (400, "invalid_body")
    assert error(caller.sends(desk, goal="x")) == (400, "invalid_body")
    bad = {"website_id": desk, "name": "oops"}
    good = {"website_id": desk, "name": "pageview", "path": "/", "event_id": "same"}
    assert caller.post("/pixel/events/batch?dry_run=true", json={"events": [bad]}).status_code == 200
    assert caller.post("/pixel/events/batch", json={"events": [bad, bad, 5]}).status_code == 202
    [row] = caller.rows(now)
    assert (row["status"], row["rejected_24h"], row["last_event_at"]) == ("no_data", 4, None)
    for _ in range(3):
        caller.post("/pixel/events/batch", json={"events": [good, good]})
        load(app)
    caller.sends(desk, user_agent="Googlebot/2.1", visitor_id="b")
    [row] = caller.rows(now)
    assert {name: row[name] for name in row if name.endswith("_24h")} == {
        "events_24h": 1, "duplicates_24h": 5, "rejected_24h": 4, "bots_24h": 1, "without_visitor_24h": 1,
    }  # fmt: skip
    assert (row["website_id"], row["status"]) == (desk, "ok")


def test_a_website_that_falls_silent_is_told(app, ada, caller, moved_clock):
    caller.sends(ada.site, visitor_id="v")
    assert caller.rows("p_pixel_healthcheck")[0]["status"] == "ok"
    moved_clock.forward(hours=25)
    assert caller.rows("p_pixel_healthcheck")[0]["status"] == "silent"


@pytest.mark.parametrize("pipe", ["p_funnel", "p_funnel_v2"])
@pytest.mark.parametrize("filters", [[], ["path", "path=/"]])
@pytest.mark.parametrize("number", [2, 9, 10])
def test_the_steps_that_are_not_asked_about_are_left_out(pipe, filters, number):
    bound = {"filters": filters, "websites": ["admx_a"], "steps": ["payment"] * number}
    statement = pipes.all()[pipe].statement(bound)
    assert [statement.count(f"[{nth}], hit, path, goal)") for nth in range(1, 11)] == [1] * number + [0] * (10 - number)


def test_a_pipe_whose_filters_cannot_be_left_out_is_no_pipe():
    told = "-- title: T\n-- about: A.\n-- returns n: N.\n"
    asked = "SELECT count() AS n FROM events WHERE workspace_id = {workspace:String} AND {}"
    kept = pipes.parse("p_x", told + asked.replace("{}", "is_kept(marked({filters:Array(String)}, hit, path, goal))"))
    assert kept.unfiltered.endswith("AND is_kept(unfiltered(hit))")
    with pytest.raises(pipes.BrokenPipe, match="filters"):
        pipes.parse("p_x", told + asked.replace("{}", "kept({filters:Array(String)}, 'path', path)"))
