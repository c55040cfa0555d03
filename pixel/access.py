"""Who is calling, and what they may: the one auth and scope service of the API and the pages."""

import hmac
import ipaddress
import logging
import math
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from functools import cache, wraps
from typing import NamedTuple
from urllib.parse import quote

from flask import after_this_request, current_app, g, redirect, request
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Response

from pixel import clock, devices, errors, forwarding, keys, letters, members, sessions, telemetry, tokens, workspaces
from pixel.extensions import counters

_LOG = logging.getLogger("pixel")
#: How many bytes of a refused request's body are searched for a key.
_MOST_SEARCHED = 16 << 10
#: One word, ASCII or not, without a comma: two headers arrive joined by one.
_BEARER = re.compile(r"bearer ([^\x00-\x20\x7f,]+)", re.IGNORECASE | re.ASCII)
#: The longest Authorization header that is searched for what is wrong with it.
_LONGEST_HINTED = 300
_SCHEME = re.compile(r"bearer", re.IGNORECASE | re.ASCII)
#: Failed authentications a minute that one address may make before it is told to wait.
FAILURES = RateLimitItemPerMinute(60)
#: Wrong passwords in five minutes: from one network, and from one known device for one account.
SIGN_INS = RateLimitItemPerMinute(10, 5)
#: After so many wrong passwords from strangers for one account in an hour, each network of a stranger has few tries.
STRANGER_FAILURES, STRANGER_SIGN_INS = RateLimitItemPerHour(100), RateLimitItemPerMinute(3, 5)
#: Wrong passwords of strangers in five minutes from an IPv6 /48, which may be one client with 65,536 networks.
SITE_SIGN_INS = RateLimitItemPerMinute(50, 5)
#: Sign-ins of strangers, and of known devices and networks, that a process works on at the same moment. Each waits for
#: a hash and occupies a thread, so strangers must leave threads for everybody else.
SIGN_INS_AT_ONCE = 8
_STRANGERS, _KNOWN = threading.BoundedSemaphore(SIGN_INS_AT_ONCE), threading.BoundedSemaphore(SIGN_INS_AT_ONCE)
#: More failed sign-ins than this, over all accounts, are credential stuffing.
STUFFING = RateLimitItemPerMinute(200, 5)
#: Ids of no object in five minutes that a user may try on one page, and searches of support without a result.
MISSES, SUPPORT_MISSES = RateLimitItemPerMinute(30, 5), RateLimitItemPerMinute(100, 5)
#: Mails that one address may ask for in an hour.
LINKS = RateLimitItemPerHour(10)
#: Reports of Content-Security-Policy violations that one address may send in a minute.
CSP_REPORTS = RateLimitItemPerMinute(20)
#: Invitations that the server mails for one workspace in an hour.
INVITATIONS = RateLimitItemPerHour(50)
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
            _warn_of_misplaced_key()
        raise
    return Caller(key, key.workspace_id, key.websites)


def by_token() -> tuple[Caller, tokens.Token]:
    """Authenticate the request by its query token. Return (Caller, tokens.Token).

    The token is the parameter `token` or the Bearer credential, never both (RFC 6750, section 2). It grants what its
    key grants, as long as the key works. Raises one of the 401s, BadRequest, InvalidQuery, InsufficientScope or
    RateLimitExceeded.
    """
    parameters = request.args.getlist("token")
    if len(parameters) > 1:
        raise errors.InvalidQuery(token=["Given more than once."])
    if parameters and "Authorization" in request.headers:
        raise errors.BadRequest(
            "Send the query token as the parameter token or in the header Authorization, not both.",
            header="Authorization",
        )
    try:
        token = tokens.read(parameters[0] if parameters else _bearer())
        key = keys.working(token.key_id)
        if key is None or key.workspace_id != token.workspace_id:
            raise errors.JwtInvalid()
    except errors.PixelError as refusal:
        if refusal.status == 401:
            _count_failure()
            _warn_of_misplaced_key()
        raise
    entry = g.entry
    entry.caller = caller = Caller(key, key.workspace_id, key.websites)
    entry.rate = _counted(_per_minute(current_app.config["RATELIMIT_TOKENS"]), "tokens", key.workspace_id)
    _refuse_without(Scope.PIXEL_READ, caller, entry)
    return caller, token


