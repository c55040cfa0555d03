"""Mail: sent once, retried, never lost, and never able to carry what was not meant."""

import re
import socket
import time
from datetime import timedelta
from email import message_from_bytes, policy
from statistics import median

import pytest
from aiosmtpd.controller import Controller
from flask import Flask
from limits import RateLimitItemPerHour

import config
from pixel import access, jobs, keys, mail, members, notices
from pixel.database import db, transaction
from tests.cast import READ, Workspace, load, statements
from tests.pages import Visitor, field, person


class Postbox:
    """A mail server that can refuse."""

    def __init__(self):
        self.received, self.answer, self.recipient_answer = [], "250 OK", "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server, session, envelope):
        if self.answer.startswith("250"):
            self.received.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return self.answer


@pytest.fixture
def postbox(app, monkeypatch):
    box = Postbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Controller(box, hostname="127.0.0.1", port=port, enable_SMTPUTF8=False)
    server.start()
    monkeypatch.setitem(app.config, "SMTP_URL", f"smtp://127.0.0.1:{port}")
    monkeypatch.setitem(app.config, "MAIL_FROM", "Pixel <pixel@example.com>")
    monkeypatch.setitem(app.config, "public_url", "https://pixel.example")
    with app.app_context(), transaction() as session:
        session.execute(db.delete(mail.Mail))
    yield box
    server.stop()


def sends(app: Flask) -> None:
    with app.app_context():
        jobs.send_mails()


def kept(app):
    with app.app_context():
        return db.session.scalars(db.select(mail.Mail).order_by(mail.Mail.id)).all()


def test_an_invitation_is_mailed_and_not_shown(app, ada, postbox):
    owner = person(app, ada.id)
    answer = owner.post("/settings/members", email="guest@example.com", role="viewer")
    assert answer.status_code == 303
    assert "pxl_invite_" not in owner.get(answer.location).text
    assert "pxl_invite_" not in repr([vars(row) for row in kept(app)])
    sends(app)
    sends(app)
    [(recipients, message)] = postbox.received
    assert recipients == ["guest@example.com"]
    assert owner.email in message["Subject"]
    assert message["From"] == "Pixel <pixel@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    link = re.search(r"https://pixel\.example(/links/pxl_invite_\w+)", message.get_content())[1]
    assert "guest@example.com" in Visitor(app).get(link).text
    [row] = kept(app)
    assert row.sealed is None
    assert row.sent_at


@pytest.mark.case(75)
def test_a_reset_link_is_mailed_to_who_has_an_account(app, ada, postbox):
    owner = person(app, ada.id)
    visitor = Visitor(app)
    texts = {
        re.sub(r"req_\w+", "", visitor.post("/forgot", email=email).text)
        for email in (owner.email, "nobody@example.com")
    }
    assert len(texts) == 1
    # Whatever a request says its host is, a link is made of the settings.
    visitor.browser.post("/forgot", data={}, headers={"Host": "evil.example"})
    sends(app)
    [(recipients, message)] = postbox.received
    assert recipients == [owner.email]
    assert "https://pixel.example/links/pxl_reset_" in message.get_content()
    assert "evil" not in message.as_string()


def test_asking_again_and_again_is_stopped(app, ada, postbox):
    visitor = Visitor(app)
    answers = [visitor.post("/forgot", email="somebody@example.com").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]


def test_a_workspace_mails_so_many_invitations_an_hour(
    app: Flask, ada: Workspace, postbox: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "INVITATIONS", RateLimitItemPerHour(2))
    first, second = person(app, ada.id), person(app, ada.id, "admin")
    for inviter in (first, second):
        assert inviter.post("/settings/members", email="somebody@example.com", role="viewer").status_code == 303
    refused = second.post("/settings/members", email="another@example.com", role="viewer")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert field(refused.text, "email") == "another@example.com"
    assert len(kept(app)) == 2


def test_what_the_server_cannot_take_now_is_tried_again(app, ada, postbox, moved_clock):
    owner = person(app, ada.id)
    Visitor(app).post("/forgot", email=owner.email)
    postbox.answer = "451 later"
    for minutes in (0, 1, 5, 30, 120, 720):
        moved_clock.forward(minutes=minutes, seconds=1)
        sends(app)
        sends(app)
    [row] = kept(app)
    assert row.tries == 6
    assert row.due_at is None
    assert row.sealed is None
    assert "451" in row.failure
    assert postbox.received == []


