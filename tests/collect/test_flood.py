"""A minute of hits for websites that there are not, of a real server: what they cost it in memory."""

import itertools
import json

import pytest

from tests.bench import load, watch
from tests.server import Server

SECONDS = 60


def fakes():
    """Requests for websites that there are not, each another, from many addresses."""
    for number in itertools.count():
        body = json.dumps({"website_id": f"admx_{number:014}", "name": "pageview", "url": "https://shop.example/"})
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        yield (
            "POST /api/event HTTP/1.1\r\nHost: pixel.example\r\nOrigin: https://shop.example\r\n"
            f"X-Forwarded-For: {address}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def megabytes(server, group, seconds):
    """What the web workers hold after so many seconds of requests."""
    memory = watch.Memory(server)
    load.run(server.port, group, seconds=seconds, meter=memory)
    return sum(held for name, held in memory.megabytes.items() if name.startswith("web"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fake_websites_leave_memory_as_it_was(tmp_path):
    server = Server(tmp_path / "instance", TRUSTED_HOPS="1")
    server.set_up()
    server.start()
    try:
        group = load.Group(16, fakes().__next__)
        before = megabytes(server, group, 20)
        after = megabytes(server, group, SECONDS)
    finally:
        server.stop()
    print(f" {sum(group.statuses.values()):,} fakes; web workers held {before:.0f} MB, then {after:.0f} MB ", end="")
    assert group.statuses.keys() == {404}
    assert sum(group.statuses.values()) > 10_000
    assert after < before + 20
