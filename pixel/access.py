"""Who is calling, and what they may: the one auth and scope service of the API and the pages."""

import ipaddress
import math
import re
from enum import StrEnum
from functools import cache, wraps
from typing import NamedTuple

from flask import current_app, g, request
from limits import RateLimitItemPerMinute

from pixel import clock, errors, keys
from pixel.extensions import counters

_BEARER = re.compile(r"bearer ([!-+\--~]+)", re.IGNORECASE)
#: Failed authentications a minute that one address may make before it is told to wait.
FAILURES = RateLimitItemPerMinute(60)


class Scope(StrEnum):
    """What a key may be allowed, each with its sentence."""

    PIXEL_READ = "pixel:read", "Read reports, visitors, websites and receipts."
    PIXEL_WRITE = "pixel:write", "Send events and identify visitors."
    BRAND_READ = "brand:read", "Reserved. Opens nothing yet."
    BRAND_WRITE = "brand:write", "Reserved. Opens nothing yet."

    def __new__(cls, value, about):
        scope = str.__new__(cls, value)
        scope._value_ = value
        scope.about = about
        return scope


class Caller(NamedTuple):
    """An authenticated caller. Everything a view does is done for this workspace and these websites."""

    key: keys.Key
    workspace_id: str
    websites: tuple | None


class Rate(NamedTuple):
    """Where a workspace stands in its current minute. `reset` is in seconds since 1970."""

    limit: int
    remaining: int
    reset: float


def require(scope):
    """Let a view be called only with a key that has `scope`; `require(None)` takes any key.

    In this order: authentication, rate limit, scope. `g.caller` is who calls.
    """

    def guard(view):
        @wraps(view)
        def guarded(*args, **kwargs):
            entry = g.entry
            g.caller = caller = entry.caller = by_key()
            entry.step("authentication")
            entry.rate = _count(caller)
            entry.step("rate limit")
            _refuse_without(scope, caller)
            return view(*args, **kwargs)

        guarded.scope = scope
        return guarded

    return guard


def by_key():
    """The caller whose key the request carries. Raises one of the 401s, or RateLimitExceeded for too many of them."""
    try:
        key = keys.find(_bearer(), current_app.config["PIXEL_ENV"])
    except errors.PixelError as refusal:
        if refusal.status == 401:
            _count_failure()
        raise
    return Caller(key, key.workspace_id, key.websites)


def stamp(response):
    """Put the rate-limit headers on the response of an authenticated call."""
    if rate := g.entry.rate:
        response.headers.add("X-RateLimit-Limit", str(rate.limit))
        response.headers.add("X-RateLimit-Remaining", str(rate.remaining))
        response.headers.add("X-RateLimit-Reset", str(math.ceil(rate.reset)))
    return response


def _bearer():
    header = request.headers.get("Authorization")
    if header is None:
        raise errors.MissingAuthorization()
    found = _BEARER.fullmatch(header)
    if not found:
        # A word that stands alone may be somebody's key: it is not repeated.
        scheme, space, _ = header.partition(" ")
        named = space and scheme.isalnum() and len(scheme) <= 20 and scheme.lower() != "bearer"
        raise errors.InvalidAuthorizationFormat(
            f"The Authorization header has the scheme {scheme}; it must be Bearer <key>." if named else None
        )
    return found[1]


def _count(caller):
    """Count this call for its workspace. Raises RateLimitExceeded."""
    item = _per_minute(caller.key.rate_limit or current_app.config["RATELIMIT_API"])
    hit = counters.hit(item, "workspace", caller.workspace_id)
    if hit is None:
        # The counters are away: nobody is held up, and nothing is counted.
        return None
    count, reset = hit
    rate = Rate(item.amount, max(0, item.amount - count), reset)
    if count > item.amount:
        g.entry.rate = rate
        raise errors.RateLimitExceeded(item.amount, _seconds_until(reset))
    return rate


def _count_failure():
    """Count a failed authentication for the client's address. Raises RateLimitExceeded."""
    hit = counters.hit(FAILURES, "address", _network(request.remote_addr or ""))
    if hit and hit[0] > FAILURES.amount:
        raise errors.RateLimitExceeded(FAILURES.amount, _seconds_until(hit[1]))


@cache
def _per_minute(calls):
    return RateLimitItemPerMinute(calls)


def _seconds_until(moment):
    return max(1, math.ceil(moment - clock.seconds()))


def _network(address):
    """Whom failures are counted for: an IPv4 address, however it is written; of IPv6 the whole /64 a client owns."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.split("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


def _refuse_without(scope, caller):
    if scope is None:
        return
    g.entry.required = scope.value
    if scope.value not in caller.key.scopes:
        raise errors.InsufficientScope(
            f"This endpoint requires the '{scope.value}' scope",
            required=scope.value,
            available=list(caller.key.scopes),
        )
