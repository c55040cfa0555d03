"""What owners and admins decide: API keys, websites, members; and what everyone may of their own account."""

from flask import Blueprint

settings = Blueprint("settings", __name__)
settings.entry = "session"


from pixel.settings import account, api_keys, audit, members, websites  # noqa: E402, F401  their views register themselves
