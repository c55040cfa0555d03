"""What people send at the door."""

from wtforms import HiddenField, PasswordField, SelectField, StringField
from wtforms.validators import InputRequired

from pixel.pages import Form, at_most


class SignIn(Form):
    email = StringField("E-mail", [InputRequired("Enter your e-mail address."), at_most()])
    password = PasswordField("Password", [InputRequired("Enter your password."), at_most()])
    next = HiddenField(validators=[at_most(8190)])


class SignOut(Form):
    pass


class Forgot(Form):
    email = StringField("E-mail", [InputRequired("Enter your e-mail address."), at_most()])


class Switch(Form):
    workspace = SelectField("Workspace")


class Join(Form):
    """Accept an invitation as the signed-in user."""


class Choose(Form):
    """Choose a password."""

    password = PasswordField(
        "New password",
        [InputRequired("Enter a password."), at_most()],
        description="15 characters or more. Use four or more unrelated words.",
    )
