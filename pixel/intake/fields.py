"""Fields of request bodies: strict about types, and quick, because events come by the thousand."""

import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flask import g
from marshmallow import Schema, ValidationError, fields

from pixel import clock, currencies, letters, nearest
from pixel.text_cache import remember

#: What a host's name is made of. Python takes U+0085 for a space and JSON Schema U+FEFF: here both mean the same.
HOST, LONGEST_HOST = r"[^\s\u0085\ufeff/\\:@?#]*", 253
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
#: The same with an hour up to 23 and an offset up to 23:59, which Python checks in some versions only.
_HOURS_IN_RANGE = re.compile(
    r".{11}([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(minutes=5)


class StrictSchema(Schema):
    """A schema that names the nearest known field for an unknown one, and is quick because events come by the thousand.

    Marshmallow declares the fields. It does not load them: that takes ten times as long.
    """

    MOST_UNKNOWN = 10
    #: Unknown names of one request for which the nearest field is looked up: this is slow.
    MOST_LOOKED_UP = 10

    def load(self, data: Any) -> dict[str, Any]:
        """Return the fields of `data`, read and checked. Raise ValidationError with the messages by field."""
        try:
            return self._load_valid(data)
        except (ValidationError, KeyError, AttributeError):
            raise ValidationError(self._messages(data)) from None

    def _load_valid(self, data: Any) -> dict[str, Any]:
        readers, required = self.readers
        loaded = {name: readers[name](value, name, data) for name, value in data.items()}
        if not required <= loaded.keys():
            raise KeyError
        self.check(loaded)
        return loaded

    @cached_property
    def readers(self) -> tuple[dict[str, Callable], frozenset[str]]:
        """The function that reads each field, by name, and the names that are required."""
        read = {name: field._deserialize for name, field in self.fields.items()}
        return read, frozenset(name for name, field in self.fields.items() if field.required)

    def check(self, loaded: dict[str, Any]) -> None:
        """Raise ValidationError for what is wrong between fields. Called with fields that are each right."""

    def _messages(self, data: Any) -> dict[str, Any]:
        """Return what is wrong with `data`, by field."""
        if not isinstance(data, dict):
            return {"_body": ["Must be a JSON object."]}
        readers, required = self.readers
        messages: dict[str, Any] = {
            name: ["Missing data for required field."] for name in readers if name in required and name not in data
        }
        loaded = {}
        for name, value in data.items():
            if value is None and name in readers:
                messages[name] = ["Field may not be null."]
            elif name in readers:
                try:
                    loaded[name] = readers[name](value, name, data)
                except ValidationError as error:
                    messages[name] = error.messages
        messages |= self._unknown([name for name in data if name not in readers])
        if not messages:
            try:
                self.check(loaded)
            except ValidationError as error:
                return error.normalized_messages()
        return messages

    def _unknown(self, names: list[str]) -> dict[str, list[str]]:
        messages = {}
        for name in (name[:100] for name in names[: self.MOST_UNKNOWN]):
            near = self._nearest(name)
            messages[name] = [f"Unknown field. Did you mean {near}?" if near else "Unknown field."]
        if rest := names[self.MOST_UNKNOWN :]:
            messages["_body"] = [f"{len(rest)} more unknown fields."]
        return messages

    def _nearest(self, name: str) -> str | None:
        looked_up = g.setdefault("nearest_fields", {})
        if name not in looked_up and len(looked_up) < self.MOST_LOOKED_UP:
            looked_up[name] = nearest.find(name, self.fields)
        return looked_up.get(name)


class Text(fields.Field):
    """Text of `least` to `most` characters. Without `multiline` it has no control characters."""

    @property
    def json_schema(self):
        """The same rule as JSON Schema, as each field here tells it."""
        rule = {"type": "string", "minLength": self.least, "maxLength": self.most}
        own = [self.pattern.pattern.removeprefix("(?s)")] if self.pattern else []
        patterns = [*own, *([] if self.multiline else [r"[^\u0000-\u001f\u007f]*"])]
        return rule | ({"allOf": [{"pattern": f"^{pattern}$"} for pattern in patterns]} if patterns else {})

    def __init__(self, most, least=0, pattern=None, wanted=None, multiline=False, printable=False, **kwargs):
        super().__init__(**kwargs)
        self.most, self.least, self.multiline, self.printable = most, least, multiline, printable
        self.pattern = pattern and re.compile(pattern)
        self.wanted = wanted

    def _deserialize(self, value, attr, data, **kwargs):
        if type(value) is not str:
            raise ValidationError("Must be text.")
        if not self.least <= len(value) <= self.most:
            number = f"{self.least} to {self.most}" if self.least else f"at most {self.most}"
            raise ValidationError(f"Must have {self.most if self.least == self.most else number} characters.")
        if not value.isprintable():
            if self.printable:
                raise ValidationError("Must have printable characters only.")
            if not self.multiline and _CONTROL.search(value):
                raise ValidationError("Must not have control characters.")
        if self.pattern and not self.pattern.fullmatch(value):
            raise ValidationError(self.wanted)
        return value


class OneOf(fields.Field):
    """One of a few words."""

    @property
    def json_schema(self):
        return {"type": "string", "enum": list(self.words)}

    def __init__(self, *words, **kwargs):
        super().__init__(**kwargs)
        self.words = words

    def _deserialize(self, value, attr, data, **kwargs):
        if type(value) is not str or value not in self.words:
            raise ValidationError(f"Must be one of: {', '.join(self.words)}.")
        return value


class Currency(fields.Field):
    """An ISO 4217 code; lower case is taken too."""

    json_schema = {"type": "string", "pattern": "^[A-Za-z]{3}$", "description": "ISO 4217 code.", "examples": ["EUR"]}

    def _deserialize(self, value, attr, data, **kwargs):
        code = letters.upper(value) if type(value) is str and len(value) == 3 else ""
        if code not in currencies.CODES:
            raise ValidationError("Must be an ISO 4217 currency code such as EUR.")
        return code


class Timestamp(fields.Field):
    """A moment as RFC 3339 with a zone, not before 2010 and not over five minutes ahead."""

    json_schema = {
        "type": "string",
        "format": "date-time",
        "description": "RFC 3339 with a zone, not before 2010 and not over five minutes ahead.",
    }

    def _deserialize(self, value, attr, data, **kwargs):
        if type(value) is not str or not _RFC3339.fullmatch(value):
            raise ValidationError("Must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z.")
        try:
            if not _HOURS_IN_RANGE.fullmatch(value):
                raise ValueError
            moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError("There is no such time.") from None
        if moment < _EARLIEST:
            raise ValidationError("Must not be before 2010.")
        if moment > clock.now() + _AHEAD:
            raise ValidationError("Must not be more than 5 minutes ahead.")
        return moment


class Number(fields.Field):
    """A JSON number from -1e15 to 1e15: the sum of however many is finite."""

    MOST = 10**15
    json_schema = {"type": "number", "minimum": -MOST, "maximum": MOST}

    def _deserialize(self, value, attr, data, **kwargs):
        if type(value) not in (int, float):
            raise ValidationError("Must be a number.")
        if abs(value) > self.MOST:
            raise ValidationError("Must be from -1e15 to 1e15.")
        return float(value)


class Amount(fields.Field):
    """Money in major units, as a number or as text: at most 14 digits before the point and 4 after it."""

    json_schema = {
        "description": "In major units, negative for a refund: at most 14 digits before the point and 4 after it.",
        "oneOf": [{"type": "number"}, {"type": "string", "pattern": r"^-?[0-9]{1,14}(\.[0-9]{1,4})?$"}],
    }

    def _deserialize(self, value, attr, data, **kwargs):
        try:
            if type(value) not in (int, float, str) or (
                type(value) is str and not re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?", value, re.ASCII)
            ):
                raise InvalidOperation
            amount = Decimal(str(value))
        except InvalidOperation:
            raise ValidationError("Must be a decimal number in major units, such as 19.99.") from None
        if abs(amount) >= 10**14 or amount != amount.quantize(Decimal("0.0001")):
            raise ValidationError("Must have at most 14 digits before the point and 4 after it.")
        return amount.quantize(Decimal("0.0001"))


class Address(fields.Field):
    """An IPv4 or IPv6 address."""

    json_schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}

    def _deserialize(self, value, attr, data, **kwargs):
        try:
            if type(value) is str and len(value) <= 45:
                return str(ipaddress.ip_address(value))
        except ValueError:
            pass
        raise ValidationError("Must be an IPv4 or IPv6 address.")


