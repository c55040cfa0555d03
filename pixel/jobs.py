"""What the engine's process does by the clock.

With several servers on one database there are several engines. What is about the data they share is done by the one
that has the lease; what is about a server's own files, or comes to the same however often it is done, by each.
"""

import logging
import threading
import time
from datetime import timedelta

from flask import current_app

from pixel import clock, devices, ids, keys, leases, links, mail, members, notices, salts, websites
from pixel.database import transaction
from pixel.extensions import answers, counters, warehouse

_LOG = logging.getLogger("pixel")


class Turn:
    """Whether this engine has the lease of the jobs. A thread of its own renews it, however long a job takes."""

    NAME = "jobs"
    RENEW_SECONDS = leases.LASTS.total_seconds() / 3

    def __init__(self, app):
        self._app = app
        self._holder = "engine_" + ids.random(14)
        self._until = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="lease", daemon=True)
        self._thread.start()

    def is_ours(self):
        """Whether it is this engine that does the jobs now."""
        return time.monotonic() < self._until

    def end(self):
        """Give the lease back, for another engine to go on at once."""
        self._over.set()
        self._thread.join(timeout=10)
        if self.is_ours():
            self._until = 0.0
            self._with_database(leases.give_back)

    def _renew_for_ever(self):
        # A command that is the engine for a moment is over by then.
        wait_seconds = 1
        while not self._over.wait(wait_seconds):
            wait_seconds = self.RENEW_SECONDS
            asked = time.monotonic()
            taken = self._with_database(leases.take)
            if taken is not None:
                # Counted from before the question, so that this engine never believes in it longer than the others.
                self._until = asked + leases.LASTS.total_seconds() if taken else 0.0

    def _with_database(self, verb):
        """What the verb of `leases` says, or None when the database is away."""
        try:
            with self._app.app_context():
                return verb(self.NAME, self._holder)
        except Exception as error:
            _LOG.warning("the lease of the jobs: %s", type(error).__name__)
            return None


def schedule(app, engine):
    """Give the engine its jobs."""
    turn = Turn(app)
    engine.at_stop(turn.end)

    def each(seconds, job):
        def run():
            with app.app_context():
                job()

        run.__name__ = job.__name__
        engine.every(seconds, run)

    def one(seconds, job):
        def run():
            if turn.is_ours():
                with app.app_context():
                    job()

        run.__name__ = job.__name__
        engine.every(seconds, run)

    # Of this server's own files, or of what its own warehouse tells.
    each(5, note_key_use)
    each(60, sweep)
    each(60, give_back_memory)
    each(3600, forget_old_requests)
    # Not once a day: an engine that is started anew every day would never come to it.
    each(3600, forget_old_events)
    each(3600, forget_removed_websites)
    # Of what all servers share.
    one(10, send_mails)
    one(60, keys.sweep)
    one(3600, salts.sweep)
    one(3600, notices.mail_owners)
    one(3600, forget_emptied_websites)
    one(3600, forget_ended_links)
    one(3600, forget_old_networks)
    one(86400, mail.sweep)


def send_mails() -> None:
    """Send the mails that are due. Reset links to unknown addresses are deleted first."""
    if mail.configured():
        members.release_reset_mails()
        mail.send_due()


def note_key_use():
    """Keep with each key when and from where it was last used."""
    rows = warehouse.query(
        "SELECT key_id, max(at) AS last, argMax(address, at) AS address, argMax(user_agent, at) AS user_agent"
        " FROM requests WHERE key_id != '' AND at > {since:DateTime64(3)} GROUP BY key_id",
        {"since": clock.warehouse_moment(clock.now() - timedelta(minutes=2))},
    )["data"]
    if rows:
        keys.note_use({r["key_id"]: (clock.from_warehouse(r["last"]), r["address"], r["user_agent"]) for r in rows})


def sweep():
    """Drop what has run out: counters of past minutes, answers too old to give."""
    counters.sweep()
    answers.sweep()


def give_back_memory():
    """Have this server's own warehouse let go of the memory that reports and loads have left behind."""
    warehouse.start().give_back_memory()


def forget_old_requests():
    """Drop the days of the request log, and of what was dropped, that are older than REQUEST_LOG_DAYS."""
    oldest = clock.now() - timedelta(days=current_app.config["REQUEST_LOG_DAYS"] + 1)
    _drop_partitions(["requests", "drops"], oldest.strftime("%Y%m%d"))


def forget_old_events():
    """Drop the months of events, by their own time, and of identify calls that are older than RETENTION_MONTHS.

    A month goes when all of it is older. What is imported from before that goes as well, within the hour.
    """
    now = clock.now()
    months = now.year * 12 + now.month - 1 - current_app.config["RETENTION_MONTHS"]
    _drop_partitions(["events", "identities"], f"{months // 12:04}{months % 12 + 1:02}")


def _drop_partitions(tables, oldest):
    """Drop the partitions of some tables that come before `oldest`, which is a partition's name."""
    engine = warehouse.start()
    for table in tables:
        asked = f"SELECT DISTINCT _partition_id AS id FROM {table} WHERE _partition_id < {{oldest:String}} ORDER BY id"
        for row in warehouse.query(asked, {"oldest": oldest})["data"]:
            # However large: a ClickHouse server refuses what is over 50 GB otherwise.
            engine.command(
                f"ALTER TABLE {table} DROP PARTITION {int(row['id'])} SETTINGS max_partition_size_to_drop = 0"
            )


def forget_removed_websites():
    """Delete the data of the websites that were removed 30 days ago from the warehouse of this server."""
    for website in websites.due():
        for table in ("events", "identities", "drops"):
            _delete(table, website.id)


def _delete(table, website_id):
    """Delete a website's rows: only the parts that have any are written anew."""
    asked = f"SELECT DISTINCT _partition_id AS id FROM {table} WHERE website_id = {{website:String}}"
    engine = warehouse.start()
    for row in warehouse.query(asked, {"website": website_id})["data"]:
        # Ids of ours, and of partitions, are plain letters and digits.
        engine.command(
            f"ALTER TABLE {table} DELETE IN PARTITION ID '{row['id']}' WHERE website_id = '{website_id}'"
            " SETTINGS mutations_sync = 2"
        )


def forget_emptied_websites():
    """Forget the websites whose data each server has had a day to delete."""
    for website in websites.due(websites.KNOWN):
        websites.delete(website.id)


def forget_ended_links():
    """Drop the one-time links that work no more."""
    with transaction() as session:
        links.sweep(session)


def forget_old_networks() -> None:
    """Forget the networks that nobody has signed in from for 90 days."""
    with transaction() as session:
        devices.sweep(session)
