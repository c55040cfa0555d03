"""Visitors: what is known of one, over all the ids they were seen with."""

from datetime import timedelta

from pixel import clock, errors, metrics

PROFILE, TIMELINE = "p_visitor_profile", "p_visitor_timeline"
RECENT = 50
LONGEST_ID = 128
#: Reports span this many months at most, and events may be a little ahead.
_MONTHS = metrics.MOST_MONTHS


def checked_id(visitor_id):
    """A visitor's id as it is asked for. Raises InvalidVisitor or VisitorNotFound."""
    if not visitor_id.strip():
        raise errors.InvalidVisitor()
    if len(visitor_id) > LONGEST_ID:
        raise errors.VisitorNotFound()
    return visitor_id


def profile(caller, visitor_id, website_id=None):
    """What is known of a visitor, and their last events as `recent_events`.

    Raises InvalidVisitor, VisitorNotFound, WebsiteNotFound or AnalyticsError.
    """
    asked = _asked(checked_id(visitor_id), website_id)
    found = _rows(PROFILE, caller, asked | {"limit": ["1"]})
    if not found:
        raise errors.VisitorNotFound()
    return found[0] | {"recent_events": _rows(TIMELINE, caller, asked | {"limit": [str(RECENT)]})}


def _rows(pipe, caller, asked):
    answer, _ = metrics.run(metrics.pipe(pipe), caller, asked)
    # A profile has no place to say that it is an old one.
    if answer["data_status"] == "stale":
        raise errors.AnalyticsError()
    return answer["data"]


def _asked(visitor_id, website_id):
    """The question about all that is kept of a visitor, bots too: who asks for one by their id means that one."""
    last = clock.now().date() + timedelta(days=1)
    month = last.year * 12 + last.month - 1 - _MONTHS
    first = last.replace(year=month // 12, month=month % 12 + 1, day=min(last.day, 28)) + timedelta(days=1)
    asked = {"visitor_id": [visitor_id], "from": [first.isoformat()], "to": [last.isoformat()], "bots": ["include"]}
    return asked | ({"website_id": [website_id]} if website_id else {})
