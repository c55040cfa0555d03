"""The yardstick: what Flask and gunicorn alone make of the same request.

`gunicorn --worker-class tests.bench.bare.Worker --threads 4 tests.bench.bare:app`. With four threads it is fastest.
"""

import time

from flask import Flask, request
from gunicorn.workers.gthread import ThreadWorker

app = Flask(__name__)


@app.post("/api/v1/pixel/events")
def accept_event():
    event = request.get_json()
    return {"data": {"status": "accepted", "event_id": event["event_id"], "name": event["name"]}}, 202


@app.get("/docs")
def answers():
    """What `Server.wait` asks for."""
    return ""


class Worker(ThreadWorker):
    """gunicorn's own threaded worker, but for the spreading of connections.

    Left alone, one worker now and then has all of them, at a third of the speed; that would flatter the product.
    """

    def accept(self, listener):
        time.sleep(min(0.002, 0.0001 * self.nr_conns))
        super().accept(listener)
