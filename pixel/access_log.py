"""History from a web server's access log, in combined format."""

import gzip
import hashlib
import os
import re
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from pixel import clock, events
from pixel.websites import Site

CHUNK = 1000
#: Malformed lines that are shown; all are counted.
SHOWN = 20

_LINE = re.compile(
    r'(?P<address>\S+) \S+ (?P<user>\S+|"[^"]*") \[(?P<time>[^\]]+)\] '
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<size>\d+|-)'
    r' "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)".*',
    re.ASCII,
)
_PAGE = re.compile(r"(?:/|(?:^|/)[^/.]+|\.html|\.htm|\.php)$")


class Outcome(NamedTuple):
    """What became of the lines of a file."""

    lines: int
    pageviews: int
    others: int
    malformed: int

    def __str__(self):
        return (
            f"{self.lines} lines: {self.pageviews} pageviews, {self.others} other requests, {self.malformed} malformed."
        )


def size(path):
    """The size of a file in bytes, as it lies on disk."""
    return os.path.getsize(path)


def import_file(path, website, advance, say):
    """Keep the pageviews of a file as events of `website`, through the journal like any other.

    `advance(bytes)` is told of progress through the file, `say(text)` of malformed lines. Event ids are made of the
    lines and known for good: a second run, or one over the same file grown longer, changes nothing twice.
    """
    site = Site(*(getattr(website, name) for name in Site._fields))
    in_second, counts, ready = Counter(), Counter(), []
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        done = 0
        for number, line in enumerate(gzip.open(raw) if packed else raw, 1):
            counts["lines"] += 1
            try:
                event = _event(line.decode("utf-8", "replace").rstrip("\r\n"))
            except ValueError as error:
                counts["malformed"] += 1
                if counts["malformed"] <= SHOWN:
                    say(f"line {number}: {error}")
                continue
            finally:
                advance(raw.tell() - done)
                done = raw.tell()
            if event is None:
                counts["others"] += 1
                continue
            second = int(event["timestamp"].timestamp())
            in_second[second] += 1
            event["event_id"] = _event_id(second, in_second[second], line)
            # Lines of one second stand in the order in which they were written.
            event["place"] = in_second[second]
            counts["pageviews"] += 1
            ready.append(events.prepare(event | {"hostname": site.domain}, site, "", lasting=True))
            if len(ready) == CHUNK:
                events.keep(ready)
                ready = []
    if ready:
        events.keep(ready)
    if (more := counts["malformed"] - SHOWN) > 0:
        say(f"and {more} more malformed lines")
    return Outcome(counts["lines"], counts["pageviews"], counts["others"], counts["malformed"])


def _event_id(second, place, line):
    """The same for the same line at the same place of its second."""
    digest = hashlib.sha256(line.rstrip(b"\r\n")).hexdigest()[:16]
    return f"log_{second}_{place:06}_{digest}"


def _event(line):
    """The pageview that a line tells of, or None when it tells of something else. Raises ValueError."""
    found = _LINE.fullmatch(line)
    if not found:
        raise ValueError(f"not in combined format: {line[:100]}")
    try:
        # Python also reads digits of other scripts.
        moment = datetime.strptime(found["time"] if found["time"].isascii() else "", "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        raise ValueError(f"no such time: {found['time'][:40]}") from None
    if moment > clock.now():
        raise ValueError(f"a time in the future: {found['time'][:40]}")
    parts = found["request"].split(" ")
    if len(parts) != 3 or parts[0] != "GET" or found["status"] not in ("200", "304"):
        return None
    path, _, query = parts[1].partition("?")
    if not path.startswith("/") or len(path) > 2000 or not _PAGE.search(path):
        return None
    referrer = found["referrer"]
    return {
        "name": "pageview",
        "timestamp": moment,
        "path": path,
        "query": query,
        "ip": found["address"],
        # A visitor is an address and a user agent, also where the agent is "-", for none.
        "user_agent": found["agent"],
        "referrer": "" if referrer == "-" else referrer,
    }
