"""Paths of requests as they were sent: routing decodes the variable parts of a path and nothing else."""

import posixpath
from typing import Any
from urllib.parse import unquote

from werkzeug.datastructures import ImmutableDict
from werkzeug.routing import BaseConverter, Map, ValidationError

#: No route has this path.
_NO_PATH = "/%"


def sent(environ: dict[str, Any]) -> str:
    """Return the path of a request as it was sent, percent-encoded."""
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    return of_target(target) if target else environ.get("PATH_INFO", "")


def of_target(target: str) -> str:
    """Return the path of a request target in any of its forms (RFC 9112, section 3.2)."""
    path = target.partition("?")[0]
    if path.startswith("/"):
        # The router would take two slashes for one.
        return _NO_PATH if path.startswith("//") else path
    scheme, colon, rest = path.partition("://")
    if colon and scheme.lower() in ("http", "https"):
        authority, _, rest = rest.partition("/")
        return of_target("/" + rest) if authority and "#" not in authority else _NO_PATH
    return _NO_PATH


class _Segment(BaseConverter):
    """One segment of a path, decoded."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote(value)


class _Anything(_Segment):
    """The rest of a path, for ids that may hold slashes."""

    regex = r"[\s\S]+"
    part_isolating = False
    weight = 200


class _AnythingOrNothing(_Anything):
    """The rest of a path, which may be empty."""

    regex = r"[\s\S]*"
    part_isolating = False


class _File(_Segment):
    """The rest of a path, for files."""

    regex = "[^/].*?"
    part_isolating = False
    weight = 200

    def to_python(self, value: str) -> str:
        path = unquote(value)
        # The file system takes `pixel.css/` and `x/../pixel.css` for `pixel.css`.
        if posixpath.normpath(path) != path:
            raise ValidationError
        return path


class ExactMap(Map):
    """A map with these converters from the start: Flask adds the route of static files before the application can."""

    default_converters = ImmutableDict(
        Map.default_converters
        | {
            "default": _Segment,
            "string": _Segment,
            "path": _File,
            "anything": _Anything,
            "anything_or_nothing": _AnythingOrNothing,
        }
    )
