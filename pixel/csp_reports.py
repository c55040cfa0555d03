"""Violations of the Content-Security-Policy, as browsers report them."""

import logging
import re
from typing import NamedTuple

from pixel import errors, redaction, telemetry

PATH = "/csp-reports"
#: What `report-uri` sends (CSP level 2) and what `report-to` sends (Reporting API).
REPORT, REPORTS = "application/csp-report", "application/reports+json"
COUNTER = "pixel_csp_reports"
#: How many violations of one request are logged. All are counted.
MOST_LOGGED = 5
_LONGEST_PATH, _LONGEST_ORIGIN = 200, 100
_DIRECTIVES = {
    "base-uri", "child-src", "connect-src", "default-src", "font-src", "form-action", "frame-ancestors", "frame-src",
    "img-src", "manifest-src", "media-src", "object-src", "script-src", "script-src-attr", "script-src-elem",
    "style-src", "style-src-attr", "style-src-elem", "worker-src",
}  # fmt: skip
_OTHER = "(other)"
#: A URL as browsers report it: its host is ASCII. A user and a password are left out.
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,39}+)://(?:[^/?#@]*+@)?"
    r"(?P<host>(?:[A-Za-z0-9._-]{1,253}+|\[[0-9A-Fa-f:.]{2,45}+\])(?::[0-9]{1,5}+)?)(?P<path>/[^?#]*+)?(?:[?#]|$)"
)
#: A blocked URL without a host: a keyword such as `inline`, or a scheme.
_KEYWORD = re.compile(r"([a-z][a-z-]{0,39})(?::|$)")
_LOG = logging.getLogger("pixel")


class Violation(NamedTuple):
    """What may be logged of a violation: no query, no secret, no text of the page."""

    #: The path of the page.
    page: str
    #: One of _DIRECTIVES or _OTHER.
    directive: str
    #: The origin that was blocked, or a keyword such as `inline` or `data`.
    blocked: str


def read(media_type: str, body: object) -> list[Violation]:
    """Return the violations in a report of a media type. Raises InvalidBody."""
    if media_type == REPORT:
        report = body.get("csp-report") if isinstance(body, dict) else None
        if not isinstance(report, dict):
            raise errors.InvalidBody(_body=['Must be a JSON object with the object "csp-report".'])
        directive = report.get("effective-directive") or report.get("violated-directive")
        return [_violation(report.get("document-uri"), directive, report.get("blocked-uri", ""))]
    if not isinstance(body, list) or not all(_is_report(report) for report in body):
        raise errors.InvalidBody(_body=['Must be a list of JSON objects with the text "type" and the object "body".'])
    reports = [report["body"] for report in body if report["type"] == "csp-violation"]
    return [
        _violation(report.get("documentURL"), report.get("effectiveDirective"), report.get("blockedURL", ""))
        for report in reports
    ]


def record(violations: list[Violation]) -> None:
    """Count the violations, and log one warning that lists the first few different ones."""
    for violation in violations:
        telemetry.count(COUNTER, violation.directive)
    different = list(dict.fromkeys(violations))
    if different:
        listed = "; ".join(f"{v.directive} blocked {v.blocked} on {v.page}" for v in different[:MOST_LOGGED])
        more = f"; and {len(different) - MOST_LOGGED} more" if len(different) > MOST_LOGGED else ""
        _LOG.warning("Content-Security-Policy violation: %s%s", listed, more)


def _is_report(report: object) -> bool:
    return isinstance(report, dict) and isinstance(report.get("type"), str) and isinstance(report.get("body"), dict)


def _violation(page: object, directive: object, blocked: object) -> Violation:
    if not (isinstance(page, str) and isinstance(directive, str) and isinstance(blocked, str)):
        raise errors.InvalidBody(_body=["The page, the directive and the blocked URL must be text."])
    # Older browsers send the whole directive.
    name = directive.partition(" ")[0]
    return Violation(_path(page), name if name in _DIRECTIVES else _OTHER, _origin(blocked))


def _path(url: str) -> str:
    parts = _URL.match(url)
    return _bounded(parts["path"] or "/", _LONGEST_PATH) if parts else _OTHER


def _origin(url: str) -> str:
    if parts := _URL.match(url):
        return _bounded(f"{parts['scheme']}://{parts['host']}", _LONGEST_ORIGIN)
    keyword = _KEYWORD.match(url)
    return keyword[1] if keyword else _OTHER


def _bounded(text: str, longest: int) -> str:
    """Return text that may be logged, in ASCII: control characters and others are escaped."""
    return ascii(redaction.line(text))[1:-1][:longest]
