"""The catalogue of errors, and the one way in which any failure is answered.

An error is one class: its status, its code, and a docstring whose first paragraph says what is true and whose rest
says what to do. `/docs/errors`, the OpenAPI document and the tests read this list.
"""

import inspect
import math

from flask import current_app, g, render_template, request
from marshmallow import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.exceptions import NotFound as WerkzeugNotFound

from pixel import envelope

_defined = []
#: Paths outside /api/ and /v0/ that answer in JSON.
_FOR_PROGRAMS = {"/api", "/v0", "/healthz", "/readyz", "/metrics", "/csp-reports"}


class PixelError(Exception):
    """Any failure that a caller is told of. `details` is what the envelope carries, `message` the sentence."""

    status = 500
    code = ""
    retry = False
    #: Whether only people who use the pages can meet it, never a caller of the API.
    page_only = False
    #: What to do for who meets it on a page, where that is not what a program does.
    on_page = None
    #: Foreign exceptions this error speaks for.
    speaks_for = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        _defined.append(cls)

    def __init__(self, message=None, /, **details):
        super().__init__(message)
        self.message = message or self.summary()
        self.details = details
        self.headers = {}

    @classmethod
    def summary(cls):
        """What is true, in one sentence: the first paragraph of the docstring."""
        return " ".join(inspect.getdoc(cls).split("\n\n")[0].split())

    @classmethod
    def advice(cls):
        """What to do about it: the docstring after its first paragraph."""
        return [" ".join(part.split()) for part in inspect.getdoc(cls).split("\n\n")[1:]]


class _Unauthorized(PixelError):
    """Authentication failed."""

    status = 401
    #: The RFC 6750 error attribute of WWW-Authenticate.
    challenge = "invalid_token"


class MissingAuthorization(_Unauthorized):
    """No Authorization header was sent.

    Add the header Authorization: Bearer YOUR_KEY. A key in the address, a cookie or the body is never accepted.
    """

    code = "missing_authorization"
    challenge = None


class InvalidAuthorizationFormat(_Unauthorized):
    """The Authorization header is not in the form Bearer <key>.

    Send exactly one Authorization header: the word Bearer, one space, the key. details.hint is surrounding_whitespace
    if other whitespace or invisible characters are around the key. Otherwise it is non_ascii_characters if the header
    has characters outside ASCII, and absent in all other cases.
    """

    code = "invalid_authorization_format"
    challenge = "invalid_request"


class InvalidApiKey(_Unauthorized):
    """The API key does not match any key of this server.

    Check for trailing whitespace, for environment variables of another environment, and for a stored hash pasted
    instead of the key. details.hint is the first of these that applies: surrounding_whitespace (also invisible
    characters), non_ascii_characters, surrounding_quotes, looks_like_hash, wrong_environment, truncated_or_mistyped.
    """

    code = "invalid_api_key"


class ApiKeyRevoked(_Unauthorized):
    """This API key was revoked.

    Create a new one under Settings, API Keys. Revoking cannot be undone.
    """

    code = "api_key_revoked"


class ApiKeyExpired(_Unauthorized):
    """This API key has expired.

    Create a new one under Settings, API Keys. details.expired_at says when it ended.
    """

    code = "api_key_expired"


class JwtInvalid(_Unauthorized):
    """The query token is not one of this server, or its key works no more.

    Mint a new one with POST /api/v1/pixel/metrics/{pipe}/token. A token ends with the key that minted it.
    """

    code = "jwt_invalid"


class JwtExpired(_Unauthorized):
    """JWT expired

    A query token lives for 120 seconds. Mint one for every request instead of keeping it. details.expired_at says when
    it ended.
    """

    code = "jwt_expired"


class InsufficientScope(PixelError):
    """The API key lacks the scope that this endpoint requires.

    details.required names the scope. Add it and rotate the key, or create a key with it.
    """

    status = 403
    code = "insufficient_scope"


class InvalidPipe(PixelError):
    """There is no report of this name.

    GET /api/v1/pixel/metrics lists them all. details.did_you_mean names a close one.
    """

    status = 400
    code = "invalid_pipe"


class InvalidVisitor(PixelError):
    """The visitor id is empty.

    Put the id that events carry as visitor_id into the address, percent-encoded.
    """

    status = 400
    code = "invalid_visitor"


