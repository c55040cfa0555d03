"""A website's events as files: all of them, each once, in time, readable by others, and to be gone on with."""

import csv
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pyarrow.parquet
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel import clock, export
from pixel.extensions import journal, warehouse
from pixel_client import tables
from tests.cast import READ, WRITE, Workspace, load
from tests.server import HOME, kill, until

DAYS = ("2026-09-30", "2026-10-01", "2026-10-02", "2026-11-01")
NASTY = 'q"uo,te\nline\ttab\\back ü €'


@pytest.fixture
def site(app):
    """The id of a website in Auckland, with some events on some days, and a workspace's caller beside it."""
    workspace = Workspace(app, "shop.example", timezone="Pacific/Auckland")
    caller = workspace.key(READ, WRITE)
    for number, day in enumerate(DAYS):
        # In Auckland that is the first and the last minute of the day.
        for moment in (f"{day}T00:00:30+{offset(day)}", f"{day}T23:59:30+{offset(day)}"):
            caller.sends(
                workspace.site, event_id=f"{day}-{moment[11:13]}", timestamp=moment, visitor_id=f"v{number}",
                title=NASTY, props={"plan": NASTY, "n": str(number)},
            )  # fmt: skip
    caller.sends(
        workspace.site, name="payment", amount="12.3456", currency="EUR", transaction_id="t", provider="p",
        event_id="paid", timestamp="2026-10-01T05:00:00Z",
    )  # fmt: skip
    other = workspace.website("other.example", "UTC")
    caller.sends(other, event_id="of another website")
    load(app)
    return workspace.site


def offset(day):
    """Auckland is an hour further ahead in its summer, from the end of September on."""
    return "13:00" if day >= "2026-09-27" else "12:00"


@pytest.fixture
def run(app, tmp_path):
    """Run `flask export` into a folder: its result."""
    runner = app.test_cli_runner()

    def invoke(website_id, *arguments, target="out"):
        journal.flush()
        return runner.invoke(args=["export", "--website", website_id, *arguments, str(tmp_path / target)])

    yield invoke
    warehouse.start()


def read(path):
    """The rows of a file, whatever its format, as dicts of texts, numbers and moments."""
    if path.suffix == ".parquet":
        return [row | {"props": dict(row["props"])} for row in pyarrow.parquet.read_table(path).to_pylist()]
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            row | {"props": json.loads(row["props"]), "value": float(row["value"]) if row["value"] else None}
            for row in rows
        ]
    return [json.loads(line) for line in path.read_text().splitlines()]


def alike(row):
    """A row as it is in every format."""
    moments = {
        name: row[name] if isinstance(row[name], datetime) else clock.from_warehouse(row[name])
        for name in ("timestamp", "received_at")
    }
    return row | moments | {"amount": Decimal(str(row["amount"]))}


def source(app, website_id):
    """The same rows, as the warehouse has them."""
    with app.app_context():
        rows = warehouse.query(
            "SELECT * EXCEPT (workspace_id, event_key, visitor, place, hit, attribution) FROM events"
            " WHERE website_id = {site:String} ORDER BY timestamp, event_id",
            {"site": website_id},
        )["data"]
    return [alike(row) for row in rows]


@pytest.mark.parametrize("format", export.FORMATS)
def test_every_format_holds_every_event_as_it_is_and_in_time(app, site, run, tmp_path, format):
    done = run(site, "--format", format)
    assert done.exit_code == 0, done.output
    paths = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in paths] == [f"events-{day}.{format}" for day in DAYS]
    assert done.stdout.split() == [str(path) for path in paths]
    expected = source(app, site)
    assert len(expected) == 9
    assert [alike(row) for path in paths for row in read(path)] == expected
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


@pytest.mark.parametrize("format", export.FORMATS)
def test_one_file_holds_everything(app, site, run, tmp_path, format):
    done = run(site, target=f"all.{format}")
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.iterdir()] == [f"all.{format}"]
    assert [alike(row) for row in read(tmp_path / f"all.{format}")] == source(app, site)


