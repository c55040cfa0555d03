"""The browser pixel: its script, and the hits that it and pages without scripts send.

There is no key: hits are taken from the website's own pages.
"""

import gzip
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import Blueprint, Response, current_app, g, request
from limits import RateLimitItemPerMinute
from marshmallow import ValidationError

from pixel import access, envelope, errors, events, forwarding, geo, identities, pages, salts, websites
from pixel.extensions import counters
from pixel.intake import body, fields, idempotency, schemas
from pixel.text_cache import remember

collect = Blueprint("collect", __name__)
collect.entry = "site"

MOST_BYTES = 64 << 10
#: What a page may tell of itself; the rest is seen here.
_SEEN_HERE = ("ip", "user_agent", "country", "device", "browser", "os")
_EVENT, _IDENTITY = schemas.Hit(exclude=_SEEN_HERE), schemas.Identity()
#: What every hit of the script carries, and an identification has no use for.
_OF_EVENTS = _EVENT.fields.keys() - _IDENTITY.fields.keys()
_SCRIPT = Path(__file__).parents[2] / "static" / "pixel.js"
_GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
#: A number in a page's text. Python also reads digits of other scripts, underscores and "nan".
_NUMBER = re.compile(r"[ \t\r\n]*[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?[ \t\r\n]*")
_WEBSITE_ID = re.compile(r"admx_[0-9A-Za-z]{1,35}")
_IN_GIF = ("website_id", "name", "url", "path", "title", "referrer", "goal", "event_id")


@collect.get("/pixel.js")
def script():
    """The pixel, as it is now."""
    return _script("public, max-age=3600")


@collect.get("/pixel.<version>.js")
def versioned_script(version):
    """The pixel of one version, for ever."""
    if version != script_version():
        raise errors.NotFound()
    return _script("public, max-age=31536000, immutable")


@collect.post("/api/event")
def take_hit():
    """One event, or identification, of a page of the website."""
    idempotency.refuse()
    hit = body.json(body.JSON, body.TEXT)
    if not isinstance(hit, dict):
        raise errors.InvalidBody(_body=["Must be a JSON object."])
    site = _site(hit.get("website_id"))
    # The page may read the answer, and an error too, if it is one of the website's.
    g.own_page = _own_page(site)
    g.entry.step("website")
    if reason := _not_welcome(site):
        return _filtered(site, reason)
    return _identify(site, hit) if hit.get("name") == "identify" else _event(site, hit)


take_hit.most_bytes = MOST_BYTES


@collect.route("/api/event", methods=["OPTIONS"])
def may_take_hit():
    """What a browser asks before it sends JSON. Whose page may send is told when it does."""
    return "", 204


@collect.get("/pixel.gif")
def take_image() -> Response:
    """Count a pageview, or a goal, of a mail or of a page without scripts.

    A HEAD request and a prefetch show nobody an image, so they count nothing.
    """
    try:
        if request.method == "GET" and not pages.is_prefetch():
            _show({name: request.args[name] for name in _IN_GIF if request.args.get(name)})
    except (errors.PixelError, ValidationError):
        # The reader of a mail sees an image even if the hit is invalid.
        pass
    response = Response(_GIF, mimetype="image/gif")
    response.headers["Cache-Control"] = "no-store"
    return response


def _show(hit):
    site = _site(hit.get("website_id"))
    g.own_page = _own_page(site)
    hit.setdefault("name", "pageview")
    # A mail has no page to name: an image is taken from anywhere but a page that says it is another's.
    if reason := _not_welcome(site, missing_is_fine=True):
        _drop(site, reason)
    elif hit["name"] in ("pageview", "custom"):
        if hit["name"] == "pageview" and not hit.keys() & {"url", "path"}:
            hit["url"] = request.referrer or f"https://{site.domain}/"
        _event(site, hit)


@collect.after_request
def _open(response):
    """Let every site use what is for every site, and a page of the website itself read what it is answered."""
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin and (request.method == "OPTIONS" or g.get("own_page")):
        response.headers["Access-Control-Allow-Origin"] = origin
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "POST"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type"
        response.headers["Access-Control-Max-Age"] = "86400"
    return response


@cache
def script_version():
    """What names this version of the script."""
    return hashlib.sha256(_SCRIPT.read_bytes()).hexdigest()[:12]


def _script(cache_control):
    packed = request.accept_encodings["gzip"] > 0
    response = Response(_text(packed), mimetype="text/javascript")
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    # Weak, because it is the same script packed and unpacked.
    response.set_etag(script_version(), weak=True)
    response.headers["Cache-Control"] = cache_control
    return response.make_conditional(request)


@cache
def _text(packed):
    text = _SCRIPT.read_bytes()
    return gzip.compress(text, mtime=0) if packed else text


def _site(website_id: Any) -> websites.Site:
    is_id = isinstance(website_id, str) and _WEBSITE_ID.fullmatch(website_id)
    site = websites.find(website_id) if is_id else None
    if site is None:
        _count_address()
        raise errors.WebsiteNotFound("There is no such website.")
    g.entry.site = site
    return site


def _own_page(site: websites.Site) -> bool | None:
    """Return whether the page that sends is the website's own, or None where no header names the page."""
    told = request.headers.get("Origin") or request.headers.get("Referer")
    if not told:
        return None
    host = _host_of(told)
    return bool(host) and site.takes_from(host)


@remember(512 << 10)
def _host_of(address: str) -> str:
    """Return the host of an address, or '' if it has none."""
    try:
        # Its own cache is not bounded by bytes.
        return urlsplit.__wrapped__(address).hostname or ""
    except ValueError:
        return ""


