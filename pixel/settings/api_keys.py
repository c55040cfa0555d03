"""Settings, API keys."""

from flask import current_app, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from pixel import audit, calls, charts, clock, errors, keys, notices, pages, sessions, websites
from pixel.access import enter
from pixel.foreign_text import plain_text
from pixel.settings import forms, settings

MOST = 50
_OUTCOMES = {"ok": "Answered", "warning": "Refused (4xx)", "danger": "Failed (5xx)"}


@settings.get("/settings/api-keys")
@enter("viewer")
def api_keys():
    """All keys, or those in one state."""
    return _list(forms.Whose(formdata=None))


@settings.post("/settings/api-keys")
@enter("viewer")
def whose_key():
    """Which of ours a found key is."""
    form = forms.Whose()
    if form.sent():
        found = keys.recognise(g.person.workspace_id, form.found.data)
        if found:
            return pages.done(_address(found), f"The key you pasted is this one: {plain_text(found.name)}.")
        form.refuse("found", "This is no key of this workspace.")
    # What was pasted may be a key, and a key is shown on one page only.
    form.found.data = ""
    return _list(form, 400)


@settings.get("/settings/api-keys/new")
@enter("admin")
def new_key():
    """Ask what the key is for."""
    return _new_key_page(_new_key_form())


@settings.post("/settings/api-keys/new")
@enter("admin")
def create_key() -> pages.Page | Response:
    """Create a key, and redirect to the page that shows it once."""
    form = _new_key_form()
    if not form.sent():
        return _new_key_page(form, 400)
    try:
        _, key = keys.create(
            g.person.workspace_id, form.name.data, form.scopes.data, current_app.config["PIXEL_ENV"],
            form.website_ids, form.expires_at, **pages.actor(), showing=_showing(form),
        )  # fmt: skip
    except keys.MadeAlready as made:
        key = keys.get(g.person.workspace_id, made.key_id)
    except ValueError as refusal:
        form.refuse(None, refusal)
        return _new_key_page(form, 400)
    except errors.LimitReached as refusal:
        g.entry.failed(refusal, refusal)
        form.refuse(None, refusal)
        return _new_key_page(form, refusal.status)
    return redirect(_address(key, "secret"), 303)


@settings.get("/settings/api-keys/<key_id>/secret")
@enter("admin")
def show_secret(key_id: str) -> pages.Page:
    """Show a key once. A prefetch and a HEAD request do not use it up."""
    key = keys.get(g.person.workspace_id, key_id)
    if pages.is_prefetch():
        return "", 204, {}
    token = g.person.session.token
    secret = keys.reveal(key.id, lambda sealed: sessions.unseal(token, sealed), use_up=request.method != "HEAD")
    site = next(iter(websites.visible(key.workspace_id, key.websites)), None)
    return pages.page(
        "settings/api_keys/secret.html", key=key, secret=secret, site=site,
        headers={"Referrer-Policy": "no-referrer"},
    )  # fmt: skip


@settings.get("/settings/api-keys/<key_id>/first-request")
@enter("viewer")
def first_request(key_id):
    """Whether a new key has been used: a part of a page."""
    return render_template("settings/api_keys/_first_request.html", key=keys.get(g.person.workspace_id, key_id))


@settings.get("/settings/api-keys/<key_id>")
@enter("viewer")
def api_key(key_id):
    """Everything about one key."""
    key = keys.get(g.person.workspace_id, key_id)
    before, after = keys.beside(key)
    told, away = _told_of(key)
    return pages.page(
        "settings/api_keys/key.html",
        key=key, before=before, after=after, away=away, form=forms.Plain(), now=clock.now(), state=keys.state,
        sites=websites.of(key.workspace_id), history=_history(key), **told,
    )  # fmt: skip


