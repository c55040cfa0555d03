"""The country of an address, by an MMDB file such as GeoLite2 Country or DB-IP's; without one it is not known."""

import ipaddress
import os
from functools import lru_cache

import maxminddb


class _Atlas:
    """The file in use. Opened by each process for itself, because a map of it must not be shared over a fork."""

    path = ""
    reader = None


_atlas = _Atlas()


def bind(path):
    """Use the file at `path`, or none when that is empty."""
    _atlas.path, _atlas.reader = path, None
    country.cache_clear()


def is_database(path):
    """Whether there is an MMDB file at `path`."""
    try:
        with maxminddb.open_database(path):
            return True
    except (OSError, ValueError):
        return False


@lru_cache(10_000)
def country(address):
    """The ISO 3166 code of an IPv4 or IPv6 address's country; '' when it is not known."""
    if not _atlas.path or not address:
        return ""
    try:
        found = _reader().get(ipaddress.ip_address(address))
    except (ValueError, OSError):
        return ""
    told = found if isinstance(found, dict) else {}
    place = told.get("country") or told.get("registered_country") or {}
    return place.get("iso_code", "") if isinstance(place, dict) else str(place)[:2]


def _reader():
    if _atlas.reader is None:
        _atlas.reader = maxminddb.open_database(_atlas.path)
    return _atlas.reader


def _after_fork():
    _atlas.reader = None
    country.cache_clear()


os.register_at_fork(after_in_child=_after_fork)
