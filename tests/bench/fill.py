"""Fill a website with a month of traffic through the journal: `python -m tests.bench.fill WORKSPACE WEBSITE EVENTS`.

In a process of its own beside the server, whose engine loads what it writes meanwhile. This is the way of a batch, from
the checked event on; only HTTP and validation are left out.
"""

import itertools
import random
import sys
from datetime import timedelta

from app import create_app
from pixel import clock, events, websites
from pixel.extensions import journal
from tests.bench.traffic import AGENTS, BATCH

DAYS, VISITORS, PATHS = 30, 100_000, 2_000
REFERRERS = ("", "https://www.google.com/", "https://news.ycombinator.com/item", "https://chatgpt.com/")
COUNTRIES = ("US", "DE", "GB", "IN", "FR")


def fill(workspace, website, number):
    """Keep `number` events of the last DAYS days."""
    site = websites.get(workspace, website, None)
    made = _traffic(random.Random(7), number)
    while ready := [events.prepare(event, site, "") for event in itertools.islice(made, BATCH)]:
        events.keep(ready)
    journal.close()


def _traffic(chance, number):
    """Visits of a few pageviews, one of ten with a goal, by visitors that come again; some pages are read far more."""
    now, made = clock.now(), 0
    while made < number:
        visitor = int(VISITORS * chance.random() ** 2)
        moment = now - timedelta(seconds=chance.uniform(2000, DAYS * 86400))
        about = {
            "visitor_id": f"visitor-{visitor}",
            "user_agent": AGENTS[visitor % len(AGENTS)],
            "country": COUNTRIES[visitor % len(COUNTRIES)],
            "referrer": chance.choice(REFERRERS),
        }
        for _ in range(min(number - made, 1 + int(chance.expovariate(0.5)))):
            goal = {"name": "custom", "goal": "signup"} if chance.random() < 0.03 else {"name": "pageview"}
            yield about | goal | {"timestamp": moment, "path": f"/pages/{int(PATHS * chance.random() ** 3)}"}
            moment += timedelta(seconds=chance.uniform(5, 120))
            about.pop("referrer", None)
            made += 1


if __name__ == "__main__":
    with create_app(engine="apart").app_context():
        fill(sys.argv[1], sys.argv[2], int(sys.argv[3]))