def enter(entrance: str) -> Callable:
    """Let a page be opened only by those that one of ENTRANCES lets in. Set `g.person`.

    Redirect to sign-in when there is no session. A page about one object has a budget of ids that do not exist.
    """

    def guard(view: Callable) -> Callable:
        @wraps(view)
        def guarded(*args: object, **kwargs: object) -> object:
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
            return _answer_and_count_miss(view, kwargs) if kwargs else view()

        guarded.entrance = entrance
        return guarded

    return guard


def by_session() -> Person | None:
    """Return the verified Person whose session the request's cookie carries, or None."""
    session = sessions.find(request.cookies.get(session_cookie(), ""))
    user = session and members.by_id(session.user_id)
    if user is None or not user.is_verified:
        return None
    own = workspaces.of(user.id)
    # A session may name a workspace whose membership has ended.
    workspace, role = next((pair for pair in own if pair[0].id == session.workspace_id), own[0] if own else (None,) * 2)
    return Person(session, user, workspace, role, [tuple(pair) for pair in own])


def is_operator() -> bool:
    """Return whether the caller may see how this server is doing.

    With METRICS_TOKEN the caller must send that token. Without it the caller must be on this machine or in a private
    network. A forwarded request counts only if trusted proxies report its address: the peer is then a proxy, and being
    private says nothing about the client.
    """
    if token := current_app.config["METRICS_TOKEN"]:
        return hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode())
    return forwarding.is_private(request.remote_addr or "") and forwarding.is_address_known(request.environ)


def refuse_unless_operator():
    """Raise what answers a stranger: one of the 401s where a token is asked for, else NotFound."""
    if is_operator():
        return
    if not current_app.config["METRICS_TOKEN"]:
        raise errors.NotFound()
    _count_failure()
    _bearer()
    raise errors.InvalidApiKey("This is not the METRICS_TOKEN of this server.")


def session_cookie() -> str:
    """Return the name of the cookie that carries a session."""
    return cookie_name("pixel_session")


def device_cookie() -> str:
    """Return the name of the cookie that remembers a browser (see `pixel.devices`)."""
    return cookie_name("pixel_device")


def cookie_name(name: str) -> str:
    """Return the full name of a cookie. In live, the prefix makes browsers send it over TLS only."""
    return f"__Host-{name}" if current_app.config["PIXEL_ENV"] == "live" else name


def set_cookie(response: Response, name: str, value: str, lasts: timedelta) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send."""
    response.set_cookie(
        name, value, max_age=int(lasts.total_seconds()), path="/", httponly=True, samesite="Lax",
        secure=current_app.config["PIXEL_ENV"] == "live",
    )  # fmt: skip


def go_on_with(session: sessions.Signed) -> None:
    """Use the new token of the person's session in the rest of this request, and send it to the browser."""
    g.person = g.entry.person = g.person._replace(session=session)

    @after_this_request
    def send_token(response: Response) -> Response:
        set_cookie(response, session_cookie(), session.token, sessions.LONGEST)
        return response


def remember_device(response: Response, user: members.User) -> None:
    """Remember the browser of this request as known to a user who has just proven who they are."""
    cookie = devices.renew(request.cookies.get(device_cookie(), ""), user.id, user.password_hash)
    set_cookie(response, device_cookie(), cookie, devices.COOKIE_LASTS)


def sign_in_address():
    """Where to sign in and come back to the page that was asked for."""
    asked = request.full_path.rstrip("?") if request.method == "GET" else request.path
    return "/sign-in" if asked == "/" else f"/sign-in?next={quote(asked, safe='/')}"


