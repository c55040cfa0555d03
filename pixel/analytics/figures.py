"""What a page of reports shows: the questions it puts, and their rows as a line, lists and numbers."""

from typing import NamedTuple

from pixel import charts, pages, sources

#: Rows of a list.
MOST = 10


class Metric(NamedTuple):
    """A figure that can be drawn over time. `adds` says that its buckets may be added up."""

    title: str
    adds: bool
    told: object


class Listing(NamedTuple):
    """A list of the page: the pipe, the column that names a row, the filter a name leads to, and what is counted."""

    title: str
    pipe: str
    name: str
    filter: str
    unnamed: str
    #: {column: (title, how it is told)}; the first one gives the length of the bar.
    columns: dict
    empty: str
    #: A column that tells rows of one name apart.
    beside: str = ""
    #: How people call what is in the name's column.
    called: object = str


def assistant(engine):
    """An AI assistant by the name people know: its engine is a word that utm_source may have."""
    return sources.classify("", (), {"utm_source": engine}).source


def seconds(value):
    """A length in minutes and seconds."""
    minutes, rest = divmod(round(value or 0), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def share(value):
    if 0 < (value or 0) < 0.01:
        return "< 1 %"
    return f"{100 * (value or 0):.0f} %"


def count(value):
    return pages.number(round(value or 0))


def money(value):
    return f"{float(value or 0):,.2f}"


METRICS = {
    "visitors": Metric("Visitors", False, count),
    "sessions": Metric("Sessions", True, count),
    "pageviews": Metric("Pageviews", True, count),
    "bounce_rate": Metric("Bounce rate", False, share),
    "avg_seconds": Metric("Length of a session", False, seconds),
    "conversions": Metric("Conversions", True, count),
    "revenue": Metric("Revenue", True, money),
}
_PEOPLE = {"visitors": ("Visitors", count)}
LISTS = {
    "pages": Listing("Top pages", "p_top_pages", "path", "path", "", _PEOPLE | {"pageviews": ("Pageviews", count)},
                     "No page was viewed."),
    "sources": Listing("Sources", "p_traffic_sources", "source", "source", "Unknown",
                       _PEOPLE | {"sessions": ("Sessions", count), "bounce_rate": ("Bounce rate", share)},
                       "No session began.", "channel"),
    "countries": Listing("Countries", "p_geo", "country", "country", "Unknown", _PEOPLE, "Nobody came."),
    "devices": Listing("Devices", "p_devices", "device", "device", "Unknown", _PEOPLE, "Nobody came."),
    "assistants": Listing("AI assistants", "p_llm_traffic", "llm_engine", "llm_engine", "",
                          _PEOPLE | {"sessions": ("Sessions", count)}, "No assistant sent anybody.",
                          called=assistant),
    "goals": Listing("Goals", "p_goal_conversions", "goal", "goal", "",
                     {"conversions": ("Reached", count), "conversion_rate": ("Of visitors", share)},
                     "No goal was reached."),
    "revenue": Listing("Revenue by source", "p_attributed_revenue", "source", "source", "Unknown",
                       {"revenue": ("Revenue", money), "payments": ("Payments", count)}, "Nobody paid.", "channel"),
}  # fmt: skip


def questions(view):
    """What the page asks: {name: (pipe, what is given to it)}."""
    line = {"metric": [view.metric], "granularity": [view.granularity], "compare": ["previous"], "limit": ["1000"]}
    asked = {
        "series": ("p_metric_series", view.common | line),
        "live": ("p_realtime_visitors", view.common | {"limit": ["1"]}),
        **{name: (found.pipe, view.common | {"limit": [str(MOST)]}) for name, found in LISTS.items()},
    }
    if view.steps:
        asked["funnel"] = ("p_funnel", view.common | {"steps": [view.steps]})
    return asked


def of(view, rows):
    """What the template draws: None stands for what the warehouse did not answer."""
    return {
        "line": rows["series"] and _line(view, rows["series"]),
        "live": None if rows["live"] is None else rows["live"][0]["live_visitors"] if rows["live"] else 0,
        "lists": {name: (listing, _bars(listing, rows[name])) for name, listing in LISTS.items()},
        "funnel": rows.get("funnel"),
        "away": None in rows.values(),
        "quiet": rows["series"] == [],
        "share": share,
    }


def _line(view, rows):
    metric = METRICS[view.metric]
    points = [(_label(row["bucket"]), float(row["value"]), _number(row["previous_value"])) for row in rows]
    unit = view.granularity.capitalize()
    title = f"{metric.title} by {view.granularity}"
    return charts.line(title, _summary(metric, points), unit, _drawn(points), metric.told)


def _drawn(points):
    """The points without the period before, when there was nothing in it."""
    return points if any(before for *_, before in points) else [(label, value, None) for label, value, _ in points]


def _label(bucket):
    """A bucket's name as people say it: hours without their offset."""
    return bucket[:16].replace("T", " ")


def _number(value):
    return None if value is None else float(value)


def _summary(metric, points):
    """The line in words: how much it is, beside the period before, and where it is highest."""
    values, before = [value for _, value, _ in points], [value for _, _, value in points if value is not None]
    best = max(points, key=lambda point: point[1])
    if metric.adds:
        told = f"{metric.told(sum(values))} in all{_change(sum(values), sum(before))}"
    else:
        mean = sum(values) / len(values)
        told = f"{metric.told(mean)} on average{_change(mean, sum(before) / len(before) if before else 0)}"
    return f"{told}. Highest: {metric.told(best[1])}, {best[0]}." if best[1] else f"{told}."


def _change(now, before):
    """How far a figure is from the one before, in words; nothing where there was none."""
    if not before:
        return ""
    change = round(100 * (now - before) / before)
    return f", {abs(change)} % {'more' if change > 0 else 'less'} than before" if change else ", as before"


def _bars(listing, rows):
    """The rows of a list, each with the length of its bar as a share of the longest; None for none."""
    if rows is None:
        return None
    first = next(iter(listing.columns))
    most = max((float(row[first]) for row in rows), default=0)
    return [
        {
            "name": row[listing.name],
            "called": listing.called(row[listing.name]),
            "beside": row.get(listing.beside, ""),
            "told": [told(row[column]) for column, (_, told) in listing.columns.items()],
            "length": round(100 * max(0, float(row[first])) / most, 1) if most > 0 else 0,
            "currency": row.get("currency", ""),
        }
        for row in rows
    ]
