"""How requests are taken: small ones together in the main thread, the others in threads, however they arrive."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

from tests.server import HOME, Server, until

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


def test_a_file_is_sent_whole(place):
    server, _, _ = place
    for path in sorted((HOME / "static").glob("*.*")):
        with line_to(server) as line, line.makefile("rb") as file:
            line.sendall(f"GET /static/{path.name} HTTP/1.1\r\nHost: pixel\r\nConnection: close\r\n\r\n".encode())
            head, _, body = file.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == path.read_bytes()
