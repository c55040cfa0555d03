"""Commands. Ids and keys are printed alone on stdout, words on stderr."""

import json
import sys
from datetime import UTC

import click
from flask import current_app
from flask.cli import with_appcontext
from tqdm import tqdm

from pixel import (
    access_log,
    calls,
    clock,
    demo,
    doctor,
    ids,
    keys,
    mail,
    members,
    notices,
    request_log,
    websites,
    workspaces,
)
from pixel.access import Scope
from pixel.cli import data, safety
from pixel.cli.group import Command, Group
from pixel.cli.move import move_installation
from pixel.extensions import warehouse

workspace = Group("workspace", help="Workspaces.")
user = Group("user", help="People.")
website = Group("website", help="Websites.")
key = Group("key", help="API keys.")
mail_ = Group("mail", help="Mail to people.")
request = Group("request", help="The request log.")
import_ = Group("import", help="History from elsewhere.")


def register(app):
    """Add the commands to `flask --app app`."""
    for group in (workspace, user, website, key, mail_, request, import_, data.erase):
        app.cli.add_command(group)
    for command in (
        _doctor, _demo, data.export_events, safety.write_backup, safety.restore_backup, move_installation
    ):  # fmt: skip
        app.cli.add_command(command)
    # A command that was the engine lets go of the folder before it ends.
    app.cli.result_callback()(lambda *_, **__: warehouse.stop())


@workspace.command("create")
@click.argument("name")
@click.option("--owner", required=True, help="E-mail address of the owner.")
@click.option("--timezone", default="UTC", show_default=True, help="IANA name, such as Europe/Berlin.")
def create_workspace(name: str, owner: str, timezone: str) -> None:
    """Create a workspace. Print its id, and a link to the first password of an owner who has none."""
    created = workspaces.create(name, owner, timezone)
    user = members.by_email(owner)
    if not user.is_verified:
        _print_welcome_link(user.email, err=True)
    click.echo(created.id)


@user.command("create")
@click.argument("email")
def create_user(email: str) -> None:
    """Create the account of EMAIL. Print a link to its first password, which works once and within a day."""
    _print_welcome_link(email)


@user.command("reset")
@click.argument("email")
def reset_password(email: str) -> None:
    """Print a link by which EMAIL sets a new password, once and within an hour."""
    click.echo(members.reset_link(email))


@user.command("support")
@click.argument("email")
@click.option("--remove", is_flag=True, help="Take it away again.")
def allow_support(email: str, remove: bool) -> None:
    """Let EMAIL look up any workspace's requests."""
    user = members.allow_support(email, not remove)
    click.echo(f"{user.email} {'is no longer' if remove else 'is'} support.", err=True)
    if not remove and not user.is_verified:
        click.echo(
            "The flag takes effect once they have proven the address. "
            f"For a link that does so: {members.operator_command('create', user.email)}",
            err=True,
        )


def _print_welcome_link(email: str, err: bool = False) -> None:
    link = members.welcome_link(email)
    click.echo(f"Send this link to {members.address(email)} and nobody else. It sets the password, once:", err=True)
    click.echo(link, err=err)


@workspace.command("limit")
@click.argument("workspace")
@click.argument("calls", type=int)
def limit_workspace(workspace, calls):
    """Let a workspace make CALLS calls a minute; 0 gives it the server's limit again."""
    workspaces.limit(workspaces.called(workspace).id, calls or None)


@website.command("add")
@click.argument("domain")
@click.option("--workspace", required=True, help="Id or name.")
@click.option("--name", help="Default: the domain.")
@click.option("--timezone", help="IANA name. Default: the workspace's.")
def add_website(domain, workspace, name, timezone):
    """Add a website. Prints its id."""
    click.echo(websites.add(workspaces.called(workspace).id, domain, name, timezone).id)


@mail_.command("list")
def list_mails() -> None:
    """List the mails that wait or were given up; without SMTP_URL, what would be mailed to owners now."""
    for waiting in mail.waiting():
        state = f"waits, {waiting.tries} tries" if waiting.sealed else "given up"
        click.echo(f"{clock.rfc3339(waiting.created_at)} {waiting.recipient} {waiting.template}: {state}"
                   f"{', ' + waiting.failure if waiting.failure else ''}")  # fmt: skip
    if mail.configured():
        return
    click.echo("SMTP_URL is not set, so no mail is sent. Owners would be told now:", err=True)
    for notice in notices.of(None):
        what = (
            f"expires in {notice.days} days or less" if notice.kind == "expiring" else "used to work and now only fails"
        )
        for owner in members.owners(notice.key.workspace_id):
            click.echo(f"{owner}: the key {notice.key.name} ({notice.key.hint}) {what}")


