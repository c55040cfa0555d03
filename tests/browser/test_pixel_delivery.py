"""What the pixel tells arrives once: offline, refused, with its page gone, or by a wrong clock."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.browser.sites import becomes
from tests.server import until


def test_a_storm_of_reloads_counts_nothing_twice(host, reports, browser):
    storm = """<script>
        sessionStorage.loads = 1 + +(sessionStorage.loads || 0);
        if (sessionStorage.loads < 12) setTimeout(() => location.reload(), 20 * sessionStorage.loads);
    </script>"""
    ada = browser().opens(host.site("storm", body=storm) + "/")
    ada.page.wait_for_function("sessionStorage.loads == 12 && document.readyState == 'complete' && !!window.pixel")
    ada.calls("track", "end")
    becomes(lambda: "end" in reports.story(ada.visitor), True)
    ids = {hit["event_id"] for hit in ada.sent}
    assert len(ids) > 6
    becomes(lambda: sorted(row["event_id"] for row in reports.rows(ada.visitor)), sorted(ids))
    assert {hit["visitor_id"] for hit in ada.sent} == {ada.visitor}


def test_what_happens_offline_is_told_later_with_its_own_time(host, reports, browser):
    shop = host.site("offline")
    ada = browser().opens(f"{shop}/")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    ada.context.set_offline(True)
    for number in range(3):
        ada.calls("track", f"offline {number}")
    ada.page.evaluate("history.pushState({}, '', '/offline/away')")
    ada.calls("identify", {"user_id": "u-offline"})
    until(lambda: len(json.loads(ada.stored()["pxl_queue"])) == 5)
    assert len(ada.sent) == 1
    back = datetime.now(UTC)
    ada.page.wait_for_timeout(5)
    ada.context.set_offline(False)
    becomes(lambda: sorted(reports.story(visitor)), ["/", "/away", "offline 0", "offline 1", "offline 2"])
    becomes(lambda: reports.known(visitor), (["u-offline"], [], {}))
    assert all(datetime.fromisoformat(row["timestamp"]) < back for row in reports.rows(visitor))
    becomes(lambda: json.loads(ada.stored()["pxl_queue"]), [])
    assert len(ada.sent) == 6

    # The page may be closed in between.
    ada.context.set_offline(True)
    ada.calls("track", "last words")
    ada.page.close()
    ada.context.set_offline(False)
    ada.page = ada.context.new_page()
    ada.opens(f"{shop}/again")
    becomes(lambda: sorted(reports.story(visitor)[5:]), ["/again", "last words"])
    ids = [hit["event_id"] for hit in ada.sent if "event_id" in hit]
    assert len(set(ids)) == len(ids)


def test_what_is_not_taken_is_told_again_within_a_minute(host, reports, browser):
    ada = browser()
    ada.page.clock.install()
    ada.opens(host.site("retry") + "/")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    answers = [503, 429, 500, None]
    ada.context.route("**/api/event", lambda route: fails(route, answers.pop(0)))
    for number in range(4):
        ada.calls("track", f"retry {number}")
        until(lambda number=number: len(json.loads(ada.stored().get("pxl_queue", "[]"))) == number + 1)
    ada.context.unroute("**/api/event")
    assert reports.story(visitor) == ["/"]
    ada.page.clock.fast_forward(61_000)
    ada.page.clock.run_for(1000)
    becomes(lambda: sorted(reports.story(visitor)), ["/", *(f"retry {number}" for number in range(4))])
    until(lambda: json.loads(ada.stored()["pxl_queue"]) == [])
    assert len(ada.sent) == 9

    # What is refused for good is not.
    ada.calls("payment", {"amount": "a lot", "currency": "EUR", "transaction_id": "t"})
    ada.page.clock.run_for(61_000)
    assert len(ada.sent) == 10
    assert ada.stored()["pxl_queue"] == "[]"


def fails(route, status):
    if status:
        route.fulfill(status=status, headers={"Access-Control-Allow-Origin": "*"}, body="{}")
    else:
        route.abort()


def test_the_queue_holds_fifty_for_a_day(host, reports, browser):
    shop = host.site("bounds")
    ada = browser().opens(f"{shop}/")
    visitor = ada.visitor
    becomes(lambda: reports.story(visitor), ["/"])
    ada.context.set_offline(True)
    ada.page.evaluate("for (let number = 0; number < 60; number++) pixel('track', `goal ${number}`)")
    kept = json.loads(ada.stored()["pxl_queue"])
    assert [json.loads(body)["goal"] for body, _ in kept] == [f"goal {number}" for number in range(10, 60)]
    ada.page.evaluate("""
        const queue = JSON.parse(localStorage.pxl_queue).slice(-2);
        queue[0][1] -= 864e5;
        localStorage.pxl_queue = JSON.stringify(queue);
    """)
    ada.context.set_offline(False)
    becomes(lambda: reports.story(visitor), ["/", "goal 59"])
    ada.calls("track", "end")
    becomes(lambda: "end" in reports.story(visitor), True)
    assert len(ada.sent) == 3


def test_what_is_told_while_the_page_goes_is_not_lost(host, reports, browser):
    shop = host.site("going", body="<a href=\"/going/next\" onclick=\"pixel('track', 'left')\">Next</a>")
    ada = browser().opens(f"{shop}/")
    visitor = ada.visitor
    ada.page.get_by_text("Next").click()
    ada.page.wait_for_url("**/next")
    ada.page.evaluate("addEventListener('pagehide', () => pixel('track', 'hidden'))")
    ada.opens(f"{shop}/last")
    ada.page.evaluate("pixel('track', 'closed')")
    ada.page.close()
    becomes(lambda: Counter(reports.story(visitor)), Counter(["/", "left", "/next", "hidden", "/last", "closed"]))


def test_a_page_that_is_never_heard_asks_ever_more_rarely(host, browser):
    """A page of another host cannot read that it is refused: to it the network has failed."""
    host.site("insists")
    ada = browser()
    ada.page.clock.install()
    ada.opens(f"{host.strange_url}/insists/")
    for minutes in (1, 1, 2, 4, 8, 16, 28):
        until(lambda: ada.stored().get("pxl_queue", "[]") != "[]", otherwise=lambda: str(ada.sent))
        ada.page.clock.run_for(minutes * 60_000)
    assert 5 <= len(ada.sent) <= 7


def test_a_clock_that_is_ahead_loses_nothing(host, reports, browser):
    ada = browser()
    ada.page.clock.install(time=datetime.now() + timedelta(days=40))
    ada.opens(host.site("ahead") + "/")
    becomes(lambda: reports.story(ada.visitor), ["/"])
    assert reports.rows(ada.visitor)[0]["timestamp"][:4] == str(datetime.now(UTC).year)
