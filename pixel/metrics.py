"""Reports: a pipe, a question put to it, and the warehouse's answer."""

import calendar
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import cache, partial
from zoneinfo import ZoneInfo

from flask import current_app

from pixel import buckets, clock, currencies, errors, identities, letters, nearest, pipes, websites
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
#: Hits are counted from 2010 on, in milliseconds since 1970.
_FIRST_HIT = 1_262_304_000_000
_TICK = timedelta(milliseconds=1)
_YEARS = range(1971, 2200)
_STEP = re.compile(r"path:/.*|goal:.+|payment", re.DOTALL)
_BETWEEN_STEPS = re.compile(r",\s*(?=path:/|goal:|payment(?:,|$))")
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


def pipe(name: str) -> pipes.Pipe:
    """Return the pipe of this name. Raise InvalidPipe."""
    known = pipes.all()
    if name not in known:
        near = nearest.find(letters.lower(name[:100]), known, cutoff=0.5)
        raise errors.InvalidPipe(pipe=name[:100], **({"did_you_mean": near} if near else {}))
    return known[name]


def run(pipe, caller, given):
    """The answer to a question, and the question as it was understood: (answer, query).

    `given` maps each parameter's name to the list of its values. Raises InvalidQuery, WebsiteNotFound or, when the
    warehouse fails and has not answered this question within the hour, AnalyticsError.
    """
    query, question, bind = _put(pipe, caller, given)
    return _answered(pipe, question, bind), query


def together(caller, questions):
    """The rows of several questions that are asked at once, in order; None for what the warehouse does not answer.

    `questions` are pairs of a pipe and what is given to it. Raises InvalidQuery, WebsiteNotFound or, when this server
    has no warehouse, AnalyticsError.
    """
    put = [(pipe, *_put(pipe, caller, given)[1:]) for pipe, given in questions]
    return list(_readers().map(_rows_or_none, put))


@cache
def _readers():
    # As many as the warehouse answers at once. Made when first used: a thread does not live through a fork.
    return ThreadPoolExecutor(4, thread_name_prefix="report")


def _rows_or_none(put):
    try:
        return _answered(*put)["data"]
    except errors.AnalyticsError:
        return None


def _put(pipe, caller, given):
    """A question as it was understood, by what its answer is remembered, and how the places of the pipe are filled."""
    query, sites = understood(pipe, caller, given)
    refuse_if_unavailable()
    bind = partial(_bound, pipe, caller.workspace_id, sites, query, clock.now())
    return query, [pipe.name, caller.workspace_id, sites, query], bind


def _answered(pipe, question, bind):
    """The warehouse's answer, or its last one to this question. Raises AnalyticsError when there is neither."""
    try:
        bound = bind()
        answer = warehouse.report(pipe.statement(bound), bound)
    except errors.AnalyticsError:
        stale = answers.last(question)
        if stale is None:
            raise
        return stale | {"data_status": "stale"}
    answers.keep(question, answer)
    return answer | {"data_status": "ok"}


def filled(pipe, caller, given):
    """What fills the places of a pipe, for who asks a warehouse of their own. Raises as `understood` does."""
    query, sites = understood(pipe, caller, given)
    return _bound(pipe, caller.workspace_id, sites, query, clock.now())


def refuse_if_unavailable():
    """Raise AnalyticsError when this server is not set up to read reports."""
    if not current_app.config["ANALYTICS_URL"]:
        raise errors.AnalyticsError("This server does not give reports: its analytics setting is missing.")


def understood(pipe, caller, given):
    """A question with everything settled, and the websites it is about: (query, [id]).

    Raises InvalidQuery or WebsiteNotFound.
    """
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
    return query, sorted(sites)


def _bound(pipe, workspace_id, sites, query, now):
    """What fills the places of a pipe: the question as the warehouse takes it."""
    timezone = query["timezone"]
    since = buckets.start_of_day(date.fromisoformat(query["from"]), timezone)
    until = buckets.start_of_day(date.fromisoformat(query["to"]) + timedelta(days=1), timezone)
    own = {name: query[name] for name in (parameter.name for parameter in pipe.parameters) if name in pipe.places}
    bound = own | {
        "workspace": workspace_id,
        "websites": sites,
        "since": _first_hit(since),
        "until": _first_hit(until),
        "now": clock.warehouse_moment(now),
        "bots": query["bots"],
        "filters": [text for name, values in query["filters"].items() for text in _filter(name, values)],
        "limit": query["limit"],
        "offset": query["offset"],
    }
    if "edges" in pipe.places:
        bound |= _series(since, until, now, query)
    elif "starts" in pipe.places:
        # The range of a day that never was has no periods, and the warehouse wants one.
        periods = buckets.of(since, until, query["granularity"], timezone) or [buckets.Bucket(0, "")]
        bound |= {"starts": [b.start for b in periods], "names": [b.name for b in periods]}
    if "linked" in pipe.places:
        bound["linked"] = identities.linked(workspace_id, sites, query["visitor_id"])
    return bound


