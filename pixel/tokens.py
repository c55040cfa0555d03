"""Query tokens: a question that whoever holds the token may put for two minutes, without a key."""

import hashlib
import math
from datetime import timedelta
from typing import NamedTuple

import jwt
from flask import current_app

from pixel import clock, errors, ids

LIVES = timedelta(seconds=120)
_ISSUER, _AUDIENCE = "pixel", "pixel-query"
_CLAIMS = ["exp", "iat", "aud", "iss", "jti", "key", "pipes", "fixed"]


class Token(NamedTuple):
    """What a token says: whose key minted it, the pipes it opens, and the parameters that are fixed."""

    key_id: str
    workspace_id: str
    pipes: tuple
    fixed: dict


def mint(key_id, workspace_id, pipes, fixed):
    """A new token, and when it ends: (text, moment). `fixed` maps parameters to lists of their values."""
    now = clock.now()
    # Claims have whole seconds: rounded up, so that no token ends before its time.
    ends = clock.moment(math.ceil(now.timestamp())) + LIVES
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "jti": ids.in_time("jwt_"),
        "iat": int(now.timestamp()),
        "exp": int(ends.timestamp()),
        "key": key_id,
        "workspace": workspace_id,
        "pipes": list(pipes),
        "fixed": fixed,
    }
    return jwt.encode(claims, _secret(), algorithm="HS256"), ends


def read(text):
    """The Token that a text is. Raises JwtInvalid or JwtExpired."""
    try:
        # Whether it has expired is looked at here, by the clock that everything else goes by.
        claims = jwt.decode(
            text, _secret(), algorithms=["HS256"], audience=_AUDIENCE, issuer=_ISSUER,
            options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False},
        )  # fmt: skip
        token = Token(claims["key"], claims["workspace"], tuple(claims["pipes"]), dict(claims["fixed"]))
        ends = clock.moment(claims["exp"])
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError):
        raise errors.JwtInvalid() from None
    if ends <= clock.now():
        raise errors.JwtExpired(expired_at=clock.rfc3339(ends))
    return token


def _secret():
    return hashlib.sha256(b"query tokens\0" + current_app.config["SECRET_KEY"].encode()).digest()