def sign_in(email: str, password: str) -> members.User | None:
    """Return the verified user with this e-mail and password, or None. Raise RateLimitExceeded for too many failures.

    Each try is charged before the password is hashed, and refunded if the password is right. A known device has a
    budget of its own, which nobody else can use up. Beyond that budget it counts like any other client of its network.
    A known network has the budget of its network. A stranger has that too, shares a budget with other strangers of an
    IPv6 /48, and has few tries in each network while many wrong passwords from strangers arrive for the account. An
    unknown e-mail is treated like a stranger's known one. A try that finds all places of its kind taken is refused and
    refunded.
    """
    charges: list[_Charge] = []
    try:
        places = _KNOWN if _charge_sign_in(email, charges) else _STRANGERS
    except errors.RateLimitExceeded:
        _note_failed_sign_in()
        raise
    if not places.acquire(blocking=False):
        _refund(charges)
        raise errors.RateLimitExceeded(SIGN_INS_AT_ONCE, 2, "this moment")
    try:
        user = members.authenticate(email, password)
    finally:
        places.release()
    if user is None:
        _note_failed_sign_in()
        return None
    _refund(charges)
    return user


def search_for_support(find: Callable[[], list]) -> list:
    """Return what `find()` returns. Raise RateLimitExceeded, without calling it, after too many empty results."""
    budget = (SUPPORT_MISSES, "misses of support", g.person.id)
    _refuse_if_spent(*budget)
    results = find()
    if not results:
        counters.hit(*budget)
    return results


def count_link():
    """Count a mail that was asked for by this address. Raises RateLimitExceeded."""
    _spend(LINKS, "link", network_of_request())


def count_csp_report() -> None:
    """Count a report of this address. Raises RateLimitExceeded."""
    _spend(CSP_REPORTS, "csp report", network_of_request())


def count_invitation(workspace_id: str) -> None:
    """Count an invitation that is mailed for a workspace. Raise RateLimitExceeded."""
    _spend(INVITATIONS, "invitation", workspace_id)


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


def _bearer() -> str:
    """Return the word after Bearer. Raise MissingAuthorization or InvalidAuthorizationFormat."""
    header = request.headers.get("Authorization")
    if header is None:
        raise errors.MissingAuthorization()
    match = _BEARER.fullmatch(header)
    if match:
        return _decoded(match[1])
    # A single word may be somebody's key, so the message does not repeat it.
    scheme, space, _ = header.partition(" ")
    named = space and scheme.isascii() and scheme.isalnum() and len(scheme) <= 20 and scheme.lower() != "bearer"
    raise errors.InvalidAuthorizationFormat(
        f"The Authorization header has the scheme {scheme}; it must be Bearer <key>." if named else None,
        **_format_hint(_decoded(header)),
    )


def _format_hint(header: str) -> dict[str, str]:
    """Return the `details` that say what is wrong around the key of a malformed Authorization header.

    A header much longer than any key gets no hint, because the search takes time for each character.
    """
    if len(header) > _LONGEST_HINTED:
        return {}
    if scheme := _SCHEME.match(header):
        rest = "".join(" " if keys.is_blank(character) else character for character in header[scheme.end() :])
        if rest.startswith(" ") and len(rest.split()) == 1 and "," not in rest:
            return {"hint": "surrounding_whitespace"}
    return {} if header.isascii() else {"hint": "non_ascii_characters"}


