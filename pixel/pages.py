"""What all pages share: the form, the cookies, the words for moments and numbers."""

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import UTC
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from flask import Flask, flash, g, get_flashed_messages, has_request_context, redirect, render_template, request
from flask.sessions import SecureCookieSessionInterface
from flask_wtf import FlaskForm
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup
from wtforms import Field, PasswordField, ValidationError
from wtforms.fields.choices import SelectChoice
from wtforms.validators import StopValidation

from pixel import access, agents, clock, errors, foreign_text, sessions

#: How long a page may lie open before its form is no longer taken.
FORM_SECONDS = 12 * 60 * 60
#: The longest address that is kept to return to after signing in.
_MOST_NEXT = 2000
#: The largest form: 20,000 characters, percent-encoded.
MOST_BYTES = 256 << 10
_STATIC = Path(__file__).parent.parent / "static"


class Form(FlaskForm):
    """A form of a page. It refuses fields that it does not have, and keeps text as it was typed.

    Every POST goes through `sent()`, which checks the CSRF token too.
    """

    class Meta(FlaskForm.Meta):
        """Read fields from the form of a request only: Flask-WTF would also take JSON of any type, and files."""

        def wrap_formdata(self, form: FlaskForm, formdata: object) -> object:
            return (request.form or None) if form.is_submitted() and formdata is not None else None

    def sent(self) -> bool:
        """Return whether the form may be acted on. If not, its errors say why."""
        fine = self.validate()
        strangers = {*request.form, *request.files} - {field.name for field in self} - {"csrf_token"}
        if strangers:
            self.form_errors.append(f"This form has no field {min(strangers)[:100]!r}.")
        if "csrf_token" in self.errors:
            self.form_errors.append("This page was open for too long, or was left by signing in or out. Send it again.")
        return fine and not strangers

    def refuse(self, field, refusal):
        """Say at a field, or with None above the form, what a noun would not take."""
        (self.form_errors if field is None else self[field].errors).append(str(refusal))

    @property
    def wrong(self):
        """What the summary on top lists: [(field or None, message)]."""
        fields = sorted((field for field in self if field.name != "csrf_token"), key=self._class_of)
        at_fields = [(field, message) for field in fields for message in _messages(field.errors)]
        return [(None, message) for message in self.form_errors] + at_fields

    def _class_of(self, field):
        """From how far up a field is inherited: what forms share stands last on their pages."""
        return next(far for far, cls in enumerate(type(self).__mro__) if field.name in vars(cls))


def at_most(characters: int = 300) -> Callable[[Form, Field], None]:
    """Return a WTForms validator that refuses a longer text before any other validator reads it.

    Every text field has one. The default is for fields of one line, whose own check has a lower limit and a better
    message.
    """

    def validate(form: Form, field: Field) -> None:
        if len(field.data or "") > characters:
            raise StopValidation(f"That is too long: use at most {characters:,} characters.")

    validate.most_characters = characters
    return validate


