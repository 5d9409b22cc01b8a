"""What is read in one pass is what llhttp reads: a differential fuzz, HEADS of them in the suite.

A million by hand: `python -m tests.edge.egress.test_plain_answer 1000000 [SEED]`.
"""

import sys
from collections import Counter
from random import Random

import pytest
from hookd.edge.egress.long_heads import LONG_HEAD_BYTES
from hookd.edge.egress.plain_answer import read_plain_answer
from hookd.edge.egress.wire import ResponseReader

HEADS = 20_000
SEED = 14
BODY_BYTES_MAX = 40
PLAIN = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nok"

FIELDS = (
    b"Server: nginx",
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
    b"content-type:text/plain; charset=utf-8",
    b"Set-Cookie: a=b; path=/",
    b"Set-Cookie:  c=d;  ",
    b"Retry-After: 7",
    b"Keep-Alive: timeout=5, max=100",
    b"X-Empty:",
    b"X-Blank:  ",
    b"!#$%&'*+.^_`|~: all of a token",
    b"Vary: Content-Length: 3",
    b"Via: 1.1 a (transfer-encoding: chunked)",
    b"Trailer: X",
    b"TE: trailers",
    b"Content-Encoding: gzip",
)
DECIDING = (
    b"Connection: close",
    b"Connection: keep-alive",
    b"connection:upgrade",
    b"Proxy-Connection: close",
    b"Upgrade: h2c",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: identity",
    b"Content-Length: 2",
    b"content-length: 0",
    b"X-Connection: close",
    b"Connection-X: close",
    b"Xcontent-length: 9",
    b"Content-Length-X: 9",
    b"Connection : close",
    b"Content_Length: 9",
)
LENGTHS = (
    b"Content-Length: %d",
    b"content-length:%d",
    b"CONTENT-LENGTH:  %d",
    b"Content-length: %d ",
    b"Content-Length: 0%d",
)
STATUSES = (
    b"200",
    b"200",
    b"201",
    b"202",
    b"204",
    b"205",
    b"304",
    b"400",
    b"410",
    b"429",
    b"503",
    b"599",
    b"600",
    b"999",
)
ODD_STATUS_LINES = (
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.2 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 099 X",
    b"HTTP/1.1 0200 X",
    b"HTTP/1.1 200OK",
    b"RTSP/1.1 200 OK",
)
BODIES = (
    b"",
    b"ok",
    b"{}",
    b"\r\n",
    b"\n",
    b"2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"x" * BODY_BYTES_MAX,
    b"x" * 41,
)
BYTES = b'\x00\x01\t\n\x0b\x0c\r\x1b !"#:;,/09AZaz~\x7f\x80\xa0\xff'


def answer(draw: Random) -> bytes:
    """Most are plain ones, or one thing away from that."""
    status_line = b"HTTP/1.1 %b OK" % draw.choice(STATUSES)
    if draw.random() < 0.1:
        status_line = draw.choice((*ODD_STATUS_LINES, b"HTTP/1.1 %d" % draw.randrange(2000)))
    body = draw.choice(BODIES)
    lines = draw.sample(FIELDS, draw.randrange(4))
    lines.append(draw.choice(LENGTHS[:1] * 3 + LENGTHS) % len(body))
    if draw.random() < 0.3:
        lines.append(draw.choice(DECIDING))
    draw.shuffle(lines)
    if draw.random() < 0.02:
        lines *= draw.choice((2, 15, 70))
    ends = b"\r\n" if draw.random() < 0.95 else b"\n"
    made = bytearray(ends.join([status_line, *lines, b"", b""]) + body)
    while draw.random() < 0.25:
        _spoil(made, draw)
    return bytes(made)


def _spoil(made: bytearray, draw: Random) -> None:
    """One byte of it: another one, gone, or one more."""
    at = draw.randrange(len(made) + 1)
    match draw.randrange(3):
        case 0:
            made[at : at + 1] = bytes([draw.choice(BYTES)])
        case 1:
            del made[at : at + 1]
        case _:
            made[at:at] = bytes([draw.choice(BYTES)])


