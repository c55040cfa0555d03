"""A visitor who wants to be forgotten is: in the warehouse, the journal, the request log and every answer."""

import json
import subprocess
from datetime import timedelta
from urllib.parse import quote, quote_plus

import httpx
import pytest
from sqlalchemy import select

from pixel import audit, clock, erasure, errors, ids, journal, pipes, websites
from pixel.database import db
from pixel.extensions import answers, warehouse
from pixel.extensions import journal as book
from pixel.warehouse import eraser
from tests.cast import NEEDED, READ, WRITE, Workspace, error, load, stored
from tests.server import until

#: Not to be found in any word that the program itself writes.
VICTIM, OTHER_DEVICE, SHORT = 'vïctim "q" o\'1/ä+b', "victim-phone-77310", "1"


def traffic(caller, site, *without):
    """What some visitors did on a website in the last hour, but for those left out."""
    start = clock.now() - timedelta(minutes=50)
    # At a full minute, so that two websites are asked about the same ones.
    start = start.replace(second=0, microsecond=0)
    visits = [
        (visitor, number, event)
        for number, visitor in enumerate(["anna", VICTIM, "otto", OTHER_DEVICE, "mia"])
        for event in (
            {"name": "pageview", "path": f"/{number % 3}", "referrer": "https://www.google.com/", "country": "DE"},
            {"name": "pageview", "path": "/pricing", "country": "FR", "utm_source": f"mail{number % 2}"},
            {"name": "custom", "goal": "signup", "props": {"plan": f"p{number}"}},
            {
                "name": "payment",
                "amount": 10 + number,
                "currency": "EUR",
                "transaction_id": f"t{number}",
                "provider": "p",
            },
        )
    ]
    for place, (visitor, number, event) in enumerate(visits):
        if visitor in without:
            continue
        # The same ids, whoever is left out.
        event |= {"event_id": f"e{place}", "visitor_id": visitor, "user_id": f"u{'v' if 'ctim' in visitor else number}"}
        moment = clock.rfc3339(start + timedelta(seconds=17 * place))
        assert caller.sends(site, timestamp=moment, **event).status_code == 202
    for number, visitor in enumerate(["anna", VICTIM, "mia"]):
        if visitor not in without:
            identity = {
                "website_id": site,
                "visitor_id": visitor,
                "user_id": f"id{number}",
                "traits": {"n": str(number)},
            }
            assert caller.post("/pixel/identify", json=identity).status_code == 202


def reports(caller, site):
    """The answer of each report, without what differs between two websites that are alike."""
    asked = {name: NEEDED.get(name, {}) for name in pipes.all()}
    asked["p_visitor_profile"] = asked["p_visitor_timeline"] = {"visitor_id": "anna"}
    asked["p_metric_series"] = {"metric": "visitors", "granularity": "minute", "from": _today(), "to": _today()}
    return {
        name: [
            {column: value for column, value in row.items() if column not in ("website_id", "last_event_at", "request_id", "received_at", "session_id")}
            for row in caller.rows(name, website_id=site, limit=1000, **query)
        ]
        for name, query in asked.items()
    }  # fmt: skip


def _today():
    return clock.now().date().isoformat()


@pytest.fixture
def erase(app):
    """Run `flask erase visitor`: its result."""
    runner = app.test_cli_runner()

    def run(*arguments):
        book.flush()
        return runner.invoke(args=["erase", "visitor", *arguments])

    yield run
    # A command lets go of the engine when it ends; the next call takes it up again.
    warehouse.start()


def held(app, website_id):
    """All visitor ids that the warehouse has of a website."""
    return {row["visitor_id"] for table in ("events", "identities") for row in stored(app, website_id, table)}


def requests_that_mention(app, text):
    """The ids of requests whose rows hold a text anywhere."""
    load(app)
    with app.app_context():
        rows = warehouse.query("SELECT * FROM requests")["data"]
    needles = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text), quote_plus(text)}
    return [row["request_id"] for row in rows if any(n in " ".join(map(str, row.values())) for n in needles)]


def test_every_report_is_that_of_a_world_without_the_visitor(app, ada, erase):
    twin = Workspace(app, "ada.example")
    caller, other = ada.key(READ, WRITE), twin.key(READ, WRITE)
    traffic(caller, ada.site)
    traffic(other, twin.site, VICTIM, OTHER_DEVICE)
    assert caller.rows("p_top_pages") != other.rows("p_top_pages")
    done = erase(VICTIM, "--website", ada.site)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["removed"] | {"journal": 0} == {
        "events": 8, "identities": 1, "requests": 9, "journal": 0, "refused": 0,
    }  # fmt: skip
    expected = reports(other, twin.site)
    assert len(expected) == 20
    found = reports(caller, ada.site)
    for name, rows in expected.items():
        assert found[name] == rows, name
    assert held(app, ada.site) == {"anna", "otto", "mia"}
    assert error(caller.get("/pixel/visitors/" + VICTIM)) == (404, "visitor_not_found")
    assert error(caller.get("/pixel/visitors/" + OTHER_DEVICE)) == (404, "visitor_not_found")


