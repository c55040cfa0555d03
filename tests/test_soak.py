"""A day of a busy website in fast motion: nothing may grow but what is kept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import pytest

from pixel.warehouse.line import Line
from tests.bench.traffic import BATCH, batches
from tests.server import HOME, Server, until

#: At 230 events a second, around the clock, a day has this many.
EVENTS = int(os.environ.get("PIXEL_SOAK_EVENTS") or 20_000_000)
SLICES = 20
#: Of each slice so many batches come over HTTP; the rest is written to the journal as batches are.
OVER_HTTP = 20


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_a_day_of_writes_leaves_memory_flat_the_journal_empty_and_parts_merged(tmp_path):
    server = Server(tmp_path / "instance")
    workspace, website, key = server.set_up()
    server.start()
    try:
        server.wait_for_engine(key)
        used = [write(server, workspace, website, key) for _ in range(SLICES)]
        tell(server, used)
        assert flat([engine for engine, _ in used]), used
        assert flat([workers for _, workers in used]), used
        assert len(list((server.instance / "journal").glob("*.journal"))) <= 3
        assert counted(server) == EVENTS // SLICES * SLICES
        until(lambda: most_parts(server) < 20, 300, lambda: f"{most_parts(server)} parts in a partition")
    finally:
        server.stop()


def write(server, workspace, website, key):
    """Send a slice of the day and wait until it is loaded: the bytes of memory of (the engine, a worker at most)."""
    rest = EVENTS // SLICES - OVER_HTTP * BATCH
    command = [sys.executable, "-m", "tests.bench.fill", workspace, website, str(rest)]
    filling = subprocess.Popen(command, cwd=HOME, env=server.environment, stdout=subprocess.DEVNULL)
    next_batch = batches(website, key)
    with httpx.Client(base_url=server.url, timeout=60) as http:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for _ in range(OVER_HTTP):
            body = next_batch().partition(b"\r\n\r\n")[2]
            sent = http.post("/api/v1/pixel/events/batch", content=body, headers=headers)
            assert sent.status_code == 202, sent.text
        assert filling.wait() == 0
        until(lambda: server.behind() == 0, 600, server.said)
        report = http.get("/api/v1/pixel/metrics/p_events_catalog", headers=headers)
        assert report.status_code == 200, report.text
    found = server.children()
    return memory(found["engine"][0]), max(map(memory, found["web"]))


def flat(used):
    """Whether the last third of some figures is no more than a tenth and 64 MiB above the third in the middle."""
    third = len(used) // 3
    return max(used[-third:]) <= 1.1 * max(used[third:-third]) + (64 << 20)


def memory(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def query(server, sql):
    return orjson.loads(Line(server.instance / "warehouse").ask("query", sql, {}))["data"]


def counted(server):
    return query(server, "SELECT count() AS n FROM events")[0]["n"]


def most_parts(server):
    """Of all partitions, the most parts that one has."""
    rows = query(
        server, "SELECT count() AS n FROM system.parts WHERE active GROUP BY table, partition ORDER BY n DESC LIMIT 1"
    )
    return rows[0]["n"]


def tell(server, used):
    millions = counted(server) / 1e6
    data, index = size(server.instance / "warehouse/data"), size(server.instance / "warehouse/loader.sqlite")
    print(f"\n{millions:.1f} million events; on disk for each million {data / millions / 2**20:.0f} MiB of data"
          f" and {index / millions / 2**20:.0f} MiB of known ids; at most {most_parts(server)} parts in a partition")  # fmt: skip
    for name, figures in (("engine", [engine for engine, _ in used]), ("worker", [worker for _, worker in used])):
        print(f"memory of the {name} after each slice, in MiB: {' '.join(str(figure >> 20) for figure in figures)}")


def size(path):
    """The bytes that a file, or all below a folder, take on the disk."""
    out = subprocess.run(["du", "-sk", path], capture_output=True, text=True, check=True).stdout
    return int(out.split()[0]) * 1024
