"""What the whole program shares: made here, bound to an app in app.py."""

from flask_migrate import Migrate

from pixel.answers import Answers
from pixel.counters import Counters
from pixel.database import db
from pixel.journal import Journal
from pixel.lines import Lines
from pixel.warehouse import Warehouse

__all__ = ["answers", "counters", "db", "journal", "lines", "migrate", "warehouse"]

migrate = Migrate()
answers = Answers()
counters = Counters()
journal = Journal()
lines = Lines()
warehouse = Warehouse()
