"""How all commands refuse."""

import click
from flask.cli import AppGroup
from sqlalchemy.exc import NoResultFound, OperationalError

from pixel.errors import PixelError


class Group(AppGroup):
    """Commands whose refusals are one sentence, not a traceback."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except PixelError as error:
            raise click.ClickException(error.message) from None
        except (ValueError, NoResultFound) as error:
            raise click.ClickException(str(error)) from None
        except OperationalError as error:
            raise click.ClickException(f"{error.orig}. Is the database made? flask --app app db upgrade") from None
