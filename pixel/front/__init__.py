"""The way in for people: signing in and out, one-time links; and for programs that ask how the server is.

Anyone may enter.
"""

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, session

from pixel import access, envelope, errors, health, links, mail, members, pages, redaction, sessions, workspaces
from pixel.front import forms

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


@front.get("/sign-in")
def sign_in():
    """Ask who it is."""
    form = forms.SignIn()
    form.next.data = pages.local(request.args.get("next", "/"))
    if access.by_session():
        return redirect(form.next.data, 303)
    return render_template("front/sign_in.html", form=form)


@front.post("/sign-in")
def take_in():
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
    if user is None:
        form.refuse(None, "No account has this e-mail and password.")
        return pages.again("front/sign_in.html", form=form)
    return _signed_in(user, session.get("link") or pages.local(form.next.data or "/"))


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
    _set_cookie(response, "", max_age=0)
    return response


@front.post("/switch")
@access.enter("person")
def switch():
    """Have the pages be about another workspace."""
    form = forms.Switch()
    form.workspace.choices = pages.listed({workspace.id: workspace.name for workspace, _ in g.person.workspaces})
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
def open_link(token):
    """What a one-time link is for, and the form to use it."""
    link = links.find(token)
    if link is None:
        return pages.page("front/link_over.html", 404)
    return _link_page(link, _link_form(link))


@front.post("/links/<token>")
def follow_link(token):
    """Use a one-time link."""
    link = links.find(token)
    if link is None:
        return pages.page("front/link_over.html", 404)
    form = _link_form(link)
    if not form.sent():
        return _link_page(link, form, 400)
    password = form.password.data if "password" in form else None
    if password is None and not _is_signed_in_as(link.email):
        # Not as `next`: a link's address is a secret, and other addresses are kept in many places.
        session["link"] = request.path
        return redirect("/sign-in", 303)
    try:
        user = members.follow(token, password, g.entry.request_id)
    except ValueError as refusal:
        form.refuse("password", refusal)
        return _link_page(link, form, 400)
    if user is None:
        return pages.page("front/link_over.html", 404)
    if password is None:
        sessions.enter_workspace(access.by_session().session.id, link.workspace_id)
        return pages.done("/", "You are a member now.")
    return _signed_in(user, "/", link.workspace_id)


def _link_form(link):
    user = members.by_email(link.email)
    joins_only = link.purpose == "invite" and user is not None and user.password_hash
    return forms.Join() if joins_only else forms.Choose()


def _link_page(link, form, status=200):
    workspace = workspaces.get(link.workspace_id) if link.workspace_id else None
    return pages.page(
        "front/link.html", status, link=link, form=form, workspace=workspace,
        signed_in=_is_signed_in_as(link.email), headers={"Referrer-Policy": "no-referrer"},
    )  # fmt: skip


def _is_signed_in_as(email):
    person = access.by_session()
    return person is not None and person.email == email


def _signed_in(user, address, workspace_id=None):
    """The answer that signs a user in. What the browser held before is worth nothing from now on."""
    before = access.by_session()
    if before is not None:
        sessions.end(before.user, before.session.id, g.entry.request_id)
    token = sessions.begin(
        user,
        redaction.address(request.remote_addr or ""),
        access.network_of_request(),
        redaction.line(request.headers.get("User-Agent", "")),
        g.entry.request_id,
    )
    session.clear()
    if workspace_id:
        sessions.enter_workspace(sessions.find(token).id, workspace_id)
    response = redirect(address, 303)
    _set_cookie(response, token, max_age=int(sessions.LONGEST.total_seconds()))
    return response


def _set_cookie(response, token, max_age):
    response.set_cookie(
        access.session_cookie(), token, max_age=max_age, path="/", httponly=True, samesite="Lax",
        secure=current_app.config["PIXEL_ENV"] == "live",
    )  # fmt: skip
