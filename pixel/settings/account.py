"""What everyone may do with their own account: password, sessions, what was done with it."""

from flask import g
from werkzeug.wrappers import Response

from pixel import access, audit, errors, members, pages, sessions
from pixel.access import enter
from pixel.settings import forms, settings


@settings.get("/account")
@enter("person")
def account():
    """Who one is, and where one is signed in."""
    return _page(forms.Password(formdata=None))


@settings.post("/account/password")
@enter("person")
def change_password() -> pages.Page | Response:
    """Change one's own password. It ends the other sessions and makes other devices and networks unknown."""
    form = forms.Password()
    if not (form.sent() and _is_known(form)):
        return _page(form, 400)
    try:
        user, session = members.change_password(
            g.person.user, form.new.data, g.person.session, access.network_of_request(), g.entry.request_id
        )
    except ValueError as refusal:
        form.refuse("new", refusal)
        return _page(form, 400)
    access.go_on_with(session)
    response = pages.done("/account", "Your password is changed, and your other sessions are ended.")
    access.remember_device(response, user)
    return response


@settings.post("/account/sessions/<session_id>/end")
@enter("person")
def end_session(session_id):
    """Sign out somewhere else."""
    form = forms.Plain()
    if not form.sent():
        return _page(forms.Password(formdata=None), 400, form)
    ended = sessions.end(g.person.user, session_id, g.entry.request_id)
    return pages.done("/account", "The session is ended." if ended else "This session had ended already.")


@settings.post("/account/sessions/end-others")
@enter("person")
def end_other_sessions():
    """Sign out everywhere else."""
    form = forms.Plain()
    if not form.sent():
        return _page(forms.Password(formdata=None), 400, form)
    for session in sessions.of(g.person.id):
        if session.id != g.person.session.id:
            sessions.end(g.person.user, session.id, g.entry.request_id)
    return pages.done("/account", "All your other sessions are ended.")


def _is_known(form):
    try:
        fits = access.sign_in(g.person.email, form.current.data)
    except errors.RateLimitExceeded as refusal:
        form.refuse("current", refusal)
        return False
    if fits is None:
        form.refuse("current", "This is not your password.")
    return fits is not None


def _page(form, status=200, plain=None):
    return pages.page(
        "settings/account.html", status, form=form, plain=plain,
        sessions=sessions.of(g.person.id), activity=audit.of_account(g.person.id),
    )  # fmt: skip
