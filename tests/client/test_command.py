"""The command `pixel`, with a server that does as it is told."""

import json

import pytest

from pixel_client import command, verbs
from tests.client.conftest import KEY
from tests.client.scripted import HANG_UP, batch, failure, page, report, success


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch, script):
    monkeypatch.setenv("PIXEL_API_KEY", KEY)
    monkeypatch.setenv("PIXEL_API_URL", script.url)
    monkeypatch.setattr(command.Client.__init__, "__kwdefaults__", {"sleep": lambda _: None, "chance": lambda: 0})


@pytest.fixture
def pixel(capsys):
    """Runs the command: (exit code, stdout, stderr)."""

    def run(*arguments):
        try:
            code = command.main(arguments)
        except SystemExit as exit:
            code = exit.code
        printed = capsys.readouterr()
        assert KEY not in printed.out + printed.err
        return code, printed.out, printed.err

    return run


def accept(asked):
    return success({"status": "accepted", **{n: asked.json[n] for n in ("event_id", "website_id", "name")}}, 202)


def test_an_event_is_sent_with_any_field(script, pixel):
    script.tell(accept)
    code, out, err = pixel(
        "send", "--website", "w", "--name", "custom", "--goal", "signup", "--value", "2.5", "--utm-source", "x",
        "--user_agent", "Mozilla", "--props", '{"plan": "pro"}', "--event-id", "e1",
        "--page-url", "https://a.example/x", "--url", script.url,
    )  # fmt: skip
    assert (code, out, err) == (0, "e1\n", "")
    assert script.asked[0].json == {
        "website_id": "w", "name": "custom", "goal": "signup", "value": 2.5, "utm_source": "x",
        "user_agent": "Mozilla", "props": {"plan": "pro"}, "event_id": "e1",
        "url": "https://a.example/x",
    }  # fmt: skip


def test_a_pageview_is_what_is_sent_unless_said_otherwise(script, pixel):
    script.tell(accept)
    code, out, _ = pixel("send", "--website", "w", "--path", "/")
    assert (code, out.strip()) == (0, script.asked[0].json["event_id"])
    assert script.asked[0].json["name"] == "pageview"


def test_a_dry_run_prints_what_would_be_stored(script, pixel):
    script.tell(success({"event": {"event_id": "e", "website_id": "w", "name": "pageview", "country": "DE"}}))
    code, out, _ = pixel("send", "--website", "w", "--path", "/", "--dry-run")
    assert code == 0
    assert "country     DE\n" in out
    assert script.asked[0].path.endswith("?dry_run=true")


def test_a_file_is_sent_and_what_is_rejected_is_told_by_its_line(script, pixel, tmp_path):
    file = tmp_path / "events.ndjson"
    good = b'{"name": "pageview", "path": "/"}\n'
    file.write_bytes(good + b"\n" + b'{"name": "pageview", "path": "x"}\n' + b"{nonsense\n" + b"[]\n" + good * 1000)
    script.tell(batch)
    code, out, err = pixel("send", "--file", str(file), "--website", "w")
    assert (code, out) == (1, "")
    assert "line 3: path: Must begin with a slash.\n" in err
    assert "line 4: Not JSON:" in err
    assert "line 5: _body: Must be a JSON object.\n" in err
    assert err.endswith("1,001 accepted, 3 rejected\n")
    assert [len(asked.lines) for asked in script.asked] == [999, 3]
    assert {event["website_id"] for event in script.asked[0].lines} == {"w"}


