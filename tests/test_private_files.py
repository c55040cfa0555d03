"""Nobody but the server's user can read what an installation keeps, whatever umask it inherits."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from pixel import private_files
from pixel.warehouse import line
from tests.server import HOME, Server, until


def modes(folder):
    """The files and folders below a folder that other users have access to, as {path: mode}; links have no mode."""
    wide = {}
    for where, _, files in os.walk(folder):
        for path in (where, *(os.path.join(where, name) for name in files)):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            widest = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            # The warehouse makes the files of a part read-only, 0400, before it links them into a backup.
            if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) & ~widest:
                wide[path] = oct(status.st_mode)
    return wide


def use(server, website, key):
    """Send an event, read a report and open a page."""
    headers = {"Authorization": f"Bearer {key}"}
    event = {"website_id": website, "name": "pageview", "path": "/"}
    sent = httpx.post(server.url + "/api/v1/pixel/events", json=event, headers=headers)
    assert sent.status_code == 202
    server.wait_for_engine(key)
    until(lambda: server.behind() == 0, 20, server.said)
    assert httpx.get(server.url + "/sign-in").status_code == 200
    assert httpx.get(server.url + "/readyz").status_code == 200


@pytest.fixture
def short_path():
    """A folder whose path leaves room for a socket's name, which has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_everything_is_private_under_the_widest_umask(tmp_path, short_path):
    server = Server(short_path / "parent/instance", umask=0)
    server.log = tmp_path / "log"
    server.flask("db", "upgrade")
    workspace = server.flask("workspace", "create", "Test", "--owner", "owner@example.com")
    website = server.flask("website", "add", "example.com", "--workspace", workspace)
    key = server.flask(
        "key", "create", "test", "--workspace", workspace, "--scope", "pixel:read", "--scope", "pixel:write"
    )
    server.flask("demo")
    assert modes(server.instance) == {}
    server.start()
    try:
        use(server, website, key)
        server.flask("backup", str(tmp_path / "backups/first"))
        server.flask("export", str(tmp_path / "exports/first"), "--website", website)
        server.flask("export", str(tmp_path / "events.csv"), "--website", website)
        server.flask("erase", "visitor", "somebody", "--website", website, "--yes")
        server.flask("doctor", check=False)
        kept = {path.name for path in server.instance.rglob("*")}
        assert {"pixel.sqlite", "pixel.sqlite-wal", "secret_key", "demo_password", "telemetry.sqlite", "ratelimit.sqlite",
                "server.lock", "backup.lock", "engine.sock", "engine.lock", "loader.sqlite", "data", "answers"} <= kept  # fmt: skip
        assert len(list((server.instance / "warehouse/data").rglob("*.bin"))) > 0
        assert list((tmp_path / "exports/first").iterdir())
        for folder in ("parent", "backups", "exports"):
            assert modes(tmp_path / folder) == {}
        assert stat.S_IMODE((tmp_path / "events.csv").stat().st_mode) == 0o600
    finally:
        server.stop()
    restored = Server(tmp_path / "restored", umask=0)
    restored.flask("restore", str(tmp_path / "backups/first"))
    assert modes(restored.instance) == {}


def test_an_older_installation_is_repaired_at_the_start(tmp_path):
    server = Server(tmp_path / "instance", workers=1)
    _, website, key = server.set_up()
    server.start()
    use(server, website, key)
    server.stop()
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    for path in (server.instance, *server.instance.rglob("*"), outside):
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() else 0o666)
    (server.instance / "link").symlink_to(outside)
    server.start()
    try:
        assert modes(server.instance) == {}
        assert stat.S_IMODE(outside.stat().st_mode) == 0o666
        use(server, website, key)
        assert modes(server.instance) == {}
    finally:
        server.stop()


def test_a_warehouse_elsewhere_is_repaired_too(tmp_path):
    place = tmp_path / "elsewhere"
    server = Server(tmp_path / "instance", workers=1, **dict.fromkeys(
        ("ANALYTICS_URL", "ANALYTICS_INGEST_URL", "IDENTIFY_INGEST_URL"), f"chdb://{place}"))  # fmt: skip
    (place / "data/store").mkdir(parents=True)
    for path in (place, place / "data", place / "data/store"):
        path.chmod(0o777)
    server.set_up()
    server.start()
    try:
        assert modes(place) == {}
    finally:
        server.stop()


def test_a_large_folder_is_searched_until_all_of_it_is_private(tmp_path, monkeypatch):
    large = tmp_path / "data"
    (large / "part").mkdir(parents=True)
    for path in (large, large / "part"):
        path.chmod(0o755)

    def interrupt(path, mode):
        raise KeyboardInterrupt

    monkeypatch.setattr(private_files.os, "chmod", interrupt)
    with pytest.raises(KeyboardInterrupt):
        private_files.restrict_tree(tmp_path, large)
    monkeypatch.undo()
    private_files.restrict_tree(tmp_path, large)
    assert modes(large) == {}


