"""What the real server does when something under it fails: it says so, goes on, and loses nothing it acknowledged."""

import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from pixel.journal import Segment
from pixel.warehouse import WAITING
from tests.server import Server, kill, until
from tests.test_kill import counted
from tests.test_kill import load as under_load

MANY = 16
#: What events are made of where any will do.
SEED = int(os.environ.get("PIXEL_TEST_SEED") or 1)


class Client:
    """Someone with a key of the server's."""

    def __init__(self, server, key, website):
        self.server, self.key, self.website = server, key, website
        limits = httpx.Limits(max_connections=MANY, max_keepalive_connections=MANY)
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=server.url + "/api/v1", headers=headers, timeout=30, limits=limits)

    def send(self, event_id, path="/", **event):
        whole = {"website_id": self.website, "name": "pageview", "event_id": event_id, "path": path, **event}
        return self.http.post("/pixel/events", json=whole)

    def report(self, pipe="p_top_pages", **query):
        return self.http.get(f"/pixel/metrics/{pipe}", params={"limit": 1000, "bots": "include", **query})

    def paths(self, **query):
        """How often each path is counted, once everything is loaded."""
        until(lambda: self.server.behind() == 0, 40, self.server.said)
        return self.counts(**query)

    def counts(self, **query):
        """How often each path is counted now. After a 503 it is asked again, as the errors page says."""
        for pause in (1, 2, 4, 0):
            response = self.report(**query)
            if response.status_code != 503:
                break
            time.sleep(pause)
        assert response.status_code == 200, response.text
        assert response.json()["data"]["data_status"] == "ok"
        return {row["path"]: row["pageviews"] for row in response.json()["data"]["data"]}

    def all_at_once(self, calls):
        """The answers to calls (functions of no arguments) made by many threads, in their order."""
        with ThreadPoolExecutor(MANY) as threads:
            return [done.result() for done in [threads.submit(call) for call in calls]]


@pytest.fixture
def make(tmp_path):
    """Start a server with settings: a client of it."""
    servers = []

    def start(name="instance", prefix=(), set_up=(), **settings):
        server = Server(tmp_path / name, **{"workers": 4, **settings})
        server.command = [*prefix, *server.command]
        servers.append(server)
        _, website, key = server.set_up(**dict(set_up))
        server.start()
        server.wait_for_engine(key)
        return Client(server, key, website)

    yield start
    for server in servers:
        server.stop()


# -- the warehouse


def test_the_engine_stands_still_and_events_are_taken_all_the_same(make):
    client = make()
    client.send("before", "/before")
    assert client.paths() == {"/before": 1}
    (engine,) = client.server.children()["engine"]
    kill(engine, signal.SIGSTOP)
    try:
        assert {client.send(f"e{i}", "/during").status_code for i in range(50)} == {202}
        stale = client.report()
        assert stale.status_code == 200
        assert stale.json()["data"]["data_status"] == "stale"
        assert stale.json()["data"]["data"][0]["path"] == "/before"
        refused = client.report("p_referrers")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "analytics_error")
        assert int(refused.headers["Retry-After"]) >= 1
        assert client.send("after-the-wait", "/during").status_code == 202
    finally:
        kill(engine, signal.SIGCONT)
    assert client.paths() == {"/before": 1, "/during": 51}


def test_reports_that_wait_leave_threads_for_events(make):
    client = make(workers=1)
    assert client.send("before").status_code == 202
    (engine,) = client.server.children()["engine"]
    with ThreadPoolExecutor(60) as readers, httpx.Client(headers=client.http.headers, timeout=60) as http:
        kill(engine, signal.SIGSTOP)
        try:
            url = f"{client.server.url}/api/v1/pixel/metrics/p_geo"
            reports = [readers.submit(http.get, url) for _ in range(60)]
            # Those that are too many are refused, while the others wait.
            until(lambda: sum(report.done() for report in reports) >= 60 - WAITING)
            assert {client.send(f"e{n}", "/during").status_code for n in range(20)} == {202}
            refused = [report.result() for report in reports if report.done()]
            assert len(refused) == 60 - WAITING
            assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {
                (503, "analytics_error")
            }
        finally:
            kill(engine, signal.SIGCONT)
    assert client.paths() == {"/": 1, "/during": 20}