FORMULAS = [
    *(sign + "1+1" for sign in "=+-@＝＋－＠﹢﹣﹦﹫"),
    *(blank + "=1" for blank in ("", " ", "\xa0", "\u3000", "\u200b", "\ufeff", "\u202e", "\u2028")),
    "-5", "-19.90", "=", "-", "=HYPERLINK(\"http://x\",\"y\")", "=cmd|' /C calc'!A0", '@SUM(1;2)\\', "'=1", "''=1",
]  # fmt: skip
HARMLESS = ["a=b", "'x", "1-2", "x\xa0=1", '"=1"', " ", "é=1", "שלום=1", "{=1}", "\\=1", "−1", "`=1", "0x=1", "𝟙=1"]


@pytest.fixture
def formulas(app):
    """The id of a website with an event of each text, in fields of every kind."""
    workspace = Workspace(app, "formulas.example")
    caller = workspace.key(WRITE)
    for number, text in enumerate(FORMULAS + HARMLESS):
        event = {"title": text, "utm_campaign": text, "utm_source": text, "props": {text: text}, "value": -19.5}
        answer = caller.sends(workspace.site, name="custom", goal=text, event_id=f"{number:03}", **event)
        assert answer.status_code == 202, answer.text
    caller.sends(
        workspace.site, name="payment", amount=-19.90, currency="EUR", transaction_id="-5", provider="+p",
        event_id="paid", visitor_id="=1+1",
    )  # fmt: skip
    load(app)
    return workspace.site


@pytest.mark.case(94)
def test_in_csv_no_text_starts_a_formula_and_numbers_stay_numbers(app, formulas, run, tmp_path):
    assert run(formulas, target="all.csv").exit_code == 0
    rows = {row["event_id"]: row for row in read(tmp_path / "all.csv")}
    kept = {row["event_id"]: row for row in source(app, formulas)}
    assert rows.keys() == kept.keys()
    for event_id, row in rows.items():
        # The server and the client have the same rule.
        expected = {
            name: tables.harmless(value) if type(value) is str else value for name, value in kept[event_id].items()
        }
        assert alike(row) == expected | {"props": kept[event_id]["props"]}
    for number, text in enumerate(FORMULAS + HARMLESS):
        prefixed = number < len(FORMULAS) and not text.startswith("'")
        assert rows[f"{number:03}"]["title"] == ("'" + text if prefixed else text)
    paid = rows["paid"]
    assert (paid["transaction_id"], paid["provider"], paid["visitor_id"]) == ("'-5", "'+p", "'=1+1")
    assert (paid["amount"], rows["000"]["value"]) == ("-19.9", -19.5)


@pytest.mark.case(94)
def test_in_csv_no_cell_starts_a_formula_where_semicolons_separate_cells(
    app: Flask, run: Callable, tmp_path: Path
) -> None:
    workspace = Workspace(app, "semicolons.example")
    caller = workspace.key(WRITE)
    texts = ["x;=1+1;y", "x;\xa0＝1", 'x";=1;"', ";@SUM(1)", "x;-1;+2", "x; =1", "a;b=1"]
    for number, text in enumerate(texts):
        caller.sends(workspace.site, event_id=f"{number}", title=text, props={"plan": text, text: "a\n=1"})
    assert run(workspace.site, target="all.csv").exit_code == 0
    with open(tmp_path / "all.csv", newline="") as file:
        cells = [cell for row in csv.reader(file, delimiter=";") for cell in row]
    assert not [cell for cell in cells if tables.harmless(cell) != cell]
    rows = sorted(read(tmp_path / "all.csv"), key=lambda row: row["event_id"])
    assert [row["title"] for row in rows] == [
        "x;'=1+1;y", "x;\xa0'＝1", "x\";'=1;\"", ";'@SUM(1)", "x;'-1;'+2", "x; '=1", "a;b=1"
    ]  # fmt: skip
    assert [row["props"] for row in rows] == [{"plan": text, text: "a\n=1"} for text in texts]


def test_raw_csv_and_the_other_formats_hold_every_text_as_it_is(app, formulas, run, tmp_path):
    for target in ("raw.csv", "all.parquet", "all.ndjson"):
        assert run(formulas, *(["--raw"] if target == "raw.csv" else []), target=target).exit_code == 0
        assert [alike(row) for row in read(tmp_path / target)] == source(app, formulas)


