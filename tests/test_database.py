"""The relational store, in SQLite and in PostgreSQL: one writes at a time, and everyone sees it at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import NoResultFound, OperationalError

import config
from pixel import clock, doctor, errors, jobs, keys, leases, links, mail, members, postgresql, salts, websites
from pixel.database import db, has_model, options, transaction
from tests import stores
from tests.cast import READ
from tests.server import Server, until

AT_ONCE = 8


def all_at_once(app, verb, times=AT_ONCE):
    """What `times` calls of the verb at the same time return; an exception is returned too."""

    def call(_):
        with app.app_context():
            try:
                return verb()
            except Exception as error:
                return error

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(call, range(times)))


# -- tables


def test_the_tables_are_as_the_models_say(app):
    with app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": has_model})
        assert compare_metadata(context, db.metadata) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_tables_with_rows_go_up_and_down(tmp_path, kind):
    url = f"sqlite:///{tmp_path}/control.sqlite" if kind == "sqlite" else stores.new_database(stores.postgresql().url)
    server = Server(tmp_path / "instance", **stores.of(url))
    server.flask("db", "upgrade", "0001_control_data")
    engine = create_engine(config.load(**stores.of(url)).database_url)
    with engine.begin() as connection:
        for row in (
            "workspaces VALUES ('ws_1', 'One', 'UTC', 5, '2026-01-01 00:00:00')",
            "users VALUES ('usr_1', 'a@example.com', NULL, {no}, '2026-01-01 00:00:00')",
            "memberships VALUES ('ws_1', 'usr_1', 'owner')",
            "websites VALUES ('admx_1', 'ws_1', 'a.example', 'A', 'UTC', '2026-01-01 00:00:00')",
            "audit VALUES ('aud_1', 'ws_1', '2026-01-01 00:00:00', 'me', 'key.created', 'key_1', NULL, '{{}}')",
        ):
            connection.execute(text("INSERT INTO " + row.format(no="0" if kind == "sqlite" else "false")))
    server.flask("db", "upgrade")
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": has_model})
        assert compare_metadata(context, db.metadata) == []
        assert connection.scalar(text("SELECT removed_at FROM websites")) is None
        assert connection.scalar(text("SELECT actor FROM audit")) == "me"
    server.flask("db", "downgrade", "0001_control_data")
    server.flask("db", "upgrade")
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT domain FROM websites")) == "a.example"
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_users_with_a_password_and_no_invitation_count_as_proven_after_an_upgrade(tmp_path, kind):
    url = f"sqlite:///{tmp_path}/control.sqlite" if kind == "sqlite" else stores.new_database(stores.postgresql().url)
    server = Server(tmp_path / "instance", **stores.of(url))
    server.flask("db", "upgrade", "0006_claims")
    engine = create_engine(config.load(**stores.of(url)).database_url)
    no, moment = ("0" if kind == "sqlite" else "false"), "'2026-01-01 00:00:00'"
    blob = "x'{:064x}'" if kind == "sqlite" else "'\\x{:064x}'"
    with engine.begin() as connection:
        for row in (
            f"workspaces VALUES ('ws_1', 'One', 'UTC', NULL, {moment})",
            f"users VALUES ('usr_1', 'has@example.com', 'a hash', {no}, {moment})",
            f"users VALUES ('usr_2', 'none@example.com', NULL, {no}, {moment})",
            f"sessions VALUES ('ses_1', {blob.format(9)}, 'usr_1', 'ws_1', {moment}, {moment}, {moment}, 'a', 'n', 'u')",
            *(
                f"links VALUES ('{purpose}', {blob.format(n)}, '{purpose}', 'x@example.com', 'ws_1', NULL, 'x', {moment}, {moment})"
                for n, purpose in enumerate(("invite", "reset", "welcome"))
            ),
        ):
            connection.exec_driver_sql("INSERT INTO " + row)
    server.flask("db", "upgrade")
    with engine.begin() as connection:
        verified = connection.execute(text("SELECT id FROM users WHERE verified_at IS NOT NULL")).scalars().all()
        proving = connection.execute(text("SELECT id FROM links WHERE proves_address ORDER BY id")).scalars().all()
        assert (verified, proving) == (["usr_1"], ["reset", "welcome"])
    server.flask("db", "downgrade", "0006_claims")
    with engine.begin() as connection:
        # The version before lets any link set a password.
        assert connection.execute(text("SELECT id FROM links ORDER BY id")).scalars().all() == ["reset", "welcome"]
        assert connection.scalar(text("SELECT count(*) FROM sessions")) == 1
    server.flask("db", "upgrade")
    engine.dispose()


def test_tables_may_be_made_by_several_servers_at_once(tmp_path):
    url = stores.new_database(stores.postgresql().url)
    servers = [Server(tmp_path / f"instance{n}", **stores.of(url)) for n in range(3)]
    with ThreadPoolExecutor(3) as threads:
        # Each fails the test when it ends badly.
        list(threads.map(lambda server: server.flask("db", "upgrade"), servers))


def test_a_moment_comes_back_as_it_was_whatever_its_zone(app, ada):
    moment = datetime(2027, 3, 28, 1, 59, 59, 123456, timezone(timedelta(hours=5, minutes=30)))
    with app.app_context():
        _, key = keys.create(ada.id, "k", [READ], "dev", expires_at=moment)
        assert db.session.scalar(select(keys.ApiKey.expires_at).filter_by(id=key.id)) == moment
        assert keys.working(key.id).expires_at.tzinfo is UTC


def test_what_no_row_can_hold_is_not_found_and_does_no_harm(app, ada, nobody):
    with app.app_context():
        assert websites.find("admx_\0") is None
        assert members.by_email("a\0@example.com") is None
        assert links.find("pxl_reset_\0") is None
    assert app.test_client().get("/links/pxl_reset_%00").status_code in (404, 410)
    assert app.test_client().get("/api/v1/pixel/websites/%00").status_code in (401, 404)


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1 FROM not_there_yet", "SET default_transaction_read_only = on; COMMIT; CREATE TABLE a (b int)"],
)
def test_what_tells_of_the_state_of_postgresql_is_a_store_that_is_away(statement):
    url = config.load(**stores.of(stores.new_database(stores.postgresql().url))).database_url
    engine = create_engine(url, **options(url))
    postgresql.set_up(engine)
    with engine.connect() as connection:
        *before, last = statement.split("; ")
        for each in before:
            connection.exec_driver_sql(each)
        with pytest.raises(OperationalError) as failure:
            connection.exec_driver_sql(last)
    assert isinstance(errors.translate(failure.value), errors.ServiceUnavailable)
    engine.dispose()


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": "mysql://host/name"},
        {"DATABASE_URL": "postgres://host/name"},
        {"DATABASE_URL": "postgresql+psycopg2://host/name"},
        {"DATABASE_URL": "postgresql://host"},
        {"DATABASE_URL": "postgresql://host:port/name"},
        {"DATABASE_URL": "postgresql://[::1/name"},
        {"DATABASE_URL": "postgresql://host/name?sslmod=require"},
        {"SECRET_KEY": "", "DATABASE_URL": "postgresql://host/name"},
        {"RATELIMIT_STORAGE_URI": "memory://"},
        {"RATELIMIT_STORAGE_URI": "redis://"},
        {"RATELIMIT_STORAGE_URI": "redis://host:port"},
        {"RATELIMIT_STORAGE_URI": "redis://:secret@host/0?socket_timeout=60"},
    ],
    ids=str,
)
def test_a_wrong_store_stops_the_start_with_a_sentence(settings):
    with pytest.raises(config.WrongSetting) as refused:
        config.load(**{"SECRET_KEY": stores.SECRET_KEY, **settings})
    assert str(refused.value).startswith(next(iter(settings)))
    assert "secret@" not in str(refused.value)


def test_a_postgresql_url_is_taken_with_and_without_the_driver():
    for url in ("postgresql://me:p%40ss@host:6543/name?sslmode=require", "postgresql:///name"):
        settings = config.load(**stores.of(url))
        assert settings.database_url == url.replace("postgresql", "postgresql+psycopg", 1)
        assert config.load(**stores.of(settings.database_url)).database_url == settings.database_url


# -- one at a time


def test_of_many_who_follow_a_link_one_gets_in(app, ada):
    with app.app_context(), transaction() as session:
        token, _ = links.make(session, "invite", "guest@example.com", "x", ada.id, "viewer", proves_address=True)
    joined = all_at_once(app, lambda: members.choose_password(token, "four plain words here"))
    assert [type(user).__name__ for user in joined if user is not None] == ["User"]


def test_a_form_sent_many_times_at_once_makes_one_key(app, ada):
    showing = keys.Showing("the form", lambda secret: b"sealed")
    made = all_at_once(app, lambda: keys.create(ada.id, "k", [READ], "dev", showing=showing))
    assert sorted(type(result).__name__ for result in made) == ["MadeAlready"] * (AT_ONCE - 1) + ["tuple"]


def test_of_many_who_create_a_key_at_once_as_many_succeed_as_there_is_room_for(app, ada, monkeypatch):
    monkeypatch.setitem(app.config, "MAX_ACTIVE_KEYS", 3)
    made = all_at_once(app, lambda: keys.create(ada.id, "k", [READ], "dev"))
    assert sorted(type(result).__name__ for result in made) == ["LimitReached"] * (AT_ONCE - 3) + ["tuple"] * 3
    with app.app_context():
        assert keys.count(ada.id, "active") == 3


def test_of_many_rotations_at_once_one_successor_works_on(app, ada, caller):
    made = all_at_once(app, lambda: keys.rotate(caller.key_id))
    assert not [result for result in made if isinstance(result, Exception)]
    with app.app_context():
        now = clock.now()
        alive = [key.id for _, key in made if keys.state(keys.get(ada.id, key.id), now) == "active"]
        # Each rotation ends the successor that an earlier one made, so whoever came last has the one that works.
        assert len(alive) == 1


def test_two_owners_who_leave_at_once_do_not_leave_nobody(app, ada):
    with app.app_context():
        with transaction() as session:
            members.join(session, ada.id, "second@example.com", "owner")
        owners = [member.user_id for member in members.of(ada.id)]
    assert len(owners) == 2
    leaving = iter(owners * (AT_ONCE // 2))
    all_at_once(app, lambda: members.remove(ada.id, next(leaving), "x"))
    with app.app_context():
        assert [member.role for member in members.of(ada.id)] == ["owner"]


def test_a_day_has_one_salt_whoever_asks_first(app, moved_clock):
    moved_clock.forward(days=400)
    assert len(set(all_at_once(app, lambda: salts.visitor("admx_1", "192.0.2.1", "agent")))) == 1


def test_a_domain_is_added_once(app, ada):
    made = all_at_once(app, lambda: websites.add(ada.id, "once.example"))
    assert [type(result).__name__ for result in made].count("Website") == 1


def test_a_change_that_fails_leaves_nothing(app, ada):
    def change():
        with transaction() as session:
            session.get_one(websites.Website, ada.site).name = "Changed"
            session.flush()
            session.get_one(websites.Website, "admx_none")

    with app.app_context():
        with pytest.raises(NoResultFound):
            change()
        assert websites.get(ada.id, ada.site).name != "Changed"


@pytest.mark.postgresql
def test_who_stands_still_in_the_midst_of_a_change_holds_up_the_others_for_seconds_only(app, ada):
    stands, goes = threading.Event(), threading.Event()

    def stand_still():
        with app.app_context(), transaction() as session:
            session.get_one(websites.Website, ada.site).name = "Half of it"
            session.flush()
            stands.set()
            goes.wait(60)

    def change():
        with app.app_context():
            websites.change(ada.id, ada.site, "Whole", "UTC")

    with ThreadPoolExecutor(1) as threads:
        standing = threads.submit(stand_still)
        assert stands.wait(10)
        with pytest.raises(OperationalError, match="lock timeout"):
            change()
        until(lambda: not isinstance(all_at_once(app, change, 1)[0], OperationalError), 20)
        goes.set()
        assert isinstance(standing.exception(), OperationalError)
    with app.app_context():
        assert websites.get(ada.id, ada.site).name == "Whole"


def test_a_change_behind_our_back_is_seen_by_the_next_call(app, ada, caller):
    """As an operator would make it, with another program."""
    assert caller.get("/me").status_code == 200
    other = create_engine(app.config["SQLALCHEMY_DATABASE_URI"])
    for state, status in (("'2026-01-01 00:00:00'", 401), ("NULL", 200)) * 3:
        with other.begin() as connection:
            connection.execute(text(f"UPDATE api_keys SET revoked_at = {state} WHERE id = '{caller.key_id}'"))
        assert caller.get("/me").status_code == status
    other.dispose()


def test_a_postgresql_that_says_nothing_is_not_waited_for_by_everyone(app):
    silent = stores.Silent()
    url = config.load(**stores.of(f"postgresql://nobody@127.0.0.1:{silent.port}/nothing")).database_url
    engine = create_engine(url, **options(url))
    postgresql.set_up(engine)
    version = postgresql.Version(engine)

    def fails(ask):
        with pytest.raises(OperationalError):
            ask()

    try:
        for _ in range(200):
            fails(engine.connect)
            fails(version)
        # The first waited two seconds, and whoever came in the second after it was refused at once.
        assert silent.connections() <= 2
    finally:
        postgresql._breaker.worked()


# -- leases


def test_a_lease_has_one_holder_until_it_gives_it_back(app):
    names = iter(range(AT_ONCE))
    taken = all_at_once(app, lambda: leases.take("of many", f"holder {next(names)}"))
    assert taken.count(True) == 1
    with app.app_context():
        (holder,) = db.session.scalars(select(leases.Lease.holder).filter_by(name="of many"))
        assert leases.take("of many", holder)
        assert not leases.take("of many", "somebody else")
        leases.give_back("of many", "somebody else")
        assert not leases.take("of many", "somebody else")
        leases.give_back("of many", holder)
        assert leases.take("of many", "somebody else")


def test_a_lease_that_nobody_renews_is_anybodys(app):
    with app.app_context():
        assert leases.take("left", "gone")
        with transaction() as session:
            lease = session.get_one(leases.Lease, "left")
            lease.until -= leases.LASTS - timedelta(seconds=1)
        assert not leases.take("left", "next")
        with transaction() as session:
            session.get_one(leases.Lease, "left").until -= timedelta(seconds=1)
        assert leases.take("left", "next")
        assert not leases.take("left", "gone")


def test_the_lease_runs_by_the_clock_that_all_servers_share(app, moved_clock):
    shared = app.config["SQLALCHEMY_DATABASE_URI"].startswith("postgresql")
    with app.app_context():
        assert leases.take("clock", "right")
        moved_clock.forward(hours=1)
        # With SQLite there is one machine, and its clock is everyone's.
        assert leases.take("clock", "an hour ahead") is not shared


class Turn(jobs.Turn):
    """A turn at a lease that the engine of the run does not want."""

    NAME = "of two engines"
    RENEW_SECONDS = 0.05


def test_of_two_engines_one_has_the_jobs_and_the_other_goes_on_when_it_ends(app):
    first = Turn(app)
    until(first.is_ours)
    second = Turn(app)
    assert not second.is_ours()
    first.end()
    assert not first.is_ours()
    until(second.is_ours)
    second.end()


def test_many_senders_send_a_mail_once(app, monkeypatch):
    sent = []
    monkeypatch.setitem(app.config, "SMTP_URL", "smtp://localhost")
    monkeypatch.setitem(app.config, "MAIL_FROM", "pixel@example.com")
    monkeypatch.setattr(mail, "_send", lambda mail: sent.append(mail.id))
    with app.app_context(), transaction() as session:
        mail.post(session, "a@example.com", "invite", workspace="W", inviter="x", role="viewer", link="l")
    all_at_once(app, mail.send_due)
    assert len(sent) == 1
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(mail.Mail).where(mail.Mail.id == sent[0])) == 1


def test_the_doctor_compares_the_clocks(app, moved_clock):
    shared = app.config["SQLALCHEMY_DATABASE_URI"].startswith("postgresql")
    with app.app_context():
        assert {check.name: check.fine for check in doctor.examine(app)}["clock"]
        moved_clock.forward(minutes=1)
        assert {check.name: check.fine for check in doctor.examine(app)}["clock"] is not shared
