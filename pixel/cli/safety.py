"""Commands that keep an installation safe."""

import click
from flask import current_app
from flask.cli import with_appcontext

from pixel import backup
from pixel.cli.group import Command


@click.command("backup", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False))
@with_appcontext
def write_backup(folder):
    """Write all that this installation keeps into FOLDER, beside a running server. Prints its manifest's path."""
    manifest = backup.write(folder)
    size = sum(facts["bytes"] for facts in manifest["files"].values())
    click.echo(f"{manifest['rows']['events']} events, {len(manifest['files'])} files, {size >> 20} MiB.", err=True)
    if "secret_key" in manifest["files"]:
        click.echo("It holds the secret key and people's password hashes: keep it as you would keep them.", err=True)
    else:
        click.echo("SECRET_KEY comes from the environment and is not in it: keep it somewhere else.", err=True)
    click.echo(f"{folder}/{backup.MANIFEST}")


@click.command("restore", cls=Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@with_appcontext
def restore_backup(folder):
    """Bring the backup in FOLDER into an installation that holds nothing, and look at what came."""
    manifest = backup.restore(folder)
    rows = ", ".join(f"{number} {table}" for table, number in manifest["rows"].items())
    click.echo(f"Restored what was kept at {manifest['made_at']}: {rows}. Every report answers.", err=True)
    if manifest["secret_key"] != backup.fingerprint():
        click.echo("SECRET_KEY is another one than before: people sign in anew, derived visitor ids change.", err=True)
    if manifest["version"] != current_app.config["VERSION"]:
        click.echo(f"It was written by version {manifest['version']}. Run: flask --app app db upgrade", err=True)
