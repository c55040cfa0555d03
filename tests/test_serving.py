"""How requests are taken: small ones together in the main thread, the others in threads, however they arrive."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from pixel import turns, websites
from pixel.database import _Memory, db, remembered
from tests.cast import READ, WRITE
from tests.collect.pages import Browser
from tests.server import Server, until

MANY = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A server with one worker: (itself, the id of a website, a key)."""
    server = Server(tmp_path_factory.mktemp("serving") / "instance", workers=1)
    _, website, key = server.set_up()
    server.start().wait_for_engine(key)
    yield server, website, key
    server.stop()


def head(key, path="/api/v1/pixel/events", size=None, method="POST", **headers):
    said = {"Host": "pixel", "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    said |= {"Content-Length": size} if size is not None else {}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def event(website, event_id, **more):
    return json.dumps({"website_id": website, "name": "pageview", "path": "/", "event_id": event_id, **more}).encode()


def line_to(server):
    line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def answer(file):
    """The next answer on a connection: (status, its body as JSON)."""
    status = int(file.readline().split()[1])
    size = 0
    while (field := file.readline().strip()) != b"":
        name, _, value = field.partition(b":")
        size = int(value) if name.lower() == b"content-length" else size
    body = file.read(size)
    return status, json.loads(body) if body else None


# -- which requests are small


@given(
    path=st.sampled_from(["/api/v1/pixel/events", "/api/v1/pixel/identify?a=b", "/api/event"]),
    name=st.sampled_from(["Content-Length", "content-length", "CONTENT-LENGTH"]),
    body=st.binary(max_size=200),
    cut=st.integers(0, 10_000),
    more=st.binary(min_size=1, max_size=10),
)
def test_a_small_request_is_whole_when_its_last_byte_is_there_and_not_before(path, name, body, cut, more):
    begin = f"POST {path} HTTP/1.1\r\nHost: pixel\r\n{name}: {len(body)}\r\nAccept: */*\r\n\r\n".encode()
    whole = begin + body
    cut = cut % len(whole)
    assert turns.missing(whole) == 0
    assert turns.missing(whole[:cut]) == (len(whole) - cut if cut >= len(begin) else 1)
    assert turns.missing(whole + more) is None


@pytest.mark.parametrize("request_line", ["GET /api/v1/me", "GET /pixel.gif?website_id=x", "POST /api/event"])
def test_without_a_length_there_is_no_body(request_line):
    whole = f"{request_line} HTTP/1.1\r\nHost: pixel\r\n\r\n".encode()
    assert turns.missing(whole) == 0
    assert turns.missing(whole + b"x") is None


@pytest.mark.parametrize(
    "said",
    [
        "POST /api/v1/pixel/events/batch HTTP/1.1\r\nContent-Length: 2",
        "GET /api/v1/pixel/metrics/p_top_pages HTTP/1.1\r\nHost: pixel",
        "GET /api/v1/mentions HTTP/1.1\r\nHost: pixel",
        "get /api/v1/me HTTP/1.1\r\nHost: pixel",
        "POST /api/event HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2",
        "POST /api/event HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        "POST /api/event HTTP/1.1\r\nContent-Length: 2\r\ntransfer-encoding : chunked",
        "POST /api/event HTTP/1.1\r\nTransfer-Encoding: chunked",
        "POST /api/event HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue",
        "POST /api/event HTTP/1.1\r\nContent-Length: 2\r\nUpgrade: h2c",
        "POST /api/event HTTP/1.1\r\nContent-Length: +2",
        "POST /api/event HTTP/1.1\r\nContent-Length: 0x2",
        "POST /api/event HTTP/1.1\r\nContent-Length : 2",
        "POST /api/event HTTP/1.1\r\nContent-Length: 1, 1",
        f"POST /api/event HTTP/1.1\r\nContent-Length: {turns.MOST_BYTES + 1}",
    ],
)
def test_any_other_request_is_for_a_thread(said):
    assert turns.missing(f"{said}\r\n\r\n{{}}".encode()) is None


@pytest.mark.parametrize(
    "said",
    [
        b"no request\r\nHost: pixel\r\n",
        b"GET / HTTP/1.1\nHost: pixel\n",
        b"\n",
        b"GET /" + b"x" * turns.MOST_BYTES,
        b"GET / HTTP/1.1\r\nA: " + b"x" * turns.MOST_BYTES,
    ],
)
def test_what_cannot_become_a_request_is_refused_at_once(said):
    assert turns.missing(said) is None


# -- together


def test_requests_go_step_by_step_and_are_written_together():
    seen = []

    def serve(name):
        seen.append(("first", name))
        turns.step()
        error = turns.current().sync(name.encode())
        seen.append(("written", name, error))
        turns.step()
        seen.append(("last", name))

    def write(frames):
        seen.append(("write", frames))

    together = turns.Turns(serve, write)
    for _ in range(2):
        seen.clear()
        for name in "abc":
            together.take(name)
        together.end_round()
        assert seen == [
            ("first", "a"), ("first", "b"), ("first", "c"),
            ("write", b"abc"),
            ("written", "a", None), ("written", "b", None), ("written", "c", None),
            ("last", "a"), ("last", "b"), ("last", "c"),
        ]  # fmt: skip
    # The greenlets of the first round were used again.
    assert len(together.idle) == 3


def test_what_was_not_written_is_told_to_each():
    told = []
    broken = OSError("no room")
    together = turns.Turns(lambda name: told.append((name, turns.current().sync(b"x"))), lambda frames: broken)
    for name in "ab":
        together.take(name)
    together.end_round()
    assert told == [("a", broken), ("b", broken)]


def test_however_many_come_they_are_answered_in_groups():
    written = []
    together = turns.Turns(lambda _: turns.current().sync(b"x"), written.append)
    for _ in range(3 * turns.Turns.MOST + 1):
        together.take(None)
    together.end_round()
    assert [len(frames) for frames in written] == [turns.Turns.MOST] * 3 + [1]


def test_outside_of_a_round_nobody_stands_aside():
    assert turns.current() is None
    assert turns.step() is None


@pytest.fixture
def in_a_round():
    """Do some things in one round, each in a greenlet of its own: what they came to."""

    def do(*things):
        came_to = {}

        def serve(number):
            came_to[number] = things[number]()

        together = turns.Turns(serve, lambda frames: None)
        together.begin_round()
        for number in range(len(things)):
            together.take(number)
        together.end_round()
        return [came_to[number] for number in range(len(things))]

    return do


def test_whoever_stands_aside_holds_no_connection_to_the_control_data(app, ada, in_a_round, monkeypatch):
    held = []
    stand_aside, sync = turns.Turn.stand_aside, turns.Turn.sync

    def noted(turn, original, *arguments):
        with app.app_context():
            held.append(db.engine.pool.checkedout())
        return original(turn, *arguments)

    monkeypatch.setattr(turns.Turn, "stand_aside", lambda turn: noted(turn, stand_aside))
    monkeypatch.setattr(turns.Turn, "sync", lambda turn, frames: noted(turn, sync, frames))
    caller = ada.key(READ, WRITE)
    browser = Browser(app, ada.site)
    answers = in_a_round(
        lambda: caller.get("/me"),
        lambda: caller.sends(ada.site),
        lambda: caller.post("/pixel/identify", json={"website_id": ada.site, "visitor_id": "v", "user_id": "u"}),
        lambda: browser.sends(name="pageview", url="https://ada.example/"),
        lambda: app.test_client().get(f"/pixel.gif?website_id={ada.site}"),
    )
    assert [answer.status_code for answer in answers] == [200, 202, 202, 202, 200]
    assert len(held) > 20
    assert set(held) == {0}


def test_a_read_that_fails_holds_no_connection(app, in_a_round):
    held = []

    @remembered
    def broken():
        db.session.execute(text("SELECT 1"))
        raise ZeroDivisionError

    def ask():
        with app.app_context():
            try:
                broken()
            except ZeroDivisionError:
                turns.step()
                held.append(db.engine.pool.checkedout())

    in_a_round(*[ask] * 20)
    assert held == [0] * 20


def test_what_is_remembered_is_not_trusted_after_the_database_did_not_answer(in_a_round):
    asked = []

    def version():
        asked.append(True)
        if len(asked) < 3:
            raise OSError
        return 2

    memory = _Memory(lambda: version)

    def check():
        try:
            memory.check()
        except OSError:
            return "failed"

    assert in_a_round(*[check] * 5) == ["failed", "failed", None, None, None]
    assert len(asked) == 3


def test_what_one_of_a_round_changes_the_next_one_sees(app, ada, in_a_round):
    def seen():
        with app.app_context():
            return len(websites.visible(ada.id, None))

    def add():
        with app.app_context():
            before = len(websites.visible(ada.id, None))
            websites.add(ada.id, "second.example")
            return before, len(websites.visible(ada.id, None))

    assert in_a_round(seen, add, seen) == [1, (1, 2), 2]


# -- on a real server


def whole(line, begin, body):
    line.sendall(begin + body)


def body_later(line, begin, body):
    line.sendall(begin)
    line.sendall(body)


def byte_by_byte(line, begin, body):
    for at in range(len(begin + body)):
        line.sendall((begin + body)[at : at + 1])


@pytest.mark.parametrize("send", [whole, body_later, byte_by_byte])
def test_an_event_is_taken_however_its_bytes_arrive(place, send):
    server, website, key = place
    with line_to(server) as line, line.makefile("rb") as file:
        for number in range(3):
            body = event(website, f"{send.__name__}-{number}")
            send(line, head(key, size=len(body)), body)
            status, said = answer(file)
            assert status == 202, said
            assert said["data"]["event_id"] == f"{send.__name__}-{number}"


def test_requests_that_come_in_one_packet_are_answered_in_their_order(place):
    server, website, key = place
    bodies = [event(website, f"together-{number}") for number in range(20)]
    with line_to(server) as line, line.makefile("rb") as file:
        line.sendall(b"".join(head(key, size=len(body)) + body for body in bodies))
        answers = [answer(file) for _ in bodies]
    assert [said["data"]["event_id"] for _, said in answers] == [f"together-{number}" for number in range(20)]


def test_a_body_in_chunks_or_on_request_is_taken(place):
    server, website, key = place
    body = event(website, "chunked")
    with line_to(server) as line, line.makefile("rb") as file:
        line.sendall(head(key, Transfer_Encoding="chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert answer(file)[0] == 202
        line.sendall(head(key, size=len(body), Expect="100-continue"))
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert file.readline() == b"\r\n"
        line.sendall(body)
        assert answer(file)[0] == 202


def test_first_calls_of_a_key_at_once_are_all_answered(place):
    """More than there are connections to the control data, taken in as few rounds as can be."""
    server, website, key = place
    lines = [line_to(server) for _ in range(MANY)]
    for number, line in enumerate(lines):
        body = event(website, f"at-once-{number}")
        line.sendall(head(key, size=len(body)) + body)
    answers = []
    for line in lines:
        with line, line.makefile("rb") as file:
            answers.append(answer(file)[0])
    assert answers == [202] * MANY


def test_who_is_refused_in_a_round_does_not_harm_the_others(place):
    server, website, key = place
    good, bad = event(website, "good"), event("admx_unknown", "bad")
    unknown = key[:-1] + ("1" if key.endswith("0") else "0")
    sent = [(key, good, 202), (key, bad, 400), (unknown, good, 401), (key, b"{", 400)] * 5
    lines = [line_to(server) for _ in sent]
    for line, (secret, body, _) in zip(lines, sent, strict=True):
        line.sendall(head(secret, size=len(body)) + body)
    for line, (_, _, expected) in zip(lines, sent, strict=True):
        with line, line.makefile("rb") as file:
            status, said = answer(file)
        assert status == expected
        assert said["meta"]["request_id"]


def test_a_connection_is_closed_when_the_client_asks_for_it(place):
    server, website, key = place
    body = event(website, "closing")
    with line_to(server) as line, line.makefile("rb") as file:
        line.sendall(head(key, size=len(body), Connection="close") + body)
        assert answer(file)[0] == 202
        assert file.read() == b""


def test_a_page_with_a_long_name_can_be_asked_about_and_a_longer_address_is_refused(place):
    server, _, key = place
    path = quote("/" + "ü" * 700)

    def asks(query):
        return httpx.get(
            f"{server.url}/api/v1/pixel/metrics/p_top_pages?{query}", headers={"Authorization": f"Bearer {key}"}
        )

    most = 8190
    told = httpx.get(f"{server.url}/api/v1/openapi.json").json()["components"]["responses"]["Refused414"]
    assert f"{most:,} bytes" in told["description"]
    room = most - len("GET /api/v1/pixel/metrics/p_top_pages?path= HTTP/1.1")
    assert asks(f"path={path}").status_code == 200
    # As long as may be, it is read, and refused for what it asks.
    assert asks("path=" + "a" * room).json()["error"]["code"] == "invalid_query"
    for query in ("path=" + "a" * (room + 1), f"path={path}&path={path}"):
        refused = asks(query)
        assert (refused.status_code, refused.json()["error"]["code"]) == (414, "bad_request")
        assert refused.json()["error"]["message"] == "The request line is too long."


def test_clients_that_do_not_close_hold_up_nobody(place):
    """Each would be waited for for two seconds: 80 in all."""
    server, website, key = place
    body = event(website, "lingering")
    asked = [
        head(key, size=len(body), Connection="close") + body,
        head(key, path="/docs", method="GET", Connection="close"),
    ]
    lines = [line_to(server) for _ in range(MANY)]
    for number, line in enumerate(lines):
        line.sendall(asked[number % 2])
    deadline = time.monotonic() + 30
    for line in lines:
        line.settimeout(max(0.1, deadline - time.monotonic()))
        assert line.recv(12) in (b"HTTP/1.1 202", b"HTTP/1.1 200")
    for path in ("/api/v1/me", "/docs"):
        assert httpx.get(server.url + path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    for line in lines:
        line.close()


def test_clients_that_say_nothing_or_half_of_it_take_no_thread(place):
    """More than there are threads."""
    server, _, key = place
    said = [b"", b"G", b"GET /docs HTTP/1.1\r\nHost: pixel\r\n", head(key, size=100)]
    lines = [line_to(server) for _ in range(200)]
    for number, line in enumerate(lines):
        line.sendall(said[number % len(said)])
    assert httpx.get(server.url + "/docs", timeout=4).status_code == 200
    for line in lines:
        line.close()


def test_slow_uploads_keep_nobody_from_the_control_data(place):
    """Each is known by its key before its body has come."""
    server, _, key = place
    lines = [line_to(server) for _ in range(30)]
    for line in lines:
        line.sendall(head(key, path="/api/v1/pixel/events/batch", size=1000) + b"{")
    for number in range(3):
        # What others change, all forget.
        server.flask("website", "add", f"other{number}.example", "--workspace", workspace_of(server, key))
        assert httpx.get(server.url + "/api/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    for line in lines:
        line.close()


def workspace_of(server, key):
    said = httpx.get(server.url + "/api/v1/me", headers={"Authorization": f"Bearer {key}"}).json()
    return said["data"]["workspace"]["id"]


def test_what_has_half_arrived_at_a_stop_is_answered(tmp_path):
    server = Server(tmp_path / "instance", workers=1)
    _, website, key = server.set_up()
    server.start().wait_for_engine(key)
    try:
        body = event(website, "at-the-end")
        begun = head(key, size=len(body))
        with line_to(server) as before, line_to(server) as after:
            before.sendall(begun)
            after.sendall(head(key, path="/api/v1/me", method="GET"))
            told = after.makefile("rb")
            assert answer(told)[0] == 200
            server.process.terminate()
            time.sleep(1)
            after.sendall(begun)
            # Connections that say nothing are closed after two.
            time.sleep(3)
            for line, file in ((before, before.makefile("rb")), (after, told)):
                line.sendall(body)
                assert answer(file)[0] == 202
        server.process.wait(timeout=30)
    finally:
        server.stop()


def test_a_client_that_does_not_read_is_waited_for_by_a_thread(place):
    server, website, key = place
    props = {f"key{number}": "x" * 400 for number in range(20)}
    body = event(website, "unread", props=props)
    asked = head(key, path="/api/v1/pixel/events?dry_run=true", size=len(body)) + body
    number = 1000
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(60)
        line.connect(("127.0.0.1", server.port))

        def send():
            with httpx.Client(headers={"Authorization": f"Bearer {key}"}) as other:
                for _ in range(number):
                    line.sendall(asked)
                    # Whoever asks after it is answered after it, unless it is waited for.
                    assert other.get(server.url + "/api/v1/me").status_code == 200

        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(send)
            until(lambda: sending.done() or _is_stuck(line), 60)
            with line.makefile("rb") as file:
                assert {answer(file)[0] for _ in range(number)} == {200}
            sending.result()


def _is_stuck(line):
    """Whether nothing more can be sent."""
    import select

    poll = select.poll()
    poll.register(line, select.POLLOUT)
    return not poll.poll(300)