def test_the_warehouse_does_not_take_rows_and_they_arrive_when_it_does(make):
    client = make()
    client.send("before", "/before")
    assert client.paths() == {"/before": 1}
    # A file where the table's folder was refuses writes to anyone, a superuser included.
    table = (client.server.instance / "warehouse/data/data/default/events").resolve()
    aside = table.rename(table.with_suffix(".aside"))
    table.write_bytes(b"")
    try:
        assert {client.send(f"e{i}", "/during").status_code for i in range(50)} == {202}
        until(lambda: "load failed" in client.server.said(), 20)
        asked = client.report()
        assert asked.status_code == 503 or asked.json()["data"]["data"][0]["path"] == "/before"
        assert client.server.behind() > 0
    finally:
        table.unlink()
        aside.rename(table)
    assert client.paths() == {"/before": 1, "/during": 50}


def test_a_new_engine_waits_for_the_old_one_and_loads_what_came_meanwhile(make):
    client = make()
    holder = Path(client.server.instance / "warehouse/engine.lock")
    # Whoever has the lock is the engine; this one neither loads nor answers.
    (engine,) = client.server.children()["engine"]
    waiting = subprocess.Popen(["flock", holder, "sleep", "60"], start_new_session=True)
    kill(engine)
    until(lambda: client.report("p_referrers").status_code == 503, 20)
    try:
        assert {client.send(f"e{i}", "/during").status_code for i in range(20)} == {202}
        refused = client.report("p_events_catalog")
        assert refused.status_code in (200, 503)
        assert refused.status_code == 503 or refused.json()["data"]["data_status"] == "stale"
    finally:
        os.killpg(waiting.pid, signal.SIGKILL)
    assert client.paths() == {"/during": 20}


def test_history_of_many_years_in_one_batch_is_loaded(make):
    client = make()
    events = [
        {"website_id": client.website, "name": "pageview", "event_id": f"{y}-{m}", "path": f"/{y}", "timestamp": f"{y}-{m:02}-01T00:00:00Z"}
        for y in range(2012, 2026) for m in range(1, 13)
    ]  # fmt: skip
    assert client.http.post("/pixel/events/batch", json={"events": events}).status_code == 202
    until(lambda: client.server.behind() == 0, 40, client.server.said)
    rows = client.report(**{"from": "2012-01-01", "to": "2013-12-31"}).json()["data"]["data"]
    assert {row["path"]: row["pageviews"] for row in rows} == {"/2012": 12, "/2013": 12}


# -- the disk