def _first_hit(moment):
    """The first `hit` there could be at a moment (see warehouse/tables/001_events.sql), within what 64 bits hold."""
    return min(max(buckets.milliseconds(moment) - _FIRST_HIT, 0) << 23, 1 << 63)


def _filter(name, values):
    """A filter as `kept` in warehouse/tables reads it: its name, and what it lets through."""
    return [name, *(f"{name}={value}" for value in values)]


def _series(since, until, now, query):
    """The buckets of a series that are asked for, up to the one of this moment, and those of the range before."""
    timezone, granularity = query["timezone"], query["granularity"]
    begun = len(buckets.of(since, min(until, max(since, now + _TICK)), granularity, timezone))
    part = slice(query["offset"], min(query["offset"] + query["limit"], begun))
    shown, ends = _shown(since, until, part, query)
    past = []
    if query["compare"] == "previous":
        past, past_ends = _shown(buckets.before(since, until, timezone), since, part, query)
        ends |= past_ends
    missing = [-1] * (len(shown) - len(past))
    return {
        "names": [bucket.name for bucket in shown],
        "starts": [bucket.start for bucket in shown],
        "previous_starts": [bucket.start for bucket in past] + missing,
        "edges": sorted(ends) or [0],
    }


def _shown(since, until, part, query):
    """Some buckets of a range, and where each of them starts and the last one ends."""
    whole = buckets.of(since, until, query["granularity"], query["timezone"])
    shown = whole[part]
    following = whole[part.stop].start if part.stop < len(whole) else buckets.milliseconds(until)
    return shown, {bucket.start for bucket in shown} | {following} if shown else set()


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
        return [letters.upper(value) for value in values] if name == "country" else values

    def number(self, name, low, high, default):
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            return self.refuse(name, f"Must be a whole number from {low} to {high}.", default)
        return int(text)

    def word(self, name, words, default):
        text = self.text(name, default)
        return text if text in words else self.refuse(name, f"Must be one of: {', '.join(words)}.", default)

    def own(self, parameter):
        if parameter.default is None and not self.given.get(parameter.name):
            return self.refuse(parameter.name, "Required.", None)
        if parameter.several:
            return self.steps(parameter)
        if parameter.default is None:
            return self.text(parameter.name)
        if parameter.words:
            return self.word(parameter.name, parameter.words, parameter.default)
        if parameter.low is not None:
            return self.number(parameter.name, parameter.low, parameter.high, int(parameter.default))
        if parameter.name == "currency":
            return self.currency(parameter)
        return self.text(parameter.name, parameter.default)

    def currency(self, parameter):
        """A currency code in upper case; an empty one is the default."""
        if self.given.get(parameter.name) == [""]:
            del self.given[parameter.name]
        code = letters.upper(self.text(parameter.name, parameter.default))
        if code in currencies.CODES or code == parameter.default:
            return code
        return self.refuse(parameter.name, "Must be an ISO 4217 currency code such as EUR.", parameter.default)

    def steps(self, parameter):
        """The steps of a funnel: one value each, or several in one with commas between them."""
        steps = [step for value in self.values(parameter.name) for step in _BETWEEN_STEPS.split(value)]
        if not all(_STEP.fullmatch(step) for step in steps):
            return self.refuse(parameter.name, "A step is path:/..., path:/.../*, goal:... or payment.", [])
        if not parameter.low <= len(steps) <= parameter.high:
            return self.refuse(parameter.name, f"Must have {parameter.low} to {parameter.high} steps.", [])
        return steps

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
        return self.refuse(name, f"Must be a day as YYYY-MM-DD, in {_YEARS[0]} to {_YEARS[-1]}.", None)

    def refuse(self, name, message, instead):
        self.wrong.setdefault(name, []).append(message)
        return instead

    def refuse_unknown(self, known):
        """Raise InvalidQuery if anything was wrong, or is left."""
        for name in list(self.given)[:10]:
            near = nearest.find(name[:100], known)
            self.refuse(name[:100], f"Unknown parameter. Did you mean {near}?" if near else "Unknown parameter.", None)
        if self.wrong:
            raise errors.InvalidQuery(**self.wrong)


def _months_later(day, months):
    month = day.month - 1 + months
    year, month = day.year + month // 12, month % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _described(parameter):
    allowed = {"words": list(parameter.words)} if parameter.words else {}
    if parameter.low is not None:
        allowed = {"low": parameter.low, "high": parameter.high}
    if parameter.several:
        allowed |= {"repeatable": True}
    default = {"required": True} if parameter.default is None else {"default": parameter.default}
    return {"name": parameter.name, "about": parameter.about, **default, **allowed}
