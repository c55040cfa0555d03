"""The bytes of one connection's requests as they arrive, until a request is whole.

Only the length of the body is read from the head here. gunicorn's parser judges everything else once the head is whole.
A request whose length could be read in two ways is refused (RFC 9112, section 6.3), so the two never disagree.
"""

import re

#: The limit of nginx: a request line and a header of 8,190 bytes each, and room for the others.
MAX_HEAD_BYTES = 32 << 10
#: The limit of gunicorn and of most proxies.
MAX_REQUEST_LINE_BYTES = 8190
#: The largest body that a route may allow. Routes have lower limits of their own.
MAX_BODY_BYTES = 10 << 20
#: Each chunk costs about a microsecond of the main thread.
MAX_CHUNKS = 10_000
MAX_CHUNK_LINE_BYTES = 1024
#: Trailers are searched again with each packet, so a large limit would let small packets cost much.
MAX_TRAILER_BYTES = 1024

_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]")
_BEGINNING_OF_REQUEST_LINE = re.compile(rb"[!-~ ]*\r?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[\t -~\x80-\xff]*)?\r\n")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*\r\n")
_BAD_CHUNKS = "The chunks of the body are malformed."


class Refused(Exception):
    """The bytes that arrived are not the beginning of a request that this server reads.

    `status` is the HTTP status, `message` the sentence for the caller, `header` the name of the header at fault, or "".
    """

    def __init__(self, status: int, message: str, header: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.header = status, message, header


class Arrival:
    """The bytes that have arrived on one connection. At most one request is taken out at a time."""

    __slots__ = (
        "_chunks",
        "_length",
        "_refusal",
        "_searched",
        "_skipped_line",
        "body",
        "expects_continue",
        "head",
        "unread",
    )

    def __init__(self) -> None:
        #: What arrived behind the head, or everything while the head is not whole.
        self.unread: bytes | bytearray = b""
        self._refusal: Refused | None = None
        self.next()

    def next(self) -> None:
        """Forget the request that was whole. What arrived behind it is the beginning of the next one."""
        self.head = b""
        self.body: bytes | bytearray = b""
        self.expects_continue = False
        self._length = 0
        self._chunks: _Chunks | None = None
        #: How much of the head has been searched for its end, and whether an empty line came before it.
        self._searched = 0
        self._skipped_line = False

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the next request has arrived."""
        return bool(self.head or self.unread or self._skipped_line)

    @property
    def size(self) -> int:
        """The bytes held for this connection."""
        return len(self.head) + len(self.unread) + (len(self._chunks.body) if self._chunks else 0)

    @property
    def missing(self) -> int:
        """How many bytes of the body have not arrived; 0 while that is unknown."""
        return max(0, self._length - len(self.unread)) if self.head else 0

    def is_larger_than(self, limit: int) -> bool:
        """Whether the body is known to be longer than `limit` bytes."""
        return (len(self._chunks.body) if self._chunks else self._length) > limit

    def add(self, data: bytes) -> bool:
        """Add bytes from the client. Return whether a request is whole. Raise Refused."""
        if not self.unread:
            self.unread = data
        else:
            if isinstance(self.unread, bytes):
                self.unread = bytearray(self.unread)
            self.unread += data
        return self.advance()

    def advance(self) -> bool:
        """Return whether a request is whole: `head` and `body` hold it until `next`. Raise Refused."""
        if self._refusal:
            raise self._refusal
        try:
            return self._advance()
        except Refused as refusal:
            self._refusal = refusal
            raise

    def _advance(self) -> bool:
        if not self.head and not self._read_head():
            return False
        if self._chunks:
            self.unread = self._chunks.read(self.unread)
            self.body = self._chunks.body
            return self._chunks.whole
        size = self._length
        if len(self.unread) < size:
            return False
        if size:
            self.body = self.unread if len(self.unread) == size else self.unread[:size]
            self.unread = self.unread[size:]
        return True

    def _read_head(self) -> bool:
        data = self.unread
        if data[:2] == b"\r\n" and not self._skipped_line:
            # RFC 9112, section 2.2: one empty line may come before a request.
            self.unread = data = data[2:]
            self._searched, self._skipped_line = 0, True
        end = data.find(b"\r\n\r\n", max(0, self._searched - 4))
        if end < 0:
            self._refuse_impossible_head()
            self._searched = len(data)
            return False
        if end > MAX_HEAD_BYTES:
            raise Refused(431, "The request's headers are too large or too many.")
        if not _REQUEST_LINE.fullmatch(data, 0, data.index(b"\r\n")):
            raise Refused(400, "The request line is malformed.")
        self.head = bytes(data[: end + 4])
        self.unread = data[end + 4 :]
        self._read_framing()
        return True

    def _refuse_impossible_head(self) -> None:
        data, seen = self.unread, max(0, self._searched - 1)
        if _BARE_LF.search(data, seen):
            raise Refused(400, "A line of the request does not end with CRLF.")
        end = data.find(b"\r\n", 0, MAX_REQUEST_LINE_BYTES + 2)
        if end < 0 and len(data) > MAX_REQUEST_LINE_BYTES + 1:
            raise Refused(414, "The request line is too long.")
        if end < 0 and not _BEGINNING_OF_REQUEST_LINE.fullmatch(data, seen):
            raise Refused(400, "This is not an HTTP request.")
        if end >= max(0, self._searched - 2) and not _REQUEST_LINE.fullmatch(data, 0, end):
            raise Refused(400, "The request line is malformed.")
        if len(data) > MAX_HEAD_BYTES:
            raise Refused(431, "The request's headers are too large or too many.")

    def _read_framing(self) -> None:
        fields = _FRAMING.findall(self.head)
        if not fields:
            return
        lengths = [value.rstrip(b" \t") for name, value in fields if name.lower() == b"content-length"]
        codings = [value.rstrip(b" \t").lower() for name, value in fields if name.lower() == b"transfer-encoding"]
        is_old = self.head[: self.head.index(b"\r\n")].endswith(b"HTTP/1.0")
        # RFC 9110, section 10.1.1: an expectation of HTTP/1.0 is ignored.
        self.expects_continue = not is_old and any(
            name.lower() == b"expect" and value.rstrip(b" \t").lower() == b"100-continue" for name, value in fields
        )
        if len(lengths) > 1:
            raise Refused(400, "The header Content-Length was sent more than once.", "Content-Length")
        if codings:
            self._read_coding(codings, has_length=bool(lengths), is_old=is_old)
        elif lengths:
            if not _LENGTH.fullmatch(lengths[0]):
                raise Refused(400, "The header Content-Length is not a whole number.", "Content-Length")
            self._length = int(lengths[0])

    def _read_coding(self, codings: list[bytes], has_length: bool, is_old: bool) -> None:
        if has_length:
            raise Refused(400, "Content-Length and Transfer-Encoding must not come together.", "Transfer-Encoding")
        if codings != [b"chunked"]:
            raise Refused(501, "The only Transfer-Encoding that is supported is chunked.", "Transfer-Encoding")
        if is_old:
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding.", "Transfer-Encoding")
        self._chunks = _Chunks()


class _Chunks:
    """A body in chunks (RFC 9112, section 7.1), decoded as it arrives."""

    __slots__ = ("_count", "_remaining", "_state", "body", "whole")

    def __init__(self) -> None:
        self.body = bytearray()
        self.whole = False
        self._state, self._remaining, self._count = self._read_line, 0, 0

    def read(self, data: bytes | bytearray) -> bytes | bytearray:
        """Decode what is there. Return the bytes that could not be decoded yet, or that follow the body."""
        place, moved = 0, True
        while moved and not self.whole:
            before, state = place, self._state
            place = state(data, place)
            moved = place > before or self._state != state
        return data[place:]

    def _read_line(self, data: bytes | bytearray, place: int) -> int:
        line = _CHUNK_LINE.match(data, place)
        if not line:
            if data.find(b"\n", place) >= 0 or len(data) - place > MAX_CHUNK_LINE_BYTES:
                raise Refused(400, _BAD_CHUNKS)
            return place
        self._count += 1
        if self._count > MAX_CHUNKS:
            raise Refused(400, f"The body has more than {MAX_CHUNKS:,} chunks.")
        self._remaining = int(line[1], 16)
        self._state = self._read_data if self._remaining else self._read_trailers
        return line.end()

    def _read_data(self, data: bytes | bytearray, place: int) -> int:
        some = data[place : place + self._remaining]
        self.body += some
        self._remaining -= len(some)
        if not self._remaining:
            self._state = self._read_end_of_data
        return place + len(some)

    def _read_end_of_data(self, data: bytes | bytearray, place: int) -> int:
        end = data[place : place + 2]
        if not b"\r\n".startswith(end):
            raise Refused(400, _BAD_CHUNKS)
        if len(end) < 2:
            return place
        self._state = self._read_line
        return place + 2

    def _read_trailers(self, data: bytes | bytearray, place: int) -> int:
        """Skip the trailers: no route uses any."""
        found = _TRAILERS.match(data, place)
        if found:
            self.whole = True
            return found.end()
        if len(data) - place > MAX_TRAILER_BYTES or data.find(b"\r\n\r\n", place) >= 0 or _BARE_LF.search(data, place):
            raise Refused(400, _BAD_CHUNKS)
        return place
