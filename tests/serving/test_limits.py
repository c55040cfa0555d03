"""Clients that send much, or hold many connections, leave room for others and do not fill the memory."""

import selectors
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from pixel.serving.worker import Worker
from tests.server import Server, kill, until
from tests.serving.test_worker import answer, head, line_to

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: pixel\r\n\r\n"
BATCH = "/api/v1/pixel/events/batch"


class Place(NamedTuple):
    server: Server
    key: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with one worker."""
    yield from _serve(tmp_path_factory.mktemp("limits"))


@pytest.fixture(scope="module")
def small_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with one worker, one thread, 20 connections and 1 MiB of buffers."""
    yield from _serve(tmp_path_factory.mktemp("limits"), "-c", "python:tests.serving.small_limits")


def _serve(folder: Path, *arguments: str) -> Iterator[Place]:
    server = Server(folder / "instance", workers=1)
    server.command += arguments
    *_, key = server.set_up()
    server.start().wait_for_engine(key)
    yield Place(server, key)
    server.stop()


def resident_bytes(server: Server) -> int:
    """Return the memory of the server's only worker."""
    (worker,) = server.children()["web"]
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * 4096


class Pipelining:
    """Clients that send more requests on each connection than are answered while a test runs, and count the answers."""

    def __init__(self, server: Server, count: int) -> None:
        self.answers = 0
        self._selector = selectors.DefaultSelector()
        self._lines = [line_to(server) for _ in range(count)]
        for line in self._lines:
            line.setblocking(False)
            line.send(HEALTH * 10_000)
            self._selector.register(line, selectors.EVENT_READ)

    def read(self) -> None:
        """Count what has been answered so far."""
        while events := self._selector.select(0):
            for key, _ in events:
                self.answers += key.fileobj.recv(1 << 20).count(b"HTTP/1.1 200")

    def close(self) -> None:
        for line in self._lines:
            line.close()
        self._selector.close()


def test_clients_that_pipeline_requests_do_not_keep_others_waiting(place: Place) -> None:
    count = 70
    pipelining = Pipelining(place.server, count)

    def has_answered(times: int) -> bool:
        pipelining.read()
        return pipelining.answers >= times * count

    with ExitStack() as stack:
        stack.callback(pipelining.close)
        # A worker that takes more of each in every round is slow by now.
        until(lambda: has_answered(100), 60)
        before = pipelining.answers
        others = [stack.enter_context(line_to(place.server)) for _ in range(30)]
        for other in others:
            other.sendall(HEALTH)
        for other in others:
            with other.makefile("rb") as file:
                assert answer(file)[0] == 200
        pipelining.read()
    # All the others were accepted and answered within some rounds.
    assert (pipelining.answers - before) / count < 25


def test_a_body_is_not_held_after_its_request_is_answered(place: Place) -> None:
    before, count = resident_bytes(place.server), 30
    body = b'{"events": [' + b" " * (8 << 20) + b"]}"
    with ExitStack() as stack:
        for _ in range(count):
            line = stack.enter_context(line_to(place.server))
            line.sendall(head(place.key, path=BATCH, size=len(body)) + body)
            with line.makefile("rb") as file:
                assert answer(file)[0] == 400
        assert resident_bytes(place.server) - before < count * len(body) / 3


def test_a_connection_stays_open_after_a_body_that_nothing_has_read(place: Place) -> None:
    body = b" " * 100_000
    with line_to(place.server) as line, line.makefile("rb") as file:
        for _ in range(2):
            line.sendall(head("unknown", path=BATCH, size=len(body)) + body)
            assert answer(file)[0] == 401


def test_unfinished_requests_beyond_the_limit_are_closed_and_the_worker_goes_on(small_place: Place) -> None:
    server, key = small_place
    workers = server.children()["web"]
    with line_to(server) as oldest, line_to(server) as second, line_to(server) as third:
        # It has waited longest, and closing it frees next to nothing.
        oldest.sendall(b"GET /docs HTTP/1.1\r\n")
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        for line in (second, third):
            line.sendall(head(key, path=BATCH, size=700_000) + b" " * 600_000)
        assert oldest.recv(1) == second.recv(1) == b""
        third.sendall(b" " * 100_000)
        with third.makefile("rb") as file:
            assert answer(file)[0] == 400
    assert server.children()["web"] == workers


def test_large_requests_that_wait_for_a_thread_are_bounded(small_place: Place) -> None:
    server, key = small_place
    (engine,) = server.children()["engine"]
    body = b'{"events": [' + b" " * 600_000 + b"]}"
    batch = head(key, path=BATCH, size=len(body)) + body
    with line_to(server) as report, line_to(server) as first, line_to(server) as second:
        kill(engine, signal.SIGSTOP)
        try:
            # It holds the only thread.
            report.sendall(head(key, path="/api/v1/pixel/metrics/p_top_pages", method="GET"))
            assert httpx.get(f"{server.url}/healthz").status_code == 200
            first.sendall(batch)
            assert httpx.get(f"{server.url}/healthz").status_code == 200
            second.sendall(batch)
            with second.makefile("rb") as file:
                refusal = file.read()
        finally:
            kill(engine, signal.SIGCONT)
        assert refusal.startswith(b"HTTP/1.1 503")
        assert b"\r\nRetry-After: 5\r\n" in refusal
        assert b'"service_unavailable"' in refusal
        with first.makefile("rb") as file:
            assert answer(file)[0] == 400


def test_idle_connections_make_room_before_the_few_that_send(small_place: Place) -> None:
    server, _ = small_place
    with ExitStack() as stack:
        for _ in range(20):
            idle = stack.enter_context(line_to(server))
            idle.sendall(HEALTH)
            with idle.makefile("rb") as file:
                assert answer(file)[0] == 200
        slow = stack.enter_context(line_to(server))
        slow.sendall(HEALTH[:20])
        for _ in range(5):
            assert httpx.get(f"{server.url}/healthz").status_code == 200
        slow.sendall(HEALTH[20:])
        with slow.makefile("rb") as file:
            assert answer(file)[0] == 200


def test_a_worker_hesitates_to_accept_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a flood of connections fills the backlog while the worker sleeps."""
    slept: list[float] = []
    now = [1000.0]
    monkeypatch.setattr("pixel.serving.worker.time.sleep", slept.append)
    monkeypatch.setattr("pixel.serving.worker.time.monotonic", lambda: now[0])
    worker = object.__new__(Worker)
    worker.nr_conns = 10_000
    worker._patience_seconds, worker._patience_at = Worker.MAX_PATIENCE_SECONDS, now[0]
    for _ in range(1000):
        worker._hesitate()
    assert slept[0] > 0
    assert sum(slept) == pytest.approx(Worker.MAX_PATIENCE_SECONDS)
    now[0] += 1
    for _ in range(1000):
        worker._hesitate()
    assert sum(slept) == pytest.approx(Worker.MAX_PATIENCE_SECONDS + Worker.PATIENCE_SHARE)
