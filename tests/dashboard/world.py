"""A workspace with one of everything that pages are about, and what of it can be changed by a form."""

import re
from types import SimpleNamespace

from pixel import keys, links, members, websites
from pixel.database import db, transaction
from tests.cast import READ, WRITE, Workspace
from tests.pages import PASSWORD, Visitor, person


def world(app, hostile="plain"):
    """Ids of everything in a new workspace, and its owner, signed in. `hostile` is part of every name."""
    ada = Workspace(app, f"{next(_numbers)}.example")
    owner = person(app, ada.id, "owner")
    with app.app_context():
        secret, key = keys.create(ada.id, f"key {hostile}", [READ], "dev")
        _, old = keys.create(ada.id, f"old {hostile}", [READ], "dev")
        _, new = keys.rotate(old.id, "24h", add=[WRITE])
        removed = websites.add(ada.id, f"removed{next(_numbers)}.example", f"removed {hostile}")
        websites.remove(ada.id, removed.id)
        members.invite(ada.id, "Workspace", f"invited{next(_numbers)}@example.com", "viewer", "somebody")
        link = links.of(ada.id)[0]
    mate = person(app, ada.id, "viewer")
    elsewhere = Visitor(app)
    elsewhere.signs_in(owner.email)
    with app.app_context():
        from pixel import sessions

        session = sessions.of(owner.user_id)[0]
    return SimpleNamespace(
        app=app, workspace=ada, owner=owner, mate=mate, secret=secret, key=key.id, old=old.id, new=new.id,
        site=ada.site, removed=removed.id, link=link.id, session=session.id,
    )  # fmt: skip


_numbers = iter(range(1, 10**9))

#: Every form: by endpoint its address, the page that has it, and what is filled in. {name} is an id of the world.
FORMS = {
    "front.switch": ("/switch", "/account", {"workspace": "{workspace}"}),
    "settings.change_password": (
        "/account/password", "/account", {"current": PASSWORD, "new": "five other plain words"},
    ),
    "settings.end_session": ("/account/sessions/{session}/end", "/account", {}),
    "settings.end_other_sessions": ("/account/sessions/end-others", "/account", {}),
    "settings.whose_key": ("/settings/api-keys", "/settings/api-keys", {"found": "{secret}"}),
    "settings.create_key": (
        "/settings/api-keys/new", "/settings/api-keys/new",
        {"name": "made here", "scopes": "pixel:read", "every_website": "all", "expires": "90", "form": "{form}"},
    ),
    "settings.rotate_key": (
        "/settings/api-keys/{key}/rotate", "/settings/api-keys/{key}/rotate",
        {"scopes": "pixel:write", "overlap": "1h", "expires": "same", "form": "{form}"},
    ),
    "settings.revoke_key": ("/settings/api-keys/{key}/revoke", "/settings/api-keys/{key}/revoke", {}),
    "settings.end_overlap": ("/settings/api-keys/{old}/end-overlap", "/settings/api-keys/{old}/end-overlap", {}),
    "settings.discard_key": ("/settings/api-keys/{new}/discard", "/settings/api-keys/{new}/discard", {}),
    "settings.invite": ("/settings/members", "/settings/members", {"email": "new@example.com", "role": "viewer"}),
    "settings.withdraw": ("/settings/members/invitations/{link}/withdraw", "/settings/members", {}),
    "settings.change_role": ("/settings/members/{mate}/role", "/settings/members/{mate}", {"role": "admin"}),
    "settings.remove": ("/settings/members/{mate}/remove", "/settings/members/{mate}", {}),
    "settings.leave": ("/settings/members/leave", "/settings/members/leave", {}),
    "settings.add_website": (
        "/websites/new", "/websites/new", {"domain": "made.example", "name": "Made here", "timezone": "Europe/Berlin"},
    ),
    "settings.send_test_event": ("/websites/{site}/test-event", "/websites/{site}", {}),
    "settings.change_website": (
        "/websites/{site}/change", "/websites/{site}/change", {"name": "Called anew", "timezone": "Asia/Tokyo", "hosts": "shop.example.net"},
    ),
    "settings.remove_website": ("/websites/{site}/remove", "/websites/{site}/remove", {"domain": "{domain}"}),
    "settings.restore_website": ("/websites/{removed}/restore", "/websites", {}),
    "requests.find_request": ("/requests", "/requests", {"found": "req_00000000000000000000000000"}),
    "support.look_up": ("/support", "/support", {"wanted": "somebody@example.com", "reason": "a ticket"}),
    "front.sign_out": ("/sign-out", "/account", {}),
    "front.take_in": ("/sign-in", "/sign-in", {"email": "{email}", "password": PASSWORD, "next": "/account"}),
    "front.send_reset_link": ("/forgot", "/sign-in", {"email": "{email}"}),
    "front.follow_link": ("/links/{invitation}", "/links/{invitation}", {"password": "six quite ordinary words"}),
}  # fmt: skip
#: Sent by whoever comes, signed in or not.
OPEN = ("front.sign_out", "front.take_in", "front.send_reset_link", "front.follow_link")
#: What may be sent again, or by a viewer, because it changes nothing.
CHANGE_NOTHING = ("settings.whose_key", "requests.find_request", "support.look_up", "front.send_reset_link")
#: For every member; the rest is for owners and admins.
FOR_ALL = (
    "front.switch", "settings.change_password", "settings.end_session", "settings.end_other_sessions",
    "settings.whose_key", "settings.leave", "requests.find_request",
)  # fmt: skip


class Form:
    """One of FORMS in a world."""

    def __init__(self, world, endpoint):
        self.world, self.endpoint = world, endpoint
        ids = {**vars(world), "workspace": world.workspace.id, "mate": world.mate.user_id, "email": world.owner.email}
        ids["form"] = f"form-{next(_numbers)}"
        if endpoint == "settings.remove_website":
            with world.app.app_context():
                ids["domain"] = websites.anywhere(world.site).domain
        if endpoint == "front.follow_link":
            with world.app.app_context(), transaction() as session:
                invited = f"follows{next(_numbers)}@example.com"
                ids["invitation"], _ = links.make(
                    session, "invite", invited, "x", world.workspace.id, "viewer", proves_address=True
                )
        path, page, fields = FORMS[endpoint]
        self.path, self.page = path.format(**ids), page.format(**ids)
        self.fields = {name: value.format(**ids) for name, value in fields.items()}

    def token(self, visitor):
        """A token from the page that has the form."""
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', visitor.get(self.page).text)
        return found[1]

    def sent(self, visitor, **more):
        return visitor.send(self.path, {"csrf_token": self.token(visitor), **self.fields, **more})


def snapshot(app):
    """Everything that people decide, as it is in the database now."""
    with app.app_context(), db.engine.connect() as connection:
        found = {}
        for table in db.metadata.sorted_tables:
            if table.name in ("leases", "salts"):
                # It is the servers that decide on those.
                continue
            columns = [
                f'"{column.name}"'
                for column in table.columns
                if column.name != "seen_at" and not column.name.startswith("last_used")
            ]
            # As text and tuples: it is asked a thousand times, of thousands of rows.
            rows = connection.execute(db.text(f"SELECT {', '.join(columns)} FROM {table.name}"))
            found[table.name] = sorted(repr(tuple(row)) for row in rows)
        return found