def test_an_application_that_another_program_makes_keeps_its_umask_and_has_a_private_folder(tmp_path):
    program = "import os; from app import create_app; create_app(); print(os.umask(0))"
    environment = {**os.environ, "PIXEL_INSTANCE": str(tmp_path / "parent/instance")}
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, env=environment, umask=0o002, capture_output=True, text=True)  # fmt: skip
    assert done.stdout == "2\n", done.stderr
    assert modes(tmp_path / "parent") == {}


# -- the socket's folder


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The folder for sockets in a shared place, not made yet, and a warehouse folder whose own path is too long."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"pixel-{os.getuid()}", tmp_path / ("x" * 120)


def test_the_socket_of_a_long_path_is_in_a_folder_of_the_users_own(shared):
    mine, folder = shared
    old = os.umask(0)
    try:
        assert Path(line.address(folder)).parent == mine
    finally:
        os.umask(old)
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    assert line.address(folder) == line.address(folder)


def make_wide(mine, tmp_path):
    mine.mkdir()
    mine.chmod(0o750)


def make_link(mine, tmp_path):
    (tmp_path / "target").mkdir(mode=0o700)
    mine.symlink_to(tmp_path / "target")


def make_dangling(mine, tmp_path):
    mine.symlink_to(tmp_path / "nothing")


def make_file(mine, tmp_path):
    mine.touch(0o600)


def make_foreign(mine, tmp_path):
    if os.geteuid():
        pytest.skip("Only root can give a folder away.")
    mine.mkdir(mode=0o700)
    os.chown(mine, 12345, 12345)


@pytest.mark.parametrize("make", [make_wide, make_link, make_dangling, make_file, make_foreign])
def test_a_folder_for_sockets_that_another_user_could_have_made_is_refused(shared, tmp_path, make):
    mine, folder = shared
    make(mine, tmp_path)
    with pytest.raises(private_files.UnsafeFolder, match=str(mine)):
        line.address(folder)
    with pytest.raises(private_files.UnsafeFolder):
        line.probe(folder, 1)
    with pytest.raises(line.AnalyticsError, match="Run doctor"):
        line.Line(folder).ask("status")


def test_a_server_refuses_to_start_with_an_unsafe_folder_for_its_socket(tmp_path, short_path):
    instance, temporary = tmp_path / ("long" * 25) / "instance", short_path
    instance.parent.mkdir()
    server = Server(instance, workers=1, TMPDIR=str(temporary))
    server.log = tmp_path / "log"
    _, website, key = server.set_up()
    mine = temporary / f"pixel-{os.getuid()}"
    shutil.rmtree(mine, ignore_errors=True)
    mine.mkdir()
    mine.chmod(0o755)
    server.start(wait=False)
    assert server.process.wait(30) != 0
    assert f"Other users can open {mine}" in server.said()
    assert "Traceback" not in server.said()
    assert f"WRONG warehouse: Other users can open {mine}" in server.flask("doctor", check=False).stdout
    mine.rmdir()
    server.start()
    try:
        use(server, website, key)
        assert list(mine.iterdir())
        assert modes(mine) == {}
        mine.chmod(0o755)
        assert f"WRONG warehouse: Other users can open {mine}" in server.flask("doctor", check=False).stdout
        mine.chmod(0o700)
    finally:
        server.stop()


# -- the doctor


def test_the_doctor_reports_a_folder_that_others_can_open_or_replace(tmp_path):
    folder = tmp_path / "parent/instance"
    private_files.claim_folder(folder)
    assert private_files.exposure(folder) == ""
    for mode in (0o710, 0o704, 0o777):
        folder.chmod(mode)
        assert f"Other users can open {folder}" in private_files.exposure(folder)
    folder.chmod(0o700)
    folder.parent.chmod(0o770)
    assert f"Other users can write to {folder.parent}" in private_files.exposure(folder)
    folder.parent.chmod(0o1777)
    assert private_files.exposure(folder) == ""
    if os.geteuid() == 0:
        os.chown(folder.parent, 12345, 12345)
        assert f"{folder.parent} belongs to another user" in private_files.exposure(folder)


def test_the_doctors_report_of_an_installation_names_its_folder(tmp_path):
    server = Server(tmp_path / "parent/instance")
    server.flask("db", "upgrade")
    assert "ok    instance folder" in server.flask("doctor", check=False).stdout
    server.instance.parent.chmod(0o777)
    assert "WRONG instance folder: Other users can write to" in server.flask("doctor", check=False).stdout
