"""The command `pixel`: its options, and how it fails."""

import io
import json
import logging
import os
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from pixel_client import verbs
from pixel_client.client import DEFAULT_URL, Client
from pixel_client.errors import NoAnswer, PixelError, UnexpectedAnswer
from pixel_client.http import VERSION
from pixel_client.tables import visible

Verb = Callable[[Client, Namespace], int]
#: Parameters of a report that have options of their own.
_OWN_OPTIONS = ("website_id", "from", "to", "limit", "offset")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Its exit code: 0, 1 for an error, 2 for wrong usage, 130 when interrupted."""
    _speak_utf8()
    logging.basicConfig(format="pixel: %(message)s")
    logging.getLogger("pixel_client").setLevel(logging.INFO)
    parser = _parser()
    options = parser.parse_args(arguments, Namespace(url=None, key_file=None))
    try:
        with _client(options) as client:
            return _run(client, options)
    except verbs.WrongUsage as error:
        parser.error(visible(str(error)))


def _run(client: Client, options: Namespace) -> int:
    try:
        code = cast(Verb, options.verb)(client, options)
        sys.stdout.flush()
        return code
    except PixelError as error:
        return _failed(f"{error} {_hint(error, client.base_url)}")
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return 130


def _failed(why: str) -> int:
    sys.stderr.write(f"pixel: {visible(why)}\n")
    return 1


def _hint(error: PixelError, base_url: str) -> str:
    if isinstance(error, NoAnswer | UnexpectedAnswer):
        return f"Is {base_url} the address of a Pixel API?"
    return f"See {base_url}/docs/errors#{error.code}"


def _client(options: Namespace) -> Client:
    """A client as the options and the environment say. Raises WrongUsage."""
    try:
        return Client(_key(options.key_file), options.url or os.environ.get("PIXEL_API_URL") or DEFAULT_URL)
    except (ValueError, OSError) as error:
        raise verbs.WrongUsage(str(error)) from None


def _key(file: str | None) -> str:
    key = Path(file).read_text() if file is not None else os.environ.get("PIXEL_API_KEY")
    if not key:
        raise ValueError("There is no key: set PIXEL_API_KEY, or name a file with --key-file.")
    return key


def _speak_utf8() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def _parser() -> ArgumentParser:
    common = ArgumentParser(add_help=False, argument_default=SUPPRESS)
    common.add_argument("--url", help=f"address of the server; default: PIXEL_API_URL, or {DEFAULT_URL}")
    common.add_argument("--key-file", metavar="FILE", help="file that holds the key; default: the key in PIXEL_API_KEY")
    parser = ArgumentParser("pixel", description="Send events to a Pixel API and read its reports.", parents=[common])
    parser.add_argument("--version", action="version", version=VERSION)
    found = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(verb: Verb, *forms: str) -> ArgumentParser:
        about = (verb.__doc__ or "").rstrip(".").lower()
        below = found.add_parser(
            verb.__name__, help=about, description=verb.__doc__, parents=[common], allow_abbrev=False
        )
        below.set_defaults(verb=verb)
        if forms:
            below.add_argument("--format", choices=forms, default=forms[0])
        if "csv" in forms:
            below.add_argument("--raw", action="store_true", help="CSV for programs: no quote before a formula")
        return below

    _add_send(add(verbs.send))
    _add_query(add(verbs.query, "table", "csv", "json"))
    add(verbs.pipes, "table", "csv", "json").add_argument("pipe", nargs="?", help="tell of this report only")
    add(verbs.websites, "table", "csv", "json")
    add(verbs.me, "table", "json")
    receipt = add(verbs.receipt, "table", "json")
    receipt.add_argument("event_id")
    receipt.add_argument("--website", metavar="ID", help="the website it was sent for")
    visitor = add(verbs.visitor, "table", "json")
    visitor.add_argument("visitor_id")
    visitor.add_argument("--website", metavar="ID", help="only what they did there")
    _add_tail(add(verbs.tail))
    return parser


def _add_send(parser: ArgumentParser) -> None:
    parser.add_argument("--website", metavar="ID", help="the website; with --file, for events that name none")
    parser.add_argument("--file", help='events as NDJSON, one a line; "-" is stdin')
    parser.add_argument("--dry-run", action="store_true", help="check everything, keep nothing")
    event = parser.add_argument_group("fields of the event")
    event.add_argument("--name", help="pageview (default), custom or payment")
    types: dict[str, Callable[[str], Any]] = {"value": float, "props": _object}
    for name in verbs.FIELDS:
        # --url is the server's.
        option = "page_url" if name == "url" else name
        spellings = dict.fromkeys((f"--{option.replace('_', '-')}", f"--{option}"))
        event.add_argument(*spellings, dest=f"event_{name}", type=types.get(name, str), metavar="VALUE")


def _add_query(parser: ArgumentParser) -> None:
    parser.add_argument("pipe", help="the report, such as p_top_pages; pixel pipes lists them")
    parser.add_argument("--website", metavar="ID", help="default: all that the key may see")
    parser.add_argument("--from", dest="from_", metavar="YYYY-MM-DD", help="first day")
    parser.add_argument("--to", metavar="YYYY-MM-DD", help="last day, included")
    parser.add_argument("--limit", type=int, metavar="ROWS")
    parser.add_argument("--offset", type=int, metavar="ROWS")
    parser.add_argument("--all", action="store_true", help="read page after page until there is no more")
    parser.add_argument(
        "--param", action="append", default=[], type=_pair, metavar="NAME=VALUE", help="any other; repeatable"
    )


def _add_tail(parser: ArgumentParser) -> None:
    parser.add_argument("--website", metavar="ID", required=True)
    parser.add_argument("--every", type=_pause, default=5.0, metavar="SECONDS", help="default 5, at least 2")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ArgumentTypeError("must be NAME=VALUE")
    if name in _OWN_OPTIONS:
        raise ArgumentTypeError(f"{name} has an option of its own")
    return name, value


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ArgumentTypeError("must be JSON") from None


def _pause(text: str) -> float:
    # A workspace has 60 calls a minute for everything, so this takes half of them at most.
    if not 2 <= float(text) <= 3600:
        raise ArgumentTypeError("must be 2 to 3600 seconds")
    return float(text)
