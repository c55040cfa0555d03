"""The way in for people: signing in and out, one-time links; and for programs that ask how the server is.

Anyone may enter.
"""

from datetime import timedelta

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, session
from werkzeug.wrappers import Response

from pixel import (
    access,
    csp_reports,
    envelope,
    errors,
    health,
    links,
    mail,
    members,
    pages,
    redaction,
    sessions,
    workspaces,
)
from pixel.foreign_text import plain_text
from pixel.front import forms
from pixel.intake import body

front = Blueprint("front", __name__)
front.entry = "open"
#: Anyone may send these forms, and none of them has a long field.
front.most_bytes = 32 << 10


@front.get("/")
def home():
    """Where to begin."""
    person = access.by_session()
    if person is None:
        return redirect("/sign-in", 303)
    return redirect("/analytics" if person.workspace else "/account", 303)


@front.get("/healthz")
def healthz():
    """Whether this process answers. No store is asked."""
    g.entry.is_probe = True
    return envelope.success({"alive": True}, g.entry.request_id)


@front.get("/readyz")
def readyz():
    """Whether this server can do its work, and for its operator what stands in the way."""
    g.entry.is_probe = True
    ready, checks = health.ready()
    told = {"checks": checks} if access.is_operator() else {}
    if not ready:
        raise errors.ServiceUnavailable("This server is not ready.", **told)
    return envelope.success({"ready": True, **told}, g.entry.request_id)


@front.get("/metrics")
def show_metrics():
    """How the server is doing, for Prometheus."""
    g.entry.is_probe = True
    access.refuse_unless_operator()
    return current_app.response_class(health.metrics(), content_type=health.CONTENT_TYPE)


@front.post(csp_reports.PATH)
def take_csp_reports() -> tuple[str, int]:
    """Log violations of the Content-Security-Policy of our pages, as browsers report them.

    No token and no Sec-Fetch-Site are needed, because nothing is changed. Another site cannot have a browser send these
    media types, since the browser would have to be allowed to first (CORS).
    """
    access.count_csp_report()
    expected = [csp_reports.REPORT, csp_reports.REPORTS]
    if request.mimetype not in expected:
        raise errors.UnsupportedMediaType(expected=expected)
    try:
        report = body.json(*expected)
    finally:
        # The request log does not keep reports: they may quote addresses and texts of pages.
        g.entry.body = None
    csp_reports.record(csp_reports.read(request.mimetype, report))
    return "", 204


take_csp_reports.most_bytes = 16 << 10


@front.get("/sign-in")
def sign_in():
    """Ask who it is."""
    form = forms.SignIn()
    form.next.data = pages.local(request.args.get("next", "/"))
    if access.by_session():
        return redirect(form.next.data, 303)
    return render_template("front/sign_in.html", form=form)


@front.post("/sign-in")
def take_in() -> pages.Page | Response:
    """Sign somebody in."""
    form = forms.SignIn()
    if not form.sent():
        return pages.again("front/sign_in.html", form=form)
    try:
        user = access.sign_in(form.email.data, form.password.data)
    except errors.RateLimitExceeded as refusal:
        g.entry.failed(refusal, refusal)
        form.refuse(None, f"Too many attempts. {refusal.message.partition('. ')[2]}")
        return pages.page("front/sign_in.html", 429, form=form, headers=refusal.headers)
    response = user and _signed_in(user, session.get("link") or pages.local(form.next.data or "/"))
    if response is None:
        form.refuse(None, "No account has this e-mail and password.")
        return pages.again("front/sign_in.html", form=form)
    return response


@front.post("/sign-out")
def sign_out():
    """End the session."""
    form = forms.SignOut()
    if not form.sent():
        return pages.again("front/sign_out.html", form=form)
    person = access.by_session()
    if person is not None:
        sessions.end(person.user, person.session.id, g.entry.request_id)
    session.clear()
    flash("You are signed out.")
    response = redirect("/sign-in", 303)
    access.set_cookie(response, access.session_cookie(), "", timedelta(0))
    return response


@front.post("/switch")
@access.enter("person")
def switch():
    """Have the pages be about another workspace."""
    form = forms.Switch()
    form.workspace.choices = pages.listed(
        {workspace.id: plain_text(workspace.name) for workspace, _ in g.person.workspaces}
    )
    if not form.sent():
        return pages.again("front/switch.html", form=form)
    sessions.enter_workspace(g.person.session.id, form.workspace.data)
    return redirect("/", 303)


