"""How fast it is here: `make bench`, or `python -m tests.bench --only requests --seconds 5`. Prints Markdown.

The yardstick is a bare Flask route that reads and answers JSON under gunicorn's own threaded worker (`bare.py`), two of
them, on the same cores as everything else, the client too. It runs again and again between the rows, and a row is
compared with the nearest runs before and after it; a rate of several runs is their median, with the least and the most.
Where they are far apart the machine was not quiet ("elsewhere" is the CPU that other programs took), and then the CPU
that the web workers spend on a request is the figure to trust.

The client is `load.py`: one thread with epoll, nothing to install. Beside `wrk` with a Lua script that makes the same
requests it took 52 to 61 µs of CPU a request where wrk took 42 to 58.

Where the time goes, py-spy tells (requirements-dev.txt; it may want root). The pids are printed as the servers start:

    python -m tests.bench --only requests --seconds 60
    py-spy record -d 15 -r 200 -o worker.svg -p PID         # a flame graph; with --gil, of who holds the lock
    py-spy record -d 15 -r 200 -f raw -o worker.txt -p PID  # stacks and counts, for sort and grep
    py-spy dump -p PID                                      # what each thread does just now
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measures import ALL
from tests.bench.runs import Runs
from tests.bench.world import World


def main():
    options = _options()
    # Ended from outside, too, the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="pixel-bench-", dir=options.folder) as folder:
        world = World(Path(folder), options.events)
        runs = Runs(world, options.seconds)
        try:
            machine = _machine(folder)
            rows = [row for name in ALL if name in (options.only or ALL) for row in ALL[name](world, runs)]
        finally:
            world.stop()
    machine["load after"] = os.getloadavg()[0]
    print(_text(machine, rows, runs.all))
    if options.json:
        runs = [run._replace(milliseconds=len(run.milliseconds))._asdict() for run in runs.all]
        Path(options.json).write_text(json.dumps({"machine": machine, "rows": rows, "runs": runs}, indent=1) + "\n")


def _options():
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=ALL, help="may be given several times")
    parser.add_argument("--seconds", type=float, default=10, help="how long each load lasts (10)")
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events reports are asked about")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    # Not /tmp, which may be memory: there a sync costs nothing and the figures would flatter.
    parser.add_argument("--folder", default="/var/tmp", help="where the servers keep their files (/var/tmp)")
    return parser.parse_args()


def _machine(folder):
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sync ms": _sync_milliseconds(folder),
        "load before": os.getloadavg()[0],
    }


def _sync_milliseconds(folder):
    """What it takes this disk to sync 500 appended bytes."""
    times = []
    with open(Path(folder) / "sync", "ab", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 500)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def _text(machine, rows, runs):
    facts = ", ".join(f"{name} {_short(value)}" for name, value in machine.items())
    columns = ("", "per second", "p50 ms", "p95 ms", "p99 ms", "of bare", "CPU ms", "goals", "remarks")
    results = _table(columns, [_result(row) for row in rows])
    columns = ("run", "per second", "connections of web 1, 2", "web", "engine", "client", "elsewhere")
    balance = _table(columns, [_balance(run) for run in runs])
    return f"{facts}\n\n{results}\n\nRun by run, with per cent of a core:\n\n{balance}"


def _table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_short, line)) + " |" for line in lines)


def _result(row):
    rate = _short(row.get("rate", ""))
    if len(rates := row.get("rates", ())) > 1:
        rate += f" ({_short(min(rates))} to {_short(max(rates))})"
    goals = ", ".join(f"{text} {'✓' if met else '✗'}" for text, met in row.get("goals", {}).items())
    cells = [row.get(name, "") for name in ("of bare", "cpu")]
    return row["name"], rate, *row.get("milliseconds", [""] * 3), *cells, goals, row.get("remarks", "")


def _balance(run):
    def share(kind):
        return " + ".join(f"{100 * value:.0f}" for name, value in run.shares.items() if name.startswith(kind))

    connections = " + ".join(map(str, run.connections))
    return run.name, run.rate, connections, *map(share, ("web", "engine", "client", "elsewhere"))


def _short(value):
    """Text as it is; a number with three digits, or as many as there are before the point."""
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
