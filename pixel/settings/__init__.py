"""What owners and admins decide: API keys, websites, members; and what everyone may of their own account."""

from flask import Blueprint

from pixel import pages

settings = Blueprint("settings", __name__)
settings.entry = "session"
settings.most_bytes = pages.MOST_BYTES


from pixel.settings import account, api_keys, audit, members, websites  # noqa: E402, F401  their views register themselves