@front.get("/forgot")
def forgot():
    """Ask for a link to set a new password."""
    return render_template("front/forgot.html", form=forms.Forgot(), mails=mail.configured())


@front.post("/forgot")
def send_reset_link():
    """Send the link, if there is such an account: the answer is the same."""
    form = forms.Forgot()
    if not form.sent():
        return pages.again("front/forgot.html", form=form, mails=mail.configured())
    try:
        access.count_link()
    except errors.RateLimitExceeded as refusal:
        g.entry.failed(refusal, refusal)
        form.refuse(None, refusal)
        return pages.page("front/forgot.html", 429, form=form, mails=mail.configured(), headers=refusal.headers)
    if mail.configured():
        members.mail_reset_link(form.email.data, g.entry.request_id)
    return render_template("front/forgot_sent.html", mails=mail.configured())


@front.get("/links/<token>")
def open_link(token: str) -> pages.Page:
    """Show what a one-time link is for, and the form to use it."""
    link = links.find(token)
    if link is None:
        return pages.page("front/link_over.html", 404)
    return _link_page(link, _link_form(link))


@front.post("/links/<token>")
def follow_link(token: str) -> pages.Page | Response:
    """Use a one-time link: choose a password, or join as the signed-in user."""
    link = links.find(token)
    if link is None:
        return pages.page("front/link_over.html", 404)
    form = _link_form(link)
    if not form.sent():
        return _link_page(link, form, 400)
    return _choose_password(token, link, form) if "password" in form else _accept_invitation(token, link, form)


def _choose_password(token: str, link: links.Link, form: forms.Choose) -> pages.Page | Response:
    try:
        user = members.choose_password(token, form.password.data, g.entry.request_id)
    except ValueError as refusal:
        form.refuse("password", refusal)
        return _link_page(link, form, 400)
    response = user and _signed_in(user, "/", link.workspace_id)
    return response or pages.page("front/link_over.html", 404)


def _accept_invitation(token: str, link: links.Link, form: forms.Join) -> pages.Page | Response:
    person = access.by_session()
    if person is None:
        # Not in the parameter `next`: the URL of a link is a secret, and other URLs are written to logs.
        session["link"] = request.path
        return redirect("/sign-in", 303)
    if person.email != link.email:
        form.refuse(None, f"This invitation is for {link.email}.")
        return _link_page(link, form, 400)
    if not members.accept_invitation(token, person.user, g.entry.request_id):
        return pages.page("front/link_over.html", 404)
    sessions.enter_workspace(person.session.id, link.workspace_id)
    return pages.done("/", "You are a member now.")


def _link_form(link: links.Link) -> forms.Choose | forms.Join:
    return forms.Choose() if members.lets_choose_password(link) else forms.Join()


def _link_page(link: links.Link, form: pages.Form, status: int = 200) -> pages.Page:
    person = access.by_session()
    return pages.page(
        "front/link.html", status, link=link, form=form, mails=mail.configured(),
        workspace=workspaces.get(link.workspace_id) if link.workspace_id else None,
        command=members.operator_command("create", link.email),
        signed_in_as=person.email if person else None, headers={"Referrer-Policy": "no-referrer"},
    )  # fmt: skip


def _signed_in(user: members.User, address: str, workspace_id: str | None = None) -> Response | None:
    """Return the response that signs a user in and ends the session that the browser had before.

    Return None if the user's password has changed in the meantime.
    """
    before = access.by_session()
    token = members.start_session(
        user,
        access.network_of_request(),
        redaction.address(request.remote_addr or ""),
        redaction.line(request.headers.get("User-Agent", "")),
        g.entry.request_id,
    )
    if token is None:
        return None
    if before is not None:
        sessions.end(before.user, before.session.id, g.entry.request_id)
    session.clear()
    if workspace_id:
        sessions.enter_workspace(sessions.find(token).id, workspace_id)
    response = redirect(address, 303)
    access.set_cookie(response, access.session_cookie(), token, sessions.LONGEST)
    access.remember_device(response, user)
    return response
