"""Clients that are slow, or never finish, hold no thread and are ended at a deadline."""

import json
import os
import random
import resource
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.server import Server, until
from tests.serving import hostile

#: More than a worker has threads.
MANY = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A server with one worker and deadlines of two seconds: (itself, a website's id, a key)."""
    server = Server(tmp_path_factory.mktemp("slow") / "instance", workers=1)
    server.command += ["-c", "python:tests.serving.short_deadlines"]
    _, website, key = server.set_up()
    server.start().wait_for_engine(key)
    yield server, website, key
    server.stop()


def connections(server):
    """How many connections the server holds open (established, or closed by the client alone)."""
    port = f":{server.port:04X}"
    tables = [path.read_text() for path in Path("/proc/net").glob("tcp*")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return sum(local.endswith(port) and state in ("01", "08") for _, local, _, state, *_ in rows)


def refusal(answer):
    """The (status, envelope) of a response in bytes."""
    head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    return int(head[:3]), json.loads(body)


@pytest.mark.case(45, 69)
@pytest.mark.parametrize("kind", hostile.KINDS)
def test_clients_that_never_finish_hold_no_thread_and_are_ended(place, kind):
    server, _, key = place
    clients = [hostile.connect(server.port, kind) for _ in range(MANY)]
    try:
        with httpx.Client(base_url=server.url, timeout=10) as others:
            for path in ("/healthz", "/docs", "/api/v1/me", "/api/v1/pixel/metrics/p_events_catalog"):
                assert others.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        if kind in ("says nothing", "reads nothing"):
            # They are not answered, just cut off.
            until(lambda: connections(server) == 0, 30, server.said)
            return
        for client in clients:
            status, said = refusal(hostile.read_all(client))
            assert status == 408
            assert said["error"]["code"] == "request_timeout"
            assert said["error"]["details"] == {"seconds": 2}
    finally:
        for client in clients:
            client.close()


@pytest.mark.case(69)
def test_a_client_that_sends_byte_by_byte_does_not_extend_its_deadline(place):
    server, _, _ = place
    with hostile.connect(server.port, "half a head") as client:
        began = time.monotonic()
        client.settimeout(0.05)
        answer = b""
        while not answer:
            try:
                client.sendall(b"x")
                answer = client.recv(4096)
            except TimeoutError:
                assert time.monotonic() - began < 60
            except ConnectionError:
                break
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


@pytest.mark.case(45)
def test_a_request_that_is_cut_short_is_refused_at_once(place):
    server, _, _ = place
    with hostile.connect(server.port, "a body that never arrives") as client:
        client.shutdown(socket.SHUT_WR)
        status, said = refusal(hostile.read_all(client))
    assert status == 400
    assert said["error"]["code"] == "bad_request"


def test_a_refused_request_is_found_by_its_id(place):
    server, _, _ = place
    with hostile.connect(server.port, "half a small body") as client:
        _, said = refusal(hostile.read_all(client))
    request_id = said["meta"]["request_id"]
    until(lambda: server.flask("request", "show", request_id, check=False).returncode == 0, 30)
    row = json.loads(server.flask("request", "show", request_id))
    assert (row["method"], row["path"], row["status"], row["code"]) == ("POST", "/api/event", 408, "request_timeout")


@pytest.mark.case(45)
@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
def test_a_body_over_the_limit_is_refused_before_all_of_it_has_arrived(place, framing):
    server, _, key = place
    head = (
        f"POST /api/v1/pixel/events HTTP/1.1\r\nHost: pixel\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\n{framing}\r\n\r\n"
    )
    some = b" " * 1_200_000
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head.encode() + (b"%x\r\n" % len(some) + some if "chunked" in framing else some))
        status, said = refusal(hostile.read_all(client))
    assert (status, said["error"]["code"]) == (413, "payload_too_large")
    assert said["error"]["details"] == {"limit_bytes": 1 << 20}


@pytest.mark.soak
def test_hostile_clients_do_not_slow_down_the_others(tmp_path):
    """Hold 500 clients of each kind, and more as they are ended, while others ask for pages and /healthz."""
    seed = int(os.environ.get("PIXEL_SOAK_SEED") or random.randrange(10**9))
    chance = random.Random(seed)
    server = Server(tmp_path / "instance", workers=2)
    _, website, key = server.set_up()
    server.start().wait_for_engine(key)
    clients = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        kinds = [kind for kind in hostile.KINDS for _ in range(500)]
        chance.shuffle(kinds)
        quiet = measured(server, website, key, seconds=5)
        for kind in kinds:
            clients.append(hostile.connect(server.port, kind))
        loaded = measured(server, website, key, seconds=60, between=lambda: _replace_some(server, clients, chance))
    finally:
        for client in clients:
            client.close()
        server.stop()
    print(f"\nhostile clients: seed {seed}, {len(kinds)} at once")
    for name in loaded:
        goal = 50 if name == "/healthz" else 200
        met = "✓" if p95(loaded[name]) < goal else "✗"
        print(f"  {name}: p95 {p95(quiet[name]):.1f} ms without them, {p95(loaded[name]):.1f} with, goal {goal} {met}")


def measured(server, website, key, seconds, between=lambda: None):
    """The milliseconds of each kind of request, asked one after the other for so many seconds."""
    event = {"website_id": website, "name": "pageview", "path": "/", "visitor_id": "v"}
    headers = {"Authorization": f"Bearer {key}"}
    requests = {
        "/healthz": lambda http: http.get("/healthz"),
        "a page": lambda http: http.get("/sign-in"),
        "an event": lambda http: http.post("/api/v1/pixel/events", json=event, headers=headers),
        "/me": lambda http: http.get("/api/v1/me", headers=headers),
        "a report": lambda http: http.get("/api/v1/pixel/metrics/p_events_catalog", headers=headers),
    }
    times = {name: [] for name in requests}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # A new connection each time: it has to be accepted beside all the others.
        with httpx.Client(base_url=server.url, timeout=30) as http:
            for name, ask in requests.items():
                began = time.perf_counter()
                assert ask(http).status_code in (200, 202)
                times[name].append((time.perf_counter() - began) * 1000)
        between()
    return times


def p95(values):
    return sorted(values)[int(len(values) * 0.95)]


def _replace_some(server, clients, chance):
    """Open new clients for some that the server may have ended."""
    for _ in range(10):
        place = chance.randrange(len(clients))
        clients[place].close()
        clients[place] = hostile.connect(server.port, chance.choice(list(hostile.KINDS)))
