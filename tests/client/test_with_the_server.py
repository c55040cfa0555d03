"""The client and the command with the real server, from sending to reading."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import pixel_client
from pixel_client import (
    Client,
    EventNotFound,
    InvalidApiKey,
    InvalidBody,
    InvalidPipe,
    InvalidQuery,
    JwtInvalid,
    RateLimitExceeded,
    VisitorNotFound,
    WebsiteNotFound,
)
from tests.server import HOME, Server, until

COMMAND = [sys.executable, "-m", "pixel_client"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server with a workspace: (server, website, key)."""
    server = Server(tmp_path_factory.mktemp("client") / "instance", workers=1)
    _, website, key = server.set_up()
    server.start()
    server.wait_for_engine(key)
    yield server, website, key
    server.stop()


@pytest.fixture(scope="module")
def website(running):
    return running[1]


@pytest.fixture
def client(running):
    """A client that would rather fail than wait."""

    def impatient(seconds):
        raise AssertionError(f"wanted to wait {seconds} s")

    with Client(running[2], running[0].url, sleep=impatient) as client:
        yield client


@pytest.fixture
def environment(running):
    server, _, key = running
    paths = os.pathsep.join([str(Path(pixel_client.__file__).parent.parent), str(HOME)])
    return {"PIXEL_API_KEY": key, "PIXEL_API_URL": server.url, "PYTHONPATH": paths, "PATH": os.environ["PATH"]}


@pytest.fixture
def pixel(environment, tmp_path):
    """Runs the command in a process of its own."""

    def run(*arguments, **options):
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment, cwd=tmp_path, capture_output=True, timeout=60, **options
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def pageview(website, path, **more):
    return {"website_id": website, "name": "pageview", "path": path, **more}


def stored(client, event_id):
    return client.receipt(event_id)["status"] == "stored"


def test_what_is_sent_is_accepted_stored_and_reported_once(client, website):
    sent = client.send(**pageview(website, "/story", visitor_id="v1", timestamp=datetime.now(UTC)))
    again = client.send(**pageview(website, "/story", visitor_id="v1", event_id=sent.event_id))
    assert (sent.website_id, sent.name, again.event_id) == (website, "pageview", sent.event_id)
    assert client.receipt(sent.event_id)["request_id"] == sent.request_id
    until(lambda: stored(client, sent.event_id))
    report = client.query("p_top_pages", website, path="/story")
    assert [(row["path"], row["visitors"], row["pageviews"]) for row in report] == [("/story", 1, 1)]
    assert (report.data_status, report.row_count, report.query["website_id"]) == ("ok", 1, website)
    assert "path" in [column.name for column in report.columns]


def test_a_batch_tells_of_each_event_in_its_place(client, website):
    given = [pageview(website, f"/batch/{number}", visitor_id=f"b{number}") for number in range(1203)]
    given[1] = pageview(website, "no slash")
    given[2] = pageview(website, "/batch/nan", value=float("nan"))
    given[3] = pageview(website, "/batch/\ud800")
    given[1201] = {"website_id": "admx_00000000000000", "name": "pageview", "path": "/"}
    results = client.send_batch(given)
    assert [n for n, result in enumerate(results) if not result.accepted] == [1, 2, 3, 1201]
    assert results[1].errors == {"path": ["Must begin with a slash."]}
    assert results[1201].errors == {"website_id": ["No such website in this workspace."]}
    until(lambda: stored(client, results[-1].event_id))
    pages = client.query_all("p_top_pages", website, limit=500, from_=datetime.now(UTC))
    assert len({row["path"] for row in pages if row["path"].startswith("/batch/")}) == 1203 - 4


def test_a_dry_run_keeps_nothing(client, website):
    sent = client.send(**pageview(website, "/dry"), dry_run=True)
    assert sent.event["path"] == "/dry"
    result, wrong = client.send_batch([pageview(website, "/dry"), pageview(website, "dry")], dry_run=True)
    assert (result.stored["path"], wrong.accepted) == ("/dry", False)
    assert client.identify(website, "v1", user_id="u1", dry_run=True).identity["user_id"] == "u1"
    with pytest.raises(EventNotFound):
        client.receipt(sent.event_id)


