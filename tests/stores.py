"""PostgreSQL and Redis for the tests: servers of their own, which can be stopped, frozen and started again.

The whole suite runs on PostgreSQL with PIXEL_TESTS_DATABASE: the URL of a server where databases can be made, or the
word `postgresql` for one that is started for the run.
"""

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

#: What all servers on one PostgreSQL must have in common.
SECRET_KEY = "the same on all servers of these tests"


def database(like=None):
    """The DATABASE_URL of a new database, a copy of another if that is given; empty, for SQLite, unless asked for."""
    chosen = os.environ.get("PIXEL_TESTS_DATABASE")
    if not chosen:
        return ""
    return new_database(postgresql().url if chosen == "postgresql" else chosen, like)


def of(url):
    """The settings of a server on this database."""
    return {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY if url.startswith("postgresql") else ""}


def new_database(server_url, like=None):
    """The URL of a new database on a server."""
    url = make_url(server_url)
    name = f"pixel_tests_{secrets.token_hex(6)}"
    template = f" TEMPLATE {make_url(like).database}" if like else ""
    _execute(url, f"CREATE DATABASE {name}{template}")
    atexit.register(_drop, url, name)
    return url.set(database=name).render_as_string(hide_password=False)


def _execute(url, sql):
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(sql)


def _drop(url, name):
    try:
        _execute(url, f"DROP DATABASE {name} WITH (FORCE)")
    except psycopg.OperationalError:
        pass


@cache
def postgresql():
    """A PostgreSQL server for the whole run."""
    return PostgreSQL()


class _Daemon:
    """A server process in a folder of its own under /tmp."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pixel-tests-"))
        self.port = free_port()
        self.process = None
        atexit.register(self._tidy)

    def freeze(self):
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def stop(self):
        self.thaw()
        self.process.send_signal(self.STOP)
        self.process.wait(30)

    def _tidy(self):
        if self.process and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pids(self):
        below = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, below)]

    def _wait(self, is_there, away):
        deadline = time.monotonic() + 30
        while True:
            try:
                return is_there()
            except away:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)


class PostgreSQL(_Daemon):
    """A PostgreSQL server. It runs as the user postgres where the tests run as root, which it refuses to."""

    STOP = signal.SIGINT

    def __init__(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [shutil.which("postgres")]
        if not found[-1]:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        super().__init__()
        self._bin = Path(found[-1]).parent
        self._as = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.data = self.folder / "data"
        made = ["initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        self._run(*made).check_returncode()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.start()

    def start(self):
        settings = {"port": self.port, "unix_socket_directories": self.folder, "fsync": "off", "max_connections": 300}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, *options], stdout=log, stderr=log, **self._as
            )
        self._wait(lambda: psycopg.connect(self.url).close(), psycopg.OperationalError)

    def new_database(self):
        return new_database(self.url)

    def _run(self, program, *arguments):
        return subprocess.run(
            [self._bin / program, *arguments], capture_output=True, text=True, check=False, **self._as
        )


class Redis(_Daemon):
    """A Redis server that keeps nothing."""

    STOP = signal.SIGTERM

    def __init__(self):
        if not shutil.which("redis-server"):
            pytest.skip("Redis is not installed: apt-get install redis-server")
        super().__init__()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self._wait(lambda: self.client().ping(), redis.ConnectionError)

    def client(self):
        return redis.from_url(self.url)


class Silent:
    """A port that takes connections and never says a word, as a frozen server does."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    def connections(self):
        """How many there were since the last question."""
        taken = 0
        while True:
            try:
                self._socket.accept()[0].close()
                taken += 1
            except BlockingIOError:
                return taken


def free_port():
    """A port on which nothing listens, below those that the system gives to clients, which could take it meanwhile."""
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
