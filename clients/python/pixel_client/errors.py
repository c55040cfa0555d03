"""Every way in which a call can fail: one class for each code of `/docs/errors`, and two for what has none."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pixel_client.answers import Result
    from pixel_client.events import Event


class PixelError(Exception):
    """A call that failed. Raised itself for a code that this version does not know.

    `status` is the HTTP status (0 when no answer came), `request_id` what support finds the request by, and
    `retry_after_seconds` what the answer said, if it did. After `send_batch`, `results` has what became of the batches
    before, and `unsent` the events not known to be taken: send those, with the event_ids they have, to count them once.
    """

    code: str = ""
    by_code: ClassVar[dict[str, type["PixelError"]]] = {}

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code or type(self).code
        self.details = dict(details or {})
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        self.results: list[Result] = []
        self.unsent: list[Event] = []

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.message}", *reasons(self.details)]
        return " ".join(parts) + (f" (request_id {self.request_id})" if self.request_id else "")

    def __init_subclass__(cls) -> None:
        PixelError.by_code[cls.code] = cls


def reasons(details: Mapping[str, Any]) -> list[str]:
    """What is wrong with each field, one sentence or more a field: those of `details` that are lists of messages."""
    return [
        f"{name}: {' '.join(map(str, messages))}" for name, messages in details.items() if isinstance(messages, list)
    ]


class NoAnswer(PixelError):
    """No whole answer came: no connection, a connection that broke, or silence for longer than the timeout.

    Whether the server did what it was asked is not known.
    """

    code = "no_answer"


class UnexpectedAnswer(PixelError):
    """The answer is not one of a Pixel API: a proxy's page, or another server's."""

    code = "unexpected_answer"


class MissingAuthorization(PixelError):
    """No key reached the server; perhaps a proxy takes the Authorization header away."""

    code = "missing_authorization"


class InvalidAuthorizationFormat(PixelError):
    """The Authorization header did not reach the server as it was sent.

    `details["hint"]`, where present, is `surrounding_whitespace` or `non_ascii_characters`.
    """

    code = "invalid_authorization_format"


class InvalidApiKey(PixelError):
    """The key is not one of this server's.

    `details["hint"]`, where present, is what is wrong with it, such as `surrounding_whitespace`,
    `non_ascii_characters`, `wrong_environment` or `truncated_or_mistyped`.
    """

    code = "invalid_api_key"


class ApiKeyRevoked(PixelError):
    """The key was revoked."""

    code = "api_key_revoked"


class ApiKeyExpired(PixelError):
    """The key has expired."""

    code = "api_key_expired"


class InsufficientScope(PixelError):
    """The key lacks the scope that `details["required"]` names."""

    code = "insufficient_scope"


class InvalidPipe(PixelError):
    """There is no report of that name. `details["did_you_mean"]`, where there, names a close one."""

    code = "invalid_pipe"


class InvalidVisitor(PixelError):
    """The visitor's id is empty."""

    code = "invalid_visitor"


class InvalidBody(PixelError):
    """What was sent is not valid. `details` has a list of messages for each wrong field."""

    code = "invalid_body"


class InvalidQuery(PixelError):
    """A parameter is wrong or unknown. `details` has a list of messages for each."""

    code = "invalid_query"


class BadRequest(PixelError):
    """The request could not be understood at all."""

    code = "bad_request"


class RequestTimeout(PixelError):
    """The request did not arrive within `details["seconds"]`. Send a large batch in smaller parts."""

    code = "request_timeout"


class NotFound(PixelError):
    """There is nothing at that address of the server."""

    code = "not_found"


class WebsiteNotFound(PixelError):
    """There is no such website that this key may see."""

    code = "website_not_found"


class VisitorNotFound(PixelError):
    """There is no such visitor that this key may see."""

    code = "visitor_not_found"


class EventNotFound(PixelError):
    """There is no such event that this key may see."""

    code = "event_not_found"


class MethodNotAllowed(PixelError):
    """That address does not take the method."""

    code = "method_not_allowed"


class PayloadTooLarge(PixelError):
    """The body has more than `details["limit_bytes"]` bytes."""

    code = "payload_too_large"


class UnsupportedMediaType(PixelError):
    """The body is not of a type that the address takes."""

    code = "unsupported_media_type"


class JwtInvalid(PixelError):
    """The query token is not one of this server's, or its key was revoked."""

    code = "jwt_invalid"


class JwtExpired(PixelError):
    """The query token is older than its 120 seconds. Make a new one for each use."""

    code = "jwt_expired"


class RateLimitExceeded(PixelError):
    """The calls of this minute are spent, and were at each attempt."""

    code = "rate_limit_exceeded"


class IngestUnavailable(PixelError):
    """The server is not set up to take events."""

    code = "ingest_unavailable"


class IdentifyUnavailable(PixelError):
    """The server is not set up to take identify calls."""

    code = "identify_unavailable"


class AnalyticsError(PixelError):
    """The server's warehouse failed or took too long."""

    code = "analytics_error"


class ServiceUnavailable(PixelError):
    """Something that the server needs is away, or it is about to stop."""

    code = "service_unavailable"


class InternalError(PixelError):
    """Something failed on the server that should not have. Tell its support the request_id."""

    code = "internal_error"