def test_a_payment_a_goal_and_an_identity_are_taken(client, website):
    client.send(
        website_id=website, name="payment", amount="19.90", currency="EUR", transaction_id="t1", visitor_id="v1"
    )
    client.send(website_id=website, name="custom", goal="signup", value=2.5, visitor_id="v1", props={"plan": "pro"})
    assert client.identify(website, "v1", email="v1@example.com", traits={"plan": "pro"}).visitor_id == "v1"


def test_whose_key_it_is_and_what_there_is(client, website):
    assert client.me()["key"]["scopes"] == ["pixel:read", "pixel:write"]
    assert [site["id"] for site in client.websites()] == [website]
    assert "p_top_pages" in [pipe["name"] for pipe in client.pipes()]


def test_a_token_asks_as_its_key_does(client, website):
    sent = client.send(**pageview(website, "/by-token", visitor_id="t1"))
    until(lambda: stored(client, sent.event_id))
    token = client.token("p_top_pages", website, path="/by-token")
    assert list(client.query_by_token("p_top_pages", token["token"])) == list(
        client.query("p_top_pages", website, path="/by-token")
    )
    assert [row["path"] for row in client.query_by_token("p_top_pages", token["token"])] == ["/by-token"]
    with pytest.raises(InvalidQuery):
        client.query_by_token("p_top_pages", token["token"], path="/other")
    with pytest.raises(JwtInvalid):
        client.query_by_token("p_geo", token["token"])


def test_a_visitor_is_known_with_their_identity(client, website):
    sent = client.send(**pageview(website, "/known", visitor_id="known/1"))
    client.identify(website, "known/1", user_id="u-17", traits={"plan": "pro"})
    until(lambda: stored(client, sent.event_id))
    until(lambda: "u-17" in str(client.visitor("known/1")))
    token = client.visitor_token("known/1")
    profile = client.query_by_token("p_visitor_profile", token["token"])
    assert [row["visitor_id"] for row in profile] == ["known/1"]
    with pytest.raises(VisitorNotFound):
        client.visitor("nobody")


def test_the_contract_is_served_in_both_spellings(client):
    contract = client.openapi()
    assert contract["openapi"].startswith("3.1")
    assert "/api/v1/pixel/events" in str(contract["paths"])
    assert client.openapi_yaml().startswith("openapi: ")


def test_what_the_server_says_is_what_is_raised(client, website, running):
    with pytest.raises(InvalidBody, match=r"path: Must begin with a slash\..*req_") as wrong:
        client.send(**pageview(website, "x"))
    assert wrong.value.details == {"path": ["Must begin with a slash."]}
    with pytest.raises(InvalidPipe) as wrong:
        client.query("p_top_page")
    assert wrong.value.details["did_you_mean"] == "p_top_pages"
    with pytest.raises(InvalidQuery, match="limit: Must be a whole number"):
        client.query("p_top_pages", limit=0)
    with pytest.raises(WebsiteNotFound):
        client.query("p_top_pages", "admx_00000000000000")
    with Client(running[2][:-1], running[0].url) as mistyped, pytest.raises(InvalidApiKey) as wrong:
        mistyped.me()
    assert wrong.value.details["hint"] == "truncated_or_mistyped"


def test_a_large_batch_with_a_wrong_key_is_refused_and_not_cut_off(running, website):
    events = (pageview(website, "/", title="x" * 1000) for _ in range(1000))
    with Client(running[2][:-1], running[0].url) as mistyped, pytest.raises(InvalidApiKey) as wrong:
        mistyped.send_batch(events)
    assert len(wrong.value.unsent) == 1000


@pytest.mark.parametrize("event_id", ["a/b", "a b?c#d%20", "ü" * 40, "."])
def test_any_event_id_finds_its_receipt(client, website, event_id):
    client.send(**pageview(website, "/ids", event_id=event_id))
    assert client.receipt(event_id)["event_id"] == event_id


