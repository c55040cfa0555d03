"""A website's reports as a page: the API's own pipes, with the range and the filters in the address."""

from flask import Blueprint, g, redirect, request

from pixel import errors, metrics, pages, pipes, websites
from pixel.access import enter
from pixel.analytics import figures
from pixel.analytics.view import PERIODS, View

analytics = Blueprint("analytics", __name__)
analytics.entry = "session"
analytics.most_bytes = pages.MOST_BYTES


@analytics.get("/analytics")
@enter("viewer")
def any_website():
    """The page of the website that is asked for, or of the first one."""
    sites = websites.of(g.person.workspace_id)
    wanted = request.args.get("website", next(iter(sites), ""))
    if wanted in sites:
        return redirect(f"/analytics/{wanted}", 303)
    if sites:
        raise errors.NotFound()
    return pages.page("analytics/none.html")


@analytics.get("/analytics/<website_id>")
@enter("viewer")
def one_website(website_id):
    """What happened on a website in a range, as far as the filters let through."""
    sites = websites.of(g.person.workspace_id)
    if website_id not in sites:
        raise errors.NotFound()
    site = sites[website_id]
    view = View(site, request.args)
    if view.adds:
        return redirect(view.adds, 303)
    facts = {"site": site, "sites": sites, "view": view, "periods": PERIODS, "metrics": figures.METRICS,
             "filters": metrics.FILTERS}  # fmt: skip
    asked = figures.questions(view)
    try:
        rows, wrong = _rows(asked), {}
    except errors.InvalidQuery as refusal:
        rows, wrong = None, refusal.details
        if set(wrong) == {"steps"}:
            # Told where they were typed, they keep nothing else from being shown.
            del asked["funnel"]
            rows = _rows(asked)
    drawn = figures.of(view, rows) if rows else {}
    return pages.page("analytics/website.html", 400 if wrong else 200, wrong=wrong, **facts, **drawn)


def _rows(questions):
    """The rows of each of the page's questions, by its name; None for what the warehouse does not answer."""
    try:
        found = metrics.together(g.person, [(pipes.all()[pipe], given) for pipe, given in questions.values()])
    except errors.AnalyticsError:
        found = [None] * len(questions)
    return dict(zip(questions, found, strict=True))