def reading(*pieces: bytes) -> ResponseReader:
    response = ResponseReader(body_bytes_max=BODY_BYTES_MAX)
    for piece in pieces:
        response.feed(piece)
    return response


def seen(response: ResponseReader) -> tuple[object, ...]:
    return (
        response.status_code,
        response.only_value(b"retry-after"),
        response.only_value(b"set-cookie"),
        response.fields,
        bytes(response.body),
        response.has_begun,
        response.has_head,
        response.is_untouched,
        response.is_blemished,
        response.is_complete,
        response.is_cut,
        response.has_leftover,
        response.failure,
        response.leaves_connection_clean,
    )


def check(data: bytes) -> bool:
    """Whether it is a plain answer. What came in two pieces is never read as one: that is llhttp's reading."""
    if read_plain_answer(data, body_bytes_max=BODY_BYTES_MAX) is None:
        return False
    plain, general = reading(data), reading(data[:1], data[1:])
    assert plain.leaves_connection_clean, data
    assert seen(plain) == seen(general), data
    for response in (plain, general):
        response.feed(b"H")
    assert seen(plain) == seen(general), data
    assert not plain.leaves_connection_clean
    return True


def fuzz(heads: int, seed: int) -> Counter[bool]:
    draw = Random(seed)
    return Counter(check(answer(draw)) for _ in range(heads))


def test_plain_answers_are_read_as_llhttp_reads_them() -> None:
    """Status, fields, body, and whether the connection may be used again."""
    found = fuzz(HEADS, SEED)
    assert min(found.values()) > HEADS / 5, "neither kind is rare"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN[1:],
        b"\r\n" + PLAIN,
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"200", b"204"),
        PLAIN.replace(b"200", b"304"),
        PLAIN.replace(b"200", b"101"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"Server: nginx", b"Connection: keep-alive"),
        PLAIN.replace(b"Server: nginx", b"transfer-encoding: chunked"),
        PLAIN.replace(b"Server: nginx", b"CONTENT-LENGTH: 2"),
        PLAIN.replace(b"Server: nginx", b"Upgrade: h2c"),
        PLAIN.replace(b"nginx", b"\x80"),
        PLAIN.replace(b"nginx", b"a\tb"),
        PLAIN.replace(b"nginx", b"a\r\n b"),
        PLAIN.replace(b"Server:", b"Server :"),
        PLAIN.replace(b"Content-Length: 2\r\n", b""),
        PLAIN.replace(b": 2", b": +2"),
        PLAIN.replace(b": 2", b": 0000002"),
        PLAIN[:-2].replace(b": 2", b": 41") + b"x" * 41,
        PLAIN.replace(b"Server: nginx", b"\r\n".join([b"A: b"] * 64)),
        PLAIN.replace(b"nginx", b"x" * LONG_HEAD_BYTES),
    ],
)
def test_anything_else_is_left_to_llhttp(data: bytes) -> None:
    """One thing away from the plain one, each."""
    assert check(PLAIN)
    assert not check(data)


def test_answer_to_head_is_never_plain() -> None:
    """Its length is of no body that comes."""
    response = ResponseReader(body_bytes_max=BODY_BYTES_MAX, is_head_only=True)
    response.feed(PLAIN)
    assert (response.is_complete, response.has_leftover, bytes(response.body)) == (True, True, b"")


def test_what_follows_line_ends_or_an_interim_response_is_not_plain() -> None:
    """Something was before it on the connection."""
    assert not reading(b"\r\n", PLAIN).leaves_connection_clean
    assert reading(b"HTTP/1.1 103 Early Hints\r\n\r\n", PLAIN).fields == reading(PLAIN).fields
    assert not reading(b"HTTP/1.1 103 X\r\nconnection: close\r\n\r\n", PLAIN).leaves_connection_clean


if __name__ == "__main__":
    counted = fuzz(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else SEED)
    print(
        f"{counted.total()} heads: {counted[True]} plain ones, each as llhttp reads it; {counted[False]} left to llhttp"
    )