def test_a_limit_is_waited_for_as_the_server_says(running):
    server = running[0]
    workspace = server.flask("workspace", "create", "Small", "--owner", "small@example.com")
    server.flask("workspace", "limit", workspace, "1")
    key = server.flask("key", "create", "k", "--workspace", workspace, "--scope", "pixel:read")
    waits = []

    def spend(client):
        # A minute may end in between, so two calls would not do.
        for _ in range(3):
            client.me()

    with Client(key, server.url, sleep=waits.append) as client, pytest.raises(RateLimitExceeded) as caught:
        spend(client)
    assert 1 <= min(waits) <= max(waits) <= 61
    assert caught.value.retry_after_seconds == caught.value.details["retry_after"]


# -- the command


def test_an_event_and_a_report_from_the_shell(pixel, client, website):
    code, out, err = pixel("send", "--website", website, "--path", "/shell", "--visitor-id", "s1")
    assert (code, err) == (0, "")
    event_id = out.strip()
    until(lambda: stored(client, event_id))
    code, out, _ = pixel("receipt", event_id, "--format", "json")
    assert (code, json.loads(out)["status"]) == (0, "stored")
    code, out, _ = pixel("query", "p_top_pages", "--website", website, "--param", "path=/shell", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out, newline=""))
    assert (code, row["path"], row["pageviews"]) == (0, "/shell", "1")
    assert (
        pixel("query", "p_top_pages", "--website", website, "--param", "path=/shell")[1]
        .split("\n")[1]
        .startswith("/shell")
    )


def test_a_file_from_the_shell(pixel, client, website, tmp_path):
    lines = [json.dumps({"name": "pageview", "path": f"/file/{number}"}) for number in range(1500)]
    lines[10] = '{"name": "pageview", "path": "no slash"}'
    (tmp_path / "events.ndjson").write_text("\n".join(lines))
    code, out, err = pixel("send", "--file", "events.ndjson", "--website", website)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "line 11: path: Must begin with a slash.",
        "999 accepted, 1 rejected",
        "1,499 accepted, 1 rejected",
    ]
    code, _, err = pixel("send", "--file", "-", "--website", website, input=b"\n".join([b"\xff", lines[0].encode()]))
    assert (code, err.splitlines()[-1]) == (1, "1 accepted, 1 rejected")


def test_what_there_is_from_the_shell(pixel, website):
    assert website in pixel("websites")[1]
    assert "p_top_pages" in pixel("pipes")[1]
    assert "key.scopes" in pixel("me")[1]
    code, out, err = pixel("query", "p_top_page")
    assert (code, out) == (1, "")
    assert err.startswith("pixel: invalid_pipe: There is no report of this name. (request_id req_")
    assert err.endswith("/docs/errors#invalid_pipe\n")


def test_a_reader_that_has_enough_is_no_error_to_read(environment):
    pipes = subprocess.Popen([*COMMAND, "pipes"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pipes.stdout.close()
    assert pipes.stderr.read() == b""
    assert pipes.wait(10) == 1
    pipes.stderr.close()


def test_tail_follows_until_it_is_interrupted(environment, client, website):
    command = [*COMMAND, "tail", "--website", website, "--every", "2"]
    # A run in the background of a shell has its children ignore SIGINT.
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    tail = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heeded)
    try:
        assert tail.stdout.readline().startswith("started_at")
        client.send(**pageview(website, "/tail", visitor_id="follow-me"))
        for line in tail.stdout:
            if "follow-me" in line:
                break
        assert line.endswith("/tail\n")
        tail.send_signal(signal.SIGINT)
        assert tail.wait(60) == 0
    finally:
        tail.kill()
        tail.communicate()


def test_an_event_outlives_a_server_that_is_away(server):
    _, website, key = server.set_up()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            server.start()
            server.wait_for_engine(key)

    with Client(key, server.url, sleep=wait) as client:
        sent = client.send(**pageview(website, "/away"))
        assert len(waits) == 2
        server.stop()
        waits[:] = [0]
        assert client.receipt(sent.event_id)["event_id"] == sent.event_id
        assert len(waits) == 2
