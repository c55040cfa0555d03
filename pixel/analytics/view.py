"""What the address of a page of reports asks for: its range, its filters and its figure."""

from datetime import date, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from pixel import clock, metrics

#: Ranges that end today, by how many days they have.
PERIODS = {"1": "Today", "7": "7 days", "30": "30 days", "91": "13 weeks", "365": "A year"}
DEFAULT_PERIOD = "30"
#: Further than this, hours and days would be too many to tell apart.
_MOST_HOURS, _MOST_DAYS = timedelta(days=2), timedelta(days=92)
_LONGEST = 2000


class View:
    """One view of a website's reports. What makes no sense in the address is told by `metrics`, as the API tells it."""

    def __init__(self, site, given):
        self.site = site
        self._given = {name: given.getlist(name) for name in given}
        self.period = given.get("period", "" if given.get("from") or given.get("to") else DEFAULT_PERIOD)
        if self.period not in PERIODS:
            self.period = "" if given.get("from") or given.get("to") else DEFAULT_PERIOD
        self.first, self.last = self._days(given)
        self.metric = given.get("metric", "visitors")
        self.filters = [(name, value) for name in metrics.FILTERS for value in given.getlist(name)]
        self.steps = given.get("steps", "").strip()

    @property
    def adds(self):
        """Where the form for one more filter leads, or None: the name and the value become a parameter of their own."""
        name, value = (self._given.get(part, [""])[0] for part in ("filter", "value"))
        if name not in metrics.FILTERS or not value:
            return None
        return self.with_filter(name, value[:_LONGEST])

    @property
    def granularity(self):
        """How finely the line is drawn."""
        try:
            length = date.fromisoformat(self.last) - date.fromisoformat(self.first)
        except ValueError:
            return "day"
        return "hour" if length < _MOST_HOURS else "day" if length < _MOST_DAYS else "month"

    @property
    def common(self):
        """What every question of the page is given."""
        given = {"website_id": [self.site.id], "from": [self.first], "to": [self.last]}
        for name, value in self.filters:
            given.setdefault(name, []).append(value)
        return given

    def link(self, **changes):
        """The address of this view with some parameters changed; None leaves one out."""
        kept = {n: v for n, v in self._given.items() if n not in changes and n not in ("filter", "value") and any(v)}
        kept |= {name: value for name, value in changes.items() if value is not None}
        asked = urlencode(kept, doseq=True)
        return f"/analytics/{self.site.id}" + (f"?{asked}" if asked else "")

    def with_period(self, period):
        return self.link(period=period, **{"from": None, "to": None})

    def with_filter(self, name, value):
        return self.link(**{name: sorted({*self._given.get(name, []), value})})

    def without_filter(self, name, value):
        return self.link(**{name: [v for v in self._given.get(name, []) if v != value] or None})

    @property
    def carried(self):
        """What a form of the page carries on, as (name, value): all but the range."""
        return [(n, v) for n, values in self._given.items() if n not in ("from", "to", "period", "filter", "value")
                for v in values]  # fmt: skip

    @property
    def kept(self):
        """What the form for a filter or a funnel carries on: all but what it asks for itself."""
        return [(n, v) for n, values in self._given.items() if n not in ("filter", "value", "steps") for v in values]

    def _days(self, given):
        today = clock.now().astimezone(ZoneInfo(self.site.timezone)).date()
        if self.period:
            first = today - timedelta(days=int(self.period) - 1)
            return first.isoformat(), today.isoformat()
        last = given.get("to") or today.isoformat()
        return given.get("from") or last, last
