"""Who is calling, and what they may: the one auth and scope service of the API and the pages."""

import hmac
import ipaddress
import math
import re
from enum import StrEnum
from functools import cache, wraps
from typing import NamedTuple
from urllib.parse import quote

from flask import current_app, g, redirect, request
from limits import RateLimitItemPerHour, RateLimitItemPerMinute

from pixel import clock, errors, keys, letters, members, sessions, tokens, workspaces
from pixel.extensions import counters

_BEARER = re.compile(r"bearer ([!-+\--~]+)", re.IGNORECASE | re.ASCII)
#: Failed authentications a minute that one address may make before it is told to wait.
FAILURES = RateLimitItemPerMinute(60)
#: Failed sign-ins that one address may make in five minutes, and that all may make for one account in an hour.
SIGN_INS, SIGN_INS_OF_ACCOUNT = RateLimitItemPerMinute(10, 5), RateLimitItemPerHour(100)
#: Mails that one address may ask for in an hour.
LINKS = RateLimitItemPerHour(10)
#: What a page may ask of whoever opens it: to be signed in, a role or more in the workspace, or the support flag.
ENTRANCES = ("person", "viewer", "admin", "owner", "support")


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


class Person(NamedTuple):
    """Who is signed in. Everything a page does is done in this workspace, which is None for a member of none."""

    session: sessions.Signed
    user: members.User
    workspace: workspaces.Workspace | None
    role: str | None
    #: All the person's workspaces as [(Workspace, role)].
    workspaces: list
    #: The websites of the workspace that are seen: all.
    websites: None = None

    @property
    def id(self):
        return self.user.id

    @property
    def email(self):
        return self.user.email

    @property
    def workspace_id(self):
        return self.workspace and self.workspace.id

    def may(self, role):
        """Whether the person's role in the workspace is `role` or more."""
        order = ("viewer", "admin", "owner")
        return self.role is not None and order.index(self.role) >= order.index(role)


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
            _refuse_without(scope, caller, entry)
            return view(*args, **kwargs)

        guarded.scope = scope
        return guarded

    return guard


def by_key():
    """The caller whose key the request carries. Raises one of the 401s, or RateLimitExceeded for too many of them."""
    try:
        key = keys.find(_bearer(), current_app.config["PIXEL_ENV"])
    except errors.PixelError as refusal:
        if key := getattr(refusal, "key", None):
            g.entry.caller = Caller(key, key.workspace_id, key.websites)
        if refusal.status == 401:
            _count_failure()
        raise
    return Caller(key, key.workspace_id, key.websites)


def by_token():
    """The caller for whom the request's query token speaks, and the token: (Caller, tokens.Token).

    The token is the parameter `token`, or comes as Bearer. It may do what its key may, as long as that works. Raises
    one of the 401s, InvalidQuery, InsufficientScope or RateLimitExceeded.
    """
    given = request.args.getlist("token")
    if len(given) > 1:
        raise errors.InvalidQuery(token=["Given more than once."])
    try:
        token = tokens.read(given[0] if given else _bearer())
        key = keys.working(token.key_id)
        if key is None or key.workspace_id != token.workspace_id:
            raise errors.JwtInvalid()
    except errors.PixelError as refusal:
        if refusal.status == 401:
            _count_failure()
        raise
    entry = g.entry
    entry.caller = caller = Caller(key, key.workspace_id, key.websites)
    entry.rate = _counted(_per_minute(current_app.config["RATELIMIT_TOKENS"]), "tokens", key.workspace_id)
    _refuse_without(Scope.PIXEL_READ, caller, entry)
    return caller, token


def enter(entrance):
    """Let a page be opened only by those that one of ENTRANCES lets in. `g.person` is who that is.

    Who is not signed in is led to do that first.
    """

    def guard(view):
        @wraps(view)
        def guarded(*args, **kwargs):
            g.person = g.entry.person = person = by_session()
            if person is None:
                return redirect(sign_in_address(), 303)
            if entrance == "support":
                if not person.user.support:
                    raise errors.NotFound()
            elif entrance != "person":
                if person.workspace is None:
                    return redirect("/account", 303)
                if not person.may(entrance):
                    raise errors.InsufficientRole()
            return view(*args, **kwargs)

        guarded.entrance = entrance
        return guarded

    return guard


def by_session():
    """The Person whose session the request's cookie carries, or None."""
    session = sessions.find(request.cookies.get(session_cookie(), ""))
    user = session and members.by_id(session.user_id)
    if user is None:
        return None
    own = workspaces.of(user.id)
    # A membership that has ended since leaves the session in another workspace.
    workspace, role = next((pair for pair in own if pair[0].id == session.workspace_id), own[0] if own else (None,) * 2)
    return Person(session, user, workspace, role, [tuple(pair) for pair in own])


