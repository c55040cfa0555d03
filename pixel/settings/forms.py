"""What people send in the settings."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from flask import g
from wtforms import (
    BooleanField,
    DateField,
    HiddenField,
    PasswordField,
    RadioField,
    SelectMultipleField,
    StringField,
    TextAreaField,
    ValidationError,
)
from wtforms.validators import InputRequired, Length, Optional, StopValidation
from wtforms.widgets import CheckboxInput, ListWidget

from pixel import clock, keys, letters, members, nearest, websites, workspaces
from pixel.access import Scope
from pixel.pages import Confirmed, Form, at_most, checked, listed

EXPIRIES = {"30": "30 days", "90": "90 days", "365": "1 year", "date": "A date", "never": "Never"}
LAST_YEAR = 2199
OVERLAPS = {
    "none": "None: the old key ends now",
    "1h": "1 hour",
    "24h": "24 hours",
    "7d": "7 days",
}
#: Scopes that open something; the reserved ones are not offered.
OFFERED = {Scope.PIXEL_READ: Scope.PIXEL_READ.about, Scope.PIXEL_WRITE: Scope.PIXEL_WRITE.about}


_FORM = "This form was not made by this page. Open the page again."


class _Boxes(SelectMultipleField):
    """Tick boxes. The message about unknown values names a few of them and the nearest choices."""

    widget = ListWidget(prefix_label=False)
    option_widget = CheckboxInput()
    MOST_NAMED, LONGEST_NAMED = 3, 40

    def pre_validate(self, form: Form) -> None:
        choices = [choice.value for choice in self.choices]
        sent = dict.fromkeys(self.data or ())
        # The page draws only what is a choice.
        self.data = [value for value in choices if value in sent]
        known = set(choices)
        if unknown := [value for value in sent if value not in known]:
            raise StopValidation(self._refusal(unknown, choices))

    def _refusal(self, unknown: list[str], choices: list[str]) -> str:
        named = [value[: self.LONGEST_NAMED] for value in unknown[: self.MOST_NAMED]]
        more = f" and {len(unknown) - len(named):,} more" if len(unknown) > len(named) else ""
        verb = "are not valid choices" if len(unknown) > 1 else "is not a valid choice"
        near = dict.fromkeys(nearest.find(letters.lower(value), choices, cutoff=0.75) for value in named)
        near.pop(None, None)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"{', '.join(map(repr, named))}{more} {verb}.{hint}"


class _Day(DateField):
    """A day. One value is read and shown, however many are sent."""

    def process_formdata(self, valuelist: list[str]) -> None:
        self.raw_data = [value[:20] for value in valuelist[:1]]
        super().process_formdata(self.raw_data)


class _Expires(Confirmed):
    """A form that says when a key ends."""

    expires = RadioField("Expires", choices=listed(EXPIRIES), default="90")
    expires_on = _Day("Last day", description="Only for “A date”. The key works until the end of this day.")

    def validate_expires_on(self, field):
        if self.expires.data != "date":
            field.errors.clear()
        elif not any(field.raw_data):
            # A browser sends an empty field too, and that it is no date goes without saying.
            field.errors[:] = ["Enter the last day on which the key works."]
        elif not field.raw_data[0].isascii():
            # Python also reads digits of other scripts.
            field.errors[:] = ["Enter the day as YYYY-MM-DD."]
        elif field.data and not (field.data.year <= LAST_YEAR and self.expires_at > clock.now()):
            raise ValidationError(f"Enter a day that is not over, and before the year {LAST_YEAR + 1}.")

    @property
    def expires_at(self):
        """When the key ends, as a UTC moment; None for never."""
        if self.expires.data == "date":
            after = self.expires_on.data + timedelta(days=1)
            return datetime.combine(after, time(), ZoneInfo(g.person.workspace.timezone)).astimezone(UTC)
        return None if self.expires.data == "never" else clock.now() + timedelta(days=int(self.expires.data))


class NewKey(_Expires):
    form = HiddenField(validators=[InputRequired(_FORM), at_most(), Length(max=40, message=_FORM)])
    name = StringField(
        "Name",
        [InputRequired("Enter a name."), at_most(), checked(keys.checked_name)],
        description="What uses the key, such as warehouse-etl. All members see it, and whoever calls /me with the key.",
    )
    scopes = _Boxes("Scopes", choices=listed({scope.value: scope.value for scope in OFFERED}))
    every_website = RadioField(
        "Websites",
        choices=listed({"all": "All, also those that are added later", "some": "Only those ticked below"}),
        default="all",
    )
    websites = _Boxes("These websites")
    no_scope = BooleanField("Yes, make a key without any scope")

    @property
    def asks_again(self) -> bool:
        """Whether the form was sent without any scope and asks to confirm that."""
        return self.is_submitted() and not self.scopes.raw_data

    @property
    def website_ids(self):
        return self.websites.data if self.every_website.data == "some" else None

    def validate_scopes(self, field):
        if not field.data and not self.no_scope.data:
            raise ValidationError("No scope is ticked: such a key can call /me only. Tick one, or confirm below.")

    def validate_websites(self, field):
        if self.every_website.data == "some" and not field.data:
            raise ValidationError("Tick at least one website, or choose all.")


class Rotate(_Expires):
    form = HiddenField(validators=[InputRequired(_FORM), at_most(), Length(max=40, message=_FORM)])
    scopes = _Boxes(
        "Scopes of the new key",
        choices=listed({scope.value: scope.value for scope in OFFERED}),
        description="Ticked are those of the old key. Tick what to add, untick what to drop.",
    )
    overlap = RadioField(
        "Both keys work for",
        choices=listed(OVERLAPS),
        default="24h",
        description="It begins when the new key is first used, and ends 7 days from now at the latest.",
    )
    expires = RadioField("The new key expires", choices=listed({"same": "", **EXPIRIES}), default="same")

    @property
    def expires_at(self):
        return keys.AS_BEFORE if self.expires.data == "same" else super().expires_at


class Revoke(Confirmed):
    pass


class Plain(Form):
    """A button."""


class Whose(Form):
    found = TextAreaField(
        "A key that was found",
        [InputRequired("Paste the key."), at_most(20_000)],
        description="In a log, a repository, a mail. It is compared by its hash and not kept.",
    )


class Password(Form):
    current = PasswordField("Your password now", [InputRequired("Enter the password you have now."), at_most()])
    new = PasswordField(
        "New password",
        [InputRequired("Enter a new password."), at_most()],
        description="15 characters or more. Use four or more unrelated words. All other sessions end.",
    )


_ROLES = listed({role: role.capitalize() for role in ("viewer", "admin", "owner")})


class Invite(Form):
    email = StringField("E-mail", [InputRequired("Enter an e-mail address."), at_most(), checked(members.address)])
    role = RadioField("Role", choices=_ROLES, default="viewer")


class Role(Form):
    role = RadioField("Role", choices=_ROLES)


class NewWebsite(Form):
    domain = StringField(
        "Domain", [InputRequired("Enter the domain."), at_most(), checked(websites.checked_domain)],
        description="The host name that visitors see, such as shop.example.com.",
    )  # fmt: skip
    name = StringField(
        "Name", [Optional(), at_most(), checked(websites.checked_name)], description="Left empty, it is the domain."
    )
    timezone = StringField(
        "Time zone", [InputRequired("Enter a time zone."), at_most(), checked(workspaces.refuse_unknown_timezone)],
        description="In which its days begin and end in reports: a name such as Europe/Berlin.",
    )  # fmt: skip


class ChangeWebsite(Form):
    name = StringField("Name", [InputRequired("Enter a name."), at_most(), checked(websites.checked_name)])
    timezone = NewWebsite.timezone
    hosts = TextAreaField(
        "Other hosts that may send",
        [at_most(6000)],
        description="Besides the domain and all below it: one host a line, such as shop.example.net.",
    )


class RemoveWebsite(Form):
    domain = StringField(
        "The domain, once more", [at_most()], description="So that the wrong one is not removed by a slip."
    )
