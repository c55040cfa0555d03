"""How easily a password can be guessed.

zxcvbn estimates the number of guesses from lists of stolen passwords and of common words, and from repetitions,
sequences, dates and keyboard patterns. The lists are part of the package, so no password leaves this server.
"""

import re
import threading
from collections.abc import Callable, Iterable
from functools import cache

#: A password must withstand this many guesses: the highest score of zxcvbn.
FEWEST_GUESSES = 10**10
#: The cost of an estimate grows with the cube of the length. Further characters can only make a password stronger.
_MAX_CHARACTERS = 48
#: Words of this product, and the best-known example of a good password.
_EXPECTED_WORDS = ("pixel", "pixelapi", "analytics", "correcthorsebatterystaple")
#: Replaces the table of zxcvbn, which has so many combinations that 100 characters take seconds.
_SUBSTITUTIONS = {"a": ["4", "@"], "e": ["3"], "i": ["1"], "o": ["0"], "s": ["5", "$"], "t": ["7"]}
#: A character more than three times in a row.
_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)
#: zxcvbn keeps the context words of a call in a global variable.
_LOCK = threading.Lock()


def is_guessable(password: str, context: Iterable[str] = ()) -> bool:
    """Return whether a password is easy to guess for somebody who knows the texts of `context`, such as an address.

    Spaces and long runs of a character do not count: a guesser adds them first. This takes 6 ms of CPU, and
    30 ms at worst, so a thread must do it.
    """
    judged = _RUN.sub(r"\1\1\1", "".join(password.split()))[:_MAX_CHARACTERS]
    if not judged:
        return True
    words = [*_EXPECTED_WORDS, *(word for text in context for word in _words(text))]
    with _LOCK:
        return _estimator()(judged, user_inputs=words)["guesses"] < FEWEST_GUESSES


def _words(text: str) -> Iterable[str]:
    """Yield a text without its spaces, its parts between spaces and `@`, and its words; nothing below 3 characters."""
    words = ("".join(text.split()), *re.split(r"[\s@]+", text), *re.split(r"[\W_]+", text))
    yield from (word for word in words if len(word) >= 3)


@cache
def _estimator() -> Callable[..., dict]:
    # Loading the lists takes 90 ms and 14 MB. Most processes never check a password.
    from zxcvbn import matching, zxcvbn

    matching.L33T_TABLE.clear()
    matching.L33T_TABLE.update(_SUBSTITUTIONS)
    return zxcvbn
