"""The minutes, hours, days, weeks and months of a time zone: where each begins, and its name.

Time is UTC inside; here is the edge at which it meets the clocks and calendars of a zone.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

GRANULARITIES = ("minute", "hour", "day", "week", "month")
_STEP = {"minute": 60, "hour": 3600}
#: No zone changes its clocks twice in so short a time.
_LOOK = 6 * 3600


class Bucket(NamedTuple):
    """One bucket: when it starts, in milliseconds since 1970, and what it is called."""

    start: int
    name: str


def of(since, until, granularity, zone) -> Sequence[Bucket]:
    """The buckets of `since` <= time < `until`, two UTC moments, in order; the first may begin before the range does.

    Minutes and hours are those that the zone's clocks show, so that the hour which clocks repeat is two. Their names
    are local times with the offset; those of the others are dates, of weeks the Monday's.
    """
    if granularity in _STEP:
        return _Clock(since, until, _STEP[granularity], zone)
    return _days(since, until, granularity, ZoneInfo(zone))


def start_of_day(day, zone):
    """The UTC moment at which a day begins on the clocks of a zone."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def before(since, until, zone):
    """When the range before a range of whole days begins, which has as many."""
    first, end = (moment.astimezone(ZoneInfo(zone)).date() for moment in (since, until))
    return start_of_day(first - (end - first), zone)


def milliseconds(moment):
    """Whole milliseconds from 1970 to a moment."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _days(since, until, granularity, zone):
    found, day = [], since.astimezone(zone).date()
    while (start := start_of_day(day, zone.key)) < until:
        first = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[granularity]
        bucket = Bucket(max(milliseconds(start), milliseconds(since)), first.isoformat())
        # A day that a zone left out begins when the next one does, and is not there.
        if found and found[-1].start == bucket.start:
            found.pop()
        if not found or found[-1].name != bucket.name:
            found.append(bucket)
        day = _next(day, granularity)
    return found


def _next(day, granularity):
    if granularity == "day":
        return day + timedelta(days=1)
    if granularity == "week":
        return day + timedelta(days=7 - day.weekday())
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


class _Clock(Sequence):
    """Minutes or hours, of which there may be a million: only those that are asked for are made."""

    def __init__(self, since, until, step, zone):
        self.step, self.zone = step, zone
        seconds = [int(moment.timestamp()) for moment in (since, until)]
        # What lies past the last whole second belongs to the range too.
        seconds[1] += until.microsecond > 0
        self.stretches = []
        self.length = 0
        for begin, end in pairwise([seconds[0], *_changes(*seconds, zone), seconds[1]]):
            if begin < end:
                shift = _offset(begin, zone)
                first = (begin + shift) // step
                number = -(-(end + shift) // step) - first
                self.stretches.append((self.length, begin, shift, first))
                self.length += number

    def __len__(self):
        return self.length

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(self.length))]
        if not 0 <= place < self.length:
            raise IndexError(place)
        before, begin, shift, first = next(s for s in reversed(self.stretches) if s[0] <= place)
        local = (first + place - before) * self.step
        if place == before and _offset(begin - 1, self.zone) != shift:
            # Where clocks change by half an hour, an hour begins in the midst of itself.
            local = begin + shift
        sign, ahead = "-" if shift < 0 else "+", abs(shift) // 60
        name = f"{_EPOCH + timedelta(seconds=local):%Y-%m-%dT%H:%M:%S}{sign}{ahead // 60:02d}:{ahead % 60:02d}"
        return Bucket(max(local - shift, begin) * 1000, name)


def _changes(begin, end, zone):
    """The seconds between two at which a zone's clocks change."""
    looks = [*range(begin, end, _LOOK), end]
    return tuple(_change(low, high, zone) for low, high in pairwise(looks) if _offset(low, zone) != _offset(high, zone))


def _change(low, high, zone):
    before = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return high


def _offset(seconds, zone):
    return int(datetime.fromtimestamp(seconds, ZoneInfo(zone)).utcoffset().total_seconds())