class SplitUrl(NamedTuple):
    """What an event needs of an absolute address. The path ends in the route, where a router keeps it behind #."""

    hostname: str
    path: str
    query: str


class Url(fields.Field):
    """An absolute http or https address, split into hostname, path and query."""

    MOST = 4000
    json_schema = {"type": "string", "format": "uri", "pattern": "^[hH][tT][tT][pP][sS]?://", "maxLength": MOST}

    def _deserialize(self, value, attr, data, **kwargs):
        if type(value) is not str or len(value) > self.MOST or not value.isprintable():
            raise ValidationError(f"Must be an http or https address of at most {self.MOST} characters.")
        parts = _split(value)
        if parts is None:
            raise ValidationError(
                "Must be an absolute http or https address, its host at most 253 characters and its path at most 2000."
            )
        return parts


@remember(1 << 20)
def _split(url: str) -> SplitUrl | None:
    try:
        # Its own cache is not bounded by bytes.
        parts = urlsplit.__wrapped__(url)
        path, query = _with_route(parts)
        if parts.scheme in ("http", "https") and _is_host(parts.hostname) and len(path) <= 2000:
            # Reading the port raises for what is none.
            _ = parts.port
            return SplitUrl(parts.hostname, path, query)
    except ValueError:
        pass
    return None


