"""A real server in processes of its own, to be called, killed and started again."""

import atexit
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from pixel.journal import HEADER
from tests import stores
from tests.stores import free_port

HOME = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
#: What servers do not get from here. Python's is about not keeping what it has compiled, which costs each start 0.1 s.
_NOT_THEIRS = ("ANALYTICS", "IDENTIFY", "PYTHONDONTWRITEBYTECODE")
#: Instances that were set up, as (folder, database, what was made), by what was asked for.
_SET_UP = {}


@atexit.register
def _tidy():
    for folder, _, _ in _SET_UP.values():
        shutil.rmtree(folder.parent, ignore_errors=True)


class Server:
    """gunicorn on a port and an instance folder of its own. `application` is what it serves instead of the product."""

    def __init__(self, instance, workers=2, application=None, umask=-1, **settings):
        self.instance = Path(instance)
        #: What the server and the commands inherit; -1 for the umask of the tests.
        self.umask = umask
        self.command = [BIN / "gunicorn", *([application] if application else [])]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.instance.parent / f"{self.instance.name}.log"
        self.process = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_NOT_THEIRS)},
            "PIXEL_INSTANCE": str(self.instance),
            "PORT": str(self.port),
            "WEB_CONCURRENCY": str(workers),
            "PIXEL_ENV": "dev",
            "ANALYTICS_URL": "chdb://",
            "ANALYTICS_INGEST_URL": "chdb://",
            "IDENTIFY_INGEST_URL": "chdb://",
            "DATABASE_URL": "",
            **settings,
        }
        #: Whether the database is the tests' own choice, to be made when it is needed.
        self.own_database = "DATABASE_URL" not in settings

    def flask(self, *arguments, check=True, seconds=120):
        """Run a command; returns what it printed on stdout."""
        done = subprocess.run(
            [BIN / "flask", "--app", "app", *arguments],
            cwd=HOME, env=self.environment, capture_output=True, text=True, timeout=seconds,
            umask=self.umask,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip() if check else done

    def set_up(self, scopes=("pixel:read", "pixel:write"), domain="example.com", limit=10**9):
        """Make the database, a workspace, a website and a key; returns (workspace, website, key).

        It is done once by command for each set of arguments, and copied for every server after the first.
        """
        asked = (tuple(scopes), domain, limit)
        if not self.own_database:
            return self._set_up(*asked)
        if asked not in _SET_UP:
            self.environment |= stores.of(stores.database())
            made = self._set_up(*asked)
            kept = Path(tempfile.mkdtemp(prefix="pixel-tests-")) / "instance"
            shutil.copytree(self.instance, kept)
            _SET_UP[asked] = kept, stores.database(like=self.environment["DATABASE_URL"]), made
        else:
            folder, database, made = _SET_UP[asked]
            shutil.copytree(folder, self.instance)
            self.environment |= stores.of(stores.database(like=database))
        return made

    def _set_up(self, scopes, domain, limit):
        asked = [word for scope in scopes for word in ("--scope", scope)]
        (workspace, _), *_, (website, _), (key, _) = self.set_up_by(
            ["workspace", "create", "Test", "--owner", "owner@example.com"],
            *([["workspace", "limit", "{0}", str(limit)]] if limit else []),
            ["website", "add", domain, "--workspace", "{0}"],
            ["key", "create", "test", "--workspace", "{0}", *asked],
        )
        return workspace, website, key

    def set_up_by(self, *commands):
        """Make the database and run commands, in one process: (stdout, stderr) of each, of which {n} names the nth's stdout."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.set_up"], input=json.dumps(commands),
            cwd=HOME, env=self.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def start(self, wait=True):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=HOME,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=self.umask,
            )
        if wait:
            self.wait()
        return self

    def wait(self, seconds=30):
        """Until it answers."""
        until(lambda: httpx.get(self.url + "/docs").status_code == 200, seconds, self.said)

    def wait_for_engine(self, key, seconds=30):
        """Until reports are answered."""
        headers = {"Authorization": f"Bearer {key}"}
        until(
            lambda: httpx.get(f"{self.url}/api/v1/pixel/metrics/p_events_catalog", headers=headers).status_code == 200,
            seconds,
            self.said,
        )

    def children(self):
        """The pids of the server's processes by what they are: `web` workers, dirty `arbiter`, `engine`."""
        found = {"web": [], "arbiter": [], "engine": []}
        for child in _children(self.process.pid):
            below = _children(child)
            if below:
                found["arbiter"].append(child)
                found["engine"] += below
            else:
                found["web"].append(child)
        return found

    def kill_all(self):
        """kill -9 of every process at once."""
        pids = [self.process.pid, *_descendants(self.process.pid)]
        for pid in pids:
            kill(pid)
        self.process.wait()
        until(lambda: not any(_alive(pid) for pid in pids), 10)

    def kill_master(self):
        """kill -9 of the process at the top, and wait until those below have noticed and gone."""
        below = _descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        until(lambda: not any(_alive(pid) for pid in below), 30, self.said)

    def behind(self):
        """How many bytes of the journal are not in the warehouse yet."""
        held = sqlite3.connect(f"file:{self.instance}/warehouse/loader.sqlite?mode=ro", uri=True)
        try:
            taken = dict(held.execute("SELECT name, taken FROM files"))
            pending = held.execute("SELECT count(*) FROM pending").fetchone()[0]
        finally:
            held.close()
        sizes = {path.name: path.stat().st_size for path in (self.instance / "journal").glob("*.journal")}
        return pending + sum(size - taken.get(name, HEADER.size) for name, size in sizes.items())

    def said(self):
        """The end of what the server wrote."""
        return self.log.read_text()[-3000:]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill_all()


def kill(pid, sig=signal.SIGKILL):
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def until(fact, seconds=10, otherwise=lambda: ""):
    """Wait for a fact to be true; failing that, fail with what `otherwise()` tells."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if fact():
                return
        except (httpx.TransportError, OSError, sqlite3.OperationalError):
            pass
        assert time.monotonic() < deadline, f"not true within {seconds} s\n{otherwise()}"
        time.sleep(0.02)


def _children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _descendants(pid):
    return [d for child in _children(pid) for d in (child, *_descendants(child))]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
