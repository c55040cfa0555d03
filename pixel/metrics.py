"""Reports: a pipe, a question put to it, and the warehouse's answer."""

import calendar
import re
from datetime import date, datetime, time, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from flask import current_app

from pixel import clock, errors, pipes, websites
from pixel.extensions import answers, warehouse

#: The filters that every pipe takes, each the name of a column.
FILTERS = (
    "path", "hostname", "referrer", "channel", "source", "medium", "campaign", "utm_source", "utm_medium",
    "utm_campaign", "utm_term", "utm_content", "country", "device", "browser", "os", "language", "llm_engine", "goal",
)  # fmt: skip
#: The other parameters that every pipe takes, with their meaning.
COMMON = {
    "website_id": "The website; default: all that the key may see.",
    "from": "First day, YYYY-MM-DD, in the website's time zone; default: 30 days, the last included.",
    "to": "Last day, YYYY-MM-DD, included; default: today.",
    "limit": "Rows, 1 to 1000; default 50.",
    "offset": "Rows to pass over; default 0.",
    "bots": "Whether bots count: exclude (default), include or only.",
}
BOTS = ("exclude", "include", "only")
DEFAULT_DAYS = 30
MOST_MONTHS = 25
MOST_ROWS, DEFAULT_ROWS = 1000, 50
MOST_OFFSET = 10**9
MOST_VALUES, LONGEST_VALUE = 100, 2000
_YEARS = range(1971, 2200)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def catalogue():
    """Every pipe as callers are told of it."""
    return [
        {
            "name": pipe.name,
            "title": pipe.title,
            "about": pipe.about,
            "parameters": [_described(parameter) for parameter in pipe.parameters]
            + [{"name": name, "about": about} for name, about in COMMON.items()]
            + [{"name": name, "about": "Only these; repeatable.", "repeatable": True} for name in FILTERS],
            "columns": [{"name": name, "about": about} for name, about in pipe.columns.items()],
        }
        for pipe in pipes.all().values()
    ]


def pipe(name):
    """The pipe of this name. Raises InvalidPipe."""
    found = pipes.all().get(name)
    if found is None:
        near = get_close_matches(name[:100], pipes.all(), n=1, cutoff=0.5)
        raise errors.InvalidPipe(pipe=name[:100], **({"did_you_mean": near[0]} if near else {}))
    return found


def run(pipe, caller, given):
    """The answer to a question, and the question as it was understood: (answer, query).

    `given` maps each parameter's name to the list of its values. Raises InvalidQuery, WebsiteNotFound or, when the
    warehouse fails and has not answered this question within the hour, AnalyticsError.
    """
    query, bound = _understood(pipe, caller, given)
    refuse_if_unavailable()
    question = [pipe.name, caller.workspace_id, {k: v for k, v in bound.items() if k != "now"}]
    try:
        answer = warehouse.query(pipe.sql, bound)
    except errors.AnalyticsError:
        stale = answers.last(question)
        if stale is None:
            raise
        return stale | {"data_status": "stale"}, query
    answers.keep(question, answer)
    return answer | {"data_status": "ok"}, query


def refuse_if_unavailable():
    """Raise AnalyticsError when this server is not set up to read reports."""
    if not current_app.config["ANALYTICS_URL"]:
        raise errors.AnalyticsError("This server does not give reports: its analytics setting is missing.")


def _understood(pipe, caller, given):
    reader = _Reader(given)
    own = {parameter.name: reader.own(parameter) for parameter in pipe.parameters}
    filters = {name: values for name in FILTERS if (values := reader.values(name))}
    limit = reader.number("limit", 1, MOST_ROWS, DEFAULT_ROWS)
    offset = reader.number("offset", 0, MOST_OFFSET, 0)
    bots = reader.word("bots", BOTS, "exclude")
    website_id = reader.text("website_id")
    sites, timezone = {}, "UTC"
    if not reader.wrong:
        sites, timezone = _sites(caller, website_id)
    first, last = reader.days(timezone)
    reader.refuse_unknown([*COMMON, *FILTERS, *own])
    query = {
        "website_id": website_id or sorted(sites),
        "from": first.isoformat(),
        "to": last.isoformat(),
        "timezone": timezone,
        "filters": filters,
        "limit": limit,
        "offset": offset,
        "bots": bots,
        **own,
    }
    bound = {
        "workspace": caller.workspace_id,
        "websites": sorted(sites),
        "since": _start(first, timezone),
        "until": _start(last + timedelta(days=1), timezone),
        "now": clock.warehouse_moment(clock.now()),
        "timezone": timezone,
        "bots": bots,
        "filters": [f"{name}={value}" for name, values in filters.items() for value in values],
        "limit": limit,
        "offset": offset,
        **own,
    }
    return query, bound


