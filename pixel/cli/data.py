"""Commands about data that leaves."""

import json
import sys
from datetime import datetime

import click
from flask.cli import with_appcontext

from pixel import erasure, export, websites, workspaces
from pixel.cli.group import Command, Group
from pixel.extensions import warehouse


@click.command("export", cls=Command)
@click.argument("target", type=click.Path())
@click.option("--website", "website_id", required=True, help="The website's id.")
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First day, in the website's time zone.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last day. Default: all there is.")
@click.option("--format", type=click.Choice(list(export.FORMATS)), default="parquet", show_default=True)
@click.option("--by", "period", type=click.Choice(list(export.PERIODS)), default="day", show_default=True)
@click.option("--raw", is_flag=True, help="CSV for programs: no quote before a text that looks like a formula.")
@with_appcontext
def export_events(
    target: str,
    website_id: str,
    first: datetime | None,
    last: datetime | None,
    format: str,
    period: str,
    raw: bool,
) -> None:
    """Write a website's events into the folder TARGET, a file a day or month, or into one file. Prints each file.

    A second run continues after an interruption. TARGET is one file when it ends in .parquet, .csv or .ndjson. In CSV,
    a text that a spreadsheet would run as a formula starts with a single quote, unless --raw is given.
    """
    site = _website(website_id)
    days = (moment and moment.date() for moment in (first, last))
    try:
        for file in export.write(site, target, format, *days, period, raw):
            click.echo(file.path)
            click.echo("was there" if file.events is None else f"{file.events} events", err=True)
    except OSError as error:
        raise click.ClickException(f"Not written: {error}. Run it again, it goes on from there.") from None


erase = Group("erase", help="What somebody wants forgotten.")


@erase.command("visitor")
@click.argument("visitor_id")
@click.option("--website", "website_id", help="The website's id.")
@click.option("--workspace", help="All websites of this workspace, by its id or name.")
@click.option("--only", is_flag=True, help="This id alone, and not those that were identified as the same user.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_visitor(visitor_id, website_id, workspace, only, yes):
    """Take a visitor out of journal, warehouse and request log, for good. Prints a receipt as JSON."""
    workspace_id, website_ids = _websites(website_id, workspace)
    warehouse.load()
    ids = [visitor_id] if only else erasure.linked(workspace_id, website_ids, visitor_id)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Erase all that is kept of {len(ids)} visitor ids? It cannot be undone", abort=True, err=True)
    receipt = erasure.erase(workspace_id, website_ids, ids)
    for warning in erasure.warnings(receipt):
        click.echo(warning, err=True)
    click.echo(json.dumps(receipt, indent=2))


def _websites(website_id, workspace):
    """(workspace id, website ids) that a command is about, removed websites too as long as there is data of them."""
    if bool(website_id) == bool(workspace):
        raise ValueError("Say either --website or --workspace.")
    if workspace:
        workspace_id = workspaces.called(workspace).id
        return workspace_id, [*websites.of(workspace_id), *(site.id for site in websites.removed(workspace_id))]
    site = _website(website_id)
    return site.workspace_id, [site.id]


def _website(website_id):
    site = websites.anywhere(website_id, removed=True)
    if site is None:
        raise ValueError(f"There is no website {website_id}.")
    return site
