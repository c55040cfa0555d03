"""A backup that was taken at any moment restores to what was there, whole or not at all."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from pixel import backup, pipes
from pixel.extensions import warehouse
from pixel.warehouse import snapshot
from pixel.warehouse.remote import Remote
from tests import stores
from tests.cast import NEEDED, READ, WRITE, load
from tests.clickhouse_front import Front
from tests.server import HOME, Server, until
from tests.test_kill import counted
from tests.test_kill import load as under_load

pytestmark = pytest.mark.alone


@pytest.fixture
def other(tmp_path):
    """An installation that holds nothing."""
    server = Server(tmp_path / "other")
    yield server
    server.stop()


@pytest.fixture
def running(server):
    """A server that runs, and the ids that it was set up with."""
    made = server.set_up()
    server.start()
    server.wait_for_engine(made[2])
    return server, *made


def events(website, count):
    for number in range(count):
        about = {
            "website_id": website,
            "event_id": f"e{number}",
            "visitor_id": f"v{number % 7}",
            "path": f"/{number % 5}",
        }
        kinds = [
            {"name": "pageview", "referrer": "https://www.google.com/", "country": "DE"},
            {"name": "custom", "goal": "signup", "props": {"plan": "ü"}},
            {"name": "payment", "amount": number, "currency": "EUR", "transaction_id": f"t{number}", "provider": "p"},
        ]
        yield about | kinds[number % 3]


def answers(server, key):
    """The rows of every report."""
    headers, found = {"Authorization": f"Bearer {key}"}, {}
    for name in pipes.all():
        query = (
            {"limit": 1000, "visitor_id": "v1"}
            if name.startswith("p_visitor")
            else {"limit": 1000, **NEEDED.get(name, {})}
        )
        response = httpx.get(f"{server.url}/api/v1/pixel/metrics/{name}", params=query, headers=headers, timeout=30)
        assert response.status_code == 200, response.text + server.said()
        found[name] = response.json()["data"]["data"]
    return found


def test_what_is_restored_answers_every_report_alike_and_knows_every_key_and_repeat(running, other, tmp_path):
    server, _, website, key = running
    http = httpx.Client(base_url=server.url + "/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    batch = list(events(website, 60))
    assert http.post("/pixel/events/batch", json={"events": batch}).status_code == 202
    http.post("/pixel/identify", json={"website_id": website, "visitor_id": "v1", "user_id": "u"})
    # Two months, so that there is more than one partition.
    http.post("/pixel/events", json=batch[0] | {"event_id": "old", "timestamp": "2025-03-01T12:00:00Z"})
    sent = http.get("/me")
    until(lambda: server.behind() == 0, 20, server.said)
    expected = answers(server, key)
    assert expected["p_top_pages"]
    server.flask("backup", str(tmp_path / "kept"))
    # What comes after it is not in it.
    http.post("/pixel/events", json=batch[0] | {"event_id": "after", "path": "/after"})
    server.stop()
    said = other.flask("restore", str(tmp_path / "kept"), check=False)
    assert said.returncode == 0, said.stderr
    assert "61 events" in said.stderr
    assert "SECRET_KEY is another" not in said.stderr
    other.start()
    other.wait_for_engine(key)
    assert answers(other, key) == expected
    http = httpx.Client(base_url=other.url + "/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    # A request of then is found, and an event of then is known when it comes again.
    assert sent.headers["X-Request-Id"] in other.flask("request", "show", sent.headers["X-Request-Id"])
    assert http.post("/pixel/events/batch", json={"events": batch}).status_code == 202
    assert http.post("/pixel/events", json=batch[0] | {"event_id": "new", "path": "/new"}).status_code == 202
    until(lambda: any(row["path"] == "/new" for row in answers(other, key)["p_top_pages"]), 20, other.said)
    without = [row for row in answers(other, key)["p_top_pages"] if row["path"] != "/new"]
    assert sum(row["pageviews"] for row in without) == sum(row["pageviews"] for row in expected["p_top_pages"])
    assert other.flask("doctor", check=False).returncode == 0


def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it_and_nothing_twice(running, other, tmp_path):
    server, _, website, key = running
    with under_load(server, key, website, seed=3) as everyone:
        until(lambda: len(everyone.ids) > 100, 30)
        began = time.monotonic()
        server.flask("backup", str(tmp_path / "kept"))
        time.sleep(0.3)
    other.flask("restore", str(tmp_path / "kept"))
    other.start()
    other.wait_for_engine(key)
    paths = counted(other, key)
    before = 0
    for id, attempts in everyone.by_id.items():
        total = sum(paths[path] for path in {attempt.path for attempt in attempts})
        acknowledged = any(attempt.acknowledged and attempt.acknowledged < began for attempt in attempts)
        assert total == 1 or (total == 0 and not acknowledged), id
        before += acknowledged
    assert before > 50
    until(lambda: server.behind() == 0, 20, server.said)
    assert not (server.instance / "warehouse/data/shadow/pixel_backup").exists()


# -- what a backup is


@pytest.fixture
def kept(app, ada, tmp_path):
    """A backup of the app's own installation."""
    ada.key(READ, WRITE).sends(ada.site)
    load(app)
    with app.app_context():
        backup.write(tmp_path / "kept")
    return tmp_path / "kept"