def _sites(caller, website_id):
    """The websites that are asked about, and the zone in which their days are counted."""
    if website_id:
        site = websites.get(caller.workspace_id, website_id, caller.websites)
        return {site.id: site}, site.timezone
    sites = websites.visible(caller.workspace_id, caller.websites)
    zones = {site.timezone for site in sites.values()}
    return sites, zones.pop() if len(zones) == 1 else caller.key.timezone


class _Reader:
    """Reads parameters one by one and gathers what is wrong with them."""

    def __init__(self, given):
        self.given = dict(given)
        self.wrong = {}

    def text(self, name, default=""):
        values = self.given.pop(name, [])
        if len(values) > 1:
            return self.refuse(name, "Given more than once.", default)
        if values and (not values[0] or len(values[0]) > LONGEST_VALUE):
            return self.refuse(name, f"Must have 1 to {LONGEST_VALUE} characters.", default)
        return values[0] if values else default

    def values(self, name):
        values = self.given.pop(name, [])
        if len(values) > MOST_VALUES:
            return self.refuse(name, f"Given more than {MOST_VALUES} times.", [])
        if any(len(value) > LONGEST_VALUE for value in values):
            return self.refuse(name, f"Must have at most {LONGEST_VALUE} characters.", [])
        return values

    def number(self, name, low, high, default):
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            return self.refuse(name, f"Must be a whole number from {low} to {high}.", default)
        return int(text)

    def word(self, name, words, default):
        text = self.text(name, default)
        return text if text in words else self.refuse(name, f"Must be one of: {', '.join(words)}.", default)

    def own(self, parameter):
        if parameter.words:
            return self.word(parameter.name, parameter.words, parameter.default)
        if parameter.low is not None:
            return self.number(parameter.name, parameter.low, parameter.high, int(parameter.default))
        return self.text(parameter.name, parameter.default)

    def days(self, timezone):
        """The first and the last day asked for."""
        today = clock.now().astimezone(ZoneInfo(timezone)).date()
        given_first, given_last = self._day("from"), self._day("to")
        last = given_last or max(today, given_first or today)
        first = given_first or last - timedelta(days=DEFAULT_DAYS - 1)
        if first > last:
            self.refuse("from", "Must not be after to.", None)
        elif _months_later(first, MOST_MONTHS) <= last:
            self.refuse("from", f"The range may span at most {MOST_MONTHS} months.", None)
        return first, last

    def _day(self, name):
        text = self.text(name)
        if not text:
            return None
        try:
            day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
        except ValueError:
            day = None
        if day and day.year in _YEARS:
            return day
        return self.refuse(name, "Must be a day as YYYY-MM-DD.", None)

    def refuse(self, name, message, instead):
        self.wrong.setdefault(name, []).append(message)
        return instead

    def refuse_unknown(self, known):
        """Raise InvalidQuery if anything was wrong, or is left."""
        for name in list(self.given)[:10]:
            near = get_close_matches(name[:100], known, n=1, cutoff=0.6)
            self.refuse(
                name[:100], f"Unknown parameter. Did you mean {near[0]}?" if near else "Unknown parameter.", None
            )
        if self.wrong:
            raise errors.InvalidQuery(**self.wrong)


def _months_later(day, months):
    month = day.month - 1 + months
    year, month = day.year + month // 12, month % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _start(day, timezone):
    """When a day begins in a zone, as the warehouse reads it."""
    return clock.warehouse_moment(datetime.combine(day, time(), ZoneInfo(timezone)))


def _described(parameter):
    allowed = {"words": list(parameter.words)} if parameter.words else {}
    if parameter.low is not None:
        allowed = {"low": parameter.low, "high": parameter.high}
    return {"name": parameter.name, "about": parameter.about, "default": parameter.default, **allowed}
