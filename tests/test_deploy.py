"""The files in deploy/: the proxies as they are shipped, in front of a real server, and the unit as systemd reads it."""

import getpass
import http.client
import json
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pixel.api import events
from tests.server import HOME, Server, free_port, until

DEPLOY = HOME / "deploy"


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed.")


def nginx(folder, port, behind):
    """nginx's command, with the shipped part of its configuration in a server of its own."""
    need("nginx")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    upstream = re.search(r"upstream pixel \{.*?\n\}", (DEPLOY / "nginx/pixel.conf").read_text(), re.S)[0]
    (folder / "nginx.conf").write_text(f"""
        user {getpass.getuser()}; pid {folder}/pid; daemon off; worker_processes 1; error_log {folder}/error.log;
        events {{ worker_connections 4096; }}
        http {{
            {temporary} access_log off;
            {upstream.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")}
            server {{ listen 127.0.0.1:{port}; include {DEPLOY}/nginx/pixel-proxy.inc; }}
        }}""")
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]


def caddy(folder: Path, port: int, behind: int) -> list[str | Path]:
    """Return Caddy's command for the shipped configuration, on a port without TLS."""
    need("caddy")
    text = (DEPLOY / "Caddyfile").read_text()
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    text = text.replace("\npixel.example.com {", f"\nhttp://127.0.0.1:{port} {{", 1)
    text = text.replace("{\n\tservers", f"{{\n\tadmin off\n\thttp_port {free_port()}\n\tservers", 1)
    if caddy_version() < (2, 7):
        # As it was called before.
        text = text.replace("request_buffers 12MB", "buffer_requests\n\t\tmax_buffer_size 12MB")
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]


def caddy_version() -> tuple[int, ...]:
    """Return Caddy's major and minor version."""
    version = subprocess.run(["caddy", "version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.search(r"(\d+)\.(\d+)", version).groups()))


@pytest.fixture(scope="module", params=[nginx, caddy], ids=lambda proxy: proxy.__name__)
def front(request, tmp_path_factory):
    """A server behind a proxy: (the proxy's port, website, key, server)."""
    tmp_path = tmp_path_factory.mktemp("front")
    server, port = Server(tmp_path / "instance", TRUSTED_HOPS="1"), free_port()
    command = request.param(tmp_path, port, server.port)
    _, website, key = server.set_up()
    server.start()
    with open(tmp_path / "proxy.log", "w") as log:
        proxy = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(
            lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200,
            30,
            (tmp_path / "proxy.log").read_text,
        )
        yield port, website, key, server
    finally:
        proxy.terminate()
        proxy.wait(30)
        server.stop()


def event(website, number):
    return json.dumps({"website_id": website, "name": "pageview", "path": "/", "event_id": f"e{number}"}).encode()


class Slow:
    """A client that has sent half of its body."""

    def __init__(self, port, key, body):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        head = (
            f"POST /api/v1/pixel/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.rest = body[20:]
        self.socket.sendall(head.encode() + body[:20])

    def drip(self):
        """Send one byte more."""
        if len(self.rest) > 1:
            self.socket.sendall(self.rest[:1])
            self.rest = self.rest[1:]

    def finish(self):
        """The status of the answer, once the rest is sent."""
        with self.socket:
            self.socket.sendall(self.rest)
            return int(self.socket.makefile("rb").readline().split()[1])


def slow_clients(front, number, calls):
    """Have so many clients send byte by byte while others make so many calls; how long those took is printed."""
    port, website, key, _ = front
    slow = [Slow(port, key, event(website, f"{number}-{i}")) for i in range(number)]
    headers, milliseconds = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}, []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10) as http:
        for i in range(calls):
            for client in slow[i % 20 :: 20]:
                client.drip()
            begun = time.monotonic()
            sent = http.post("/api/v1/pixel/events", content=event(website, f"{number}-fast{i}"))
            milliseconds.append((time.monotonic() - begun) * 1000)
            assert sent.status_code == 202
    print(f"\n{number} slow clients; {calls} calls of others: p50 {statistics.median(milliseconds):.0f} ms,"
          f" p95 {statistics.quantiles(milliseconds, n=20)[-1]:.0f} ms")  # fmt: skip
    assert [client.finish() for client in slow] == [202] * number


def test_a_hundred_clients_that_send_slowly_hold_up_nobody(front):
    slow_clients(front, 100, 40)


@pytest.mark.soak
def test_five_hundred_clients_that_send_slowly_hold_up_nobody(front):
    slow_clients(front, 500, 1000)


def test_bodies_are_taken_and_refused_as_without_a_proxy(front):
    port, website, key, _ = front
    address, headers = f"http://127.0.0.1:{port}/api/v1/pixel/events", {"Authorization": f"Bearer {key}"}
    padding = b" " * (9 << 20)
    batch = b'{"events":[' + event(website, "big") + b"]}" + padding
    json_type = headers | {"Content-Type": "application/json"}
    assert httpx.post(address + "/batch", content=batch, headers=json_type, timeout=60).status_code == 202
    for megabytes in (11, 13):
        response = httpx.post(address + "/batch", content=b" " * (megabytes << 20), headers=json_type, timeout=60)
        # The server refuses what is too large without reading it, and to a proxy that may look like a broken line.
        assert response.status_code in (413, 502)
        if megabytes == 11 and response.status_code == 413:
            assert response.json()["error"]["code"] == "payload_too_large"


def test_the_callers_address_is_the_one_the_proxy_saw(front):
    port, _, key, server = front
    made_up = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8", "Authorization": f"Bearer {key}"}
    sent = httpx.get(f"http://127.0.0.1:{port}/api/v1/me", headers=made_up)
    assert sent.status_code == 200
    row = json.loads(server.flask("request", "show", sent.headers["X-Request-Id"]))
    assert row["address"] == "127.0.0.0"
    # And so the numbers are shown to who calls from this machine, through our proxy.
    assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers=made_up).status_code == 200