def _is_host(name):
    # The colons are those of an IPv6 address: in any other host the first one begins the port.
    return name and len(name) <= LONGEST_HOST and re.fullmatch(HOST, name.replace(":", ""))


def _with_route(parts):
    """(path, query), with those of `#/route?query` or `#!/route?query` at their ends. Another fragment is no page."""
    if not parts.fragment.startswith(("/", "!/")):
        return parts.path, parts.query
    route, _, query = parts.fragment.partition("?")
    return f"{parts.path or '/'}#{route}", "&".join(filter(None, (parts.query, query)))


class Scalars(fields.Field):
    """An object of at most 50 scalar values of at most 1,000 characters each, kept as text."""

    MOST_KEYS, MOST_KEY, MOST_VALUE = 50, 100, 1000
    #: Wrong keys that a response lists.
    MOST_LISTED = 10
    json_schema = {
        "type": "object",
        "maxProperties": MOST_KEYS,
        "propertyNames": {"minLength": 1, "maxLength": MOST_KEY, "pattern": r"^[^\u0000-\u001f\u007f]*$"},
        "additionalProperties": {"type": ["string", "number", "boolean"], "maxLength": MOST_VALUE},
    }

    def _deserialize(self, value, attr, data, **kwargs):
        if type(value) is not dict:
            raise ValidationError("Must be an object.")
        if len(value) > self.MOST_KEYS:
            raise ValidationError(f"Must have at most {self.MOST_KEYS} keys.")
        wrong = {key[: self.MOST_KEY]: [m] for key, v in value.items() if (m := self._wrong(key, v))}
        if wrong:
            listed = dict(islice(wrong.items(), self.MOST_LISTED))
            more = {"_more": [f"{len(wrong) - len(listed)} more wrong keys."]} if len(wrong) > len(listed) else {}
            raise ValidationError(listed | more)
        return {key: self._text(v) for key, v in value.items()}

    def _wrong(self, key, value):
        if not 1 <= len(key) <= self.MOST_KEY or (not key.isprintable() and _CONTROL.search(key)):
            return f"A key has 1 to {self.MOST_KEY} characters, none of them a control character."
        if type(value) not in (str, int, float, bool):
            return "Must be text, a number, true or false."
        if len(self._text(value)) > self.MOST_VALUE:
            return f"Must have at most {self.MOST_VALUE} characters."
        return None

    @staticmethod
    def _text(value):
        return value if type(value) is str else str(value).lower() if type(value) is bool else repr(value)
