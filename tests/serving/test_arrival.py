"""A request is whole when its last byte has arrived, however the bytes arrive, and never ambiguous."""

import io
import re

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from hypothesis import given
from hypothesis import strategies as st

from pixel.serving import arrival
from pixel.serving.arrival import Arrival, Refused

HEAD = b"POST /api/event HTTP/1.1\r\nHost: pixel\r\n"


def feed(data, sizes=()):
    """Feed bytes in pieces of these sizes, the rest at once. Return [(head, body)] of the requests that were whole."""
    incoming, requests, place = Arrival(), [], 0
    pieces = []
    for size in sizes:
        pieces.append(data[place : place + size])
        place += size
    pieces.append(data[place:])
    for piece in filter(None, pieces):
        whole = incoming.add(piece)
        while whole:
            requests.append((incoming.head, bytes(incoming.body)))
            incoming.next()
            whole = incoming.has_begun and incoming.advance()
    return requests, incoming


def in_chunks(body, sizes, extension=b"", trailers=b""):
    out, place = [], 0
    for size in (*sizes, len(body)):
        if some := body[place : place + size]:
            out.append(b"%x%s\r\n%s\r\n" % (len(some), extension, some))
        place += size
    return b"".join(out) + b"0\r\n" + trailers + b"\r\n"


SIZES = st.lists(st.integers(1, 50), max_size=30)
BODIES = st.binary(max_size=200)


@given(
    bodies=st.lists(st.tuples(BODIES, st.booleans(), SIZES), min_size=1, max_size=4), cuts=SIZES, empty=st.booleans()
)
def test_requests_come_out_as_they_went_in_however_their_bytes_arrive(bodies, cuts, empty):
    sent = []
    for body, chunked, sizes in bodies:
        field = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        sent.append((HEAD + field + b"\r\n\r\n", body, in_chunks(body, sizes) if chunked else body))
    stream = b"".join((b"\r\n" if empty else b"") + head + wire for head, _, wire in sent)
    requests, incoming = feed(stream, cuts)
    assert requests == [(head, body) for head, body, _ in sent]
    assert not incoming.has_begun


@given(body=BODIES, chunked=st.booleans(), sizes=SIZES, data=st.data())
def test_a_request_is_not_whole_before_its_last_byte(body, chunked, sizes, data):
    field = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    whole = HEAD + field + b"\r\n\r\n" + (in_chunks(body, sizes, b";a=b", b"X-Sum: 1\r\n") if chunked else body)
    cut = data.draw(st.integers(0, len(whole) - 1))
    requests, incoming = feed(whole[:cut])
    assert requests == []
    assert incoming.has_begun == (cut > 0)
    assert incoming.size >= 0


NAMES = st.sampled_from(
    [b"Content-Length", b"content-length", b"Content-Length ", b"Content_Length", b"Transfer-Encoding", b"X", b" Host"]
)
VALUES = st.one_of(
    st.sampled_from([b"3", b"+3", b"0x3", b"3, 3", b"-1", b"\xb2", b"chunked", b"Chunked", b"identity", b"gzip, chunked",
                     b"xchunked", b"chunked, chunked", b"", b"1" * 19]),
    st.binary(max_size=6).filter(lambda value: b"\r" not in value and b"\n" not in value),
)  # fmt: skip


@given(fields=st.lists(st.tuples(NAMES, VALUES), max_size=4), version=st.sampled_from([b"1.1", b"1.0"]))
def test_what_arrives_as_a_whole_is_what_the_parser_reads(fields, version):
    """The head is judged twice, here and by gunicorn. Where both accept it, they must agree where the request ends."""
    head = b"POST / HTTP/%s\r\nHost: h\r\n" % version + b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n"
    body = b"3\r\nabc\r\n0\r\n\r\n" + b"x" * 20
    try:
        requests, incoming = feed(head + body)
    except Refused:
        return
    config = Config()
    config.set("keepalive", 5)
    parser = get_parser(config, _Source(head + body), ("127.0.0.1", 1))
    try:
        request = next(parser)
        read = request.body.read() if has_body(request) else b""
    except Exception:
        return
    if requests:
        assert requests[0][1] == read
    else:
        # Only a length that is longer than what came is waited for.
        assert incoming.missing or incoming.head == b""