def test_a_mail_waits_for_a_server_that_is_away(app, ada, postbox, moved_clock, monkeypatch):
    owner = person(app, ada.id)
    url = app.config["SMTP_URL"]
    monkeypatch.setitem(app.config, "SMTP_URL", "smtp://127.0.0.1:9")
    Visitor(app).post("/forgot", email=owner.email)
    sends(app)
    assert [row.failure for row in kept(app)] == ["ConnectionRefusedError"]
    monkeypatch.setitem(app.config, "SMTP_URL", url)
    moved_clock.forward(minutes=2)
    sends(app)
    assert len(postbox.received) == 1


def test_a_recipient_that_there_is_not_is_given_up(app, ada, postbox):
    owner = person(app, ada.id)
    Visitor(app).post("/forgot", email=owner.email)
    postbox.recipient_answer = "550 no such user"
    sends(app)
    [row] = kept(app)
    assert (row.due_at, row.sealed, row.tries) == (None, None, 1)


@pytest.mark.parametrize(
    "recipient", ["a@[example.com", 'a@example.com,"', "().a@example.com", "é@example.com", "a@é.example"]
)
def test_a_recipient_that_the_server_cannot_take_is_given_up_and_holds_up_no_other_mail(
    app: Flask, postbox: Postbox, recipient: str
) -> None:
    with app.app_context(), transaction() as session:
        for each in (recipient, "somebody@example.com"):
            mail.post(session, each, "reset", link="https://pixel.example/links/x")
    sends(app)
    assert [recipients for recipients, _ in postbox.received] == [["somebody@example.com"]]
    refused = next(each for each in kept(app) if each.recipient == recipient)
    assert (refused.due_at, refused.sealed, refused.failure) == (None, None, "recipient refused (553)")


@pytest.mark.parametrize(
    "address",
    [
        'x,{0}', '"{0}', "<{0}", "a<{0}", "(a){0}", "a:{0}", "{0};", "{0},", "{0}>", "{0})", "a;{0}", "{0}/", "{0}]",
        "a@[127.0.0.1]", "a@exam_ple.com", "a@example.com:25", "a@example.com?x=1", "a@example.com%00", "a\\{0}",
    ],
)  # fmt: skip
def test_an_address_that_a_mail_header_would_read_in_another_way_is_refused(
    app: Flask, ada: Workspace, postbox: Postbox, address: str
) -> None:
    written = address.format("victim@example.com")
    answer = person(app, ada.id).post("/settings/members", email=written, role="viewer")
    assert answer.status_code == 400
    assert "is no e-mail address" in answer.text
    assert kept(app) == []


def test_no_password_goes_out_in_the_clear(app, ada, postbox, monkeypatch):
    owner = person(app, ada.id)
    monkeypatch.setitem(app.config, "SMTP_URL", app.config["SMTP_URL"].replace("://", "://user:hunter2hunter2@"))
    Visitor(app).post("/forgot", email=owner.email)
    sends(app)
    assert postbox.received == []
    assert [row.failure for row in kept(app)] == ["SMTPNotSupportedError"]


@pytest.mark.parametrize("name", ["a\r\nBcc: evil@example.com", "a\nSubject: x", "a\r\n\r\nbody"])
@pytest.mark.case(98)
def test_a_name_cannot_add_a_header(app, ada, postbox, name):
    with app.app_context(), transaction() as session:
        mail.post(session, "to@example.com", "invite", workspace=name, inviter=name, role="viewer", link="x")
    sends(app)
    for _, message in postbox.received:
        assert message["Bcc"] is None
        assert len(message.get_all("Subject")) == 1
        assert "\n" not in message["Subject"]


@pytest.mark.case(98)
def test_a_mail_is_plain_text_so_that_markup_in_a_name_is_text(app: Flask, postbox: Postbox) -> None:
    name = "<img src=https://evil.example/x>"
    with app.app_context(), transaction() as session:
        mail.post(session, "to@example.com", "invite", workspace=name, inviter=name, role="viewer", link="x")
    sends(app)
    [(_, message)] = postbox.received
    assert message.get_content_type() == "text/plain"
    assert not message.is_multipart()
    assert name in message.get_content()