class InvalidBody(PixelError):
    """The request body is not valid.

    details names each wrong field with what is wrong with it; _body speaks of the whole. Mend the request: the same
    one will fail again.
    """

    status = 400
    code = "invalid_body"
    speaks_for = (ValidationError, envelope.NotStrictJson)


class InvalidQuery(PixelError):
    """A query parameter is wrong or unknown.

    details names each wrong parameter with what is wrong with it.
    """

    status = 400
    code = "invalid_query"


class BadRequest(PixelError):
    """The request's framing or one of its headers is invalid.

    details.header names the header at fault, if it is one. The status is 414 for a request line that is too long, 431
    for headers that are too large, 417 for an expectation that cannot be met, and 501 for an unsupported transfer
    coding. Correct the request: the same one fails again.
    """

    status = 400
    code = "bad_request"


class RequestTimeout(PixelError):
    """The request did not arrive in time.

    Its head and body must arrive within details.seconds of the first byte. Check that the body has the length that the
    Content-Length header states. On a slow connection, send a large batch in smaller parts.
    """

    status = 408
    code = "request_timeout"

    def __init__(self, seconds: int = 30) -> None:
        super().__init__(f"The request did not arrive within {seconds} seconds.", seconds=seconds)


class NotFound(PixelError):
    """There is nothing at this address.

    Check the path against the list of endpoints.
    """

    status = 404
    code = "not_found"
    on_page = "Look for a slip in the address. What was here may also be removed, or be in another of your workspaces."
    speaks_for = (WerkzeugNotFound,)


class WebsiteNotFound(PixelError):
    """There is no such website in this workspace.

    GET /api/v1/pixel/websites lists those that this key may see.
    """

    status = 404
    code = "website_not_found"


class VisitorNotFound(PixelError):
    """There is no visitor of this id in this workspace.

    A visitor is known from their first event on. Check the visitor_id that your events carry.
    """

    status = 404
    code = "visitor_not_found"


class EventNotFound(PixelError):
    """There is no event of this id in this workspace.

    Check the event_id that the accepting request returned.
    """

    status = 404
    code = "event_not_found"


class LimitReached(PixelError):
    """The workspace already has the allowed number of these objects.

    details.resource names the objects, and details.limit is their number. Remove one that nothing uses, or ask the
    operator of the server for a higher limit.
    """

    status = 409
    code = "limit_reached"
    # No route of the API creates such an object yet.
    page_only = True


class MethodNotAllowed(PixelError):
    """This address does not take that method.

    details.allowed, and the Allow header, list the methods it takes.
    """

    status = 405
    code = "method_not_allowed"
    speaks_for = (WerkzeugMethodNotAllowed,)


class PayloadTooLarge(PixelError):
    """The request body is larger than this endpoint takes.

    details.limit_bytes is the limit. Send events in smaller batches.
    """

    status = 413
    code = "payload_too_large"
    speaks_for = (RequestEntityTooLarge,)


class UnsupportedMediaType(PixelError):
    """The request body is not of a type this endpoint takes.

    Set the Content-Type header to one of details.expected.
    """

    status = 415
    code = "unsupported_media_type"


class InsufficientRole(PixelError):
    """Your role in this workspace does not allow that.

    Ask an owner of the workspace for another role, or to do it for you.
    """

    status = 403
    code = "insufficient_role"
    page_only = True


class CrossSiteRequest(PixelError):
    """This form was sent from another site.

    Nothing was changed. Open the page here and send the form again.
    """

    status = 403
    code = "cross_site_request"
    page_only = True


class RateLimitExceeded(PixelError):
    """The budget of calls for this while is spent.

    Wait as many seconds as the Retry-After header says, and add a little jitter. A workspace's calls are counted by the
    minute, and a batch counts as one; failed attempts to get in count for the address they come from.
    """

    status = 429
    code = "rate_limit_exceeded"
    on_page = "You opened many ids that do not exist in this workspace. Wait that long, then load the page again."
    retry = True

    def __init__(self, limit, retry_after, window="1 minute"):
        super().__init__(
            f"Rate limit exceeded. Try again in {retry_after} seconds.",
            limit=limit,
            window=window,
            retry_after=retry_after,
        )
        self.headers = {"Retry-After": str(retry_after)}


class _Unavailable(PixelError):
    """Something this request needs is away."""

    status = 503
    retry = True

    def __init__(self, message=None, /, retry_after=5, **details):
        super().__init__(message, **details)
        self.headers = {"Retry-After": str(max(1, math.ceil(retry_after)))}


