"""The command that moves an installation."""

import click
from flask import current_app
from flask.cli import with_appcontext

from pixel import move
from pixel.cli.group import Command
from pixel.errors import PixelError
from pixel.warehouse.loader import OutcomeUnknown
from pixel.warehouse.remote import Refused


@click.command("move", cls=Command)
@click.option(
    "--from", "folder", required=True, type=click.Path(exists=True, file_okay=False), help="Its instance folder."
)
@with_appcontext
def move_installation(folder):
    """Copy all that an installation of SQLite and the embedded engine keeps to the PostgreSQL and ClickHouse of the
    settings, and compare every report. Stop its server first. Safe to run again.
    """
    try:
        move.run(current_app.extensions["settings"], folder, lambda text: click.echo(text, err=True))
    except PixelError as error:
        raise click.ClickException(f"{error.message} Run it again.") from None
    except (OutcomeUnknown, Refused) as error:
        raise click.ClickException(f"ClickHouse did not take some rows: {error} Run it again.") from None
