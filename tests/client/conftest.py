"""A scripted server, and a client of it that never really waits."""

import pytest

from pixel_client import Client
from tests.client.scripted import Scripted

KEY = "pxl_dev_" + "S3cretS3cret" * 4


@pytest.fixture
def script():
    script = Scripted()
    yield script
    script.stop()


@pytest.fixture
def waits():
    """How long the client would have waited, in seconds."""
    return []


@pytest.fixture
def client(script, waits):
    with Client(KEY, script.url, sleep=waits.append, chance=lambda: 0.25) as client:
        yield client
