"""The manual, made from the catalogues. Anyone may enter."""

from flask import Blueprint, current_app, render_template

from pixel import errors, metrics
from pixel.access import Scope

docs = Blueprint("docs", __name__, url_prefix="/docs")
docs.entry = "open"


@docs.get("")
def index():
    """What this is, and the first call."""
    return render_template("docs/index.html", scopes=list(Scope), calls=current_app.config["RATELIMIT_API"])


@docs.get("/errors")
def error_codes():
    """Every error code: what it means and what to do."""
    return render_template("docs/errors.html", catalogue=errors.catalogue())


@docs.get("/metrics")
def reports():
    """Every report: what it means, takes and gives."""
    return render_template(
        "docs/metrics.html", catalogue=metrics.catalogue(), common=metrics.COMMON, filters=metrics.FILTERS
    )
