"""Commands of ours run in one process, since to begin one takes most of a command's time: [[argument, ...], ...] on stdin.

On stdout what each printed, as [[stdout, stderr], ...]. The database is made first.
"""

import json
import sys

from flask_migrate import upgrade

from app import create_app

app = create_app(engine="apart")
with app.app_context():
    upgrade()
runner, printed = app.test_cli_runner(), []
for arguments in json.load(sys.stdin):
    # What one printed before is named by its place: {0} is what the first did.
    done = runner.invoke(args=[argument.format(*(out for out, _ in printed)) for argument in arguments])
    if done.exit_code:
        sys.exit(f"{arguments}: {done.output}{done.exception}")
    printed.append([done.stdout.strip(), done.stderr.strip()])
json.dump(printed, sys.stdout)