def _not_welcome(site, missing_is_fine=False):
    """Why a hit is not taken, one of events.DROPS, or None. Raises RateLimitExceeded."""
    _count_address(site)
    if g.own_page is False or (g.own_page is None and not missing_is_fine):
        return "origin"
    _count("RATELIMIT_COLLECT_WEBSITE", site, "hits for", site.id)
    return None


def _count_address(site=None):
    # Not even for a minute is an address written anywhere.
    _count("RATELIMIT_COLLECT", site, "hits of", salts.visitor("", access.network_of_request(), ""))


def _count(setting, site, *whose):
    """Count a hit against a limit. Raises RateLimitExceeded, with a drop noted for the website if there is one."""
    limit = current_app.config[setting]
    found = counters.hit(RateLimitItemPerMinute(limit), *whose)
    if found and found[0] > limit:
        if site is not None:
            _drop(site, "rate_limited")
        raise errors.RateLimitExceeded(limit, access.seconds_until(found[1]))


def _event(site, hit):
    """Take an event as the API does, with what this request tells of the visitor."""
    try:
        event = _read(hit)
    except ValidationError:
        _drop(site, "invalid_body")
        raise
    address, agent = request.remote_addr or "", request.headers.get("User-Agent", "")[:2000]
    event["user_agent"] = agent
    if not event.get("language"):
        event["language"] = (request.accept_languages.best or "")[:35]
    event["country"] = _country(address)
    if _untracked():
        for name in ("visitor_id", "session_id", "user_id"):
            event.pop(name, None)
    elif not event.get("visitor_id"):
        event["visitor_id"] = salts.visitor(site.id, address, agent)
    events.refuse_if_unavailable()
    ready = events.prepare(event, site, g.entry.request_id)
    g.entry.step("validation")
    events.keep([ready])
    g.entry.step("journal")
    g.entry.event_ids = (ready.row["event_id"],)
    # A bot's events are kept and marked, and left out of every count.
    return _answer("filtered", "bot") if ready.row["bot"] else _answer("accepted")


def _read(hit):
    """A valid event of what a page says in its own words. Raises ValidationError."""
    if hit.get("name") == "payment" and "amount" in hit:
        hit = hit | {"amount": _rounded(hit["amount"])}
    event = _in_time(hit)
    first = event.pop("first", "")
    if event["name"] != "pageview":
        event["props"] = _with_first_campaign(event.get("props", {}), first)
    if event["name"] == "custom" and "value" not in event:
        event |= _value(event["props"])
    return event


def _in_time(hit):
    try:
        return _EVENT.load(hit)
    except ValidationError as error:
        # A visitor's clock may be wrong: then it happened when it came.
        if set(error.messages) != {"timestamp"}:
            raise
        return _EVENT.load({name: value for name, value in hit.items() if name != "timestamp"})


def _rounded(amount: Any) -> Any:
    """Return the amount in hundredths of a cent: a page adds up 0.1 and 0.2 to 0.30000000000000004."""
    return f"{float(amount):.4f}" if type(amount) in (int, float) or _is_number(amount) else amount


def _is_number(value: Any) -> bool:
    return type(value) is str and _NUMBER.fullmatch(value) is not None


def _with_first_campaign(props: dict[str, str], tags: str) -> dict[str, str]:
    """Return the props and behind them the tags, as first_utm_source and so on, as far as there is room."""
    most = fields.Scalars.MOST_KEYS
    pairs = parse_qsl("&".join(tags.split("&", most)[:most]))
    first = [(f"first_{name}", value.replace("\0", "")) for name, value in pairs if _may_be_key(name)]
    return dict([*props.items(), *first][:most])


def _may_be_key(name):
    # Whoever makes a link makes its tags, and must not be able to have all goals of who follows it refused.
    return len(name) <= 90 and name.isprintable()


def _value(props: dict[str, str]) -> dict[str, float]:
    """Return the number that a page calls `value`, if it is one that events may have."""
    value = float(props["value"]) if _is_number(props.get("value")) else None
    return {"value": value} if value is not None and abs(value) <= fields.Number.MOST else {}


def _identify(site, hit):
    if _untracked():
        return _filtered(site, "opted_out")
    identity = _IDENTITY.load({name: value for name, value in hit.items() if name not in _OF_EVENTS})
    identities.refuse_if_unavailable()
    _, frame = identities.prepare(identity, site, g.entry.request_id)
    identities.keep(frame)
    return _answer("accepted")


def _untracked():
    """Whether the browser asks not to be tracked: Do Not Track or Global Privacy Control."""
    return request.headers.get("Sec-GPC") == "1" or request.headers.get("DNT") == "1"


def _country(address: str) -> str:
    """Return the country that the trusted proxies report, or else the country of the address; '' if unknown."""
    header = current_app.config["COUNTRY_HEADER"]
    if header and forwarding.is_country_known(request.environ, current_app.config["TRUSTED_HOPS"]):
        code = request.headers.get(header, "")
        # Before upper(), which makes two ASCII letters of one ß.
        if len(code) == 2 and code.isascii() and code.isalpha():
            return code.upper()
    return geo.country(address)


def _filtered(site, reason):
    _drop(site, reason)
    return _answer("filtered", reason)


def _drop(site, reason):
    events.drop(site, reason, g.entry.request_id)


def _answer(status, reason=None):
    data = {"status": status} | ({"reason": reason} if reason else {})
    return envelope.success(data, g.entry.request_id, 202)
