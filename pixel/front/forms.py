"""What people send at the door."""

from wtforms import HiddenField, PasswordField, SelectField, StringField
from wtforms.validators import InputRequired

from pixel.pages import Form


class SignIn(Form):
    email = StringField("E-mail", [InputRequired("Enter your e-mail address.")])
    password = PasswordField("Password", [InputRequired("Enter your password.")])
    next = HiddenField()


class SignOut(Form):
    pass


class Forgot(Form):
    email = StringField("E-mail", [InputRequired("Enter your e-mail address.")])


class Switch(Form):
    workspace = SelectField("Workspace")


class Join(Form):
    """Accept an invitation as the signed-in user."""


class Choose(Form):
    """Choose a password."""

    password = PasswordField(
        "New password",
        [InputRequired("Enter a password.")],
        description="15 characters or more. A few words make a good one.",
    )
