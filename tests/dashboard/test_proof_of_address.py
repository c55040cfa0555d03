"""Nobody gets an account, a password or a role by a link that does not prove their address."""

import html
import json
import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from pixel import demo, devices, links, mail, members, sessions, workspaces
from pixel.database import db, transaction
from tests.cast import Workspace
from tests.dashboard.world import snapshot
from tests.pages import PASSWORD, Visitor, field, person

STOLEN = "the thief chose this password"
NEW = "five other plain words"


@pytest.fixture
def thief(app, bob):
    """An admin of some workspace on a server without mail."""
    return person(app, bob.id, "admin")


@pytest.fixture
def victim(ada):
    """An address that nobody has used yet."""
    return f"victim-of-{ada.id.lower()}@example.com"


@pytest.fixture
def mails(app, monkeypatch):
    """A server that sends mail. Call it for the newest link that was mailed to an address."""
    monkeypatch.setitem(app.config, "SMTP_URL", "smtp://127.0.0.1:9")
    monkeypatch.setitem(app.config, "MAIL_FROM", "Pixel <pixel@example.com>")

    def newest_link(address):
        with app.app_context():
            found = db.select(mail.Mail).filter_by(recipient=address).order_by(mail.Mail.id.desc()).limit(1)
            _, text = json.loads(mail._lock().decrypt(db.session.scalar(found).sealed))
        return link_in(text)

    return newest_link


def link_in(text):
    return re.search(r"/links/pxl_\w+", text)[0]


def run(app, *arguments):
    return app.test_cli_runner().invoke(args=list(arguments))


def welcome_link(app, email):
    """The link of `flask user create`."""
    with app.app_context():
        return link_in(members.welcome_link(email))


def owned_workspace(app, email):
    """Make a workspace as `flask workspace create` does; returns the link that it prints for the owner."""
    with app.app_context():
        workspaces.create("Of the victim", email)
    return welcome_link(app, email)


def invites(inviter, email, role="viewer"):
    """The link that an inviter is shown; None when it was mailed."""
    answer = inviter.post("/settings/members", email=email, role=role)
    return link_in(answer.text) if answer.status_code == 200 else None


def sends_password(visitor, link, password=STOLEN):
    """Send a password to a link, whatever form its page has."""
    page = visitor.get(link).text
    token = field(page if "csrf_token" in page else visitor.get("/sign-in").text, "csrf_token")
    return visitor.send(link, {"csrf_token": token, "password": password})


def is_in(visitor):
    return visitor.get("/account").status_code == 200


def user(app, email):
    with app.app_context():
        return members.by_email(email)


def roles(app, email):
    """The roles that the user of an address has in all workspaces."""
    with app.app_context():
        return sorted(role for _, role in workspaces.of(members.by_email(email).id))


def test_an_invitation_shown_before_the_owner_exists_takes_nothing_over(app, thief, victim):
    link, stranger = invites(thief, victim), Visitor(app)
    assert 'name="password"' not in stranger.get(link).text
    before = snapshot(app)
    assert sends_password(stranger, link).status_code == 400
    assert snapshot(app) == before
    assert user(app, victim) is None
    created = run(app, "workspace", "create", "Of the victim", "--owner", victim)
    welcome = link_in(created.stderr)
    assert sends_password(stranger, link).status_code == 400
    assert not user(app, victim).is_verified
    owner = Visitor(app)
    assert owner.post(welcome, password=NEW).status_code == 303
    assert "Of the victim" in owner.get("/settings/members").text
    assert sends_password(stranger, link).status_code == 400
    assert Visitor(app).signs_in(victim, STOLEN).status_code == 400
    assert not is_in(stranger)
    assert is_in(owner)


def test_an_invitation_shown_while_a_welcome_link_is_open_neither_ends_it_nor_sets_a_password(app, thief, victim):
    welcome = owned_workspace(app, victim)
    link, stranger = invites(thief, victim, "admin"), Visitor(app)
    assert sends_password(stranger, link).status_code == 400
    # Nor does the form that the page has: it leads to signing in.
    assert stranger.post(link).location == "/sign-in"
    assert user(app, victim).password_hash is None
    owner = Visitor(app)
    assert owner.post(welcome, password=NEW).status_code == 303
    assert roles(app, victim) == ["owner"]
    assert owner.post(link).status_code == 303
    assert roles(app, victim) == ["admin", "owner"]
    assert user(app, victim).password_hash
    assert Visitor(app).signs_in(victim, NEW).status_code == 303