@settings.get("/settings/api-keys/<key_id>/rotate")
@enter("admin")
def ask_to_rotate(key_id):
    """Ask how to rotate."""
    key = keys.get(g.person.workspace_id, key_id)
    form = _rotate_form(key)
    form.scopes.data = [*key.scopes, *(scope for scope in request.args.getlist("add") if scope in forms.OFFERED)]
    return _ask("settings/api_keys/rotate.html", key, form=form, about=forms.OFFERED)


@settings.post("/settings/api-keys/<key_id>/rotate")
@enter("admin")
def rotate_key(key_id: str) -> pages.Page | Response:
    """Create the successor of a key, and redirect to the page that shows it once."""
    key = keys.get(g.person.workspace_id, key_id)
    form = _rotate_form(key)
    if not form.sent():
        return pages.again("settings/api_keys/rotate.html", key=key, form=form, about=forms.OFFERED)
    wanted, offered = set(form.scopes.data), {scope.value for scope in forms.OFFERED}
    try:
        _, new = keys.rotate(
            key.id, form.overlap.data, wanted, offered - wanted, form.expires_at, **pages.actor(),
            showing=_showing(form),
        )  # fmt: skip
    except keys.MadeAlready as made:
        new = keys.get(g.person.workspace_id, made.key_id)
    except ValueError as refusal:
        form.refuse(None, refusal)
        return pages.again("settings/api_keys/rotate.html", key=key, form=form, about=forms.OFFERED)
    except errors.LimitReached as refusal:
        g.entry.failed(refusal, refusal)
        form.refuse(None, refusal)
        return pages.page("settings/api_keys/rotate.html", refusal.status, key=key, form=form, about=forms.OFFERED)
    return redirect(_address(new, "secret"), 303)


@settings.get("/settings/api-keys/<key_id>/revoke")
@enter("admin")
def ask_to_revoke(key_id):
    """Ask once more."""
    return _ask("settings/api_keys/revoke.html", keys.get(g.person.workspace_id, key_id), form=forms.Revoke())


@settings.post("/settings/api-keys/<key_id>/revoke")
@enter("admin")
def revoke_key(key_id):
    """End a key for good."""
    key, form = keys.get(g.person.workspace_id, key_id), forms.Revoke()
    if not form.sent():
        return pages.again("settings/api_keys/revoke.html", key=key, form=form)
    keys.revoke(key.id, **pages.actor())
    return pages.done(
        "/settings/api-keys", f"{plain_text(key.name)} ({key.hint}) is revoked. Calls with it are refused from now on."
    )


@settings.get("/settings/api-keys/<key_id>/end-overlap")
@enter("admin")
def ask_to_end_overlap(key_id):
    """Ask once more."""
    key = keys.get(g.person.workspace_id, key_id)
    return _ask("settings/api_keys/end_overlap.html", key, ["rotating"], form=forms.Plain(formdata=None))


@settings.post("/settings/api-keys/<key_id>/end-overlap")
@enter("admin")
def end_overlap(key_id):
    """End a rotated key before its time."""
    key = keys.get(g.person.workspace_id, key_id)
    words = f"The overlap has ended: {key.hint} works no more."
    return _do("settings/api_keys/end_overlap.html", key, keys.end_overlap, words)


@settings.get("/settings/api-keys/<key_id>/discard")
@enter("admin")
def ask_to_discard(key_id):
    """Ask once more."""
    key = keys.get(g.person.workspace_id, key_id)
    return _ask("settings/api_keys/discard.html", key, ["active"], form=forms.Plain(formdata=None))


@settings.post("/settings/api-keys/<key_id>/discard")
@enter("admin")
def discard_key(key_id):
    """End a new key that was never used, and keep the old one."""
    key = keys.get(g.person.workspace_id, key_id)
    words = f"{key.hint} is discarded. The key before it works on."
    return _do("settings/api_keys/discard.html", key, keys.discard, words)


