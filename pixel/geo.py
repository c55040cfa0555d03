"""The country of an address, by an MMDB file such as GeoLite2 Country or DB-IP's; without one it is not known."""

import ipaddress
import os
import time
from datetime import UTC, datetime
from typing import NamedTuple

import maxminddb

from pixel.text_cache import remember

#: How often a process looks whether the file was replaced by a newer one.
LOOK_AGAIN_SECONDS = 60
#: An IPv6 address with an IPv4 address at its end has 45 characters, and a zone a few more.
_LONGEST_ADDRESS = 64
_UNREADABLE = (OSError, ValueError, maxminddb.InvalidDatabaseError)


class Edition(NamedTuple):
    """What an MMDB file says of itself."""

    kind: str
    built: datetime


class _Atlas:
    """The file in use. Opened by each process for itself, because a map of it must not be shared over a fork."""

    path = ""
    reader = None
    #: Which file was opened last, and when to look for another, in seconds of the monotonic clock.
    seen, look_again = None, 0.0


_atlas = _Atlas()


def bind(path):
    """Use the file at `path`, or none when that is empty."""
    _atlas.path = path
    _forget()


def edition(path):
    """The Edition of the MMDB file at `path`, or None when there is no such file."""
    try:
        with maxminddb.open_database(path) as reader:
            told = reader.metadata()
            return Edition(told.database_type, datetime.fromtimestamp(told.build_epoch, UTC))
    except _UNREADABLE:
        return None


def country(address: str) -> str:
    """Return the ISO 3166 code of an IPv4 or IPv6 address's country, or '' if it is not known."""
    if not _atlas.path or not address or len(address) > _LONGEST_ADDRESS:
        return ""
    if time.monotonic() >= _atlas.look_again:
        _look_again()
    return _country(address)


@remember(512 << 10)
def _country(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
        return _code(_atlas.reader.get(getattr(found, "ipv4_mapped", None) or found)) if _atlas.reader else ""
    except _UNREADABLE:
        return ""


def _code(found):
    """The code in a record: GeoLite2 and DB-IP have a country with an iso_code, IPinfo the code itself."""
    told = found if isinstance(found, dict) else {}
    place = told.get("country_code") or told.get("country") or told.get("registered_country") or ""
    code = place.get("iso_code", "") if isinstance(place, dict) else place
    return code if isinstance(code, str) and len(code) == 2 and code.isascii() and code.isalpha() else ""


def _look_again():
    """Open the file that is there now, unless it is the one in use. Where it cannot be read, the old one stays."""
    _atlas.look_again = time.monotonic() + LOOK_AGAIN_SECONDS
    try:
        there = os.stat(_atlas.path)
        seen = there.st_ino, there.st_mtime_ns, there.st_size
        if seen != _atlas.seen:
            _atlas.reader = maxminddb.open_database(_atlas.path)
            _atlas.seen = seen
            _country.forget()
    except _UNREADABLE:
        pass


def _forget():
    _atlas.reader, _atlas.seen, _atlas.look_again = None, None, 0.0
    _country.forget()


os.register_at_fork(after_in_child=_forget)
