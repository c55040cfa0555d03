"""Websites: added, renamed, removed; how events get in, and whether they do."""

from flask import g, render_template, request

from pixel import calls, errors, events, letters, notices, pages, websites
from pixel.access import enter
from pixel.settings import forms, settings

MOST = 50


@settings.get("/websites")
@enter("viewer")
def all_websites():
    """The workspace's websites, and what came from them."""
    page = pages.number_of_page()
    sites = list(websites.of(g.person.workspace_id).values())
    shown = sites[(page - 1) * MOST : page * MOST]
    try:
        came, away = events.in_last_day(g.person.workspace_id), False
    except errors.AnalyticsError:
        came, away = {}, True
    return pages.page(
        "websites/list.html", sites=shown, total=len(sites), page=page, more=page * MOST < len(sites), came=came,
        away=away, removed=websites.removed(g.person.workspace_id), notices=notices.of_websites(g.person.workspace_id),
    )  # fmt: skip


@settings.get("/websites/new")
@enter("admin")
def new_website():
    """Ask for its domain."""
    return pages.page("websites/new.html", form=forms.NewWebsite(timezone=g.person.workspace.timezone))


@settings.post("/websites/new")
@enter("admin")
def add_website():
    """Add a website, and go where its events are awaited."""
    form = forms.NewWebsite()
    if not form.sent():
        return pages.again("websites/new.html", form=form)
    try:
        site = websites.add(
            g.person.workspace_id, form.domain.data, form.name.data, form.timezone.data, **pages.actor()
        )
    except ValueError as refusal:
        form.refuse("domain", refusal)
        return pages.again("websites/new.html", form=form)
    return pages.done(f"/websites/{site.id}", f"{site.domain} is added. Send its first event.")


@settings.get("/websites/<website_id>")
@enter("viewer")
def website(website_id):
    """Its id, how to send, what came and what was refused."""
    return _page(_site(website_id), forms.Plain(formdata=None))


@settings.get("/websites/<website_id>/latest")
@enter("viewer")
def latest(website_id):
    """What came last: a part of a page."""
    site = _site(website_id)
    return render_template("websites/_latest.html", site=site, **_latest(site))


@settings.post("/websites/<website_id>/test-event")
@enter("admin")
def send_test_event(website_id):
    """Send an event from here, by the way that all events take."""
    site, form = _site(website_id), forms.Plain()
    if not form.sent():
        return _page(site, form, 400)
    events.refuse_if_unavailable()
    ready = events.prepare({"name": "custom", "goal": "test_event", "props": {"sent_by": "dashboard"}}, site,
                           g.entry.request_id)  # fmt: skip
    events.keep([ready])
    g.entry.event_ids = (ready.row["event_id"],)
    return pages.done(f"/websites/{site.id}", f"The test event {ready.row['event_id']} is accepted.")


@settings.get("/websites/<website_id>/change")
@enter("admin")
def ask_to_change(website_id):
    """Ask for another name, time zone and hosts."""
    site = _site(website_id)
    form = forms.ChangeWebsite(name=site.name, timezone=site.timezone, hosts="\n".join(site.hosts))
    return pages.page("websites/change.html", site=site, form=form)


@settings.post("/websites/<website_id>/change")
@enter("admin")
def change_website(website_id):
    """Give it another name, time zone and hosts."""
    site, form = _site(website_id), forms.ChangeWebsite()
    if not form.sent():
        return pages.again("websites/change.html", site=site, form=form)
    try:
        websites.change(
            site.workspace_id, site.id, form.name.data, form.timezone.data, form.hosts.data.split(), **pages.actor()
        )
    except ValueError as refusal:
        form.refuse("hosts", refusal)
        return pages.again("websites/change.html", site=site, form=form)
    return pages.done(f"/websites/{site.id}", "The changes are kept.")


@settings.get("/websites/<website_id>/remove")
@enter("admin")
def ask_to_remove(website_id):
    """Ask for its domain once more."""
    return pages.page("websites/remove.html", site=_site(website_id), form=forms.RemoveWebsite())


@settings.post("/websites/<website_id>/remove")
@enter("admin")
def remove_website(website_id):
    """Take it out. Its data is kept for 30 days."""
    site, form = _site(website_id), forms.RemoveWebsite()
    fine = form.sent()
    if fine and letters.lower((form.domain.data or "").strip()) != site.domain:
        form.refuse("domain", f"Type {site.domain} to remove it.")
        fine = False
    if not fine:
        return pages.again("websites/remove.html", site=site, form=form)
    websites.remove(site.workspace_id, site.id, **pages.actor())
    return pages.done("/websites", f"{site.domain} is removed. For 30 days it can be restored with all its data.")


@settings.post("/websites/<website_id>/restore")
@enter("admin")
def restore_website(website_id):
    """Take a removed website in again."""
    form = forms.Plain()
    if not form.sent():
        return pages.again("websites/restore.html", form=form, address=request.path)
    try:
        site = websites.restore(g.person.workspace_id, website_id, **pages.actor())
    except errors.WebsiteNotFound:
        raise errors.NotFound() from None
    return pages.done(f"/websites/{site.id}", f"{site.domain} is restored with all its data.")


def _site(website_id):
    try:
        return websites.get(g.person.workspace_id, website_id)
    except errors.WebsiteNotFound:
        # On a page it is an address that there is not.
        raise errors.NotFound() from None


def _page(site, form, status=200):
    try:
        refused, dropped = calls.refused(site.workspace_id, site.id), events.dropped(site.workspace_id, site.id)
    except errors.AnalyticsError:
        refused, dropped = [], []
    told = [notice for notice in notices.of_websites(site.workspace_id) if notice.site.id == site.id]
    return pages.page(
        "websites/website.html", status, site=site, form=form, refused=refused, dropped=dropped, reasons=events.DROPS,
        notices=told, **_latest(site),
    )  # fmt: skip


def _latest(site):
    try:
        return {"events": events.latest(site.workspace_id, site.id), "away": False}
    except errors.AnalyticsError:
        return {"events": [], "away": True}