def test_the_manifest_lists_each_file_and_all_are_the_owners_alone(kept):
    manifest = json.loads((kept / "manifest.json").read_text())
    files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert {"pixel.sqlite", "warehouse/loader.sqlite", "secret_key"} <= files
    assert manifest["rows"]["events"] >= 1
    for path in kept.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def refusal(app, folder):
    with app.app_context(), pytest.raises(backup.BackupFailed) as refused:
        backup.restore(folder)
    return refused.value.message


def change(path, how):
    content = bytearray(path.read_bytes())
    path.write_bytes(how(content))


@pytest.mark.parametrize("which", ["pixel.sqlite", "secret_key", "warehouse/loader.sqlite", "warehouse/events"])
def test_a_damaged_backup_is_refused(app, kept, which):
    path = kept / which
    path = next(p for p in sorted(path.rglob("*")) if p.is_file()) if path.is_dir() else path
    change(path, lambda content: bytes(content[:-1]) + bytes([content[-1] ^ 1]))
    assert "damaged" in refusal(app, kept)


def test_a_backup_with_a_file_missing_is_refused(app, kept):
    (kept / "pixel.sqlite").unlink()
    assert "pixel.sqlite is missing" in refusal(app, kept)


def test_a_backup_without_its_manifest_is_incomplete(app, kept):
    (kept / "manifest.json").rename(kept / "manifest.json.part")
    assert "no complete backup" in refusal(app, kept)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "files": []}'])
def test_a_manifest_that_says_nothing_is_damaged(app, kept, text):
    (kept / "manifest.json").write_text(text)
    assert "damaged" in refusal(app, kept)


def test_a_backup_of_another_format_is_refused(app, kept):
    change(kept / "manifest.json", lambda content: content.replace(b'"format": 1', b'"format": 2'))
    assert "another format" in refusal(app, kept)


def test_a_backup_of_a_newer_version_is_refused(app, kept):
    manifest = json.loads((kept / "manifest.json").read_text())
    (kept / "manifest.json").write_text(json.dumps(manifest | {"database": "0999_later", "version": "9.0"}))
    assert "newer version (9.0, tables of 0999_later)" in refusal(app, kept)


def test_a_manifest_that_leads_outside_is_refused(app, kept):
    (kept.parent / "outside").write_text("x")
    change(kept / "manifest.json", lambda content: content.replace(b'"secret_key": {', b'"../outside": {'))
    assert "missing" in refusal(app, kept)


def test_a_secret_of_the_environment_stays_there(app, tmp_path, monkeypatch):
    monkeypatch.setitem(app.config, "SECRET_KEY", "of the environment, long enough to be one")
    with app.app_context():
        manifest = backup.write(tmp_path / "kept")
        assert manifest["secret_key"] == backup.fingerprint()
    assert "secret_key" not in manifest["files"]


def test_an_installation_in_use_is_not_written_over(app, kept):
    assert "in use" in refusal(app, kept)


def test_a_folder_with_something_in_it_is_not_written_to(app, tmp_path):
    (tmp_path / "mine").write_text("x")
    with app.app_context(), pytest.raises(backup.BackupFailed, match="not an empty folder"):
        backup.write(tmp_path)
    assert (tmp_path / "mine").read_text() == "x"


