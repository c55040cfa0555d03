"""One app for the whole run, with a real engine: the embedded warehouse takes one folder a process."""

import os
from datetime import timedelta

import pytest

import config
from app import create_app
from pixel import clock
from pixel.extensions import warehouse
from tests import canary, stores
from tests.cast import READ, WRITE, Caller, Workspace
from tests.server import Server


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="run the long tests too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Half as many again as there are cores: a third of the time a test waits, for a server or for a limit in seconds."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--soak"):
        items[:] = [item for item in items if "soak" not in item.keywords]
    other = "alone" if os.environ.get("PIXEL_TESTS_DATABASE") else "postgresql"
    items[:] = [item for item in items if not item.get_closest_marker(other)]
    # Those in no folder take longest: begun first, they leave no process alone with them at the end.
    items.sort(key=lambda item: ("last" in item.keywords, item.nodeid.count("/")))


def pytest_sessionfinish(session):
    """Where everything is installed, a test that was skipped is a test that failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PIXEL_TESTS_SKIP_NOTHING") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    settings = config.load(
        PIXEL_ENV="dev",
        PIXEL_INSTANCE=str(tmp_path_factory.mktemp("instance")),
        ANALYTICS_URL="chdb://",
        ANALYTICS_INGEST_URL="chdb://",
        IDENTIFY_INGEST_URL="chdb://",
        **stores.of(stores.database()),
    )
    app = create_app(settings=settings)
    canary.watch(app)
    with app.app_context():
        from flask_migrate import upgrade

        upgrade()
    yield app
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.test_canary import look_back

        look_back(app)
    warehouse.stop()


@pytest.fixture
def ada(app):
    """A workspace."""
    return Workspace(app, "ada.example")


@pytest.fixture
def bob(app):
    """Another workspace, which must never see anything of the first."""
    return Workspace(app, "bob.example")


@pytest.fixture
def caller(ada):
    """Someone with a key of ada's that may read and write."""
    return ada.key(READ, WRITE)


@pytest.fixture
def nobody(app):
    """Someone without a key."""
    return Caller(app)


@pytest.fixture
def moved_clock(monkeypatch):
    """A clock that can be moved."""

    class Clock:
        ahead = 0.0

        def forward(self, **duration):
            self.ahead += timedelta(**duration).total_seconds()

    moved, real = Clock(), clock.seconds
    monkeypatch.setattr(clock, "seconds", lambda: real() + moved.ahead)
    return moved


@pytest.fixture
def server(tmp_path):
    """A real server that is not started yet."""
    server = Server(tmp_path / "instance")
    yield server
    server.stop()