def has_body(request):
    return any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in request.headers)


class _Source(io.BytesIO):
    def recv(self, size):
        return self.read(size)


@pytest.mark.case(58)
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Content-Length: 2\r\nContent-Length: 2", 400),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: +2", 400),
        ("Content-Length: 0x2", 400),
        ("Content-Length: 1, 1", 400),
        ("Content-Length: -1", 400),
        ("Content-Length:", 400),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding:", 501),
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused(fields, status):
    with pytest.raises(Refused) as refused:
        feed(f"POST /api/event HTTP/1.1\r\nHost: pixel\r\n{fields}\r\n\r\n".encode())
    assert refused.value.status == status
    assert refused.value.header in fields


def test_http_1_0_has_no_chunks():
    with pytest.raises(Refused):
        feed(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


@pytest.mark.case(58)
@pytest.mark.parametrize(
    "chunks",
    [b"0x2\r\nab\r\n", b"+2\r\nab\r\n", b"2\nab\r\n", b"2\r\nabc\r\n", b"\r\n", b"g\r\n", b"-1\r\n", b"2 \r\nab\r\n",
     b"2;a\x00b\r\nab\r\n", b"1" * 16 + b"\r\n", b";" + b"x" * 2000, b"0\r\nno trailer\r\n\r\n", b"0\r\na: b\n\r\n",
     b"0\r\na: " + b"b" * 9000],
)  # fmt: skip
def test_malformed_chunks_are_refused(chunks):
    with pytest.raises(Refused) as refused:
        feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert refused.value.status == 400


def test_a_body_in_very_many_chunks_is_refused():
    with pytest.raises(Refused, match="chunks"):
        feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (arrival.MAX_CHUNKS + 1))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"no request\r\nHost: pixel\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: pixel\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: pixel\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: pixel\n", 400),
        (b"GET / HTTP/1.1\r\nHost: pixel\n", 400),
        (b"\n", 400),
        (b"GET / HTTP/2.0\r\n", 400),
        (b"GET /" + b"x" * 8200, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * arrival.MAX_HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * arrival.MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    ],
)
def test_bytes_that_cannot_become_a_request_are_refused_at_once(data, status):
    with pytest.raises(Refused) as refused:
        feed(data)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "data", [b"", b"\r", b"\r\n", b"G", b"GET", b"GET /", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n"]
)
def test_the_beginning_of_a_request_is_waited_for(data):
    requests, _ = feed(data)
    assert requests == []


def test_a_refused_connection_stays_refused():
    incoming = Arrival()
    for _ in range(2):
        with pytest.raises(Refused):
            incoming.add(HEAD + b"Content-Length: 1, 1\r\n\r\n")
    with pytest.raises(Refused):
        incoming.advance()


def test_the_body_of_a_request_is_known_to_be_too_large_before_it_has_arrived():
    incoming = Arrival()
    assert not incoming.add(HEAD + b"Content-Length: 1000\r\n\r\n")
    assert incoming.is_larger_than(999)
    assert not incoming.is_larger_than(1000)
    assert incoming.missing == 1000
    incoming = Arrival()
    assert not incoming.add(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 500)
    assert incoming.is_larger_than(499)
    assert not incoming.is_larger_than(500)


def test_a_client_that_waits_to_be_told_to_continue_is_noticed():
    incoming = Arrival()
    assert not incoming.add(HEAD + b"Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
    assert incoming.expects_continue
    assert re.match(rb"POST", incoming.head)
    incoming = Arrival()
    assert not incoming.add(b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert not incoming.expects_continue
