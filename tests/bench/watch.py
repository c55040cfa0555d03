"""What a server's processes cost, by what they are, and how its connections are spread over them."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"


class Meter:
    """CPU seconds between `begin` and `end`: of each process of a server, of this client, and of everything else.

    `connections` says how many each web worker had at the beginning: gunicorn's workers share one socket, and one of
    them may take most.
    """

    def __init__(self, server):
        self._server, self._pids = server, processes(server)

    def begin(self):
        self.connections = _connections(self._server.port, self._web())
        self._before = self._read()

    def end(self):
        after = self._read()
        self.cpu = {name: after[name] - self._before[name] for name in after}
        self.cpu["elsewhere"] = max(0, 2 * self.cpu["elsewhere"] - sum(self.cpu.values()))

    def _read(self):
        ours = {name: _cpu_seconds(pid) for name, pid in (self._pids | {"client": os.getpid()}).items()}
        return ours | {"elsewhere": _machine_seconds()}

    def _web(self):
        return [pid for name, pid in self._pids.items() if name.startswith("web")]


class Memory:
    """The proportional share (PSS) of each process of a server at the end, in `megabytes`.

    What processes share is counted once over all of them.
    """

    def __init__(self, server):
        self._server = server

    def begin(self):
        pass

    def end(self):
        self.megabytes = {name: _pss_kilobytes(pid) / 1024 for name, pid in processes(self._server).items()}


def processes(server):
    """{name: pid} of a running server: master, web 1, web 2 ..., arbiter, engine."""
    found = {"master": server.process.pid}
    for kind, pids in server.children().items():
        found |= {f"{kind} {number}" if kind == "web" else kind: pid for number, pid in enumerate(pids, 1)}
    return found


def _cpu_seconds(pid):
    after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


def _machine_seconds():
    """All cores together, without what they idled; what a hypervisor gave to others counts."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS


def _pss_kilobytes(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _connections(port, pids):
    tables = [path.read_text() for path in Path("/proc/net").glob("tcp*")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    ours = {f"socket:[{row[9]}]" for row in rows if int(row[1].split(":")[1], 16) == port and row[3] == _ESTABLISHED}
    return [sum(_target(fd) in ours for fd in Path(f"/proc/{pid}/fd").iterdir()) for pid in pids]


def _target(fd):
    try:
        return os.readlink(fd)
    except FileNotFoundError:
        return ""
