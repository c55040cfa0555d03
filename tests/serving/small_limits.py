"""The server's configuration with one thread and small limits: `gunicorn -c python:tests.serving.small_limits`."""

import runpy

from pixel.serving.worker import Worker

globals().update(
    {name: value for name, value in runpy.run_path("gunicorn.conf.py").items() if not name.startswith("_")}
)
threads = 1
Worker.MAX_CONNECTIONS = 20
Worker.MAX_BUFFERED_BYTES = 1 << 20
