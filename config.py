"""Every setting, once, with its meaning. Read from the environment, and from `.env` where the environment is silent."""

import os
import re
import secrets
import socket
import tomllib
from dataclasses import dataclass, field, fields
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from dotenv import dotenv_values
from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from pixel import forwarding, geo
from pixel.warehouse import remote

HOME = Path(__file__).resolve().parent
VERSION = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["version"]
_ALL_IPV4 = "0.0.0.0"  # noqa: S104  the default of BIND


class WrongSetting(SystemExit):
    """A setting that the server must not start with. Its text is one sentence that names the setting."""


def setting(default, about):
    """A field of `Settings` that an environment variable of the same name fills."""
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one installation, checked. Durations and sizes name their unit."""

    PIXEL_ENV: str = setting("dev", "`dev` or `live`. Keys carry it, and a key of one is refused by the other.")
    SECRET_KEY: str = setting(
        "",
        "Signs and derives. Required in live and with PostgreSQL, the same on all servers; elsewhere one is made and "
        "kept in the instance folder.",
    )
    DATABASE_URL: str = setting(
        "",
        "The control data: keys, websites, people. Default: SQLite in the instance folder. For several servers: "
        "PostgreSQL, `postgresql://user:password@host/database`.",
    )
    ANALYTICS_URL: str = setting(
        "",
        "The warehouse that reports read. `chdb://` is the embedded engine in the instance folder, `chdb:///path` one "
        "elsewhere; `clickhouse://user:password@host:8123/database` a ClickHouse server over HTTP, `clickhouses://` "
        "over HTTPS, with `?cluster=NAME` a cluster. Missing: reading answers analytics_error.",
    )
    ANALYTICS_INGEST_URL: str = setting(
        "",
        "The warehouse that events go to, as above. Missing: ingest_unavailable.",
    )
    IDENTIFY_INGEST_URL: str = setting(
        "", "The warehouse that identify calls go to, as above. Missing: identify_unavailable."
    )
    RATELIMIT_STORAGE_URI: str = setting(
        "",
        "Where calls are counted. Default: an SQLite file in the instance folder, shared by all workers. For several "
        "servers: Redis, `redis://:password@host:6379/0`, or `rediss://` over TLS.",
    )
    RATELIMIT_API: int = setting(60, "Calls a minute that a workspace may make, unless it has a limit of its own.")
    RATELIMIT_TOKENS: int = setting(600, "Calls a minute that a workspace's query tokens may make together.")
    RATELIMIT_COLLECT: int = setting(600, "Hits a minute that the browser pixel takes from one address.")
    RATELIMIT_COLLECT_WEBSITE: int = setting(60000, "Hits a minute that the browser pixel takes for one website.")
    GEOIP_DATABASE: str = setting(
        "", "An MMDB file that tells an address's country. Empty: countries are known only where they are sent."
    )
    COUNTRY_HEADER: str = setting(
        "",
        "A header in which your proxies report the visitor's country, such as `CF-IPCountry`. Needs TRUSTED_HOPS. "
        "Ignored in a request that did not come through all of them.",
    )
    TRUSTED_HOPS: int = setting(
        0,
        "The number of your proxies between the internet and this server. The client's address is read from "
        "`X-Forwarded-For`, one value for each proxy. 0: the header is ignored.",
    )
    TRUSTED_PROXIES: str = setting(
        "",
        "The networks and addresses of your proxies, separated by commas. `X-Forwarded-For`, `X-Forwarded-Proto` and "
        "COUNTRY_HEADER are ignored from all others. Needs TRUSTED_HOPS. Default: loopback, private and link-local "
        "networks.",
    )
    TRUSTED_HOSTS: str = setting("", "Host names this server answers to, separated by commas. Empty: any.")
    PUBLIC_URL: str = setting(
        "", "Where people and programs reach this server, for links in mails. Default: `http://localhost` and the port."
    )
    MAX_ACTIVE_KEYS: int = setting(
        100, "Active API keys that a workspace may have. A key in the overlap of a rotation does not count."
    )
    SMTP_URL: str = setting(
        "",
        "The mail server: `smtp://user:password@host:587` (STARTTLS), or `smtps://` (TLS from the start). Empty: no "
        "mail is sent, and pages and commands show what would be.",
    )
    MAIL_FROM: str = setting("", "The sender of mails, such as `Pixel <pixel@example.com>`. Required with SMTP_URL.")
    RETENTION_MONTHS: int = setting(25, "How many months events and identify calls are kept: whole months, by UTC.")
    METRICS_TOKEN: str = setting(
        "",
        "What `/metrics` and the details of `/readyz` are shown for, as Bearer. Empty: to callers from this machine "
        "and from private networks.",
    )
    REQUEST_LOG_DAYS: int = setting(30, "How many days a request can be found by its id.")
    WEB_CONCURRENCY: int = setting(2, "Web worker processes.")
    BIND: str = setting(
        "",
        "The IPv4 or IPv6 address to listen on. Default: all, or `127.0.0.1` when TRUSTED_HOPS is set. The container "
        "image sets `0.0.0.0`.",
    )
    PORT: int = setting(8000, "The port to listen on.")
    PIXEL_INSTANCE: str = setting("instance", "The folder of everything this installation keeps.")

    @property
    def instance(self) -> Path:
        """The instance folder, absolute."""
        return (HOME / self.PIXEL_INSTANCE).resolve()

    @property
    def database_url(self) -> str:
        # Without a driver in it, the URL would mean one that is not used here.
        named = re.sub(r"^postgresql://", "postgresql+psycopg://", self.DATABASE_URL)
        return named or f"sqlite:///{self.instance / 'pixel.sqlite'}"

    @property
    def ratelimit_storage_uri(self) -> str:
        return self.RATELIMIT_STORAGE_URI or f"pixel-sqlite:///{self.instance / 'ratelimit.sqlite'}"

    @property
    def asks_servers(self) -> bool:
        """Whether every request asks a server for who is calling, or for how often they have."""
        return _is_postgresql(self.database_url) or self.ratelimit_storage_uri.startswith("redis")

    @property
    def public_url(self) -> str:
        return self.PUBLIC_URL.rstrip("/") or f"http://localhost:{self.PORT}"

    @property
    def trusted_hosts(self) -> list[str]:
        return [host.strip() for host in self.TRUSTED_HOSTS.split(",") if host.strip()]

    @property
    def trusted_proxies(self) -> tuple[forwarding.Network, ...]:
        """The networks whose forwarded headers are trusted."""
        if self.TRUSTED_PROXIES:
            return tuple(forwarding.parse_networks(self.TRUSTED_PROXIES))
        return forwarding.PRIVATE_NETWORKS if self.TRUSTED_HOPS else ()

    def listen_addresses(self) -> list[str]:
        """Return the addresses to listen on, as `address:port` with brackets around IPv6."""
        address = self.BIND or ("127.0.0.1" if self.TRUSTED_HOPS else "")
        addresses = [address] if address else _all_interfaces()
        return [f"[{each}]:{self.PORT}" if ":" in each else f"{each}:{self.PORT}" for each in addresses]

    def warehouse_path(self) -> Path | None:
        """The folder of the engine, and of the embedded warehouse; None when no warehouse is named at all."""
        if not self._warehouse:
            return None
        path = "" if self.warehouse_server() else urlsplit(self._warehouse).path
        return Path(path) if path.strip("/") else self.instance / "warehouse"

    def warehouse_server(self) -> str:
        """The URL of the ClickHouse server, or nothing when the warehouse is embedded."""
        return self._warehouse if self._warehouse.startswith("clickhouse") else ""

    def shared_claims(self) -> str:
        """The URL of the database in which several machines note what they have counted, or nothing."""
        return self.database_url if self.database_url.startswith("postgresql") else ""

    @property
    def _warehouse(self):
        return self.ANALYTICS_URL or self.ANALYTICS_INGEST_URL or self.IDENTIFY_INGEST_URL


def load(**overrides) -> Settings:
    """The settings in force: `overrides`, then the environment, then `.env`, then the defaults. Raises WrongSetting."""
    given = {**dotenv_values(HOME / ".env"), **os.environ, **overrides}
    values = {}
    for f in fields(Settings):
        text = given.get(f.name)
        if text is None or text == "":
            continue
        values[f.name] = _whole_number(f.name, text) if f.type in (int, "int") else str(text)
    settings = Settings(**values)
    _check(settings)
    return settings


def secret_key(settings: Settings) -> str:
    """The key in force: SECRET_KEY or, outside live, one made once and kept in the instance folder."""
    if settings.SECRET_KEY:
        return settings.SECRET_KEY
    kept = settings.instance / "secret_key"
    try:
        with open(os.open(kept, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return kept.read_text()


def _whole_number(name, text):
    try:
        return int(text)
    except ValueError:
        raise WrongSetting(f"{name} must be a whole number, not {str(text)[:40]!r}.") from None


def _all_interfaces() -> list[str]:
    """Return the wildcard addresses that cover IPv4, and IPv6 where this machine has it."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            is_ipv6_only = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return [_ALL_IPV4]
    # An IPv6 socket usually takes IPv4 connections too, and then no second socket can have the port.
    return [_ALL_IPV4, "::"] if is_ipv6_only else ["::"]


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text)) and "%" not in text
    except ValueError:
        return False