def test_two_backups_at_once_are_refused(app, tmp_path):
    with app.app_context(), backup._alone(), pytest.raises(backup.BackupFailed, match="Another backup"):
        backup.write(tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_restore_that_brings_less_says_so(app, kept, monkeypatch):
    # The check at its end, on the installation as it is: it has more rows by now.
    manifest = json.loads((kept / "manifest.json").read_text())
    manifest["rows"]["events"] += 1
    with app.app_context(), pytest.raises(backup.BackupFailed, match="Do not use"):
        backup._refuse_unless_whole(manifest)


# -- when it fails


def test_a_disk_that_is_full_leaves_the_original_as_it_was(running, tmp_path):
    server, _, website, key = running
    http = httpx.Client(base_url=server.url + "/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    http.post("/pixel/events/batch", json={"events": list(events(website, 30))})
    until(lambda: server.behind() == 0, 20, server.said)
    expected = answers(server, key)
    # No file of this command may grow beyond 20 KiB; the engine is another process.
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh", *_flask("backup", tmp_path / "kept")],
        cwd=HOME, env=server.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert not (tmp_path / "kept").exists()
    assert not (server.instance / "warehouse/data/shadow/pixel_backup").exists()
    assert answers(server, key) == expected
    server.flask("backup", str(tmp_path / "kept"))


def test_without_room_for_it_nothing_is_begun(app, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with app.app_context(), pytest.raises(backup.BackupFailed, match="MiB are free"):
        backup.write(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_backup_that_is_killed_is_incomplete_and_the_next_one_works(running, other, tmp_path):
    server, _, website, key = running
    httpx.post(
        server.url + "/api/v1/pixel/events",
        json=next(events(website, 1)), headers={"Authorization": f"Bearer {key}"},
    )  # fmt: skip
    # Killed when all is copied but the manifest.
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AT.format(step="_seal"), tmp_path / "killed"],
        cwd=HOME, env=server.environment, timeout=60, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    refused = other.flask("restore", str(tmp_path / "killed"), check=False)
    assert (refused.returncode, "no complete backup" in refused.stderr) == (1, True)
    # And killed while the warehouse is set aside.
    subprocess.run(
        [sys.executable, "-c", _KILLED_AT.format(step="_copy_tree"), tmp_path / "early"],
        cwd=HOME, env=server.environment, timeout=60, check=False,
    )  # fmt: skip
    assert (server.instance / "warehouse/data/shadow/pixel_backup").exists()
    server.flask("backup", str(tmp_path / "kept"))
    assert not (server.instance / "warehouse/data/shadow/pixel_backup").exists()
    assert "1 events" in other.flask("restore", str(tmp_path / "kept"), check=False).stderr
    again = other.flask("restore", str(tmp_path / "kept"), check=False)
    assert (again.returncode, "in use" in again.stderr) == (1, True)


_KILLED_AT = """
import os, sys
from flask.cli import cli
from pixel import backup
backup.{step} = lambda *_: os.kill(os.getpid(), 9)
cli.main(args=["--app", "app", "backup", sys.argv[1]])
"""


def _flask(*arguments):
    return [Path(sys.executable).parent / "flask", "--app", "app", *arguments]


def test_the_engine_of_these_tests_keeps_nothing_aside(app):
    load(app)
    assert not os.path.exists(warehouse.folder / "data/shadow/pixel_backup")
    assert not os.path.exists(warehouse.folder / "loader.backup")


def test_of_a_clickhouse_server_nothing_is_backed_up_and_nothing_unfrozen(tmp_path):
    front = Front(tmp_path / "clickhouse").start()
    try:
        clickhouse = Remote(front.url)
        clickhouse.set_up()
        clickhouse.insert("drops", b'{"website_id": "w"}')
        clickhouse.command(f"ALTER TABLE drops FREEZE WITH NAME '{snapshot.NAME}'")
        frozen = sorted((front.folder / "data/shadow" / snapshot.NAME).rglob("*.txt"))
        assert frozen
        server = Server(tmp_path / "instance", **front.settings)
        server.flask("db", "upgrade")
        done = server.flask("backup", str(tmp_path / "kept"), check=False)
        assert (done.returncode, "by its own means" in done.stderr) == (1, True)
        assert all(path.exists() for path in frozen)
    finally:
        front.stop()


def test_control_data_in_postgresql_is_not_taken_for_a_file(tmp_path):
    url = stores.new_database(stores.postgresql().url)
    server = Server(tmp_path / "instance", **stores.of(url))
    server.flask("db", "upgrade")
    for command in (["backup", tmp_path / "kept"], ["restore", tmp_path]):
        done = server.flask(*map(str, command), check=False)
        assert done.returncode == 1
    assert not (tmp_path / "kept").exists()