@pytest.mark.case(75)
def test_a_reset_mail_leaves_the_server_after_the_answer(app: Flask, ada: Workspace, postbox: Postbox) -> None:
    owner = person(app, ada.id)
    answers = [Visitor(app).post("/forgot", email=email) for email in (owner.email, "nobody@example.com")]
    assert postbox.received == []
    own = {"X-Request-Id", "Set-Cookie"}
    headers = [[pair for pair in answer.headers if pair[0] not in own] for answer in answers]
    assert headers[0] == headers[1]
    sends(app)
    assert len(postbox.received) == 1


@pytest.mark.case(75)
def test_asking_for_a_reset_link_takes_the_same_steps_for_every_address(
    app: Flask, ada: Workspace, postbox: Postbox
) -> None:
    owner, executed = person(app, ada.id), []
    for email in (owner.email, "nobody@example.com"):
        visitor = Visitor(app)
        form = {"csrf_token": field(visitor.get("/forgot").text, "csrf_token"), "email": email}
        with statements(app) as sql:
            assert visitor.send("/forgot", form).status_code == 200
        executed.append(sorted(sql))
    assert executed[0] == executed[1]


@pytest.mark.case(75)
def test_asking_for_a_reset_link_takes_about_as_long_for_an_unknown_address(
    app: Flask, ada: Workspace, postbox: Postbox
) -> None:
    email, seconds = person(app, ada.id).email, {"known": [], "unknown": []}
    with app.app_context():
        # In turns, so that both meet the same load of the machine.
        for number in range(200):
            kind = ("known", "unknown")[number % 2]
            started = time.perf_counter()
            members.mail_reset_link(email if kind == "known" else f"x{email[1:]}")
            seconds[kind].append(time.perf_counter() - started)
    assert 0.5 < median(seconds["known"]) / median(seconds["unknown"]) < 2


@pytest.mark.case(75)
def test_a_job_decides_that_an_unknown_address_gets_no_mail(app: Flask, ada: Workspace, postbox: Postbox) -> None:
    owner = person(app, ada.id)
    for email in (owner.email, "nobody@example.com"):
        Visitor(app).post("/forgot", email=email)
    with app.app_context():
        mail.send_due()
    assert postbox.received == []
    assert {row.recipient for row in kept(app)} == {owner.email, "nobody@example.com"}
    assert "given up" not in app.test_cli_runner().invoke(args=["mail", "list"]).output
    sends(app)
    assert [recipients for recipients, _ in postbox.received] == [[owner.email]]
    assert [row.recipient for row in kept(app)] == [owner.email]


# -- notices


@pytest.fixture
def owned(app, ada):
    return ada, person(app, ada.id).email


def mails_owners(app):
    load(app)
    with app.app_context():
        notices.mail_owners()
    sends(app)


def to(postbox, address):
    return [message for recipients, message in postbox.received if recipients == [address]]


def test_an_expiring_key_is_mailed_14_7_and_1_days_before(app, owned, postbox, moved_clock):
    ada, address = owned
    with app.app_context():
        now = keys.clock.now()
        secret, key = keys.create(ada.id, "soon over", [READ], "dev", expires_at=now + timedelta(days=20))
        keys.create(ada.id, "for a day", [READ], "dev", expires_at=now + timedelta(days=1))
    counts = []
    for _ in range(21):
        mails_owners(app)
        mails_owners(app)
        counts.append(len(to(postbox, address)))
        moved_clock.forward(days=1)
    assert counts[5] == 0
    assert counts[6] == 1
    assert counts[13] == 2
    assert counts[19] == 3
    assert counts[20] == 3
    first = to(postbox, address)[0]
    assert first["Subject"] == "The API key soon over expires in 14 days"
    assert f"https://pixel.example/settings/api-keys/{key.id}" in first.get_content()
    assert secret not in first.as_string()