def test_an_invitation_shown_for_a_verified_user_leaves_password_sessions_and_links_alone(app, ada, thief):
    owner = person(app, ada.id)
    with app.app_context():
        reset = link_in(members.reset_link(owner.email))
    link = invites(thief, owner.email)
    stranger = Visitor(app)
    assert sends_password(stranger, link).status_code == 400
    assert thief.post(link).status_code == 400
    assert is_in(owner)
    assert owner.post(link).status_code == 303
    assert is_in(owner)
    assert Visitor(app).get(reset).status_code == 200
    assert Visitor(app).signs_in(owner.email).status_code == 303


def test_the_page_of_a_shown_invitation_tells_nobody_who_has_an_account(app, ada, thief, victim):
    owner = person(app, ada.id)
    owned_workspace(app, victim)
    texts = set()
    for email in (owner.email, victim, "nobody-at-all@example.com"):
        text = Visitor(app).get(invites(thief, email)).text
        assert f"user create {email}" in text
        texts.add(re.sub(r'value="[^"]*"', "", text.replace(email, "EMAIL")))
    assert len(texts) == 1


@pytest.mark.case(88)
def test_an_address_that_is_read_from_right_to_left_is_isolated_on_the_page_of_a_link(
    app: Flask, thief: Visitor, mails: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = "קנרית@example.com"
    invites(thief, email)
    pages = [visitor.get(mails(email)).text for visitor in (Visitor(app), thief)]
    monkeypatch.setitem(app.config, "SMTP_URL", "")
    link = invites(thief, email)
    for text in (*pages, Visitor(app).get(link).text, thief.get(link).text):
        assert email in text
        assert email not in re.sub(r"<(bdi|pre)\b.*?</\1>|\u2068.*?\u2069", "", text, flags=re.DOTALL)


def test_the_inviter_reads_that_an_account_is_needed(thief, victim):
    text = thief.post("/settings/members", email=victim, role="viewer").text
    assert "creates no account" in text
    assert f"flask --app app user create {victim}" in text


@pytest.mark.parametrize("part", ["$home", "`reboot`", "a|sh", "it's", "a&b", "{a|b}", "!reboot", "#a", "~a", "*"])
def test_the_command_for_the_operator_is_safe_to_paste_into_a_shell(app, thief, part):
    email = f"{part}@example.com"
    answer = thief.post("/settings/members", email=email, role="viewer")
    for text in (answer.text, Visitor(app).get(link_in(answer.text)).text):
        command = re.search(r"<code>(flask [^<]+)</code>", text)[1]
        assert shlex.split(html.unescape(command)) == ["flask", "--app", "app", "user", "create", email]


def test_an_invited_person_without_an_account_gets_one_from_the_operator_and_joins(app, thief, victim):
    link = invites(thief, victim)
    welcome = welcome_link(app, victim)
    guest = Visitor(app)
    guest.post(welcome, password=NEW)
    assert guest.get("/settings/members").location == "/account"
    assert guest.post(link).location == "/"
    assert guest.get("/settings/members").status_code == 200


def test_a_mailed_invitation_proves_the_address(app, ada, thief, victim, mails):
    welcome = owned_workspace(app, victim)
    assert invites(thief, victim) is None
    link, guest = mails(victim), Visitor(app)
    assert guest.post(link, password=NEW).status_code == 303
    assert is_in(guest)
    assert roles(app, victim) == ["owner", "viewer"]
    # The address is proven, so the older link to a first password has no use.
    assert Visitor(app).get(welcome).status_code == 404
    assert sends_password(Visitor(app), link).status_code == 404
    assert Visitor(app).signs_in(victim, NEW).status_code == 303


def test_a_mailed_invitation_sets_no_password_of_a_verified_user(app, ada, thief, mails):
    owner = person(app, ada.id)
    invites(thief, owner.email)
    link = mails(owner.email)
    assert 'name="password"' not in Visitor(app).get(link).text
    assert sends_password(Visitor(app), link).status_code == 400
    assert owner.post(link).status_code == 303
    assert Visitor(app).signs_in(owner.email).status_code == 303


def test_a_page_that_was_opened_before_the_user_was_verified_sets_no_password_afterwards(app, thief, victim, mails):
    invites(thief, victim)
    link = mails(victim)
    early = Visitor(app)
    token = field(early.get(link).text, "csrf_token")
    Visitor(app).post(welcome_link(app, victim), password=NEW)
    assert early.send(link, {"csrf_token": token, "password": STOLEN}).status_code == 400
    with app.app_context():
        assert members.choose_password(link.rpartition("/")[2], STOLEN) is None
    assert Visitor(app).signs_in(victim, NEW).status_code == 303
    assert Visitor(app).get(link).status_code == 200


def test_of_two_mailed_invitations_the_second_needs_the_password_of_the_first(app, ada, thief, victim, mails):
    owner = person(app, ada.id)
    invites(thief, victim)
    first = mails(victim)
    invites(owner, victim, "admin")
    second, guest = mails(victim), Visitor(app)
    guest.post(first, password=NEW)
    assert sends_password(Visitor(app), second).status_code == 400
    assert guest.post(second).status_code == 303
    assert Visitor(app).signs_in(victim, NEW).status_code == 303
    assert roles(app, victim) == ["admin", "viewer"]


def test_two_shown_invitations_add_two_memberships_and_nothing_else(app, ada, thief, victim):
    shown = [invites(thief, victim), invites(person(app, ada.id), victim)]
    guest = Visitor(app)
    guest.post(welcome_link(app, victim), password=NEW)
    for link in shown:
        assert guest.post(link).status_code == 303
        assert guest.get(link).status_code == 404
        assert guest.send(link, {"csrf_token": field(guest.get("/account").text, "csrf_token")}).status_code == 404
    assert roles(app, victim) == ["viewer", "viewer"]


def test_an_invitation_replaced_by_a_shown_one_proves_nothing(app, thief, victim, mails, monkeypatch):
    invites(thief, victim)
    mailed = mails(victim)
    monkeypatch.setitem(app.config, "SMTP_URL", "")
    shown = invites(thief, victim)
    assert Visitor(app).get(mailed).status_code == 404
    assert sends_password(Visitor(app), shown).status_code == 400
    assert user(app, victim) is None


def test_an_invitation_of_somebody_who_has_become_a_member_keeps_their_role(app, ada, victim):
    owner = person(app, ada.id)
    link = invites(owner, victim, "viewer")
    guest = person(app, ada.id, "admin", email=victim)
    assert owner.post("/settings/members", email=victim, role="viewer").status_code == 400
    assert guest.post(link).status_code == 303
    with app.app_context():
        assert members.member(ada.id, guest.user_id).role == "admin"


def test_of_two_proving_links_followed_at_once_one_sets_the_password(app, thief, victim, mails):
    welcome = welcome_link(app, victim)
    invites(thief, victim)
    tokens = [link.rpartition("/")[2] for link in (welcome, mails(victim))]

    def follow(token):
        with app.app_context():
            return members.choose_password(token, f"{token[:12]} chose this") is not None

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(follow, tokens)) == [False, True]