def _ask(template, key, states=("active", "rotating"), **facts):
    """The page that asks about a key, or the key's own page when it is in no state to be asked about."""
    if keys.state(key, clock.now()) not in states:
        return redirect(_address(key), 303)
    return pages.page(template, key=key, **facts)


def _do(template, key, verb, words):
    form = forms.Plain()
    if not form.sent():
        return pages.again(template, key=key, form=form)
    try:
        verb(key.id, **pages.actor())
    except ValueError as refusal:
        words = str(refusal)
    return pages.done(_address(key), words)


def _list(whose, status=200):
    workspace_id, state = g.person.workspace_id, request.args.get("state")
    state = state if state in keys.STATES else None
    page = pages.number_of_page()
    counts = {name: keys.count(workspace_id, name) for name in keys.STATES}
    try:
        used, away = calls.in_last_hour(workspace_id), False
    except errors.AnalyticsError:
        used, away = {}, True
    return pages.page(
        "settings/api_keys/list.html",
        status,
        keys=keys.of(workspace_id, state, MOST, (page - 1) * MOST),
        counts=counts,
        total=sum(counts.values()),
        shown=state,
        page=page,
        more=page * MOST < (counts[state] if state else sum(counts.values())),
        used=used,
        away=away,
        budget=60 * (g.person.workspace.rate_limit or current_app.config["RATELIMIT_API"]),
        care=keys.care(workspace_id),
        notices=notices.of(workspace_id),
        sites=websites.of(workspace_id),
        whose=whose,
        state=keys.state,
        now=clock.now(),
    )


def _new_key_form():
    form = forms.NewKey()
    sites = websites.of(g.person.workspace_id)
    form.websites.choices = pages.listed(
        {site.id: f"{plain_text(site.name)} ({site.domain})" for site in sites.values()}
    )
    form.form.data = form.form.data or pages.form_id()
    return form


def _new_key_page(form, status=200):
    return pages.page("settings/api_keys/new.html", status, form=form, about=forms.OFFERED)


def _rotate_form(key):
    form = forms.Rotate()
    same = f"As the old key: {pages.exact(key.expires_at)}" if key.expires_at else "As the old key: never"
    form.expires.choices = pages.listed({"same": same, **forms.EXPIRIES})
    form.form.data = form.form.data or pages.form_id()
    return form


def _showing(form):
    token = g.person.session.token
    return keys.Showing(form.form.data, lambda secret: sessions.seal(token, secret))


def _address(key, page=""):
    return url_for("settings.api_key", key_id=key.id) + (f"/{page}" if page else "")


def _history(key):
    """What was done to a key, and the rotation that made it, of which the audit log tells at the key before."""
    entries = audit.about(key.workspace_id, [key.id, key.rotated_from])
    return [entry for entry in entries if key.id in (entry.subject, entry.details.get("successor"))]


def _told_of(key):
    """What the request log tells of a key, and whether it is away."""
    try:
        hours = calls.by_hour(key.workspace_id, key.id)
        last = calls.listed(key.workspace_id, key_id=key.id, since=key.created_at, most=MOST)[:MOST]
        unused = set(key.scopes) - calls.scopes_used(key.workspace_id, key.id)
        return {
            "chart": _chart(hours),
            "last": [call | {"moment": calls.at(call)} for call in last],
            "failures": calls.errors_of(key.workspace_id, key.id),
            "unused": sorted(unused) if clock.now() - key.created_at > keys.UNUSED else [],
        }, False
    except errors.AnalyticsError:
        return {"chart": None, "last": [], "failures": [], "unused": []}, True


def _chart(hours):
    total = sum(sum(values.values()) for _, values in hours)
    bad = sum(values["warning"] + values["danger"] for _, values in hours)
    summary = f"{pages.plural(total, 'call')}, {pages.number(bad)} of them refused or failed." if total else "No calls."
    columns = [(pages.hour(start), values) for start, values in hours]
    return charts.bars("Calls in the last 24 hours", summary, "Hour", _OUTCOMES, columns)