@pytest.mark.case(94)
def test_the_event_with_a_formula_of_the_case_file_is_harmless(app, run, tmp_path):
    workspace = Workspace(app, "shop.example.com")
    workspace.key(WRITE).sends(
        workspace.site, url="https://shop.example.com/", visitor_id="=1+1", title='=HYPERLINK("http://x","y")'
    )
    assert run(workspace.site, "--format", "csv").exit_code == 0
    (path,) = (tmp_path / "out").iterdir()
    (row,) = read(path)
    assert (row["visitor_id"], row["title"], row["path"]) == ("'=1+1", '\'=HYPERLINK("http://x","y")', "/")


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.lists(
        st.text("=+-@＝＋－＠﹢﹣﹦﹫'\",;\\ \xa0\u200b\u202e\ufeffab1é日", max_size=8), min_size=250, max_size=250
    )
)
def test_whatever_text_comes_the_csv_of_the_engine_is_that_of_the_client(app, run, tmp_path, texts):
    workspace = Workspace(app)
    events = [
        {"website_id": workspace.site, "name": "pageview", "path": "/", "title": text, "event_id": f"e{number:03}"}
        for number, text in enumerate(texts)
    ]
    assert workspace.key(WRITE).post("/pixel/events/batch", json={"events": events}).status_code == 202
    assert run(workspace.site, target="all.csv").exit_code == 0
    titles = {row["event_id"]: row["title"] for row in read(tmp_path / "all.csv")}
    assert titles == {f"e{number:03}": tables.harmless(text) for number, text in enumerate(texts)}


def test_days_and_months_are_the_websites(site, run, tmp_path):
    assert run(site, "--format", "csv", "--from", DAYS[0], "--to", DAYS[1]).exit_code == 0
    assert [len(read(path)) for path in sorted((tmp_path / "out").iterdir())] == [2, 3]
    assert run(site, "--format", "csv", "--by", "month", target="months").exit_code == 0
    months = sorted((tmp_path / "months").iterdir())
    assert [(path.stem, len(read(path))) for path in months] == [
        ("events-2026-09", 2),
        ("events-2026-10", 5),
        ("events-2026-11", 2),
    ]


def test_what_is_finished_is_kept_and_what_is_missing_comes(site, run, tmp_path):
    run(site, "--format", "ndjson")
    paths = sorted((tmp_path / "out").iterdir())
    whole = [path.read_bytes() for path in paths]
    paths[0].write_text("kept as it is\n")
    paths[1].unlink()
    (tmp_path / "out" / ".unfinished-1").mkdir()
    (tmp_path / "out" / ".unfinished-1" / "events-2026-10-01.ndjson").write_text("half")
    done = run(site, "--format", "ndjson")
    assert done.stderr.count("was there") == 3
    assert [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())] == [b"kept as it is\n", *whole[1:]]


def test_a_day_that_is_not_over_is_written_again(app, run, tmp_path):
    workspace = Workspace(app)
    caller = workspace.key(WRITE)
    for number in (1, 2):
        caller.sends(workspace.site, event_id=f"e{number}")
        assert run(workspace.site, "--format", "ndjson").exit_code == 0
    (path,) = (tmp_path / "out").iterdir()
    assert [row["event_id"] for row in read(path)] == ["e1", "e2"]


def test_each_night_a_day_is_written_until_all_of_it_was_over(app, run, tmp_path, moved_clock):
    evening = clock.now().replace(hour=22, minute=0) + timedelta(days=1)
    moved_clock.forward(seconds=(evening - clock.now()).total_seconds())
    workspace = Workspace(app, "night.example")
    caller, yesterday = workspace.key(WRITE), clock.now().date()

    def exported():
        done = run(workspace.site, "--format", "ndjson")
        assert done.exit_code == 0, done.output
        path = tmp_path / "out" / f"events-{yesterday}.ndjson"
        return [row["event_id"] for row in read(path)], done.stderr.count("was there")

    caller.sends(workspace.site, event_id="before the first night")
    assert exported() == (["before the first night"], 0)
    caller.sends(workspace.site, event_id="later that day")
    # So soon after midnight something may be on its way.
    moved_clock.forward(hours=2, minutes=30)
    assert exported() == (["before the first night", "later that day"], 0)
    moved_clock.forward(hours=1)
    assert exported() == (["before the first night", "later that day"], 0)
    assert exported() == (["before the first night", "later that day"], 1)