def test_a_link_that_proves_nothing_joins_nobody_but_its_own_address(app, ada, thief):
    owner, other = person(app, ada.id), person(app)
    link = invites(thief, owner.email)
    token = link.rpartition("/")[2]
    with app.app_context():
        assert not members.accept_invitation(token, members.by_id(other.user_id))
        assert members.choose_password(token, STOLEN) is None
        assert links.find(token) is not None
        reset = members.reset_link(owner.email).rpartition("/")[2]
        # A password link is no invitation.
        assert not members.accept_invitation(reset, members.by_id(owner.user_id))
        assert links.find(reset) is not None


@pytest.mark.parametrize(
    ("change", "ended"),
    [
        (lambda owner, other: owner.post(f"{other}/remove", page=other), {"owner", "admin", "viewer"}),
        (lambda owner, other: owner.post(f"{other}/role", page=other, role="viewer"), {"owner", "admin", "viewer"}),
        (lambda owner, other: owner.post(f"{other}/role", page=other, role="admin"), {"owner"}),
    ],
)
def test_nobody_comes_back_by_an_invitation_that_they_made_before_they_lost_their_role(
    app: Flask, ada: Workspace, change: Callable, ended: set[str]
) -> None:
    owner, other = person(app, ada.id), person(app, ada.id)
    invitations = {}
    for role in ("owner", "admin", "viewer"):
        guest = person(app)
        invitations[role] = guest, invites(other, guest.email, role)
    kept = invites(owner, person(app).email, "owner")
    assert change(owner, f"/settings/members/{other.user_id}").status_code == 303
    works = {role for role, (guest, link) in invitations.items() if guest.get(link).status_code == 200}
    assert works == invitations.keys() - ended
    assert Visitor(app).get(kept).status_code == 200
    assert "withdrew an invitation" in owner.get("/settings/audit").text


# -- an unverified user


@pytest.fixture
def unverified(app, ada):
    """An owner who has a password and a session, and whose address is unproven: no version creates such a user."""
    visitor = person(app, ada.id, support=True)
    with app.app_context(), transaction() as session:
        session.get_one(members.User, visitor.user_id).verified_at = None
    return visitor


def test_an_unverified_user_has_no_privileges(app, unverified):
    for path in ("/account", "/settings/members", "/settings/api-keys", "/support"):
        assert unverified.get(path).location.startswith("/sign-in"), path
    visitor = Visitor(app)
    answer, unknown = visitor.signs_in(unverified.email), visitor.signs_in("nobody@example.com")
    assert (answer.status_code, unknown.status_code) == (400, 400)
    shape = [re.sub(r'value="[^"]*"|req_\w+', "", each.text) for each in (answer, unknown)]
    assert shape[0] == shape[1]
    with app.app_context():
        holder = members.by_id(unverified.user_id)
        with pytest.raises(ValueError, match="has not proven"):
            members.change_password(holder, NEW, "ses_1", "192.0.2.1")