def test_only_this_id_goes_when_that_is_asked_for(app, ada, caller, erase):
    traffic(caller, ada.site)
    assert erase(VICTIM, "--website", ada.site, "--only").exit_code == 0
    assert held(app, ada.site) == {"anna", "otto", "mia", OTHER_DEVICE}


def test_what_the_request_log_says_of_the_visitor_goes_and_the_rest_stays(app, ada, caller, erase):
    name = "log-Ünique/+77"
    first = caller.sends(ada.site, visitor_id=name, event_id="event-of-" + name.replace("/", "-"))
    batch = caller.post(
        "/pixel/events/batch",
        json={"events": [
            {"website_id": ada.site, "name": "pageview", "path": "/", "visitor_id": name, "event_id": "batch-theirs"},
            {"website_id": ada.site, "name": "pageview", "path": "/", "visitor_id": "anna", "event_id": "batch-anna"},
        ]},
    )  # fmt: skip
    refused = caller.post("/pixel/events", json={"website_id": ada.site, "visitor_id": name})
    # However the id is spelt in JSON, the row that came of it leads to its request.
    spelt = json.dumps({"website_id": ada.site, "name": "pageview", "path": "/", "visitor_id": name})
    spelt = spelt.replace("log-", "\\u006c\\u006f\\u0067-")
    spelt = caller.post("/pixel/events", data=spelt, content_type="application/json")
    read = caller.get("/pixel/visitors/log-%C3%9Cnique%2F%2B77")
    asked = caller.get("/pixel/metrics/p_visitor_profile", query_string={"visitor_id": name})
    unknown = Workspace(app).key().call("GET", "/pixel/visitors/" + name, headers={"Authorization": "Bearer x"})
    untouched = caller.sends(ada.site, visitor_id="anna", title="not " + name)
    assert [r.status_code for r in (first, batch, refused, spelt, asked, untouched)] == [202, 202, 400, 202, 200, 202]
    assert len(requests_that_mention(app, name)) >= 5
    assert erase(name, "--website", ada.site).exit_code == 0
    assert requests_that_mention(app, name) == [untouched.headers["X-Request-Id"]]
    load(app)
    with app.app_context():
        rows = warehouse.query(
            "SELECT request_id, path, status, event_ids, request_body FROM requests WHERE workspace_id = {w:String}",
            {"w": ada.id},
        )["data"]
    rows = {row["request_id"]: row for row in rows}
    assert rows[batch.headers["X-Request-Id"]]["event_ids"] == ["batch-anna"]
    assert rows[read.headers["X-Request-Id"]]["path"] == "/api/v1/pixel/visitors/<anything_or_nothing:visitor_id>"
    assert rows[refused.headers["X-Request-Id"]]["status"] == 400
    assert "anna" in rows[untouched.headers["X-Request-Id"]]["request_body"]
    assert unknown.status_code == 401


def test_an_id_that_is_part_of_others_takes_nobody_with_it(app, ada, caller, erase):
    for visitor in (SHORT, "11", "21", "v1"):
        caller.sends(ada.site, visitor_id=visitor, path="/1", title="1")
    caller.get("/pixel/metrics/p_top_pages?limit=1")
    receipt = json.loads(erase(SHORT, "--website", ada.site).stdout)
    assert receipt["removed"]["events"] == 1
    assert receipt["removed"]["requests"] == 1
    assert held(app, ada.site) == {"11", "21", "v1"}


def test_the_same_id_elsewhere_stays(app, ada, bob, caller, erase):
    second, theirs = ada.website("second.example"), bob.key(WRITE)
    for who, site in ((caller, ada.site), (caller, second), (theirs, bob.site)):
        who.sends(site, visitor_id="everywhere")
    assert erase("everywhere", "--website", ada.site).exit_code == 0
    assert [held(app, site) for site in (ada.site, second, bob.site)] == [set(), {"everywhere"}, {"everywhere"}]
    assert erase("everywhere", "--workspace", ada.id).exit_code == 0
    assert [held(app, site) for site in (second, bob.site)] == [set(), {"everywhere"}]


