"""A workspace to look around in: thirty days of traffic on a small shop, the same for everyone, up to this minute."""

import json
import os
import random
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from flask import current_app
from sqlalchemy import select

from pixel import access, clock, events, ids, keys, members, metrics, pipes, websites, workspaces
from pixel.access import Scope
from pixel.database import db
from pixel.extensions import warehouse
from pixel.websites import Site, Website

NAME, OWNER = "Demo", "owner@demo.example"
DOMAIN = "demo.example"
DAYS = 30
VISITS_A_DAY = 260

_PAGES = [
    ("/", 30), ("/pricing", 16), ("/features", 12), ("/blog/", 9), ("/blog/first-party-analytics", 11),
    ("/blog/cookies-explained", 7), ("/docs/install", 9), ("/docs/api", 6), ("/signup", 7), ("/about", 3),
]  # fmt: skip
_SOURCES = [
    ({}, 34), ({"referrer": "https://www.google.com/"}, 27), ({"referrer": "https://www.bing.com/"}, 4),
    ({"referrer": "https://duckduckgo.com/"}, 4), ({"referrer": "https://news.ycombinator.com/item"}, 7),
    ({"referrer": "https://chatgpt.com/"}, 5), ({"referrer": "https://www.perplexity.ai/"}, 2),
    ({"referrer": "https://www.reddit.com/r/webdev/"}, 4), ({"referrer": "https://t.co/x"}, 3),
    ({"utm_source": "newsletter", "utm_medium": "email", "utm_campaign": "monthly"}, 5),
    ({"referrer": "https://www.google.com/", "utm_source": "google", "utm_medium": "cpc", "utm_campaign": "brand",
      "gclid": "demo"}, 5),
]  # fmt: skip
_CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 {}Safari/537.36"
_AGENTS = [
    (_CHROME.format("Windows NT 10.0; Win64; x64", ""), 34),
    (_CHROME.format("Macintosh; Intel Mac OS X 10_15_7", ""), 16),
    (_CHROME.format("Linux; Android 15; Pixel 9", "Mobile "), 18),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 "
     "Mobile/15E148 Safari/604.1", 17),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0", 8),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 4),
    ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)", 3),
]  # fmt: skip
_COUNTRIES = [("US", 31), ("DE", 14), ("GB", 10), ("IN", 9), ("FR", 7), ("NL", 5), ("CA", 5), ("BR", 4), ("JP", 4)]
_HOURS = [2, 1, 1, 1, 1, 2, 3, 5, 8, 10, 11, 11, 10, 10, 11, 11, 10, 9, 8, 8, 7, 6, 5, 3]


def make(say):
    """Make the demo unless it is there.

    Returns its website's id, a new key that reads and writes for a day, and the owner's password.
    """
    site = _site()
    if not warehouse.query(_COUNT, {"workspace": site.workspace_id, "website": site.id})["data"][0]["n"]:
        say(f"Making {DAYS} days of demo traffic ...")
        made = _traffic(random.Random(7), site)
        warehouse.load()
        say(f"{made} events.")
    secret, _ = keys.create(
        site.workspace_id,
        "demo",
        [Scope.PIXEL_READ.value, Scope.PIXEL_WRITE.value],
        current_app.config["PIXEL_ENV"],
        expires_at=clock.now() + timedelta(days=1),
    )
    return site.id, secret, _password()


#: What the examples ask of the reports that must be asked something, or say more when they are.
ASKED = {
    "p_funnel": {"steps": ["path:/pricing", "goal:signup", "payment"]},
    "p_funnel_v2": {"steps": ["path:/pricing", "goal:signup", "payment"]},
    "p_metric_series": {"metric": ["sessions"], "compare": ["previous"], "limit": ["2"]},
    "p_attributed_revenue": {"model": ["position_based"]},
}


