"""The server's configuration with deadlines of two seconds: `gunicorn -c python:tests.serving.short_deadlines`."""

import runpy

from pixel.serving.worker import Worker

globals().update(
    {name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if not name.startswith("_")}
)
keepalive = Worker.REQUEST_SECONDS = Worker.RESPONSE_SECONDS = 2