def test_an_unverified_owner_gets_no_mail_of_the_workspace_and_is_listed_as_such(app, ada, unverified):
    with app.app_context():
        assert unverified.email not in members.owners(ada.id)
    assert f"<bdi>{unverified.email}</bdi> (has not signed in yet)" in person(app, ada.id).get("/settings/members").text


def test_the_support_flag_takes_effect_when_the_address_is_proven(app, victim):
    welcome = welcome_link(app, victim)
    said = run(app, "user", "support", victim)
    assert said.exit_code == 0
    assert "takes effect once they have proven the address" in said.stderr
    guest = Visitor(app)
    assert guest.get("/support").status_code == 303
    guest.post(welcome, password=NEW)
    assert guest.get("/support").status_code == 200
    assert "takes effect" not in run(app, "user", "support", victim).stderr


def test_a_password_link_of_an_unverified_user_proves_the_address(app, unverified, mails):
    Visitor(app).post("/forgot", email=unverified.email)
    link = mails(unverified.email)
    visitor = Visitor(app)
    assert visitor.post(link, password=NEW).status_code == 303
    assert is_in(visitor)
    with app.app_context():
        assert user(app, unverified.email).is_verified
        # The session that was there before the proof is over.
        assert len(sessions.of(unverified.user_id)) == 1


# -- a reset that comes in between


def resets(app, email, password):
    with app.app_context():
        members.choose_password(members.reset_link(email).rpartition("/")[2], password)


def while_hashing(monkeypatch, happens):
    """Let something happen once, right after a password was found to be right."""
    verify = members.verify_password
    todo = [happens]

    def verified(*args):
        matches = verify(*args)
        while matches and todo:
            todo.pop()()
        return matches

    monkeypatch.setattr(members, "verify_password", verified)


def test_signing_in_with_the_old_password_during_a_reset_leaves_no_session(app, ada, monkeypatch):
    owner, thief = person(app, ada.id), Visitor(app)
    while_hashing(monkeypatch, lambda: resets(app, owner.email, NEW))
    answer = thief.signs_in(owner.email)
    assert answer.status_code == 400
    assert "No account has this e-mail and password." in answer.text
    assert not is_in(thief)
    with app.app_context():
        assert sessions.of(owner.user_id) == []
        assert not devices.is_known_network(owner.user_id, thief.address)
    assert thief.signs_in(owner.email, NEW).status_code == 303


def test_a_password_changed_by_a_session_during_a_reset_stays_as_the_reset_set_it(app, ada, monkeypatch):
    owner = person(app, ada.id)
    while_hashing(monkeypatch, lambda: resets(app, owner.email, NEW))
    answer = owner.post("/account/password", page="/account", current=PASSWORD, new=STOLEN)
    assert answer.status_code == 400
    assert Visitor(app).signs_in(owner.email, STOLEN).status_code == 400
    assert Visitor(app).signs_in(owner.email, NEW).status_code == 303


# -- the commands


def test_a_user_is_created_once_and_gets_a_new_link_until_they_are_verified(app, victim):
    first, second = (link_in(run(app, "user", "create", victim.upper()).stdout) for _ in range(2))
    assert Visitor(app).get(first).status_code == 404
    assert Visitor(app).post(second, password=NEW).status_code == 303
    refused = run(app, "user", "create", victim)
    assert refused.exit_code == 1
    assert f"user reset {victim}" in refused.stderr
    assert refused.stdout == ""
    assert run(app, "user", "create", "no address").exit_code == 1
    assert run(app, "user", "support", "nobody@example.com").exit_code == 1


def test_an_owner_who_has_not_signed_in_gets_a_link_with_each_workspace(app, victim):
    first, second = (link_in(run(app, "workspace", "create", name, "--owner", victim).stderr) for name in "ab")
    assert Visitor(app).get(first).status_code == 404
    Visitor(app).post(second, password=NEW)
    assert "/links/" not in run(app, "workspace", "create", "c", "--owner", victim).stderr


def test_the_owner_of_the_demo_is_verified(app):
    with app.app_context():
        workspaces.create(demo.NAME, demo.OWNER)
        password = demo._password()
    assert Visitor(app).signs_in(demo.OWNER, password).status_code == 303


def test_the_page_of_an_invitation_leads_to_signing_in_without_its_link_in_a_url(app, ada, thief):
    owner = person(app, ada.id)
    link = invites(thief, owner.email)
    visitor = Visitor(app)
    assert "next=" not in visitor.get(link).text
    assert visitor.post(link).location == "/sign-in"
    assert visitor.signs_in(owner.email, PASSWORD).location == link
