"""The last good answer to each question, kept for the time when the warehouse has none."""

import hashlib
import os
import time
from pathlib import Path

import orjson

from pixel import private_files

#: How old an answer may be that is given as stale.
KEPT_SECONDS = 60 * 60


class Answers:
    """A folder of answers, shared by the processes of a machine."""

    def bind(self, folder: str | Path) -> None:
        """Use `folder`, and create it if it is missing."""
        self.folder = Path(folder)
        private_files.claim_folder(self.folder)

    def keep(self, question, answer):
        """Remember `answer` for `question`; both are JSON values. A full disk only means that it is not remembered."""
        path = self._path(question)
        try:
            fresh = path.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
            fresh.write_bytes(orjson.dumps(answer))
            fresh.replace(path)
        except OSError:
            pass

    def last(self, question):
        """The answer kept for `question` within the last hour, or None."""
        path = self._path(question)
        try:
            if time.time() - path.stat().st_mtime < KEPT_SECONDS:
                return orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            pass
        return None

    def clear(self):
        """Forget every answer."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def sweep(self):
        """Remove what is too old to be given."""
        for path in self.folder.iterdir():
            try:
                if time.time() - path.stat().st_mtime >= KEPT_SECONDS:
                    path.unlink()
            except OSError:
                pass

    def _path(self, question):
        name = hashlib.sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS)).hexdigest()[:40]
        return self.folder / name
