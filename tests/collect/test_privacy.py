"""What is never kept of who visits a page, and that nothing of it has to do with cookies."""

from pixel import request_log
from pixel.extensions import journal, lines, warehouse
from tests.cast import everything_below, load, stored
from tests.collect.pages import Browser


def test_the_visitors_address_is_nowhere(app, ada, capfd):
    browser = Browser(app, ada.site)
    browser.address = "192.0.2.177"
    found = [
        browser.sends(visitor_id="v", headers={"X-Forwarded-For": "192.0.2.177"}),
        browser.sends(origin="https://bob.example"),
        browser.sends(name="oops"),
        browser.sends(name="identify", visitor_id="v", user_id="u"),
        app.test_client().get("/pixel.gif", query_string={"website_id": ada.site}, environ_base={"REMOTE_ADDR": browser.address}),
    ]  # fmt: skip
    journal.flush()
    lines.flush()
    raw = everything_below(app.instance_path)
    assert found[0].headers["X-Request-Id"].encode() in raw
    assert b"192.0.2.17" not in raw
    said = capfd.readouterr()
    assert "192.0.2.17" not in said.out + said.err
    load(app)
    with app.app_context():
        for table in ("events", "requests", "identities", "drops"):
            asked = f"SELECT count() AS n FROM {table} WHERE position(toString(tuple(*)), '192.0.2.17') > 0"
            assert warehouse.query(asked)["data"][0]["n"] == 0
        row = request_log.find(found[0].headers["X-Request-Id"])
    assert (row["workspace_id"], row["address"]) == (ada.id, "")


def test_secrets_in_a_pages_address_are_not_kept(app, ada, browser):
    answers = [
        browser.sends(url=f"https://ada.example/reset{sign}{name}=s3cr3t-{number}&b=2", name=kind)
        for number, (sign, name) in enumerate(
            [("?", "token"), ("?a=1&", "API_KEY"), ("#", "access_token"), ("#/x?", "secret")]
        )
        for kind in ("pageview", "oops")
    ]
    journal.flush()
    with app.app_context():
        rows = [request_log.find(answer.headers["X-Request-Id"]) for answer in answers]
    assert all("s3cr3t" not in str(row) and "[redacted]&b=2" in row["request_body"] for row in rows)
    assert "s3cr3t" not in str(stored(app, ada.site))


def test_nothing_of_collection_sets_a_cookie_or_reads_one(app, ada, browser):
    cookie = {"Cookie": "pixel_session=x; session=y"}
    client = app.test_client()
    for answer in (
        browser.sends(headers=cookie),
        browser.sends(name="oops", headers=cookie),
        client.get("/pixel.js", headers=cookie),
        client.get("/pixel.gif", query_string={"website_id": ada.site}, headers=cookie),
        client.options("/api/event", headers=cookie),
    ):
        assert "Set-Cookie" not in answer.headers
        assert "Cookie" not in answer.vary
        assert "Access-Control-Allow-Credentials" not in answer.headers