def is_operator():
    """Whether the caller may see how this server is doing.

    With METRICS_TOKEN that is who carries it; without, who calls from this machine or a private network. A call that a
    proxy passes on comes from nowhere in particular, unless TRUSTED_HOPS says that the proxy is ours.
    """
    if token := current_app.config["METRICS_TOKEN"]:
        return hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode())
    passed_on = "X-Forwarded-For" in request.headers or "Forwarded" in request.headers
    return _is_private(request.remote_addr or "") and (bool(current_app.config["TRUSTED_HOPS"]) or not passed_on)


def refuse_unless_operator():
    """Raise what answers a stranger: one of the 401s where a token is asked for, else NotFound."""
    if is_operator():
        return
    if not current_app.config["METRICS_TOKEN"]:
        raise errors.NotFound()
    _count_failure()
    _bearer()
    raise errors.InvalidApiKey("This is not the METRICS_TOKEN of this server.")


def session_cookie():
    """The name of the cookie that carries a session. Outside development a browser sends it over TLS only."""
    return cookie_name("pixel_session")


def cookie_name(name):
    return f"__Host-{name}" if current_app.config["PIXEL_ENV"] == "live" else name


def sign_in_address():
    """Where to sign in and come back to the page that was asked for."""
    asked = request.full_path.rstrip("?") if request.method == "GET" else request.path
    return "/sign-in" if asked == "/" else f"/sign-in?next={quote(asked, safe='/')}"


def sign_in(email, password):
    """The user whose e-mail and password these are, or None. Raises RateLimitExceeded for too many failures.

    Failures count against the address, and against the account from addresses it is not used from: so nobody can be
    locked out of the place they work from.
    """
    network = network_of_request()
    budgets = [(SIGN_INS, "sign-in", network)]
    known = members.by_email(email)
    if not (known and sessions.known_network(known.id, network)):
        budgets.append((SIGN_INS_OF_ACCOUNT, "sign-in of", letters.lower(email.strip())[:254]))
    for budget in budgets:
        _spend(*budget)
    user = members.verified(email, password)
    if user is not None:
        for budget in budgets:
            counters.hit(*budget, amount=-1)
    return user


def count_link():
    """Count a mail that was asked for by this address. Raises RateLimitExceeded."""
    _spend(LINKS, "link", network_of_request())


def network_of_request():
    """Whom the request's failures are counted for."""
    return _network(request.remote_addr or "")


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
        named = space and scheme.isascii() and scheme.isalnum() and len(scheme) <= 20 and scheme.lower() != "bearer"
        raise errors.InvalidAuthorizationFormat(
            f"The Authorization header has the scheme {scheme}; it must be Bearer <key>." if named else None
        )
    return found[1]


def _count(caller):
    """Count this call for its workspace. Raises RateLimitExceeded."""
    return _counted(
        _per_minute(caller.key.rate_limit or current_app.config["RATELIMIT_API"]), "workspace", caller.workspace_id
    )


def _counted(item, *whose):
    """Where somebody stands after one more call. Raises RateLimitExceeded."""
    hit = counters.hit(item, *whose)
    if hit is None:
        # The counters are away: nobody is held up, and nothing is counted.
        return None
    count, reset = hit
    rate = Rate(item.amount, max(0, item.amount - count), reset)
    if count > item.amount:
        g.entry.rate = rate
        raise errors.RateLimitExceeded(item.amount, seconds_until(reset))
    return rate


def _count_failure():
    """Count a failed authentication for the client's address. Raises RateLimitExceeded."""
    _spend(FAILURES, "address", network_of_request())


def _spend(item, *whose):
    hit = counters.hit(item, *whose)
    if hit and hit[0] > item.amount:
        raise errors.RateLimitExceeded(item.amount, seconds_until(hit[1]), _window(item))


def _window(item):
    return f"{item.multiples} {item.GRANULARITY.name}{'s' if item.multiples > 1 else ''}"


@cache
def _per_minute(calls):
    return RateLimitItemPerMinute(calls)


def seconds_until(moment):
    """Whole seconds until a moment in seconds since 1970, at least one."""
    return max(1, math.ceil(moment - clock.seconds()))


def _is_private(address):
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_private


def _network(address):
    """Whom failures are counted for: an IPv4 address, however it is written; of IPv6 the whole /64 a client owns."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.split("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


def _refuse_without(scope, caller, entry):
    if scope is None:
        return
    entry.required = scope.value
    if scope.value not in caller.key.scopes:
        raise errors.InsufficientScope(
            f"This endpoint requires the '{scope.value}' scope",
            required=scope.value,
            available=list(caller.key.scopes),
        )
