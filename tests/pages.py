"""People who use the pages: a browser without scripts, driven from the test."""

import html
import itertools
import re

from pixel import members, sessions
from pixel.database import transaction
from tests.cast import addresses

PASSWORD = "four plain words here"
_numbers = itertools.count(1)


class Visitor:
    """Somebody with a browser, at an address of their own."""

    def __init__(self, app):
        self.app = app
        self.browser = app.test_client()
        self.address = next(addresses)

    def get(self, path, **options):
        return self.browser.get(path, environ_base={"REMOTE_ADDR": self.address}, **options)

    def post(self, path, form=None, page=None, **fields):
        """Send a form as the page at `page` (default: the same address) has it, with these fields filled in."""
        asked = self.get(page or path)
        token = field(asked.text, "csrf_token")
        values = {"csrf_token": token, **(form or {}), **fields}
        return self.send(path, values)

    def send(self, path, values, **options):
        """Send these values alone."""
        return self.browser.post(path, data=values, environ_base={"REMOTE_ADDR": self.address}, **options)

    def signs_in(self, email, password=PASSWORD):
        # Who is signed in is led on from the form, and has another page to send it from.
        page = "/account" if self.get("/account").status_code == 200 else "/sign-in"
        return self.post("/sign-in", page=page, email=email, password=password)


def person(app, workspace_id=None, role="owner", support=False, email=None):
    """A signed-in Visitor with the role in the workspace; `email` and `user_id` are theirs."""
    email = email or f"person{next(_numbers)}@example.com"
    with app.app_context():
        with transaction() as session:
            if workspace_id:
                user = members.join(session, workspace_id, email, role)
            else:
                user = members.User(id=f"usr_{next(_numbers):014d}", email=email, created_at=members.clock.now())
                session.add(user)
        members.choose_password(members.reset_link(email).rpartition("/")[2], PASSWORD)
        if support:
            members.allow_support(email)
    visitor = Visitor(app)
    visitor.email, visitor.user_id = email, user.id
    answer = visitor.signs_in(email)
    assert answer.status_code == 303, answer.text
    return visitor


def field(text, name):
    """The value of a named input in a page."""
    for tag in re.findall(r"<input[^>]*>", text):
        if re.search(rf'name="{name}"', tag):
            found = re.search(r'value="([^"]*)"', tag)
            return html.unescape(found[1]) if found else ""
    raise AssertionError(f"There is no field {name} in the page.")


def ages(app, visitor, **duration):
    """Have the visitor's password be typed so long ago."""
    from datetime import timedelta

    from sqlalchemy import update

    with app.app_context(), transaction() as session:
        past = sessions.clock.now() - timedelta(**duration)
        session.execute(update(sessions.Session).filter_by(user_id=visitor.user_id).values(confirmed_at=past))