class Confirmed(Form):
    """A form that asks for the password again, unless it was typed a short while ago.

    A right password gives the session a new token, so read `g.person.session` after `sent()`.
    """

    password = PasswordField(
        "Your password", [at_most()], description="Asked again because this makes or ends a secret."
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if g.person.session.confirmed:
            del self.password

    def sent(self):
        fine = super().sent()
        return fine and self._is_confirmed()

    def _is_confirmed(self) -> bool:
        if "password" not in self:
            return True
        try:
            fits = access.sign_in(g.person.email, self.password.data or "")
        except errors.RateLimitExceeded as refusal:
            self.refuse("password", refusal)
            return False
        if fits is None:
            self.refuse("password", "This is not your password.")
            return False
        session = sessions.confirm(g.person.session)
        if session is None:
            self.refuse(None, sessions.RENEWED_ELSEWHERE)
            return False
        access.go_on_with(session)
        return True


def is_prefetch() -> bool:
    """Return whether a browser loads this page before anybody asked for it, and may never show it."""
    purposes = [request.headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")]
    return bool(re.search("prefetch|prerender|preview", " ".join(purposes), re.IGNORECASE))


def flashed_messages() -> list[str]:
    """Return the messages for the next page that somebody sees, and forget them if this is one."""
    return [] if request.method == "HEAD" or is_prefetch() else get_flashed_messages()


def checked(check):
    """A WTForms validator from a noun's check, which raises ValueError."""

    def validate(form, field):
        try:
            check(field.data or "")
        except ValueError as refusal:
            raise ValidationError(str(refusal)) from None

    return validate


def listed(words):
    """The choices of a field from `{value: what it is called}`."""
    return [SelectChoice(value, called) for value, called in words.items()]


#: What a view returns for a page: its text, its status and further headers.
Page = tuple[str, int, dict[str, str]]


def page(template: str, status: int = 200, headers: dict[str, str] | tuple[()] = (), **facts: object) -> Page:
    """Return a page, its status and its further headers."""
    return render_template(template, **facts), status, dict(headers)


def number_of_page() -> int:
    """Return which page of a list the address asks for, from 1; a text that is not a number means the first."""
    text = request.args.get("page", "")
    return max(1, int(text)) if re.fullmatch("[0-9]{1,6}", text) else 1


def again(template, **facts):
    """The page of a form that was not taken, with what was typed."""
    return page(template, 400, **facts)


def done(address, words):
    """Where to go after a change, and what to say there."""
    flash(words)
    return redirect(address, 303)


def actor():
    """What the audit log is told of who changes something in which request."""
    return {"actor": g.person.email, "request_id": g.entry.request_id}


def form_id():
    """A name for one form as it is sent out, by which it is known again when it comes twice."""
    return secrets.token_urlsafe(18)


def local(address: str) -> str:
    """Return `address` if it is a path of this site, else "/", so that no link leads to another site."""
    is_path = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    # A browser drops tabs and newlines and takes a backslash for a slash; a long one does not fit into a header.
    return address if is_path and "\\" not in address and len(address) <= _MOST_NEXT else "/"


class FormCookie(SecureCookieSessionInterface):
    """Flask's signed cookie, for what a form and the page after it must remember: never who somebody is."""

    def open_session(self, app, request):
        return None if errors.is_api() else super().open_session(app, request)

    def get_cookie_name(self, app):
        return access.cookie_name("pixel_form")


def refuse_other_sites():
    """Refuse what another site has a browser send here."""
    if request.method in ("GET", "HEAD", "OPTIONS") or errors.is_api():
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        origin = request.headers.get("Origin")
        # A page that tells no referrer has the origin "null": then the form's token decides alone.
        fine = origin in (None, "null") or _host_of(origin) == request.host
    else:
        fine = site in ("same-origin", "none")
    if not fine:
        raise errors.CrossSiteRequest()


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def bind(app: Flask) -> None:
    """Register the globals and filters of the templates, and the cookie of the forms."""
    live = app.config["PIXEL_ENV"] == "live"
    app.config.update(
        SESSION_COOKIE_SECURE=live, SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/", SESSION_REFRESH_EACH_REQUEST=False,
        WTF_CSRF_TIME_LIMIT=FORM_SECONDS, SEND_FILE_MAX_AGE_DEFAULT=365 * 86400,
    )  # fmt: skip
    app.session_interface = FormCookie()
    app.before_request(refuse_other_sites)
    app.jinja_env.globals.update(
        asset=asset, person=_person, clock=clock, csrf_token=generate_csrf, flashed_messages=flashed_messages
    )  # fmt: skip
    app.jinja_env.filters.update(
        moment=moment, exact=exact, number=number, plural=plural, day=day, clocked=clocked, browser=browser
    )
    texts = ("event_text", "short_text", "whole_text", "message_text", "code_text", "plain_text")
    app.jinja_env.filters.update({name: getattr(foreign_text, name) for name in texts})
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def _person():
    return g.get("person")


@cache
def asset(name):
    """The address of a static file, which changes with its content."""
    return f"/static/{name}?v={hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:8]}"


def moment(when, zone=None):
    """A moment as people say it, with the exact time beside it on hover: a `<time>`; a dash for none."""
    if when is None:
        return "–"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(clock.rfc3339(when), exact(when, zone), ago(when))


def exact(when, zone=None):
    """A moment to the second, in the workspace's zone, and in UTC."""
    if when is None:
        return "–"
    utc = f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    zone = ZoneInfo(zone) if zone else _zone()
    return utc if zone.key == "UTC" else f"{when.astimezone(zone):%Y-%m-%d %H:%M:%S} {zone.key}, {utc}"


def clocked(when):
    """The time of day to the second, in the workspace's zone."""
    return f"{when.astimezone(_zone()):%H:%M:%S}"


def day(when):
    """A day, in the workspace's zone."""
    return f"{when.astimezone(_zone()):%Y-%m-%d}"


def hour(when):
    """An hour of a day, in the workspace's zone."""
    return f"{when.astimezone(_zone()):%d %b %H:%M}"


def ago(when):
    """How far a moment is from now, in words: "3 minutes ago", "in 5 days".

    What is to come is rounded, so that a key that was just made for 90 days ends in 90.
    """
    seconds = (when - clock.now()).total_seconds()
    ahead = seconds > 0
    size = 60 * round(seconds / 60) if ahead else -seconds
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if size >= length:
            words = plural(round(size / length) if ahead else int(size // length), unit)
            return f"in {words}" if ahead else f"{words} ago"
    return "in less than a minute" if ahead else "just now"


def browser(user_agent):
    """A user agent in words: "Firefox on Linux"."""
    known = agents.classify(user_agent)
    return f"{known.browser} on {known.os}" if known.browser and known.os else user_agent or "An unknown browser"


def plural(count, noun):
    """ "1 day", "1,200 days"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def number(count):
    """A number with its thousands apart."""
    return f"{count:,}"


def _zone():
    """The workspace's zone, where there is a workspace."""
    person = g.get("person") if has_request_context() else None
    return ZoneInfo(person.workspace.timezone if person and person.workspace else "UTC")


def _messages(found):
    return found if isinstance(found, (list, tuple)) else [m for below in found.values() for m in below]
