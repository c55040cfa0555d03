"""Many who read every report at once, while events stream in: each gets the answer to their own question."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pixel import pipes
from tests.cast import NEEDED

READERS, SITES = 32, 4


def test_each_reader_gets_their_own_answer_while_events_stream_in(server):
    workspace, *_, key = server.set_up()
    adding = (["website", "add", f"site{n}.example", "--workspace", workspace] for n in range(SITES))
    websites = [website for website, _ in server.set_up_by(*adding)]
    server.start().wait_for_engine(key)
    headers = {"Authorization": f"Bearer {key}"}
    base = f"{server.url}/api/v1/pixel"
    with httpx.Client(headers=headers, timeout=30) as http:
        for website in websites:
            events = [seen(website, n) for n in range(200)]
            assert http.post(f"{base}/events/batch", json={"events": events}).json()["data"]["rejected"] == 0
    stop, sent = threading.Event(), itertools.count()

    def stream():
        with httpx.Client(headers=headers, timeout=30) as http:
            while not stop.is_set():
                event = seen(websites[next(sent) % SITES], next(sent) % 200, event_id=f"s{next(sent)}")
                assert http.post(f"{base}/events", json=event).status_code == 202

    def read(reader):
        website, page = websites[reader % SITES], f"/{websites[reader % SITES]}/{reader}"
        with httpx.Client(headers=headers, timeout=60) as http:
            for pipe in sorted(pipes.all())[reader % 2 :: 2]:
                asked = NEEDED.get(pipe, {}) | {"website_id": website, "path": page, "limit": 100 + reader}
                for seconds in (1, 2, 4, 8, 0):
                    answer = http.get(f"{base}/metrics/{pipe}", params=asked)
                    # On a machine with too much to do some are told to come again; the errors page says when.
                    if answer.status_code != 503:
                        break
                    time.sleep(seconds)
                assert answer.status_code == 200, answer.text
                query = answer.json()["meta"]["query"]
                told = (query["website_id"], query["filters"], query["limit"])
                assert told == (website, {"path": [page]}, 100 + reader)
                others = [w for w in websites if w != website and w in answer.json()["data"]["data"].__repr__()]
                assert others == [], pipe
                if pipe == "p_top_pages":
                    assert {row["path"] for row in answer.json()["data"]["data"]} <= {page}

    with ThreadPoolExecutor(READERS + 2) as threads:
        streams = [threads.submit(stream) for _ in range(2)]
        try:
            list(threads.map(read, range(READERS)))
        finally:
            stop.set()
        for one in streams:
            one.result()
    assert next(sent) > 30


def seen(website, number, **more):
    """A pageview whose path names the website, so that an answer of another's shows."""
    return {
        "website_id": website, "name": "pageview", "path": f"/{website}/{number % 40}", "visitor_id": f"{website}-{number}",
        **more,
    }  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_of_very_many_questions_each_gets_its_own_answer(app):
    from tests.test_warehouse import ask_many

    ask_many(app, 200_000)
