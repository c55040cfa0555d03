"""Opening the envelope that answers come in."""

import json
from dataclasses import dataclass
from typing import Any

from pixel_client.errors import PixelError, UnexpectedAnswer
from pixel_client.http import Answer


@dataclass(frozen=True)
class Envelope:
    """A success: what was asked for, and what is said about it."""

    data: Any
    meta: dict[str, Any]

    @property
    def request_id(self) -> str:
        """What support finds the request by."""
        return str(self.meta.get("request_id", ""))


def successful(answer: Answer) -> Answer:
    """The same answer, if it is a success. Raises the PixelError that it tells of otherwise."""
    if 200 <= answer.status < 300:
        return answer
    raise _failure(answer)


def opened(answer: Answer) -> Envelope:
    """What a successful answer carries. Raises UnexpectedAnswer."""
    body = read(answer)
    if not isinstance(body, dict) or "data" not in body or not isinstance(body.get("meta"), dict):
        raise unexpected(answer)
    return Envelope(body["data"], body["meta"])


def read(answer: Answer) -> Any:
    """The JSON of an answer. Raises UnexpectedAnswer."""
    try:
        return json.loads(answer.body)
    except ValueError:
        raise unexpected(answer) from None


def unexpected(answer: Answer) -> UnexpectedAnswer:
    """The error for an answer that is not of the API. What it holds is not told: it may be anything."""
    kind = answer.headers.get_content_type()
    return UnexpectedAnswer(
        f"The answer is not one of a Pixel API: HTTP {answer.status}, {kind}, {len(answer.body)} bytes.",
        status=answer.status,
        request_id=answer.headers.get("X-Request-Id", ""),
        retry_after_seconds=_retry_after_seconds(answer),
    )


def _failure(answer: Answer) -> PixelError:
    try:
        body = json.loads(answer.body)
        error, code = body["error"], str(body["error"]["code"])
        return PixelError.by_code.get(code, PixelError)(
            str(error["message"]),
            status=answer.status,
            code=code,
            details=error["details"],
            request_id=str(body["meta"]["request_id"]),
            retry_after_seconds=_retry_after_seconds(answer),
        )
    except (ValueError, KeyError, TypeError):
        return unexpected(answer)


def _retry_after_seconds(answer: Answer) -> int | None:
    said = answer.headers.get("Retry-After", "").strip()
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else None
