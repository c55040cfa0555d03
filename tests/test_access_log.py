"""The import of a real access log, held against plain counting."""

import gzip
import re
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pixel import access_log, agents, websites
from tests.cast import READ, load

LOG = Path(__file__).parent / "data" / "access.log.gz"
LINE = re.compile(r'(\S+) \S+ \S+ \[(.+?)\] "GET (\S+) \S+" (200|304) \S+ "(.*?)" "(.*)"')


def pageviews(bots):
    """What a dozen lines of Python make of the file: (time, visitor, path, referrer) of each pageview."""
    for line in gzip.open(LOG, "rt"):
        if found := LINE.fullmatch(line.strip()):
            address, time, target, _, referrer, agent = found.groups()
            path = target.split("?")[0]
            if not re.search(r"/$|(^|/)[^./]+$|\.(html|htm|php)$", path) or (not bots and agents.classify(agent).bot):
                continue
            host = (urlsplit(referrer).hostname or "").removeprefix("www.")
            own = host == "semicomplete.com" or host.endswith(".semicomplete.com")
            moment = datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z")
            yield moment, (address, agent), path, "" if own else host


def sessions(views):
    """Each visitor's pageviews, cut where there was nothing for over thirty minutes."""
    by_visitor = defaultdict(list)
    for view in views:
        by_visitor[view[1]].append(view)
    for visits in by_visitor.values():
        visits.sort(key=lambda view: view[0])
        session = visits[:1]
        for view in visits[1:]:
            if (view[0] - session[-1][0]).total_seconds() > 1800:
                yield session
                session = []
            session.append(view)
        yield session


@pytest.fixture(scope="module")
def imported(app):
    """A workspace that has imported the log twice: (caller, website id)."""
    from tests.cast import Workspace

    workspace = Workspace(app, "semicomplete.com")
    with app.app_context():
        site = websites.anywhere(workspace.site)
        outcomes = [access_log.import_file(LOG, site, lambda _: None, lambda _: None) for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    load(app)
    return workspace.key(READ), workspace.site


@pytest.fixture(params=["include", "exclude"])
def asked(imported, request):
    """What is asked of the reports, with bots and without: (rows of a pipe, pageviews counted from the file)."""
    caller, site = imported

    def rows(pipe, **query):
        whole = {"website_id": site, "from": "2015-05-01", "to": "2015-05-31", "bots": request.param, "limit": 1000}
        found, offset = [], 0
        while part := caller.rows(pipe, **whole | query, offset=offset):
            found += part
            offset += 1000
        return found

    return rows, list(pageviews(bots=request.param == "include"))


def test_top_pages_are_what_counting_the_file_gives(asked):
    rows, views = asked
    visitors = defaultdict(set)
    for _, visitor, path, _ in views:
        visitors[path].add(visitor)
    counted = Counter(path for _, _, path, _ in views)
    visits = list(sessions(views))
    entrances, exits = Counter(v[0][2] for v in visits), Counter(v[-1][2] for v in visits)
    found = {
        row["path"]: (row["pageviews"], row["visitors"], row["entrances"], row["exits"]) for row in rows("p_top_pages")
    }
    assert found == {path: (counted[path], len(visitors[path]), entrances[path], exits[path]) for path in counted}


def test_referrers_are_what_counting_the_file_gives(asked):
    rows, views = asked
    visitors = defaultdict(set)
    for _, visitor, _, referrer in views:
        visitors[referrer].add(visitor)
    # One referrer of the file is spelt in bytes that no host name has; it is no referrer.
    counted = Counter(referrer for *_, referrer in views if referrer and "\\" not in referrer)
    found = {row["referrer"]: (row["pageviews"], row["visitors"]) for row in rows("p_referrers")}
    assert found == {host: (counted[host], len(visitors[host])) for host in counted}


@pytest.mark.parametrize("granularity", ["hour", "day"])
def test_the_series_is_what_counting_the_file_gives(asked, granularity):
    rows, views = asked
    length = 13 if granularity == "hour" else 10
    series = {
        metric: Counter(
            {
                row["bucket"][:length]: row["value"]
                for row in rows("p_metric_series", metric=metric, granularity=granularity)
                if row["value"]
            }
        )
        for metric in ("pageviews", "visitors", "sessions")
    }
    assert series["pageviews"] == Counter(time.isoformat()[:length] for time, *_ in views)
    assert series["visitors"] == Counter(
        bucket for bucket, _ in {(time.isoformat()[:length], visitor) for time, visitor, *_ in views}
    )
    assert series["sessions"] == Counter(visit[0][0].isoformat()[:length] for visit in sessions(views))


def test_sessions_are_what_cutting_the_file_gives(asked):
    rows, views = asked
    found = Counter(
        (row["started_at"][:19], row["seconds"], row["pageviews"], row["entry_path"], row["exit_path"], bool(row["bounced"]))
        for row in rows("p_sessions_list")
    )  # fmt: skip
    assert found == Counter(
        (v[0][0].isoformat()[:19], (v[-1][0] - v[0][0]).total_seconds(), len(v), v[0][2], v[-1][2], len(v) == 1)
        for v in sessions(views)
    )


def test_a_malformed_line_is_counted_and_shown_with_its_number(ada, app, tmp_path):
    good = '192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 1 "-" "Mozilla/5.0"\n'
    path = tmp_path / "access.log"
    path.write_text(good.format("a") + "nonsense\n" + good.format("b") + good.format("b").replace("May", "Mai"))
    said = []
    with app.app_context():
        outcome = access_log.import_file(path, websites.anywhere(ada.site), lambda _: None, said.append)
    assert outcome == (4, 2, 0, 2)
    assert [text.split(":")[0] for text in said] == ["line 2", "line 4"]
    rows = ada.key(READ).rows("p_top_pages", website_id=ada.site, from_="2015-05-01", to="2015-05-31")
    assert {row["path"] for row in rows} == {"/a", "/b"}
    assert str(outcome) == "4 lines: 2 pageviews, 0 other requests, 2 malformed."


def test_the_command_loads_through_a_running_server(server):
    _, website, key = server.set_up(domain="semicomplete.com")
    server.start().wait_for_engine(key)
    command = ("import", "access-log", str(LOG), "--website", website)
    first, second = (server.flask(*command, check=False) for _ in range(2))
    assert "10000 lines: 3617 pageviews, 6382 other requests, 1 malformed." in first.stderr
    assert "line 8899" in first.stderr
    assert second.returncode == 0
    import httpx

    answer = httpx.get(
        f"{server.url}/api/v1/pixel/metrics/p_events_catalog",
        headers={"Authorization": f"Bearer {key}"},
        params={"from": "2015-05-01", "to": "2015-05-31", "bots": "include"},
    )
    assert [row["events"] for row in answer.json()["data"]["data"]] == [3617]
