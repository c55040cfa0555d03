"""What the engine's process does by the clock."""

from datetime import timedelta

from flask import current_app

from pixel import clock, keys, links, mail, notices, salts, websites
from pixel.database import transaction
from pixel.extensions import answers, counters, warehouse


def schedule(app, engine):
    """Give the engine its jobs."""

    def in_app(job):
        def run():
            with app.app_context():
                job()

        run.__name__ = job.__name__
        return run

    engine.every(5, in_app(note_key_use))
    engine.every(10, in_app(mail.send_due))
    engine.every(60, in_app(sweep))
    engine.every(60, in_app(keys.sweep))
    engine.every(3600, in_app(salts.sweep))
    engine.every(3600, in_app(forget_old_requests))
    engine.every(3600, in_app(notices.mail_owners))
    engine.every(3600, in_app(forget_removed_websites))
    engine.every(3600, in_app(forget_ended_links))
    engine.every(86400, in_app(mail.sweep))


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
    counters.storage.sweep()
    answers.sweep()


def forget_old_requests():
    """Drop the days of the request log, and of what was dropped, that are older than REQUEST_LOG_DAYS."""
    oldest = (clock.now() - timedelta(days=current_app.config["REQUEST_LOG_DAYS"] + 1)).strftime("%Y%m%d")
    engine = warehouse.start()
    for table in ("requests", "drops"):
        asked = f"SELECT DISTINCT _partition_id AS day FROM {table} WHERE _partition_id < {{oldest:String}}"
        for row in warehouse.query(asked, {"oldest": oldest})["data"]:
            engine.command(f"ALTER TABLE {table} DROP PARTITION {int(row['day'])}")


def forget_removed_websites():
    """Delete the data of the websites that were removed 30 days ago."""
    for website in websites.due():
        for table in ("events", "identities", "drops"):
            _delete(table, website.id)
        websites.delete(website.id)


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


def forget_ended_links():
    """Drop the one-time links that work no more."""
    with transaction() as session:
        links.sweep(session)
