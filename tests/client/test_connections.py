"""Connections are kept, shared, and never trusted too long."""

import contextlib
import inspect
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pixel.warehouse import line
from pixel_client import Client, NoAnswer, PayloadTooLarge
from tests.client.conftest import KEY
from tests.client.scripted import failure, page, success


def connections(script):
    return [asked.connection for asked in script.asked]


def test_one_connection_serves_many_calls_errors_too(script, client):
    script.tell(success([]), failure(500, "internal_error"), page(503), success([]))
    client.websites()
    client.websites()
    client.websites()
    assert connections(script) == [1] * 5


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(script, client, waits):
    script.tell(success([], headers={"Connection": "close"}))
    for _ in range(3):
        client.websites()
    assert connections(script) == [1, 2, 3]
    assert waits == []


def test_a_connection_that_was_dropped_while_idle_is_not_used(client, waits):
    # A server that hangs up after each answer without having said so.
    def serve(listening):
        for _ in range(2):
            accepted, _ = listening.accept()
            accepted.recv(65536)
            accepted.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"data":[],"meta": {}}')
            accepted.close()
            hung_up.release()

    hung_up = threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        client = Client(KEY, f"http://127.0.0.1:{listening.getsockname()[1]}", sleep=waits.append)
        for _ in range(2):
            assert client.websites() == []
            assert hung_up.acquire(timeout=10)
        server.join()
    assert waits == []


def test_threads_share_a_client(script, client):
    together = threading.Barrier(4, timeout=10)

    def answer(asked):
        together.wait()
        return success([{"id": asked.path}])

    script.tell(answer)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: client.receipt(f"e{number}"), range(8)))
    assert found == [[{"id": f"/api/v1/pixel/events/e{number}"}] for number in range(8)]
    assert script.connections == 4


def test_a_closed_client_hangs_up_and_can_be_used_again(script, client):
    script.tell(success([]))
    client.websites()
    client.close()
    client.websites()
    assert connections(script) == [1, 2]


def test_a_forked_process_does_not_use_its_parents_connections(script, client):
    script.tell(success([]))
    client.websites()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            client.websites()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    client.websites()
    assert connections(script) == [1, 2, 1]


def test_it_waits_longer_than_a_server_takes_to_give_up():
    waits = inspect.signature(Client).parameters["timeout_seconds"].default
    assert waits > 2 * line.ANSWER_SECONDS


def test_silence_ends_with_the_timeout(waits):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(KEY, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.05, sleep=waits.append)
        with pytest.raises(NoAnswer, match="timed out"):
            client.me()
    assert len(waits) == 5


def test_an_answer_given_before_the_whole_body_was_read_is_heard(waits):
    body = b'{"error":{"code":"payload_too_large","message":"No.","details":{}},"meta":{"request_id":"req_1"}}'

    def serve():
        accepted, _ = listening.accept()
        accepted.recv(1000)
        accepted.sendall(b"HTTP/1.1 413 X\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        accepted.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        client = Client(KEY, f"http://127.0.0.1:{listening.getsockname()[1]}", sleep=waits.append)
        with pytest.raises(PayloadTooLarge):
            client.send(website_id="w", name="pageview", title="x" * (8 << 20))
        server.join()
    assert waits == []


def test_a_server_may_live_below_a_path(script):
    script.tell(success([]))
    for base in ("", "/", "/pixel", "/pixel/", "/pixel/api/v1"):
        with Client(KEY, script.url + base) as client:
            client.me()
    assert [asked.path for asked in script.asked] == ["/api/v1/me"] * 2 + ["/pixel/api/v1/me"] * 3


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://x.example", "https://", "https://me:secret@x.example"])
def test_an_address_that_is_none_is_told_at_once(url):
    with pytest.raises(ValueError, match="base_url must be") as caught:
        Client(KEY, url)
    assert "secret" not in str(caught.value)
