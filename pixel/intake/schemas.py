"""The shapes of request bodies and query strings."""

from marshmallow import ValidationError
from marshmallow.fields import Field

from pixel.intake.fields import (
    HOST,
    LONGEST_HOST,
    Address,
    Amount,
    Currency,
    Number,
    OneOf,
    Scalars,
    StrictSchema,
    Text,
    Timestamp,
    Url,
)


def _id(**kwargs):
    return Text(128, least=1, printable=True, pattern=r".*\S.*", wanted="Must not be spaces alone.", **kwargs)


class Event(StrictSchema):
    """One event."""

    website_id = _id(required=True)
    name = OneOf("pageview", "custom", "payment", required=True)
    event_id = _id()
    timestamp = Timestamp()
    visitor_id = _id()
    session_id = _id()
    user_id = _id()
    url = Url()
    path = Text(2000, least=1, pattern=r"(?s)/.*", wanted="Must begin with a slash.")
    title = Text(1000, multiline=True)
    hostname = Text(LONGEST_HOST, pattern=HOST, wanted="Must be a host name.")
    referrer = Text(4000)
    utm_source = Text(500)
    utm_medium = Text(500)
    utm_campaign = Text(500)
    utm_term = Text(500)
    utm_content = Text(500)
    gclid = Text(500)
    fbclid = Text(500)
    msclkid = Text(500)
    ttclid = Text(500)
    ip = Address()
    user_agent = Text(2000, multiline=True)
    language = Text(35)
    screen = Text(20)
    country = Text(2, least=2, pattern=r"[A-Za-z]{2}", wanted="Must be a two-letter ISO 3166 code.")
    device = Text(64)
    browser = Text(64)
    os = Text(64)
    goal = Text(64, least=1)
    value = Number()
    amount = Amount()
    currency = Currency()
    transaction_id = _id()
    provider = Text(64)
    props = Scalars()

    _NEEDED = {"pageview": (), "custom": ("goal",), "payment": ("amount", "currency", "transaction_id")}
    _ONLY = {
        "goal": "custom",
        "value": "custom",
        "amount": "payment",
        "currency": "payment",
        "transaction_id": "payment",
        "provider": "payment",
    }
    _KINDS = {"custom": "custom event", "payment": "payment"}

    def check(self, loaded):
        name = loaded["name"]
        wrong = {field: [f"Required for a {self._KINDS[name]}."] for field in self._NEEDED[name] if field not in loaded}
        for field in loaded.keys() & self._ONLY.keys():
            if self._ONLY[field] != name:
                wrong[field] = [f"Only for a {self._KINDS[self._ONLY[field]]}."]
        if name == "pageview" and not loaded.keys() & {"url", "path"}:
            wrong["path"] = ["Required for a pageview, unless url is given."]
        if wrong:
            raise ValidationError(wrong)


class _Items(Field):
    """A list whose items are read one by one later."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> list:
        if type(value) is not list:
            raise ValidationError("Must be a list.")
        return value


class Batch(StrictSchema):
    """The object around the events of a batch."""

    events = _Items(required=True)


class Hit(Event):
    """One event as the browser pixel sends it. `first` has the tags of the visitor's first campaign, as a query."""

    first = Text(1000)


class Identity(StrictSchema):
    """Who a visitor is."""

    website_id = _id(required=True)
    visitor_id = _id(required=True)
    user_id = _id()
    email = Text(254, least=3, pattern=r"[^@\s]{1,64}@[^@\s]+", wanted="Must be an e-mail address.")
    traits = Scalars()

    def check(self, loaded):
        if not loaded.keys() & {"user_id", "email"}:
            raise ValidationError({"_body": ["At least one of user_id and email is required."]})


class DryRun(StrictSchema):
    """The query of a route that can validate without storing."""

    dry_run = OneOf("true", "false")


class Nothing(StrictSchema):
    """The query of a route that takes no parameter."""


class OfWebsite(StrictSchema):
    """The query of a route whose answer may be held to one website."""

    website_id = _id()
