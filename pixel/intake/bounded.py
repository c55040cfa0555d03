"""The request of this program: Flask's, with a bound on the cost of parsing each part of it."""

import re
from typing import Any

from flask import Request
from werkzeug.datastructures import Accept, ImmutableMultiDict, LanguageAccept
from werkzeug.http import parse_accept_header, parse_cookie
from werkzeug.utils import cached_property

from pixel import errors, percent

#: Parameters of a query string and fields of a form. A key for 1,000 websites is one form.
MOST_PARAMETERS, MOST_FIELDS = 500, 2000
_LONGEST_NAME = 300
#: What is read of an Accept header: browsers send at most 200 characters.
_MOST_ACCEPTED = 300
#: Headers that matter for static files only. Browsers send at most 100 characters.
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE", "HTTP_RANGE")
_LONGEST_CONDITION = 300
#: A cookie of ours (`access.cookie_name`), and how many are read. A browser sends each of the few once.
_COOKIE = re.compile(r"(?:^|;) ?((?:__Host-)?pixel_[^;]*)")
_MOST_COOKIES = 20


class BoundedRequest(Request):
    """A request without the parts that are too long or too many to parse, or that is refused because of them."""

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        for name in _CONDITIONS:
            if len(environ.get(name, "")) > _LONGEST_CONDITION:
                del environ[name]
        super().__init__(environ, *args, **kwargs)

    @cached_property
    def args(self) -> ImmutableMultiDict[str, str]:
        """The parameters of the query string. Raises InvalidQuery for more than MOST_PARAMETERS.

        A name that is too long for any parameter is not decoded.
        """
        query = self.query_string
        if query.count(b"&") >= MOST_PARAMETERS:
            raise errors.InvalidQuery(_query=[f"Has more than {MOST_PARAMETERS} parameters."])
        parts = [part.partition("=") for part in query.decode("utf-8", "replace").split("&") if part]
        return ImmutableMultiDict(
            (percent.decode(name) if len(name) <= _LONGEST_NAME else name, percent.decode(value))
            for name, _, value in parts
        )

    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies of this program; other programs of the same host have theirs."""
        own = _COOKIE.findall(self.headers.get("Cookie", ""))
        return parse_cookie("; ".join(own[:_MOST_COOKIES]), ImmutableMultiDict)

    @cached_property
    def accept_languages(self) -> LanguageAccept:
        return parse_accept_header(_cut(self.headers.get("Accept-Language", "")), LanguageAccept)

    @cached_property
    def accept_encodings(self) -> Accept:
        return parse_accept_header(_cut(self.headers.get("Accept-Encoding", "")), Accept)

    def _load_form_data(self) -> None:
        if self.mimetype == "application/x-www-form-urlencoded" and self.get_data().count(b"&") >= MOST_FIELDS:
            raise errors.BadRequest(f"The form has more than {MOST_FIELDS:,} fields.")
        super()._load_form_data()


def _cut(header: str) -> str:
    """Return the whole items at the beginning of a list in a header."""
    return header if len(header) <= _MOST_ACCEPTED else header[:_MOST_ACCEPTED].rpartition(",")[0]
