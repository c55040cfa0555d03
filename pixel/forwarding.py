"""The client's address and scheme, as trusted proxies forward them.

The middleware walks from the connection's peer towards the client, one X-Forwarded-For value for each proxy. Two
settings bound the walk, because neither is enough alone:

- TRUSTED_PROXIES lists the networks of the proxies. A value counts only if the address that appended it is in one of
  them. Without this check any host that reaches the server could claim any address.
- TRUSTED_HOPS is the number of proxies. Without this bound a client inside a trusted network, such as an office behind
  the same private range, could claim any address.

`Forwarded`, `X-Forwarded-Host` and `X-Real-IP` are never trusted.
"""

import logging
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from pixel import telemetry

Network = IPv4Network | IPv6Network

#: Where a request comes from that did not cross the internet: loopback, private and link-local networks.
PRIVATE_NETWORKS = (
    *map(ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")),
    *map(ip_network, ("::1/128", "fc00::/7", "fe80::/10")),
)
#: The counter of ignored headers and peers, by case and by the kind of network that the peer is in.
COUNTER = "pixel_forwarding_ignored"
NO_HOPS, UNTRUSTED_PEER, UNTRUSTED_HOP = "no_hops", "untrusted_peer", "untrusted_hop"
PRIVATE, PUBLIC = "private", "public"
#: What each case means and what to set.
CASES = {
    NO_HOPS: (
        "X-Forwarded-For arrives while TRUSTED_HOPS is 0. The header is ignored, so all visitors behind a proxy share "
        "the proxy's address. If a proxy of yours sends it, set TRUSTED_HOPS to the number of your proxies."
    ),
    UNTRUSTED_PEER: (
        "A peer outside TRUSTED_PROXIES connects past the proxies. Its forwarded headers are ignored. If it is a proxy "
        "of yours, add its network to TRUSTED_PROXIES; otherwise set BIND to an address that only your proxies reach."
    ),
    UNTRUSTED_HOP: (
        "X-Forwarded-For passes through an address outside TRUSTED_PROXIES before TRUSTED_HOPS is reached. The values "
        "before that address are ignored. If it is a proxy of yours, add its network to TRUSTED_PROXIES."
    ),
}

#: Set in the WSGI environment: whether the peer is a trusted proxy, and how many proxies the address came through.
_TRUSTED_PEER, _HOPS = "pixel.trusted_peer", "pixel.hops"
_FORWARDING_HEADERS = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_VIA",
)
#: Longer text is no address: an IPv6 address has at most 45 characters, brackets and a port 8 more.
_LONGEST_ADDRESS = 53
_NETWORK = re.compile(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?")
_PORT = re.compile(r"(:[0-9]{1,5})?")
_LOG = logging.getLogger("pixel")


class ForwardedAddress:
    """WSGI middleware that sets REMOTE_ADDR and wsgi.url_scheme to the client's, as far as trusted proxies report them.

    REMOTE_ADDR stays the peer's address if the peer is not trusted or the header is malformed. An IPv4 peer of an IPv6
    socket (`::ffff:192.0.2.1`) gets its IPv4 address.
    """

    def __init__(self, application: Callable, hops: int, networks: Iterable[Network]) -> None:
        self.application = application
        self._hops = hops
        self._networks = tuple(networks)
        self._is_trusted = lru_cache(1024)(self._is_in_networks)
        self._warned: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR") or ""
        if peer.startswith("::ffff:") and "." in peer:
            environ["REMOTE_ADDR"] = peer = peer[7:]
        header = environ.get("HTTP_X_FORWARDED_FOR")
        if not self._hops:
            if header is not None:
                self._report(NO_HOPS, peer)
        elif self._is_trusted(peer):
            environ[_TRUSTED_PEER] = True
            hops = 0
            if header is not None:
                environ["REMOTE_ADDR"], hops = self._walk(peer, header)
            environ[_HOPS] = hops
            if scheme := _scheme(environ.get("HTTP_X_FORWARDED_PROTO", ""), hops):
                environ["wsgi.url_scheme"] = scheme
        elif header is not None or "HTTP_X_FORWARDED_PROTO" in environ or not is_private(peer):
            self._report(UNTRUSTED_PEER, peer)
        return self.application(environ, start_response)

    def _walk(self, peer: str, header: str) -> tuple[str, int]:
        """Return the last address that a trusted proxy appended, and how many proxies it came through.

        Return the peer and 0 if a value on the way is not an address.
        """
        address, hops = peer, 0
        for value in reversed(header.rsplit(",", self._hops)[-self._hops :]):
            if hops and not self._is_trusted(address):
                self._report(UNTRUSTED_HOP, address)
                break
            client = parse_address(value.strip())
            if client is None:
                return peer, 0
            address, hops = client, hops + 1
        return address, hops

    def _is_in_networks(self, address: str) -> bool:
        return _is_in(address, self._networks)

    def _report(self, case: str, peer: str) -> None:
        """Count a case. Log it the first time in this process, without the address, which may be a visitor's."""
        telemetry.count(COUNTER, case, PRIVATE if is_private(peer) else PUBLIC)
        if case not in self._warned:
            self._warned.add(case)
            _LOG.warning("%s", CASES[case])


def is_address_known(environ: dict[str, Any]) -> bool:
    """Return whether REMOTE_ADDR is the client's: it came from trusted proxies, or no proxy was involved."""
    return environ.get(_HOPS, 0) > 0 or not any(name in environ for name in _FORWARDING_HEADERS)


def is_country_known(environ: dict[str, Any], hops: int) -> bool:
    """Return whether COUNTRY_HEADER was set by a proxy: the peer is one, and the request came through all `hops`.

    A client that reaches an inner proxy past the outer one may have written the header itself.
    """
    return _TRUSTED_PEER in environ and (environ[_HOPS] == hops or "HTTP_X_FORWARDED_FOR" not in environ)


@lru_cache(1024)
def is_private(address: str) -> bool:
    """Return whether an address is in PRIVATE_NETWORKS."""
    return _is_in(address, PRIVATE_NETWORKS)


def parse_address(text: str) -> str | None:
    """Return an IP address in its canonical form, or None. A port and brackets are removed; a zone is refused."""
    return _parse_address(text) if len(text) <= _LONGEST_ADDRESS else None


def parse_networks(text: str) -> list[Network]:
    """Return the networks of a list such as `10.0.0.0/8, 2001:db8::1`. Raises ValueError that quotes the wrong one."""
    return [_parse_network(part.strip()) for part in text.split(",")]


@lru_cache(4096)
def _parse_address(text: str) -> str | None:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    elif text.count(":") == 1:
        host, colon, digits = text.partition(":")
        port = colon + digits
    else:
        host, port = text, ""
    if "%" in host or not _PORT.fullmatch(port):
        return None
    try:
        return str(_plain(ip_address(host)))
    except ValueError:
        return None


def _parse_network(text: str) -> Network:
    try:
        if not _NETWORK.fullmatch(text):
            raise ValueError
        network = ip_network(text)
    except ValueError as error:
        reason = "has host bits set" if "host bits" in str(error) else "is not a network"
        raise ValueError(f"{text[:60]!r} {reason}") from None
    if network.version == 6 and network.network_address.ipv4_mapped:
        raise ValueError(f"{text!r} must be written as IPv4")
    return network


def _is_in(address: str, networks: Iterable[Network]) -> bool:
    try:
        parsed = _plain(ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address maps, or the address itself."""
    return getattr(address, "ipv4_mapped", None) or address


def _scheme(header: str, hops: int) -> str | None:
    """Return the client's scheme. Proxies may append a value each, or replace the header: then there is one value."""
    if not header:
        return None
    values = header.rsplit(",", hops or 1)[-(hops or 1) :]
    scheme = values[0].strip().lower()
    return scheme if scheme in ("http", "https") else None