def test_a_file_whose_every_event_is_taken_ends_well(script, pixel, tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_text('{"website_id": "other", "name": "pageview", "path": "/"}')
    script.tell(batch)
    assert pixel("send", "--file", str(file), "--website", "w") == (0, "", "1 accepted, 0 rejected\n")
    assert script.asked[0].lines[0]["website_id"] == "other"


def test_what_was_not_sent_of_a_file_is_kept_with_its_ids(script, pixel, tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_text("".join(f'{{"website_id": "w", "name": "pageview", "path": "/{n}"}}\n' for n in range(2500)))
    script.tell(batch, HANG_UP)
    code, _, err = pixel("send", "--file", str(file))
    assert code == 1
    rest = tmp_path / "events.ndjson.unsent"
    assert f"pixel send --file {rest}" in err
    kept = [json.loads(line) for line in rest.read_text().splitlines()]
    assert [event["path"] for event in kept] == [f"/{number}" for number in range(1000, 2500)]
    assert kept[:1000] == script.asked[1].lines
    script.asked.clear()
    script.tell(batch)
    assert pixel("send", "--file", str(rest))[0] == 0
    assert [event for asked in script.asked for event in asked.lines] == kept


def test_a_file_that_is_interrupted_is_kept_from_there(script, pixel, tmp_path, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setitem(command.Client.__init__.__kwdefaults__, "sleep", interrupted)
    file = tmp_path / "events.ndjson"
    file.write_text('{"website_id": "w", "name": "pageview", "path": "/"}\n' * 1200)
    script.tell(HANG_UP)
    assert pixel("send", "--file", str(file))[0] == 130
    kept = (tmp_path / "events.ndjson.unsent").read_text().splitlines()
    assert len({json.loads(line)["event_id"] for line in kept}) == 1200


def test_nothing_is_kept_of_a_file_of_which_nothing_was_taken(script, pixel, tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_text('{"website_id": "w", "name": "pageview", "path": "/"}\n')
    script.tell(failure(401, "invalid_api_key"))
    code, _, err = pixel("send", "--file", str(file))
    assert code == 1
    assert err.startswith("pixel: invalid_api_key")
    assert list(tmp_path.iterdir()) == [file]


ROWS = [{"path": "/日本", "visitors": 12}, {"path": "=1+1", "visitors": 3}]


def test_a_report_is_printed_as_a_table_as_csv_and_as_json(script, pixel):
    script.tell(report(ROWS))
    asked = ("query", "p_top_pages", "--website", "w", "--from", "2026-01-01", "--to", "2026-01-31")
    assert pixel(*asked) == (0, "path   visitors\n/日本        12\n=1+1          3\n", "")
    assert pixel(*asked, "--format", "csv") == (0, "path,visitors\r\n/日本,12\r\n'=1+1,3\r\n", "")
    assert pixel(*asked, "--format", "csv", "--raw") == (0, "path,visitors\r\n/日本,12\r\n=1+1,3\r\n", "")
    code, out, _ = pixel(*asked, "--format", "json", "--param", "path=/a=b", "--param", "path=/c", "--limit", "2")
    assert (code, json.loads(out)) == (0, ROWS)
    assert script.asked[3].path == (
        "/api/v1/pixel/metrics/p_top_pages?website_id=w&limit=2"
        "&path=%2Fa%3Db&path=%2Fc&from=2026-01-01&to=2026-01-31"
    )  # fmt: skip


def test_an_empty_report_has_its_columns(script, pixel):
    script.tell(report([], ["path", "visitors"]))
    assert pixel("query", "p_top_pages")[1] == "path  visitors\n"


def test_a_whole_report_is_read_page_by_page(script, pixel):
    script.tell(report(ROWS), report(ROWS[:1]))
    code, out, _ = pixel("query", "p_top_pages", "--all", "--limit", "2", "--format", "json")
    assert (code, json.loads(out)) == (0, [*ROWS, ROWS[0]])


def test_a_stale_report_says_so(script, pixel):
    stale = {"data": [], "meta": [{"name": "path", "type": "String"}], "rows": 0, "data_status": "stale"}
    script.tell(success(stale))
    assert "last answer of the hour" in pixel("query", "p_top_pages")[2]


PIPES = [
    {
        "name": "p_geo",
        "title": "Countries",
        "about": "Where visitors are.",
        "parameters": [{"name": "limit", "about": "Rows."}],
        "columns": [{"name": "country", "about": "ISO 3166."}],
    }
]


def test_the_reports_are_listed_and_each_is_described(script, pixel):
    script.tell(success(PIPES))
    assert pixel("pipes")[1] == "name   title\np_geo  Countries\n"
    assert json.loads(pixel("pipes", "--format", "json")[1]) == PIPES
    code, out, _ = pixel("pipes", "p_geo", "--format", "csv")
    assert out.split("\r\n")[1:3] == ["parameter,limit,,Rows.", "column,country,,ISO 3166."]
    code, _, err = pixel("pipes", "p_moon")
    assert code == 2
    assert "p_moon" in err


def test_websites_keys_receipts_and_visitors_are_shown(script, pixel):
    script.tell(success([{"id": "w", "domain": "a.example", "name": "A", "timezone": "UTC", "createdAt": "x"}]))
    assert pixel("websites")[1].splitlines()[1].split() == ["w", "a.example", "A", "UTC", "x"]
    script.tell(success({"workspace": {"id": "ws"}, "key": {"scopes": ["a", "b"]}}))
    assert pixel("me")[1].splitlines()[1:] == ["workspace.id  ws", "key.scopes    a, b"]
    script.tell(success({"status": "stored"}))
    assert pixel("receipt", "e/1", "--website", "w")[1] == "field   value\nstatus  stored\n"
    assert script.asked[-1].path == "/api/v1/pixel/events/e%2F1?website_id=w"
    script.tell(success({"visitor_id": "v", "recent_events": [{"name": "pageview", "path": "/"}]}))
    assert pixel("visitor", "v")[1] == "field       value\nvisitor_id  v\n\nname      path\npageview  /\n"
    assert "recent_events" in json.loads(pixel("visitor", "v", "--website", "w", "--format", "json")[1])
    assert script.asked[-1].path == "/api/v1/pixel/visitors/v?website_id=w"


def session(number, events=1, page="/"):
    return {
        "session_id": f"s{number}", "started_at": f"2026-01-01T00:00:{number:02}Z", "visitor_id": f"v{number}",
        "events": events, "country": "DE", "device": "mobile", "source": "google", "exit_path": page,
    }  # fmt: skip


def test_tail_prints_what_is_new_and_what_went_on(script, pixel, monkeypatch):
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(verbs.time, "sleep", pause)
    first = [session(number) for number in range(30, 0, -1)]
    script.tell(
        report(first),
        report(first),
        report([session(31, page="/new"), session(30, 2, "/next"), *first[1:]]),
        report([session(number) for number in range(59, 31, -1)]),
    )
    code, out, err = pixel("tail", "--website", "w", "--every", "3")
    lines = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[0][:3] == ["started_at", "visitor_id", "events"]
    assert [line[1] for line in lines[1:]] == [
        *[f"v{number}" for number in range(21, 31)], "v30", "v31", *[f"v{number}" for number in range(32, 60)]
    ]  # fmt: skip
    assert lines[11][2] == "2"
    assert lines[12][-1] == "/new"
    assert pauses == [3] * 4
    assert "/p_sessions_list?website_id=w" in script.asked[0].path


def test_an_error_is_one_line_that_helps(script, pixel):
    script.tell(failure(403, "insufficient_scope", message="No \x1b[1mscope\n."))
    code, out, err = pixel("websites")
    assert (code, out) == (1, "")
    assert err == (
        f"pixel: insufficient_scope: No �[1mscope�. (request_id req_2) See {script.url}/docs/errors#insufficient_scope\n"
    )


@pytest.mark.parametrize("answer", [HANG_UP, page(404)])
def test_what_is_no_pixel_api_is_told_without_a_page_to_see(script, pixel, answer):
    script.tell(answer)
    code, _, err = pixel("me")
    assert code == 1
    assert err.endswith(f"Is {script.url} the address of a Pixel API?\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("send",),
        ("send", "--website", "w", "--value", "much"),
        ("send", "--website", "w", "--props", "{"),
        ("send", "--file", "x", "--path", "/"),
        ("send", "--web", "w"),
        ("query",),
        ("query", "p_geo", "--param", "path"),
        ("query", "p_geo", "--param", "limit=5"),
        ("query", "p_geo", "--format", "xml"),
        ("tail", "--website", "w", "--every", "1"),
        ("tail", "--website", "w", "--every", "often"),
        ("me", "--url", "localhost"),
        ("me", "--key-file", "/no/such/file"),
        ("me", "--key", KEY[:8]),
    ],
)
def test_wrong_usage_is_told_and_asks_nothing(script, pixel, arguments):
    code, out, err = pixel(*arguments)
    assert (code, out) == (2, "")
    assert "pixel" in err
    assert script.asked == []


def test_without_a_key_it_says_where_to_put_one(pixel, monkeypatch):
    monkeypatch.delenv("PIXEL_API_KEY")
    code, _, err = pixel("me")
    assert code == 2
    assert "PIXEL_API_KEY" in err
    assert "--key-file" in err


def test_a_key_may_come_from_a_file_and_the_address_from_an_option(script, pixel, tmp_path, monkeypatch):
    monkeypatch.delenv("PIXEL_API_KEY")
    monkeypatch.setenv("PIXEL_API_URL", "http://127.0.0.1:1")
    (tmp_path / "key").write_text(KEY + "\n")
    script.tell(success({}))
    options = ("--key-file", str(tmp_path / "key"), "--url", script.url)
    assert pixel(*options, "me")[0] == 0
    assert pixel("me", *options)[0] == 0
    assert script.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_file_that_is_not_there_is_told(pixel):
    code, _, err = pixel("send", "--file", "/no/such/file")
    assert code == 1
    assert "/no/such/file" in err