def examples():
    """An answer of each report on the demo's traffic, its first rows: {pipe: {"asked", "answer"}}."""
    site = _site()
    key = keys.working(keys.of(site.workspace_id, most=1)[0].id)
    caller = access.Caller(key, site.workspace_id, None)
    sessions, _ = metrics.run(metrics.pipe("p_sessions_list"), caller, {})
    someone = {"visitor_id": [sessions["data"][0]["visitor_id"]]}
    found = {}
    for pipe in pipes.all().values():
        asked = ASKED.get(pipe.name, someone if "linked" in pipe.places else {})
        answer, _ = metrics.run(pipe, caller, {"limit": ["2"], **asked})
        query = urlencode(asked, doseq=True, safe=":/")
        found[pipe.name] = {
            "asked": f"/api/v1/pixel/metrics/{pipe.name}{'?' + query if query else ''}",
            "answer": _set_out(answer),
        }
    return found


def _set_out(answer):
    """An answer as text: a line for each of its first rows, and for each of its parts."""
    rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in answer["data"][:2])
    rest = [f'  "{name}": {json.dumps(part)}' for name, part in answer.items() if name != "data"]
    return "{\n" + ",\n".join([f'  "data": [\n{rows}\n  ]', *rest]) + "\n}"


_COUNT = "SELECT count() AS n FROM events WHERE workspace_id = {workspace:String} AND website_id = {website:String}"


def _site():
    found = db.session.scalar(select(Website).filter_by(domain=DOMAIN))
    if found is None:
        found = websites.add(workspaces.create(NAME, OWNER).id, DOMAIN, "Demo shop")
    return Site(*(getattr(found, name) for name in Site._fields))


def _password() -> str:
    """Return the owner's password. It is created once and stored beside the data; a later change is not recorded."""
    kept = Path(current_app.instance_path) / "demo_password"
    if not kept.exists():
        with open(os.open(kept, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write("-".join(ids.random(5) for _ in range(4)))
        members.choose_password(members.reset_link(OWNER).rpartition("/")[2], kept.read_text())
    return kept.read_text()


def _traffic(chance, site):
    """Keep all events up to now; returns how many."""
    now, made = clock.now(), 0
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    people = [_person(chance, number) for number in range(VISITS_A_DAY * DAYS // 2)]
    for day in range(DAYS):
        midnight = begin + timedelta(days=day)
        growth, weekend = 0.8 + 0.4 * day / DAYS, 0.62 if midnight.weekday() >= 5 else 1
        visits = int(VISITS_A_DAY * growth * weekend * chance.uniform(0.9, 1.1))
        starts = sorted(_hour(chance) for _ in range(visits))
        # The last minutes are busy on any clock, so that there is someone to see live.
        starts += [(now - midnight).total_seconds() - chance.uniform(20, 1500) for _ in range(12) if day == DAYS - 1]
        ready = [
            events.prepare(event, site, "")
            for start in starts
            for event in _visit(chance, chance.choice(people), midnight + timedelta(seconds=start))
            if event["timestamp"] < now
        ]
        if ready:
            events.keep(ready)
        made += len(ready)
    return made


def _hour(chance):
    """A moment of the day, in seconds since midnight, as people come."""
    return chance.choices(range(24), _HOURS)[0] * 3600 + chance.uniform(0, 3600)


def _person(chance, number):
    return {
        "visitor_id": f"demo-visitor-{number}",
        "user_agent": _pick(chance, _AGENTS),
        "country": _pick(chance, _COUNTRIES),
        "language": chance.choice(["en-US", "en-GB", "de-DE", "fr-FR"]),
    }


def _visit(chance, person, moment):
    """One visit: pages with pauses, now and then a sign-up, and of those some pay."""
    about = person | _pick(chance, _SOURCES)
    for _ in range(min(9, 1 + int(chance.expovariate(0.6)))):
        yield about | {"name": "pageview", "timestamp": moment, "hostname": DOMAIN, "path": _pick(chance, _PAGES)}
        about = person
        moment += timedelta(seconds=chance.uniform(5, 180))
    if chance.random() < 0.05:
        yield person | {"name": "custom", "timestamp": moment, "goal": "signup", "path": "/signup"}
        if chance.random() < 0.3:
            yield person | {
                "name": "payment",
                "timestamp": moment + timedelta(seconds=90),
                "amount": chance.choice(["9.0000", "29.0000", "99.0000"]),
                "currency": "EUR",
                "transaction_id": f"demo-{moment:%Y%m%d%H%M%S%f}",
                "provider": "stripe",
            }


def _pick(chance, weighted):
    return chance.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]
