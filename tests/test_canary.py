"""No secret of the whole run was said anywhere but on the page that is there to show it.

Looked at last; when several processes share the run, each looks back at its own (see the fixture `app`).
"""

import secrets

import pytest

from pixel import links
from pixel.database import db, transaction
from pixel.extensions import journal
from tests import canary
from tests.cast import load
from tests.dashboard.world import world
from tests.pages import PASSWORD, Visitor

#: The pages that show a secret, by design: a new key once, an invitation to pass on where there is no mail, and the
#: page of a link, whose form leads to the link.
SHOWN = {"settings.show_secret", "settings.invite", "front.open_link", "front.follow_link"}


@pytest.mark.last
@pytest.mark.case(102)
def test_no_secret_of_this_run_is_anywhere_it_should_not_be(app):
    look_back(app)


def look_back(app):
    """Make some secrets of each kind, and look for all of the run in every place."""
    here = world(app)
    asked = {"form": secrets.token_hex(8)}
    made = here.owner.post(
        "/settings/api-keys/new", name="canary", scopes="pixel:read", every_website="all", expires="90", form=asked
    )
    assert here.owner.get(made.location).status_code == 200
    with app.app_context(), transaction() as session:
        token, _ = links.make(session, "reset", here.owner.email, "a test", proves_address=True)
    Visitor(app).get(f"/links/{token}")
    app.test_client().get("/nowhere", query_string={"key": here.secret, "session": token})
    journal.flush()
    journal.close()
    assert len(canary.SECRETS) >= 5
    assert PASSWORD in canary.PASSWORDS
    assert "settings.show_secret" in canary.SEEN
    assert {place: text for place, text in canary.SEEN.items() if place not in SHOWN} == {}
    with app.app_context(), db.engine.connect() as connection:
        for table in db.metadata.sorted_tables:
            assert canary.within(repr(connection.execute(db.select(table)).all())) == set(), table.name
    for path in journal.folder.glob("*"):
        assert canary.within(path.read_bytes().decode("latin-1")) == set()
    assert within_warehouse(app) == {}


def within_warehouse(app):
    """The secrets in the warehouse, by table."""
    from pixel.extensions import warehouse

    load(app)
    found = {}
    with app.app_context():
        for table in ("events", "requests", "identities"):
            rows = warehouse.query(
                "SELECT arrayJoin(extractAll(toString(tuple(*)), '[0-9A-Za-z]{32,}')) AS run"
                f" FROM {table} WHERE match(toString(tuple(*)), '[0-9A-Za-z]{{32}}')"
            )["data"]
            found[table] = canary.within(" ".join(row["run"] for row in rows))
    return {table: secrets for table, secrets in found.items() if secrets}