def whole_nginx(folder: Path, plain_port: int) -> list[str | Path]:
    """Return nginx's command for the whole shipped configuration, with ports and a certificate of its own."""
    need("nginx")
    need("openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        capture_output=True, check=True,
    )  # fmt: skip
    text = (DEPLOY / "nginx/pixel.conf").read_text().replace("/etc/letsencrypt/live/pixel.example.com", str(folder))
    text = text.replace("/etc/nginx/conf.d/pixel-proxy.inc", str(DEPLOY / "nginx/pixel-proxy.inc"))
    text = text.replace("443", str(free_port()))
    text = re.sub(r"listen (\[::\]:)?80\b", rf"listen \g<1>{plain_port}", text)
    (folder / "nginx.conf").write_text(
        f"user {getpass.getuser()}; pid {folder}/pid; daemon off; events {{}} http {{ access_log off; {text} }}"
    )
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]


def whole_caddy(folder: Path, plain_port: int) -> list[str | Path]:
    """Return Caddy's command for the whole shipped configuration, with ports and a certificate of its own."""
    need("caddy")
    text = (DEPLOY / "Caddyfile").read_text().replace("pixel.example.com", "localhost")
    own = f"admin off\n\tlocal_certs\n\tskip_install_trust\n\thttp_port {plain_port}\n\thttps_port {free_port()}"
    text = text.replace("{\n\tservers", f"{{\n\t{own}\n\tstorage file_system {folder}/storage\n\tservers", 1)
    text = text.replace("request_buffers 12MB", "") if caddy_version() < (2, 7) else text
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]


@contextmanager
def running(command: list[str | Path], folder: Path) -> Iterator[None]:
    """Run a proxy."""
    with open(folder / "proxy.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", params=[whole_nginx, whole_caddy], ids=lambda proxy: proxy.__name__)
def over_plain_http(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, httpx.Client]]:
    """Return the name of a proxy's site and a client that reaches it over plain HTTP."""
    folder, port = tmp_path_factory.mktemp("plain"), free_port()
    name = "localhost" if request.param is whole_caddy else "pixel.example.com"
    with (
        running(request.param(folder, port), folder),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": name}) as client,
    ):
        until(lambda: client.get("/sign-in").status_code, 30, (folder / "proxy.log").read_text)
        yield name, client


@pytest.mark.case(66)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path", ["/", "/sign-in?next=/account%3Fa", "/docs/errors", "/pixel.gif?website_id=x", "/apis"]
)
def test_over_plain_http_a_page_is_redirected(
    over_plain_http: tuple[str, httpx.Client], method: str, path: str
) -> None:
    name, client = over_plain_http
    answer = client.request(method, path)
    assert answer.status_code == 308
    assert answer.headers["Location"] == f"https://{name}{path}"