def _decoded(value: str) -> str:
    """Return the text of a header value. WSGI passes its bytes as Latin-1, and most clients send UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _warn_of_misplaced_key() -> None:
    """Log a warning if the refused request has an API key in its query string, its cookies or its body.

    The key is never accepted there. It may be in histories and logs, so its owner has to replace it.
    """
    environ = request.environ
    # Undecoded: no client escapes the characters of a key.
    texts = {
        "the query string": environ.get("QUERY_STRING", ""),
        "a cookie": environ.get("HTTP_COOKIE", ""),
        "the body": _start_of_body(),
    }
    if places := [place for place, text in texts.items() if keys.contains_key(text)]:
        _LOG.warning("An API key was sent in %s and not accepted. Rotate the key.", " and ".join(places))


def _start_of_body() -> str:
    try:
        return request.stream.read(_MOST_SEARCHED).decode("latin-1")
    except (ClientDisconnected, OSError, ValueError):
        return ""


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


def _answer_and_count_miss(view: Callable, arguments: dict[str, object]) -> Response:
    """Return the response of a page about one object, and count a 404. Raise RateLimitExceeded after too many.

    Each page has its own budget: another site can open a page in somebody's browser, and use up one budget only.
    """
    budget = (MISSES, "misses", request.endpoint, g.person.id)
    _refuse_if_spent(*budget)
    try:
        response = current_app.make_response(view(**arguments))
    except Exception as error:
        if errors.translate(error).status == 404:
            counters.hit(*budget)
        raise
    if response.status_code == 404:
        counters.hit(*budget)
    return response


class _Charge(NamedTuple):
    """One hit of a budget. `count` and `reset`, in seconds since 1970, are of its window; 0 if counters are away."""

    item: RateLimitItem
    whose: tuple[str, ...]
    count: int
    reset: float

    @classmethod
    def make(cls, item: RateLimitItem, *whose: str) -> "_Charge":
        return cls(item, whose, *(counters.hit(item, *whose) or (0, 0.0)))

    @property
    def exceeds(self) -> bool:
        return self.count > self.item.amount

    def refuse_if_exceeded(self) -> None:
        if self.exceeds:
            raise errors.RateLimitExceeded(self.item.amount, seconds_until(self.reset), _window(self.item))

    def refund(self) -> None:
        counters.refund(self.item, *self.whose, reset=self.reset)


def _charge_sign_in(email: str, charges: list[_Charge]) -> bool:
    """Charge a try to the budgets that apply, and add each to `charges`. Raise RateLimitExceeded.

    Return whether the device or the network is known.
    """

    def charge(item: RateLimitItem, *whose: str) -> _Charge:
        charges.append(_Charge.make(item, *whose))
        return charges[-1]

    user, network = members.by_email(email), network_of_request()
    device = _known_device(user)
    if user and device and not charge(SIGN_INS, "sign-in device", device, user.id).exceeds:
        return True
    charge(SIGN_INS, "sign-in", network).refuse_if_exceeded()
    if devices.is_known_network(user.id if user else "", network):
        return True
    if network.endswith("/64"):
        charge(SITE_SIGN_INS, "sign-in site", _site(network)).refuse_if_exceeded()
    account = devices.keyed_hash("account", letters.lower(email.strip())).hex()
    tries = charge(STRANGER_SIGN_INS, "sign-in of", account, network)
    if charge(STRANGER_FAILURES, "sign-in of", account).exceeds:
        tries.refuse_if_exceeded()
    return False


def _refund(charges: list[_Charge]) -> None:
    for charge in charges:
        charge.refund()


def _known_device(user: members.User | None) -> str | None:
    """Return what names the device of this request if it is one of the user's: a session, or a remembered browser.

    An unknown user costs the same queries, so that somebody who is signed in cannot tell who has an account.
    """
    person = by_session()
    if user is None:
        return None
    if person and person.id == user.id:
        return person.session.id
    cookie = request.cookies.get(device_cookie(), "")
    return devices.recognize(cookie, user.id, user.password_hash) if user.password_hash else None


def _note_failed_sign_in() -> None:
    """Count a failed sign-in of any account, and log a warning once a window when there are very many."""
    telemetry.count("pixel_sign_in_failures")
    if _Charge.make(STUFFING, "sign-in failures").count == STUFFING.amount + 1:
        telemetry.count("pixel_sign_in_alarms")
        _LOG.warning("more than %d sign-ins failed within %s", STUFFING.amount, _window(STUFFING))


def _spend(item: RateLimitItem, *whose: str) -> None:
    _Charge.make(item, *whose).refuse_if_exceeded()


def _refuse_if_spent(item: RateLimitItem, *whose: str) -> None:
    """Raise RateLimitExceeded if a budget is used up. Do not charge it otherwise.

    Requests at the same moment can exceed the budget, by at most the number of threads.
    """
    if counters.count(item, *whose) >= item.amount:
        _spend(item, *whose)


def _window(item):
    return f"{item.multiples} {item.GRANULARITY.name}{'s' if item.multiples > 1 else ''}"


@cache
def _per_minute(calls):
    return RateLimitItemPerMinute(calls)


def seconds_until(moment):
    """Whole seconds until a moment in seconds since 1970, at least one."""
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


def _site(network: str) -> str:
    """Return the /48 of an IPv6 network. Providers assign up to that much to one customer."""
    return str(ipaddress.IPv6Network(network).supernet(new_prefix=48))


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
