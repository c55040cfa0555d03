"""The yardstick: what Flask and gunicorn alone make of the same request. `gunicorn tests.bench.bare:app`."""

from flask import Flask, request

app = Flask(__name__)


@app.post("/api/v1/pixel/events")
def accept_event():
    event = request.get_json()
    return {"data": {"status": "accepted", "event_id": event["event_id"], "name": event["name"]}}, 202


@app.get("/docs")
def answers():
    """What `Server.wait` asks for."""
    return ""
