"""The way in for people. Anyone may enter."""

from flask import Blueprint, redirect, url_for

front = Blueprint("front", __name__)
front.entry = "open"


@front.get("/")
def home():
    """Where to begin."""
    return redirect(url_for("docs.index"), 302)
