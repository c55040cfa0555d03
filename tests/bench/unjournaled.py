"""The product with its journal switched off, so that the journal's cost shows. For the bench alone: it forgets all.

`gunicorn "tests.bench.unjournaled:create_app()"`
"""

import app
from pixel.extensions import journal


def create_app():
    journal.append = journal.append_later = lambda frames: None
    return app.create_app(engine="apart")