@pytest.mark.case(66)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/me"), ("HEAD", "/api/v1/me"), ("POST", "/api/v1/pixel/events"), ("OPTIONS", "/api/event"),
        ("GET", "/api"), ("POST", "/api/event"), ("GET", "/v0/pipes/p_geo.json?token=x"), ("GET", "/%61pi/v1/me"),
        ("GET", "//api/v1/me"), ("GET", "/x/../api/v1/me"), ("GET", "/metrics"), ("GET", "/readyz"),
        ("GET", "/healthz"), ("GET", "/pixel.js"), ("GET", "/pixel.0123456789ab.js"), ("POST", "/sign-in"),
        ("POST", "/csp-reports"), ("DELETE", "/"),
    ],
)  # fmt: skip
def test_over_plain_http_a_program_is_refused_and_not_redirected(
    over_plain_http: tuple[str, httpx.Client], method: str, path: str
) -> None:
    """A key sent in the clear is exposed, and a redirect would hide that from the client's author."""
    name, client = over_plain_http
    # As it is written: httpx would normalise the path.
    url = client.base_url.copy_with(raw_path=path.encode())
    refused = client.request(method, url, headers={"Authorization": "Bearer x"})
    assert refused.status_code == 400
    assert "Location" not in refused.headers
    assert refused.headers["Content-Type"] == "application/json"
    assert refused.headers["Cache-Control"] == "no-store"
    request_id = refused.headers["X-Request-Id"]
    assert re.fullmatch(r"proxy_[0-9a-f-]{32,36}", request_id)
    if method != "HEAD":
        assert refused.json() == {
            "error": {
                "code": "bad_request",
                "message": f"HTTPS is required. Use https://{name}. A key that was sent over plain HTTP may have been "
                "read: rotate it.",
                "details": {},
            },
            "meta": {"request_id": request_id},
        }
    assert not re.search(r"nginx/|Caddy/|\d+\.\d+\.\d+", str(refused.headers))


@pytest.mark.case(60, 66)
def test_nginx_redirects_to_its_own_name_only(tmp_path: Path) -> None:
    port = free_port()
    with running(whole_nginx(tmp_path, port), tmp_path):
        address = f"http://127.0.0.1:{port}/sign-in"
        until(lambda: httpx.get(address).status_code, 30)
        answer = httpx.get(address, headers={"Host": "evil.example"})
    assert answer.headers["Location"] == "https://pixel.example.com/sign-in"


@pytest.mark.case(68)
def test_nginx_compresses_nothing_whatever_its_own_configuration_says(tmp_path: Path, server: Server) -> None:
    """Debian's nginx.conf has `gzip on`. A compressed page leaks its secrets by its length (BREACH)."""
    port = free_port()
    command = nginx(tmp_path, port, server.port)
    compressing = "access_log off; gzip on; gzip_min_length 0; gzip_proxied any; gzip_types *;"
    whole = (tmp_path / "nginx.conf").read_text().replace("access_log off;", compressing, 1)
    (tmp_path / "nginx.conf").write_text(whole)
    server.set_up()
    server.start()
    with running(command, tmp_path), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        until(lambda: client.get("/healthz").status_code == 200, 30)
        for path in ("/sign-in", "/docs", "/nowhere", "/api/v1/me", "/healthz"):
            answer = client.get(path, headers={"Accept-Encoding": "gzip"})
            assert answer.status_code in (200, 401, 404), path
            assert "Content-Encoding" not in answer.headers, path
        # The server compresses the pixel itself, and nginx does not compress it a second time.
        script = client.get("/pixel.js", headers={"Accept-Encoding": "gzip"})
        assert script.headers["Content-Encoding"] == "gzip"
        assert "currentScript" in script.text


@pytest.mark.case(66, 68)
def test_nginx_refuses_a_large_body_under_its_own_request_id(tmp_path: Path) -> None:
    port = free_port()
    with running(nginx(tmp_path, port, free_port()), tmp_path):
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/").status_code == 502, 30)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(b"POST /api/v1/pixel/events HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
            response = http.client.HTTPResponse(line)
            response.begin()
            refused = httpx.Response(response.status, headers=response.getheaders(), content=response.read())
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "payload_too_large"
    assert refused.json()["meta"]["request_id"] == refused.headers["X-Request-Id"]
    assert refused.headers["X-Request-Id"].startswith("proxy_")


@pytest.mark.case(68)
def test_the_shipped_proxies_ask_for_no_compression() -> None:
    for file in [path for path in DEPLOY.rglob("*") if path.is_file()]:
        assert not re.search(r"^\s*(gzip\s+on|brotli\s+on|encode\b)", file.read_text(), re.MULTILINE), file.name


def test_nginx_reads_the_whole_configuration(tmp_path: Path) -> None:
    whole_nginx(tmp_path, free_port())
    done = subprocess.run(
        ["nginx", "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_systemd_reads_the_unit(tmp_path):
    need("systemd-analyze")
    text = (DEPLOY / "pixel.service").read_text()
    # The program and its user are on the machine that it is for.
    text = re.sub(r"/opt/pixel/\.venv/bin/\w+", "/bin/true", text).replace("=pixel\n", "=root\n", 2)
    (tmp_path / "pixel.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "pixel.service"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pixel.service" not in done.stderr


def test_the_proxies_let_through_what_the_server_takes():
    taken = events.accept_batch.most_bytes
    texts = [(DEPLOY / name).read_text() for name in ("nginx/pixel-proxy.inc", "Caddyfile")]
    limits = [re.search(r"(?:client_max_body_size|max_size) (\d+)m", text, re.I)[1] for text in texts]
    assert [int(limit) << 20 > taken for limit in limits] == [True, True]
    assert f'"limit_bytes":{taken}' in texts[0]