class IngestUnavailable(_Unavailable):
    """This server does not take events: its analytics ingest setting is missing.

    Whoever runs the server sets ANALYTICS_INGEST_URL. Contact support.
    """

    code = "ingest_unavailable"


class IdentifyUnavailable(_Unavailable):
    """This server does not take identify calls: its identify ingest setting is missing.

    Whoever runs the server sets IDENTIFY_INGEST_URL. Contact support.
    """

    code = "identify_unavailable"


class AnalyticsError(_Unavailable):
    """The analytics warehouse failed or took too long.

    Retry after a short backoff. Events go on being accepted meanwhile, and none is lost.
    """

    code = "analytics_error"


class ServiceUnavailable(_Unavailable):
    """A store that this request needs is away, or too many large requests wait for an answer.

    Retry after the time that the Retry-After header gives. What was not acknowledged was not counted.
    """

    code = "service_unavailable"
    speaks_for = (OperationalError, InterfaceError, PoolTimeout)


class InternalError(PixelError):
    """Something failed on the server that should not have.

    Retry with exponential backoff; if it stays, send the request_id to support: with it they see this exact request.
    """

    status = 500
    code = "internal_error"
    on_page = "Load the page again in a moment. If it stays, tell support."
    retry = True


def catalogue():
    """Every error a caller can meet, in the order of this file."""
    return [cls for cls in _defined if cls.code]


def translate(error):
    """The PixelError that speaks for any exception."""
    if isinstance(error, PixelError):
        return error
    for cls in catalogue():
        if isinstance(error, cls.speaks_for):
            return _with_details(cls(), error)
    if isinstance(error, HTTPException) and error.code and error.code >= 400:
        spoken = BadRequest() if error.code < 500 else InternalError()
        spoken.status = error.code
        return spoken
    return InternalError()


def _with_details(spoken, error):
    if isinstance(error, ValidationError):
        spoken.details = flat(error.messages)
    elif isinstance(error, envelope.NotStrictJson):
        spoken.details = {"_body": [str(error)]}
    elif isinstance(error, WerkzeugMethodNotAllowed):
        spoken.details = {"allowed": sorted(set(error.valid_methods or ()) - {"OPTIONS"})}
        spoken.headers["Allow"] = ", ".join(spoken.details["allowed"])
    elif isinstance(error, RequestEntityTooLarge):
        spoken.details = {"limit_bytes": g.most_bytes}
    return spoken


def flat(messages, prefix=""):
    """Marshmallow's nested messages as one level: `{"events.3.name": ["..."]}`; `_schema` becomes `_body`."""
    if isinstance(messages, list):
        return {prefix or "_body": messages}
    found = {}
    for name, below in messages.items():
        name = "_body" if name == "_schema" and not prefix else str(name)
        found |= flat(below, f"{prefix}.{name}" if prefix else name)
    return found


def answer(error):
    """The response for any exception: the envelope under /api and /v0, a page elsewhere. There is no other way."""
    if isinstance(error, HTTPException) and (error.code is None or error.code < 400):
        return error
    spoken = translate(error)
    g.entry.failed(spoken, error)
    if is_api():
        response = envelope.failure(spoken, g.entry.request_id)
    else:
        response = request_page(spoken)
    if spoken.status in (429, 503):
        spoken.headers.setdefault("Retry-After", "5")
    response.headers.extend(spoken.headers)
    response.headers["Link"] = f'</docs/errors#{spoken.code}>; rel="help"'
    if spoken.status in (401, 403) and is_api():
        response.headers["WWW-Authenticate"] = _challenge(spoken)
    return response


def is_api() -> bool:
    """Return whether this request gets JSON: it is under /api or /v0, or for programs alone."""
    path = request.path
    return path.startswith(("/api/", "/v0/")) or path in _FOR_PROGRAMS


def request_page(error):
    """The page a person sees: the same code and request id as the envelope."""
    page = render_template("error.html", error=error, request_id=g.entry.request_id)
    return current_app.response_class(page, status=error.status, mimetype="text/html")


def _challenge(error):
    parts = ['Bearer realm="pixel"']
    if challenge := getattr(error, "challenge", "insufficient_scope"):
        parts.append(f'error="{challenge}"')
    if "required" in error.details:
        parts.append(f'scope="{error.details["required"]}"')
    return ", ".join(parts)
