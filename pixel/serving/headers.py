"""Headers that make a request ambiguous. gunicorn joins repeated headers, so they are found before it does."""

import re
from typing import Any

from pixel.serving.arrival import Refused

#: Headers that hold one value. A second one could be read differently by a proxy (RFC 9110, section 5.3).
#: `Authorization` is not listed: the API answers two of them with invalid_authorization_format.
SINGLE = {
    name.upper(): name
    for name in (
        "Access-Control-Request-Method", "Content-Encoding", "Content-Length", "Content-Location", "Content-Range",
        "Content-Type", "Cookie", "DNT", "Date", "Expect", "From", "Host", "Idempotency-Key", "If-Modified-Since",
        "If-Range", "If-Unmodified-Since", "Max-Forwards", "Origin", "Proxy-Authorization", "Purpose", "Range",
        "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Sec-GPC", "Sec-Purpose",
        "User-Agent", "X-Moz", "X-Request-Id",
    )
}  # fmt: skip
_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?")


def refuse_ambiguous(req: Any) -> None:
    """Raise Refused for a repeated header that holds one value, and for a Host that is missing or malformed.

    `req` is gunicorn's parsed request.
    """
    seen = set()
    host = None
    for name, value in req.headers:
        if name in SINGLE:
            if name in seen:
                raise Refused(400, f"The header {SINGLE[name]} was sent more than once.", SINGLE[name])
            seen.add(name)
            if name == "HOST":
                host = value
    if host is None:
        if req.version >= (1, 1):
            raise Refused(400, "The header Host is missing.", "Host")
    elif not _is_host(host):
        raise Refused(400, "The header Host is not a host name with an optional port.", "Host")


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return bool(found) and int(found[1] or 0) <= 65535