def test_the_receipt_is_kept_and_names_nobody(app, ada, caller, erase):
    caller.sends(ada.site, visitor_id="receipt-victim")
    receipt = json.loads(erase("receipt-victim", "--website", ada.site).stdout)
    with app.app_context():
        (entry,) = audit.of(ada.id, action="visitor.erased")
        assert erasure.hashed(ada.id, "receipt-victim") == receipt["visitor_hashes"][0]
        assert "receipt-victim" not in str(db.session.execute(select(audit.AuditEntry.details)).all())
    assert entry.subject == receipt["receipt"]
    assert entry.details == receipt
    assert receipt["files_removed"] is True
    again = json.loads(erase("receipt-victim", "--website", ada.site).stdout)
    assert set(again["removed"].values()) == {0}


def test_a_kept_answer_is_forgotten_too(app, ada, caller, erase):
    caller.sends(ada.site, visitor_id="kept-answer")
    assert caller.rows("p_sessions_list")[0]["visitor_id"] == "kept-answer"
    assert any(b"kept-answer" in path.read_bytes() for path in answers.folder.iterdir())
    assert erase("kept-answer", "--website", ada.site).exit_code == 0
    assert not any(b"kept-answer" in path.read_bytes() for path in answers.folder.iterdir())


def test_rows_that_could_not_be_loaded_go_and_damaged_files_are_named(app, ada, erase):
    folder = book.folder
    ours = {"workspace_id": ada.id, "website_id": ada.site}
    (folder / "refused.ndjson").write_text(
        "".join(json.dumps({"table": "events", "row": ours | {"visitor_id": v}}) + "\n" for v in ("gone-soon", "stays"))
    )
    (folder / "0-1.damaged").write_text('{"visitor_id":"gone-soon"}')
    (folder / "0-2.damaged").write_text('{"visitor_id":"stays"}')
    try:
        done = erase("gone-soon", "--website", ada.site)
        receipt = json.loads(done.stdout)
        assert (receipt["removed"]["refused"], receipt["damaged"]) == (1, ["0-1.damaged"])
        assert "journal/0-1.damaged" in done.stderr
        (line,) = (folder / "refused.ndjson").read_text().splitlines()
        assert json.loads(line)["row"]["visitor_id"] == "stays"
    finally:
        for name in ("refused.ndjson", "0-1.damaged", "0-2.damaged"):
            (folder / name).unlink()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["v"], "either"),
        (["v", "--website", "admx_nope"], "no website"),
        (["v", "--workspace", "nope"], "nope"),
        (["", "--website", "{site}"], "empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(app, ada, erase, arguments, says):
    done = erase(*[argument.format(site=ada.site) for argument in arguments])
    assert done.exit_code != 0
    assert says in done.output


def test_both_a_website_and_a_workspace_are_refused(ada, erase):
    assert "either" in erase("v", "--website", ada.site, "--workspace", ada.id).output


def test_of_removed_websites_visitors_are_erased_too(app, ada, caller, erase):
    caller.sends(ada.site, visitor_id="on-removed")
    load(app)
    with app.app_context():
        websites.remove(ada.id, ada.site)
    assert json.loads(erase("on-removed", "--website", ada.site).stdout)["removed"]["events"] == 1


def test_an_erasure_that_fails_says_so_and_can_be_run_again(app, ada, caller, erase, monkeypatch):
    caller.sends(ada.site, visitor_id="second-try")
    whole = eraser._DELETE
    monkeypatch.setattr(eraser, "_DELETE", "DELETE WHERE nonsense = 1")
    done = erase("second-try", "--website", ada.site)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    with app.app_context():
        assert tables_of_erasures(app) == []
        assert audit.of(ada.id, action="visitor.erased") == []
    monkeypatch.setattr(eraser, "_DELETE", whole)
    assert json.loads(erase("second-try", "--website", ada.site).stdout)["removed"]["events"] == 1


def tables_of_erasures(app):
    with app.app_context():
        rows = warehouse.query("SELECT name FROM system.tables WHERE startsWith(name, 'erasing')")["data"]
    return [row["name"] for row in rows]


@pytest.fixture
def between(app, monkeypatch):
    """Have something done once, when an erasure has noted what it is about and before it takes anything out."""

    def when_noted(something):
        note = eraser._note

        def then(*arguments):
            found = note(*arguments)
            monkeypatch.setattr(eraser, "_note", note)
            something()
            return found

        monkeypatch.setattr(eraser, "_note", then)

    return when_noted


def test_an_erasure_of_another_machine_takes_nothing_from_this_one(app, ada, caller, erase, between):
    for visitor in ("here", "there", "stays"):
        caller.sends(ada.site, visitor_id=visitor)
    load(app)
    engine, gone = warehouse.start(), []
    between(lambda: gone.append(eraser.erase(engine._warehouse, engine._loader, ada.id, [ada.site], ["there"])))
    found = eraser.erase(engine._warehouse, engine._loader, ada.id, [ada.site], ["here"])
    assert [each["events"] for each in (found, *gone)] == [1, 1]
    assert held(app, ada.site) == {"stays"}
    assert tables_of_erasures(app) == []


def test_rows_that_are_still_there_are_not_called_erased(app, ada, caller, erase, between):
    caller.sends(ada.site, visitor_id="still-here")
    load(app)
    # As when the server that has the table is started anew.
    between(lambda: warehouse.start().command(f"TRUNCATE TABLE {tables_of_erasures(app)[0]}"))
    engine = warehouse.start()
    with pytest.raises(errors.AnalyticsError, match="kept some"):
        eraser.erase(engine._warehouse, engine._loader, ada.id, [ada.site], ["still-here"])
    assert held(app, ada.site) == {"still-here"}
    assert json.loads(erase("still-here", "--website", ada.site).stdout)["removed"]["events"] == 1


def test_what_a_killed_erasure_has_left_is_removed_a_day_later(app, ada, erase, moved_clock):
    load(app)
    name = ids.in_time("erasing_")
    warehouse.start().command(f"CREATE TABLE {name} (id String) ENGINE = Memory")
    assert erase("nobody", "--website", ada.site).exit_code == 0
    assert tables_of_erasures(app) == [name]
    moved_clock.forward(hours=25)
    assert erase("nobody", "--website", ada.site).exit_code == 0
    assert tables_of_erasures(app) == []


def test_blanked_records_are_still_records(tmp_path):
    writer = journal.Journal()
    writer.bind(tmp_path)
    for number in range(3):
        writer.append(journal.frame("events", b'{"n":%d,"more":"text"}' % number, 1))
    (segment,) = journal.segments(tmp_path)
    whole, _ = segment.read()
    assert journal.blank(segment.path, whole[1][0], lambda record: b'"n":1' in record.row) == 1
    # What comes behind the end is not looked at.
    assert journal.blank(segment.path, whole[1][0], lambda record: b'"n":2' in record.row) == 0
    writer.append(journal.frame("events", b'{"n":3}', 1))
    rows = [json.loads(record.row) for _, record in segment.read()[0]]
    assert rows == [{"n": 0, "more": "text"}, {}, {"n": 2, "more": "text"}, {"n": 3}]
    writer.close()


def test_beside_a_running_server_no_file_holds_the_visitor_afterwards(server):
    _, website, key = server.set_up()
    server.start()
    server.wait_for_engine(key)
    http = httpx.Client(base_url=server.url + "/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    name = "forget-me-8841"

    def send(visitor, **more):
        whole = {"website_id": website, "name": "pageview", "path": "/", "visitor_id": visitor, **more}
        assert http.post("/pixel/events", json=whole).status_code == 202

    for number in range(60):
        send(name if number % 3 else "somebody-else", event_id=f"e{number}")
    http.post("/pixel/identify", json={"website_id": website, "visitor_id": name, "user_id": "u1"})
    http.get(f"/pixel/visitors/{name}")
    until(lambda: server.behind() == 0, 20, server.said)
    assert files_with(server.instance, name)
    receipt = json.loads(server.flask("erase", "visitor", name, "--website", website))
    assert receipt["removed"]["events"] == 40
    # The workers' journal files are open and stay; what they held of the visitor is written over.
    assert receipt["removed"]["journal"] >= 40
    assert receipt["files_removed"]
    assert files_with(server.instance, name) == []
    send("somebody-else", event_id="later")
    until(lambda: server.behind() == 0, 20, server.said)
    counted = http.get("/pixel/metrics/p_top_pages").json()["data"]["data"][0]
    assert (counted["pageviews"], counted["visitors"]) == (21, 1)
    # Who comes again is a new visitor.
    send(name, event_id="came-again")
    until(lambda: http.get(f"/pixel/visitors/{name}").status_code == 200, 20, server.said)
    server.kill_all()
    server.start()
    server.wait_for_engine(key)
    until(lambda: server.behind() == 0, 20, server.said)
    assert http.get("/pixel/metrics/p_top_pages").json()["data"]["data"][0]["pageviews"] == 22


def files_with(folder, text):
    """The files below a folder that hold a text as it is. Columns are compressed, but short ones only just."""
    found = subprocess.run(["grep", "-rlaF", text, folder], capture_output=True, text=True, check=False)
    return [path for path in found.stdout.split() if path]


def test_the_command_waits_for_no_engine_for_ever(app, ada, erase, monkeypatch):
    def away(*_):
        raise errors.AnalyticsError

    monkeypatch.setattr(warehouse, "load", away)
    done = erase("v", "--website", ada.site)
    assert done.exit_code == 1
    assert "warehouse" in done.output