def test_no_file_can_grow_and_then_it_can(make):
    client = make(workers=2)
    assert client.send("before", "/before").status_code == 202
    assert client.paths() == {"/before": 1}
    pids = [pid for pids in client.server.children().values() for pid in pids]
    most = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, most[pid][1]))
    refused = client.all_at_once([lambda i=i: client.send(f"r{i}", "/refused") for i in range(40)])
    for response in refused:
        assert response.status_code == 503, response.text
        assert response.json()["error"]["code"] == "service_unavailable"
        assert int(response.headers["Retry-After"]) >= 1
        assert response.headers["X-Request-Id"] == response.json()["meta"]["request_id"]
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, most[pid])
    again = client.all_at_once([lambda i=i: client.send(f"r{i}", "/again") for i in range(40)])
    assert {response.status_code for response in again} == {202}
    assert client.paths() == {"/before": 1, "/again": 40}


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(make, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("This machine does not let a test mount a file system of its own.")
    # The server lives in a mount namespace of its own, whose instance folder is small; `/proc/PID/root` leads there.
    instance = tmp_path / "instance"
    shell = f'mount -t tmpfs -o size=48m none {instance} && cp -a {instance}.first/. {instance} && exec "$@"'
    server = Server(instance, workers=2)
    _, website, key = server.set_up()
    shutil.copytree(instance, f"{instance}.first")
    server.command = ["unshare", "-rm", "sh", "-ec", shell, "sh", *server.command]
    server.start()
    inside = Path(f"/proc/{server.process.pid}/root{instance}")
    client = Client(server, key, website)
    try:
        server.wait_for_engine(key)
        accepted = [f"a{i}" for i in range(20) if client.send(f"a{i}", "/accepted").status_code == 202]
        assert len(accepted) == 20
        with contextlib.suppress(OSError), open(inside / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        statuses = []
        for i in range(400):
            response = client.send(f"f{i}", "/accepted" if i % 2 else "/also")
            statuses.append(response.status_code)
            if response.status_code == 202:
                accepted.append(f"f{i}")
            else:
                assert response.status_code == 503, response.text
                assert response.json()["error"]["code"] in ("service_unavailable", "analytics_error")
                assert int(response.headers["Retry-After"]) >= 1
        assert statuses[-1] == 503
        (inside / "filler").unlink()
        until(lambda: client.send("room", "/room").status_code == 202, 10, server.said)
        again = client.all_at_once([lambda i=i: client.send(f"n{i}", "/new") for i in range(100)])
        assert {response.status_code for response in again} == {202}
        # Rows are loaded in order: when the last is there, all are.
        assert client.send("last", "/last").status_code == 202
        until(lambda: "/last" in client.counts(), 40, server.said)
        paths = client.counts()
        assert (paths.pop("/new"), paths.pop("/last")) == (100, 1)
        assert paths.pop("/room") == 1
        assert sum(paths.values()) == len(accepted)
    finally:
        server.stop()


# -- many at once


@pytest.mark.case(106)
def test_a_thousand_parallel_copies_are_one(make):
    client = make()
    copies = [lambda i=i: client.send("one", f"/{i}") for i in range(1000)]
    assert {response.status_code for response in client.all_at_once(copies)} == {202}
    paid = {"name": "payment", "amount": 10, "currency": "EUR", "transaction_id": "tx-1", "provider": "shop"}
    payments = [lambda i=i: client.send(f"p{i}", "/paid", **paid) for i in range(200)]
    assert {response.status_code for response in client.all_at_once(payments)} == {202}
    paths = client.paths()
    assert list(paths.values()) == [1]
    series = client.report("p_metric_series", metric="revenue").json()["data"]["data"]
    assert sum(row["value"] for row in series) == 10


@pytest.mark.case(107)
def test_of_200_calls_over_four_workers_exactly_60_pass(make):
    client = make()
    other = client.server.flask("workspace", "create", "Of ordinary limit", "--owner", "other@example.com")
    header = {"Authorization": f"Bearer {client.server.flask('key', 'create', 'new', '--workspace', other)}"}
    answers = client.all_at_once([lambda: client.http.get("/me", headers=header)] * 200)
    statuses = [response.status_code for response in answers]
    assert (statuses.count(200), statuses.count(429)) == (60, 140)
    remaining = sorted(int(r.headers["X-RateLimit-Remaining"]) for r in answers if r.status_code == 200)
    assert remaining == list(range(60))


@pytest.mark.case(17)
def test_a_revoked_key_is_refused_by_every_worker_at_once(make):
    client = make()
    other = client.server.flask("key", "create", "other", "--workspace", workspace(client), "--scope", "pixel:read")
    stopping, early, late = threading.Event(), [], []
    revoked = []

    def ask():
        with httpx.Client(base_url=client.server.url + "/api/v1", headers={"Authorization": f"Bearer {other}"}) as http:
            while not stopping.is_set():
                after = bool(revoked)
                response = http.get("/me")
                (late if after else early).append((response.status_code, response.json().get("error", {}).get("code")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    (id,) = [key["id"] for key in keys(client) if key["name"] == "other"]
    client.server.flask("key", "revoke", id)
    revoked.append(True)
    until(lambda: len(late) > 200, 20)
    stopping.set()
    for thread in threads:
        thread.join()
    # An address that fails so often is soon told to slow down instead.
    assert set(late) <= {(401, "api_key_revoked"), (429, "rate_limit_exceeded")}
    assert set(early + late) == {(200, None), (401, "api_key_revoked"), (429, "rate_limit_exceeded")}


def keys(client):
    return [
        json.loads(line) for line in client.server.flask("key", "list", "--workspace", workspace(client)).splitlines()
    ]


def workspace(client):
    return client.http.get("/me").json()["data"]["workspace"]["id"]


# -- reload, stop, side by side


def test_a_reload_under_load_refuses_nobody_and_loses_nothing(make):
    client = make()
    with under_load(client.server, client.key, client.website, SEED) as everyone:
        for _ in range(3):
            before = set(client.server.children()["web"])
            client.server.process.send_signal(signal.SIGHUP)
            until(lambda before=before: len(set(client.server.children()["web"]) - before) >= 4, 30, client.server.said)
            time.sleep(0.5)
    check(client, everyone, f"seed {SEED}, reloaded")
    assert len(client.server.children()["engine"]) == 1


def test_a_few_reloads_under_load_break_no_request(make):
    reload_under_load(make(), 3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_reloads_under_load_break_no_request(make):
    reload_under_load(make(), 100)


def reload_under_load(client, times):
    """Reload so often while callers send over kept-alive connections, each call once, and see every call answered."""
    stopping, answers, broken = threading.Event(), [], []

    def call(number):
        other = Client(client.server, client.key, client.website)
        for n in itertools.count():
            if stopping.is_set():
                return
            try:
                answers.append(other.send(f"r{number}-{n}", "/reloaded").status_code)
            except httpx.TransportError as error:
                broken.append(repr(error))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(times):
        before, so_far = set(client.server.children()["web"]), len(answers)
        client.server.process.send_signal(signal.SIGHUP)
        until(lambda before=before: not before & set(client.server.children()["web"]), 60, client.server.said)
        until(lambda so_far=so_far: len(answers) > so_far + 20, 30, client.server.said)
    stopping.set()
    for thread in threads:
        thread.join()
    print(f"\n{times} reloads, {len(answers)} calls, {len(broken)} broken")
    assert broken == []
    assert set(answers) == {202}
    assert client.paths() == {"/reloaded": len(answers)}


def test_a_second_server_on_one_folder_is_refused_and_the_first_goes_on(make):
    client = make()
    second = Server(client.server.instance)
    second.environment = client.server.environment | {"PORT": str(second.port)}
    second.log = client.server.instance.parent / "second.log"
    second.start(wait=False)
    try:
        assert second.process.wait(60) == 1
        assert "Another server runs on" in second.said()
        assert "Traceback" not in second.said()
        assert client.send("still", "/still").status_code == 202
        assert client.paths() == {"/still": 1}
        # Once the first is gone, however, the next may have the folder at once.
        client.server.kill_all()
        second.start()
        second.wait_for_engine(client.key)
        assert Client(second, client.key, client.website).send("next", "/next").status_code == 202
    finally:
        second.stop()


# -- the clock


def test_a_clock_that_jumps_an_hour_loses_nothing_and_counts_nothing_twice(make, tmp_path):
    moved = tmp_path / "moved"
    moved.write_text("0")
    client = make(PYTHONPATH=str(Path(__file__).parent / "moved_clock"), MOVED_CLOCK=str(moved))
    other = client.server.flask("workspace", "create", "Of ordinary limit", "--owner", "other@example.com")
    header = {"Authorization": f"Bearer {client.server.flask('key', 'create', 'new', '--workspace', other)}"}
    sent, came = [], {}
    for hours in (0, 1, 0, -1, 0):
        moved.write_text(str(hours * 3600))
        time.sleep(0.1)
        id = f"e{len(sent)}"
        sent.append(id)
        for known in sent:
            assert client.send(known, f"/{known}").status_code == 202
        until(
            lambda id=id: client.http.get(f"/pixel/events/{id}").json()["data"]["status"] == "stored",
            20,
            client.server.said,
        )
        came[id] = datetime.fromisoformat(client.http.get(f"/pixel/events/{id}").json()["data"]["received_at"])
        # The minute's budget is that of the clock: a window that was begun in what is now the future is over.
        statuses = [client.http.get("/me", headers=header).status_code for _ in range(30)]
        assert set(statuses) == {200}, hours
        assert client.http.get(client.server.url + "/readyz").status_code == 200
    # In an hour it may be another day.
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    assert client.paths(to=str(tomorrow)) == {f"/{id}": 1 for id in sent}
    # The clock did move.
    assert came["e1"] - came["e0"] > timedelta(minutes=50)
    assert came["e2"] - came["e3"] > timedelta(minutes=50)


# -- the journal's files


@pytest.mark.parametrize(
    ("spoil", "kept_as"),
    [
        (lambda whole: whole[:-7], "torn"),
        (lambda whole: whole + b"\xff\xff\xff\x7fgarbage", "torn"),
        (lambda whole: whole + bytes(4096), "damaged"),
        (lambda whole: whole + os.urandom(4) + b"\0\0\0\0" * 2000, None),
    ],
)
def test_a_journal_file_that_was_spoilt_is_loaded_up_to_there_kept_and_told(make, spoil, kept_as):
    client = make(workers=1)
    (engine,) = client.server.children()["engine"]
    kill(engine, signal.SIGSTOP)
    for i in range(5):
        assert client.send(f"e{i}", f"/{i}").status_code == 202
    client.server.kill_all()
    spoilt = max((client.server.instance / "journal").glob("*.journal"), key=lambda path: path.stat().st_size)
    # Up to the end of the last event, so that what is cut off is an event.
    ends = [end for end, record in Segment(spoilt).read()[0] if record.table == "events"]
    assert len(ends) == 5
    spoilt.write_bytes(spoil(spoilt.read_bytes()[: ends[-1]]))
    content = spoilt.read_bytes()
    client.server.start()
    client.server.wait_for_engine(client.key)
    whole = 4 if len(content) < ends[-1] else 5
    until(lambda: client.counts() == {f"/{i}": 1 for i in range(whole)}, 20, client.server.said)
    until(lambda: not spoilt.exists(), 20, client.server.said)
    kept = [path for ending in ("torn", "damaged") for path in spoilt.parent.glob(f"*.{ending}")]
    assert [path.read_bytes() for path in kept] == [content]
    assert kept_as is None or kept[0].suffix == f".{kept_as}"
    said = client.server.flask("doctor", check=False)
    assert kept[0].name in said.stdout
    assert said.returncode == (1 if kept[0].suffix == ".damaged" else 0)
    assert client.send("after", "/after").status_code == 202
    until(lambda: client.counts().get("/after") == 1, 20, client.server.said)


def test_a_stop_under_load_loses_nothing(make):
    client = make()
    with under_load(client.server, client.key, client.website, SEED) as everyone:
        time.sleep(1)
        client.server.process.terminate()
        assert client.server.process.wait(30) == 0
    # What was answered last was loaded before the server ended, or is in the journal for the next.
    client.server.start()
    client.server.wait_for_engine(client.key)
    check(client, everyone, f"seed {SEED}, stopped")


def check(client, everyone, told, least=50, seconds=40):
    """Look at every event: of what was acknowledged, more than `least`, nothing may be lost, and nothing be there twice.

    `told` says what was done, and the seed; it is printed with the counts. Loading may take so many seconds.
    """
    until(lambda: client.server.behind() == 0, seconds, client.server.said)
    paths = counted(client.server, client.key)
    acknowledged = lost = doubled = 0
    for attempts in everyone.by_id.values():
        total = sum(paths[path] for path in {attempt.path for attempt in attempts})
        was = any(attempt.acknowledged for attempt in attempts)
        acknowledged += was
        lost += was and total == 0
        doubled += total > 1
    told += f": {acknowledged} acknowledged, {paths.total()} stored, {lost} lost, {doubled} doubled"
    print(f"\n{told}")
    assert acknowledged > least
    assert (lost, doubled) == (0, 0), told


def test_two_installations_run_side_by_side(make):
    one, other = make("one"), make("other", set_up={"domain": "other.example"})
    assert one.send("a", "/one").status_code == 202
    assert other.send("a", "/other").status_code == 202
    assert one.paths() == {"/one": 1}
    assert other.paths() == {"/other": 1}
    one.server.stop()
    assert other.send("b", "/other").status_code == 202
    assert other.paths() == {"/other": 2}
    assert other.http.get("/me", headers={"Authorization": f"Bearer {one.key}"}).status_code == 401


# -- whoever sends goes away


@pytest.mark.parametrize("sent", [b'{"website_id": "%s", "name": "pageview", "path": "/"}', b'{"website_id": "%s'])
def test_a_body_that_ends_early_is_refused_whole(make, sent):
    client = make(workers=1)
    body = sent % client.website.encode()
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=30) as line:
        line.sendall(
            b"POST /api/v1/pixel/events HTTP/1.1\r\nHost: pixel\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (client.key.encode(), len(body) + 1, body)
        )
        line.shutdown(socket.SHUT_WR)
        answer = line.makefile("rb").read()
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"The body ended before its Content-Length." in answer
    assert client.paths() == {}


# -- beside a running server


def test_commands_work_beside_a_running_server(make):
    client = make()
    sent = client.send("told", "/told")
    id = sent.json()["meta"]["request_id"]
    assert id in client.server.flask("request", "show", id)
    refused = client.http.get("/pixel/metrics/nope")
    assert "invalid_pipe" in client.server.flask("request", "show", refused.text)
    (listed,) = keys(client)
    assert listed["state"] == "active"
    assert client.key not in str(listed)
    said = client.server.flask("doctor", check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert client.paths() == {"/told": 1}
