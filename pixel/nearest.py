"""The known name nearest to a misspelt one."""

from collections.abc import Collection
from difflib import get_close_matches

#: Names that share the most letters with the misspelt one. Only they are compared in full, which is slow.
_CANDIDATES = 4


def find(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """Return the known name whose similarity to `name` (difflib's ratio) is the highest and at least `cutoff`."""
    letters = set(name)
    longest = max(map(len, known), default=0)
    if len(name) * cutoff > longest * (2 - cutoff):
        # No known name is long enough to reach the cutoff.
        return None
    candidates = sorted(known, key=lambda other: _shared(letters, set(other)), reverse=True)[:_CANDIDATES]
    return next(iter(get_close_matches(name, candidates, n=1, cutoff=cutoff)), None)


def _shared(letters: set[str], others: set[str]) -> float:
    return len(letters & others) / (len(letters) + len(others))
