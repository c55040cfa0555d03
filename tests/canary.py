"""Where the secrets of a run come to light: keys, links, sessions and passwords, watched from their making on."""

import re
from collections import defaultdict

from flask import request

from pixel import ids, members
from pixel.extensions import lines

#: The random part of every key, link and session is this long.
LENGTH = 32
_RUNS = re.compile(rf"[0-9A-Za-z]{{{LENGTH},}}")

SECRETS, PASSWORDS = set(), set()
#: Where a secret was seen: {place: one of the texts}.
SEEN = defaultdict(str)


def within(text):
    """The secrets of this run that a text holds."""
    runs = _RUNS.findall(text)
    parts = {run[at : at + LENGTH] for run in runs for at in range(len(run) - LENGTH + 1)}
    return (parts & SECRETS) | {password for password in PASSWORDS if password in text}


def note(place, text):
    """Remember where a secret was seen, if there is one in the text."""
    if within(text):
        SEEN[place] = text


def watch(app):
    """Learn each secret as it is made, and look at each line, page, answer and redirection."""
    random, hash_password, put = ids.random, members.hash_password, lines.put

    def made(length):
        text = random(length)
        if length == LENGTH:
            SECRETS.add(text)
        return text

    def hashed(password):
        PASSWORDS.add(password)
        return hash_password(password)

    def said(line):
        note("log", line.decode())
        put(line)

    def answered(response):
        location = response.headers.get("Location", "")
        if request.endpoint == "front.take_in" and location.startswith("/links/pxl_invite_"):
            # Signing in leads back to the invitation that asked for it.
            return response
        note(f"address of {request.endpoint}", location)
        # A caller of the API is told back what they sent; a page may be looked at by somebody else.
        if response.mimetype == "text/html" and not response.direct_passthrough:
            note(request.endpoint, response.get_data(as_text=True))
        return response

    ids.random, members.hash_password, lines.put = made, hashed, said
    app.after_request(answered)