def test_a_part_of_a_month_is_not_taken_for_all_of_it(site, run, tmp_path):
    by_month = ("--format", "ndjson", "--by", "month")
    assert run(site, *by_month, "--from", "2026-10-01", "--to", "2026-10-01").exit_code == 0
    assert run(site, *by_month, "--from", "2026-10-02").exit_code == 0
    assert run(site, *by_month).exit_code == 0
    assert {path.stem: len(read(path)) for path in (tmp_path / "out").iterdir()} == {
        "events-2026-09": 2,
        "events-2026-10": 5,
        "events-2026-10-01-to-2026-10-01": 3,
        "events-2026-10-02-to-2026-10-31": 2,
        "events-2026-11": 2,
    }


def test_a_website_without_events_gives_no_file(app, run, tmp_path):
    assert run(Workspace(app).site).exit_code == 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--website", "admx_nope"], "no website"),
        (["--from", "2026-10-02", "--to", "2026-10-01"], "after the last"),
        (["--from", "yesterday"], "yesterday"),
        (["--format", "xml"], "xml"),
        (["--by", "week"], "week"),
    ],
)
def test_what_cannot_be_meant_is_refused(app, run, arguments, says):
    site = Workspace(app).site
    done = run(site, *arguments)
    assert done.exit_code != 0
    assert says in done.output


def test_a_target_that_cannot_be_written_is_told_in_a_sentence(app, site, run, tmp_path):
    (tmp_path / "out").write_text("a file")
    done = run(site)
    assert done.exit_code == 1
    assert "Not written" in done.output
    assert "Traceback" not in done.output


def test_killed_at_any_file_it_goes_on_and_the_result_is_that_of_one_run(server, tmp_path):
    _, website, key = server.set_up()
    server.start()
    server.wait_for_engine(key)
    batch = [
        {"website_id": website, "name": "pageview", "path": f"/{n}", "event_id": f"e{n:04}", "timestamp": f"2026-10-{n % 9 + 1:02}T10:00:00Z"}
        for n in range(810)
    ]  # fmt: skip
    sent = httpx.post(
        server.url + "/api/v1/pixel/events/batch", json={"events": batch}, headers={"Authorization": f"Bearer {key}"}
    )
    assert sent.status_code == 202
    until(lambda: server.behind() == 0, 20, server.said)
    arguments = ["export", "--website", website, "--format", "csv"]
    server.flask(*arguments, str(tmp_path / "once"))
    flask = [os.path.join(os.path.dirname(sys.executable), "flask"), "--app", "app"]
    for least in (1, 5):
        with subprocess.Popen(
            [*flask, *arguments, tmp_path / "killed"], cwd=HOME, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:  # fmt: skip
            until(lambda least=least: len(list((tmp_path / "killed").glob("events-*"))) >= least, 30)
            kill(process.pid, signal.SIGKILL)
    server.flask(*arguments, str(tmp_path / "killed"))
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("once", "killed")]
    assert len(files[0]) == 9
    assert files[0] == files[1]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_millions_of_events_are_exported_without_holding_them(app, run, tmp_path):
    workspace = Workspace(app)
    rows = 5_000_000
    workspace.key(WRITE).sends(workspace.site, timestamp="2026-10-04T12:00:00Z")
    load(app)
    with app.app_context():
        warehouse.start().command(
            "INSERT INTO events (workspace_id, website_id, name, event_id, visitor_id, timestamp, received_at, path)"
            f" SELECT '{workspace.id}', '{workspace.site}', 'pageview', toString(generateUUIDv4()), toString(number % 99991),"
            f" toDateTime64('2026-10-05 00:00:00', 3, 'UTC') + number % 86400, now64(), concat('/', toString(number % 999))"
            f" FROM numbers({rows}) SETTINGS max_threads = 1, max_insert_threads = 1"
        )
    peaks = []
    # The first day alone, then with the millions that come after it.
    for target, days in (("small", ["--to", "2026-10-04"]), ("out", [])):
        before = peak(anew=True)
        assert run(workspace.site, *days, target=target).exit_code == 0
        peaks.append(peak() - before)
    path = tmp_path / "out" / "events-2026-10-05.parquet"
    print(
        f"\n{rows} events, {path.stat().st_size >> 20} MiB; memory at its most: {peaks[1] >> 20} MiB more than before"
    )
    assert pyarrow.parquet.ParquetFile(path).metadata.num_rows == rows
    assert peaks[1] < peaks[0] + (512 << 20)


def peak(anew=False):
    """The most bytes of memory that this process has had, from now on if `anew`."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
