"""How all commands refuse: in one sentence, without a traceback."""

from contextlib import contextmanager

import click
from flask.cli import AppGroup
from sqlalchemy.exc import NoResultFound, OperationalError

from pixel.errors import PixelError


@contextmanager
def _refusing():
    try:
        yield
    except PixelError as error:
        raise click.ClickException(error.message) from None
    except (ValueError, NoResultFound) as error:
        raise click.ClickException(str(error)) from None
    except OperationalError as error:
        raise click.ClickException(f"{error.orig}. Is the database made? flask --app app db upgrade") from None


class Group(AppGroup):
    """Commands about one thing."""

    def invoke(self, context):
        with _refusing():
            return super().invoke(context)


class Command(click.Command):
    """A command that stands alone."""

    def invoke(self, context):
        with _refusing():
            return super().invoke(context)