@key.command("create")
@click.argument("name")
@click.option("--workspace", required=True, help="Id or name.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice([scope.value for scope in Scope]))
@click.option("--website", "website_ids", multiple=True, help="Only this website; repeatable. Default: all.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="Last day, in UTC. Default: never.")
def create_key(name, workspace, scopes, website_ids, expires):
    """Make a key. Prints the key, once and never again."""
    secret, made = keys.create(
        workspaces.called(workspace).id,
        name,
        scopes,
        current_app.config["PIXEL_ENV"],
        website_ids or None,
        expires and expires.replace(hour=23, minute=59, second=59, tzinfo=UTC),
    )
    click.echo(f"{made.id}: keep the key now, it is not shown again.", err=True)
    if not scopes:
        click.echo("It has no scope, so it may call /me only.", err=True)
    click.echo(secret)


@key.command("list")
@click.option("--workspace", required=True, help="Id or name.")
def list_keys(workspace):
    """List a workspace's keys, one JSON object a line, newest first."""
    for k in keys.of(workspaces.called(workspace).id):
        moments = ("created_at", "expires_at", "revoked_at", "last_used_at")
        facts = {
            "id": k.id,
            "name": k.name,
            "hint": k.hint,
            "state": keys.state(k, clock.now()),
            "scopes": k.scopes,
            "websites": k.websites,
            **{name: clock.rfc3339(getattr(k, name)) for name in moments},
            "last_used_address": k.last_used_address,
        }
        click.echo(json.dumps(facts, ensure_ascii=False))


@key.command("rotate")
@click.argument("key")
@click.option("--overlap", type=click.Choice(list(keys.OVERLAPS)), default="24h", show_default=True)
@click.option("--add-scope", "add", multiple=True, type=click.Choice([scope.value for scope in Scope]))
@click.option("--drop-scope", "drop", multiple=True, type=click.Choice([scope.value for scope in Scope]))
def rotate_key(key, overlap, add, drop):
    """Make a successor of KEY (id, hint or name). Prints the new key; the old one works on for the overlap."""
    secret, made = keys.rotate(keys.called(key).id, overlap, add, drop)
    click.echo(f"{made.id}: keep the key now, it is not shown again.", err=True)
    click.echo(secret)


@key.command("revoke")
@click.argument("key")
def revoke_key(key):
    """End KEY (id, hint, name or the key itself) now and for good."""
    click.echo(keys.revoke(keys.called(key).id).id)


@request.command("show")
@click.argument("request_id")
def show_request(request_id):
    """Show one request. REQUEST_ID may have anything around it, a whole pasted error too."""
    found = ids.find_request_id(request_id)
    if not found:
        raise ValueError("There is no request id in that. It reads req_ and 26 letters and digits.")
    row = request_log.find(found)
    if row is None:
        made = calls.made(found)
        days = current_app.config["REQUEST_LOG_DAYS"]
        age = (clock.now() - made).days
        why = f"Requests are kept for {days} days." if age > days else "It did not reach this server."
        raise ValueError(f"No request {found}, made {clock.rfc3339(made)}, is known. {why}")
    click.echo(json.dumps(row, indent=2, ensure_ascii=False))


@import_.command("access-log")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--website", "website_id", required=True, help="The website's id.")
def import_access_log(file, website_id):
    """Take the pageviews of a web server's log (combined format, plain or gzip). Safe to run again."""
    site = websites.anywhere(website_id)
    if site is None:
        raise ValueError(f"There is no website {website_id}.")
    with tqdm(total=access_log.size(file), unit="B", unit_scale=True, file=sys.stderr) as bar:
        outcome = access_log.import_file(file, site, bar.update, lambda text: bar.write(text, file=sys.stderr))
    click.echo(str(outcome), err=True)
    warehouse.load()


@click.command("doctor")
@with_appcontext
def _doctor():
    """Check every setting, store and clock, and say what to do."""
    healthy = True
    for check in doctor.examine(current_app._get_current_object()):
        click.echo(f"{'ok   ' if check.fine else 'WRONG'} {check.name}: {check.says}")
        healthy = healthy and check.fine
    if not healthy:
        raise SystemExit(1)


@click.command("demo", cls=Command)
@click.option("--examples", is_flag=True, help="Print an answer of each report on the demo's traffic, as JSON.")
@with_appcontext
def _demo(examples):
    """Make the demo workspace with 30 days of traffic, unless there is one, and say how to look at it."""
    if examples:
        click.echo(json.dumps(demo.examples(), indent=1, ensure_ascii=False))
        return
    website_id, secret, password = demo.make(lambda text: click.echo(text, err=True))
    address = current_app.config["public_url"]
    click.echo(
        f"""
Pixel API will be at {address}

Sign in as {demo.OWNER} with the password

  {password}

The demo shop's top pages (the key works for a day):

  curl -s "{address}/api/v1/pixel/metrics/p_top_pages?limit=5" \\
    -H "Authorization: Bearer {secret}" | python3 -m json.tool

An event of your own:

  curl -s {address}/api/v1/pixel/events -H "Authorization: Bearer {secret}" \\
    -H "Content-Type: application/json" \\
    -d '{{"website_id": "{website_id}", "name": "pageview", "path": "/hello", "visitor_id": "me"}}'

Manual: {address}/docs
"""
    )
