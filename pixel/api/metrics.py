"""Reports."""

from flask import g, request

from pixel import metrics
from pixel.access import Scope, require
from pixel.api import answer, api
from pixel.intake import body, schemas


@api.get("/pixel/metrics")
@require(Scope.PIXEL_READ)
def list_metrics():
    """The catalogue of reports: what each means, takes and gives."""
    body.query(schemas.Nothing())
    return answer(metrics.catalogue())


@api.get("/pixel/metrics/<name>")
@require(Scope.PIXEL_READ)
def read_metric(name):
    """One report."""
    data, query = metrics.run(metrics.pipe(name), g.caller, request.args.to_dict(flat=False))
    g.entry.step("report")
    return answer(data, query=query)