def test_a_key_that_works_now_and_then_or_never_did_is_no_news(app, owned, postbox):
    ada, address = owned
    failing, working, never = ada.key(READ), ada.key(READ), ada.key(READ)
    failing.get("/me")
    for _ in range(2):
        failing.get("/pixel/metrics/nope")
    mails_owners(app)
    assert to(postbox, address) == []
    for _ in range(3):
        never.get("/pixel/metrics/nope")
        working.get("/me")
        working.get("/pixel/metrics/nope")
    mails_owners(app)
    assert to(postbox, address) == []


def test_failing_is_told_when_a_day_has_no_success(app, owned, postbox, moved_clock):
    ada, address = owned
    caller = ada.key(READ)
    caller.get("/me")
    load(app)
    moved_clock.forward(hours=25)
    for _ in range(3):
        caller.get("/pixel/metrics/nope")
    mails_owners(app)
    mails_owners(app)
    [message] = to(postbox, address)
    assert message["Subject"] == "The API key a key used to work and now only fails"
    assert "3 calls" in message.get_content()
    assert "https://pixel.example/docs/errors#invalid_pipe" in message.get_content()
    owner = person(app, ada.id)
    shown = owner.get("/settings/api-keys").text
    assert "used to work, and now every call with it fails" in shown
    caller.get("/me")
    load(app)
    assert "used to work, and now" not in owner.get("/settings/api-keys").text


def test_without_a_mail_server_nothing_is_kept_and_the_command_says_what_would_be(app, owned):
    ada, address = owned
    with app.app_context():
        now = keys.clock.now()
        keys.create(ada.id, "tells", [READ], "dev", expires_at=now + timedelta(days=10))
        with transaction() as session:
            session.execute(db.update(keys.ApiKey).filter_by(name="tells").values(created_at=now - timedelta(days=30)))
            session.execute(db.delete(mail.Mail))
        notices.mail_owners()
    assert kept(app) == []
    said = app.test_cli_runner().invoke(args=["mail", "list"])
    assert said.exit_code == 0
    assert address in said.stdout
    assert "tells" in said.stdout
    from pixel.extensions import warehouse

    warehouse.start()


# -- settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"SMTP_URL": "mail.example.com"},
        {"SMTP_URL": "http://mail.example.com"},
        {"SMTP_URL": "smtp://"},
        {"SMTP_URL": "smtp://host:port"},
        {"SMTP_URL": "smtp://host:99999"},
        {"SMTP_URL": "smtp://host", "MAIL_FROM": ""},
        {"SMTP_URL": "smtp://host", "MAIL_FROM": "nobody"},
        {"SMTP_URL": "smtp://host", "PUBLIC_URL": ""},
        {"PUBLIC_URL": "pixel.example"},
        {"PUBLIC_URL": "https://pixel.example/path"},
        {"PUBLIC_URL": "javascript:alert(1)"},
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(wrong):
    fine = {"SMTP_URL": "smtp://host:587", "MAIL_FROM": "Pixel <a@example.com>", "PUBLIC_URL": "https://pixel.example"}
    assert config.load(**fine).public_url == "https://pixel.example"
    with pytest.raises(config.WrongSetting) as refusal:
        config.load(**{**fine, **wrong})
    assert str(refusal.value).endswith(".")
    assert next(iter(wrong)) in str(refusal.value)


def test_a_silent_website_and_a_jump_of_refusals_are_mailed_once(app, ada, postbox, moved_clock):
    caller, _ = ada.key(READ, "pixel:write"), person(app, ada.id)
    for _ in range(2):
        caller.sends(ada.site, visitor_id="v")
        moved_clock.forward(days=1)
    caller.post("/pixel/events/batch", json={"events": [{"website_id": ada.site, "name": "oops"}] * 25})
    moved_clock.forward(minutes=30)
    load(app)
    for _ in range(2):
        with app.app_context():
            notices.mail_owners()
        sends(app)
    mine = [m for recipients, m in postbox.received if ada.site in m.get_content()]
    assert sorted(message["Subject"] for message in mine) == [
        "Many events of ada.example are not counted",
        "ada.example has fallen silent",
    ]
    texts = " ".join(message.get_content() for message in mine)
    assert f"https://pixel.example/websites/{ada.site}" in texts
    assert "invalid_body" in texts