def _wrong_network(text: str) -> str:
    """Return what is wrong with a list of networks, or nothing."""
    try:
        forwarding.parse_networks(text)
    except ValueError as error:
        return str(error)
    return ""


def _has_host_and_port(url):
    try:
        parts = urlsplit(url)
        return not url or (bool(parts.hostname) and parts.port != 0)
    except ValueError:
        return False


def _names_a_server(url):
    try:
        return bool(remote.parse(url))
    except ValueError:
        return False


def _is_postgresql(url):
    """Whether the driver can make sense of it: of its parameters, too."""
    try:
        parsed = make_url(url)
        _, arguments = parsed.get_dialect()().create_connect_args(parsed)
        make_conninfo(**arguments)
    except (ArgumentError, NoSuchModuleError, ValueError, TypeError, psycopg.Error):
        return False
    return parsed.drivername == "postgresql+psycopg" and bool(parsed.database)


def _is_mailbox(text):
    address = parseaddr(text)[1]
    return bool(re.fullmatch(r"[^@\s]+@[^@\s]+", address)) and text.isprintable()


def _check(settings: Settings) -> None:
    def refuse_unless(fine: object, sentence: str) -> None:
        if not fine:
            raise WrongSetting(sentence)

    refuse_unless(settings.PIXEL_ENV in ("dev", "live"), "PIXEL_ENV must be dev or live.")
    refuse_unless(settings.PIXEL_ENV == "dev" or settings.SECRET_KEY, "SECRET_KEY must be set when PIXEL_ENV is live.")
    refuse_unless(
        not settings.SECRET_KEY or len(settings.SECRET_KEY) >= 32, "SECRET_KEY must have at least 32 characters."
    )
    refuse_unless(
        re.match(r"(sqlite:///|$)", settings.DATABASE_URL) or _is_postgresql(settings.database_url),
        "DATABASE_URL must be empty, sqlite:///path or postgresql://user:password@host/database.",
    )
    refuse_unless(
        settings.SECRET_KEY or not settings.DATABASE_URL.startswith("postgresql"),
        "SECRET_KEY must be set when DATABASE_URL is PostgreSQL: all servers on it must have the same.",
    )
    for name in ("ANALYTICS_URL", "ANALYTICS_INGEST_URL", "IDENTIFY_INGEST_URL"):
        refuse_unless(
            re.match(r"(chdb://(/|$)|$)", url := getattr(settings, name)) or _names_a_server(url),
            f"{name} must be empty, chdb://, chdb:///path or clickhouse://user:password@host:port/database.",
        )
    named = {getattr(settings, n) for n in ("ANALYTICS_URL", "ANALYTICS_INGEST_URL", "IDENTIFY_INGEST_URL")} - {""}
    refuse_unless(
        len(named) <= 1, "ANALYTICS_INGEST_URL and IDENTIFY_INGEST_URL must name the same warehouse as ANALYTICS_URL."
    )
    refuse_unless(
        re.match(r"(pixel-sqlite:///|$)", settings.RATELIMIT_STORAGE_URI)
        or (
            re.fullmatch(r"rediss?://[^\s?#]+", settings.RATELIMIT_STORAGE_URI)
            and _has_host_and_port(settings.RATELIMIT_STORAGE_URI)
        ),
        "RATELIMIT_STORAGE_URI must be empty, pixel-sqlite:///path, or redis:// or rediss:// and a host name.",
    )
    refuse_unless(
        re.match(r"(https?://[^/\s?#@]+/?|)$", settings.PUBLIC_URL),
        "PUBLIC_URL must be http:// or https:// and a host name, without a path.",
    )
    refuse_unless(
        re.match(r"(smtps?://[^\s?#]+|)$", settings.SMTP_URL) and _has_host_and_port(settings.SMTP_URL),
        "SMTP_URL must be smtp:// or smtps:// and a host name, with user:password@ before it if need be.",
    )
    refuse_unless(
        not settings.SMTP_URL or (_is_mailbox(settings.MAIL_FROM) and settings.PUBLIC_URL),
        "SMTP_URL needs MAIL_FROM, an e-mail address, and PUBLIC_URL, which mails link to.",
    )
    refuse_unless(
        not settings.GEOIP_DATABASE or geo.edition(settings.GEOIP_DATABASE),
        "GEOIP_DATABASE must be the path of an MMDB file that can be read.",
    )
    refuse_unless(
        not settings.COUNTRY_HEADER or (settings.TRUSTED_HOPS and re.fullmatch(r"[A-Za-z-]+", settings.COUNTRY_HEADER)),
        "COUNTRY_HEADER must be a header's name, and needs TRUSTED_HOPS: only a proxy of ours is believed.",
    )
    refuse_unless(
        not settings.BIND or _is_address(settings.BIND),
        "BIND must be an IPv4 or IPv6 address without port, brackets or zone, such as 127.0.0.1 or ::1.",
    )
    if settings.TRUSTED_PROXIES:
        refuse_unless(settings.TRUSTED_HOPS, "TRUSTED_PROXIES needs TRUSTED_HOPS, the number of proxies.")
        wrong = _wrong_network(settings.TRUSTED_PROXIES)
        refuse_unless(
            not wrong,
            f"TRUSTED_PROXIES must list networks such as 10.0.0.0/8, separated by commas: {wrong}.",
        )
    refuse_unless(
        re.fullmatch(r"([!-~]{16,200}|)", settings.METRICS_TOKEN),
        "METRICS_TOKEN must have 16 to 200 characters, without spaces.",
    )
    for name, low, high in (
        ("RATELIMIT_API", 1, 10**9),
        ("RATELIMIT_TOKENS", 1, 10**9),
        ("RATELIMIT_COLLECT", 1, 10**9),
        ("RATELIMIT_COLLECT_WEBSITE", 1, 10**9),
        ("MAX_ACTIVE_KEYS", 1, 100_000),
        ("TRUSTED_HOPS", 0, 10),
        ("RETENTION_MONTHS", 1, 240),
        ("REQUEST_LOG_DAYS", 1, 3650),
        ("WEB_CONCURRENCY", 1, 256),
        ("PORT", 1, 65535),
    ):
        refuse_unless(low <= getattr(settings, name) <= high, f"{name} must be between {low} and {high}.")
