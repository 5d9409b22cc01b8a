"""The usual request and the head of its usual answer, each in one pass. All else is h11's, and so is whatever is wrong.

Rules: a request is plain where one read has all of it and nothing more, its lines are as RFC 9112 writes them, its body
has the length that it gives, and no field of it concerns the connection. An answer is plain where its length stands in
it, its names are in lower case, and no field of it concerns the connection. What is read, and what is written, is then
byte for byte what h11 reads and writes: tests/edge/server/test_plain_exchange.py holds them together.

Limit: REQUEST_BYTES_MAX. A plain request is kept as it came until its answer begins, so that h11 can be told of it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

Fields = list[tuple[bytes, bytes]]

# As much as h11 keeps of a head.
REQUEST_BYTES_MAX = 16 * 1024
_FIELDS_MAX = 64
_WITHOUT_CONTENT = (204, 304)

_VALUE = rb"[!-~](?:[ -~]*[!-~])?"
_REQUEST_LINE = re.compile(rb"(GET|POST|PUT|DELETE) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*(" + _VALUE + rb")[ \t]*")
_ANSWER = re.compile(rb"(?:[a-z0-9-]+: " + _VALUE + rb"\r\n)+")
_LENGTH = re.compile(rb"[0-9]{1,8}")
# What these say is for who knows the whole protocol.
_OF_CONNECTION = frozenset((b"connection", b"transfer-encoding", b"expect", b"upgrade"))


class PlainRequest(NamedTuple):
    method: str
    target: bytes
    fields: Fields  # names in lower case, in the order in which they came
    body: bytes


def read_plain_request(data: bytes) -> PlainRequest | None:
    """None: h11 has to look at it."""
    if len(data) > REQUEST_BYTES_MAX:
        return None
    head, end, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if not end or line is None or len(lines) > _FIELDS_MAX:
        return None
    fields: Fields = []
    for one in lines:
        found = _FIELD.fullmatch(one)
        if found is None:
            return None
        name, value = found.groups()
        fields.append((name.lower(), value))
    return PlainRequest(line[1].decode(), line[2], fields, body) if _is_framed_plainly(fields, len(body)) else None


def _is_framed_plainly(fields: Fields, body_bytes: int) -> bool:
    named = dict(fields)
    names = [name for name, _ in fields]
    if not _OF_CONNECTION.isdisjoint(named):
        if named.pop(b"connection", b"").lower() != b"keep-alive" or names.count(b"connection") > 1:
            return False
        if not _OF_CONNECTION.isdisjoint(named):
            return False
    if names.count(b"host") != 1 or names.count(b"content-length") > 1:
        return False
    length = named.get(b"content-length", b"0")
    return _LENGTH.fullmatch(length) is not None and int(length) == body_bytes


class PlainHead(NamedTuple):
    data: bytes
    body_bytes: int


def plain_answer_head(status_code: int, fields: Sequence[tuple[bytes, bytes]]) -> PlainHead | None:
    """Of an answer to a plain request. None: h11 has to write it."""
    named = dict(fields)
    length = named.get(b"content-length", b"")
    if status_code < 200 or status_code in _WITHOUT_CONTENT or not _LENGTH.fullmatch(length):
        return None
    if not _OF_CONNECTION.isdisjoint(named) or [name for name, _ in fields].count(b"content-length") > 1:
        return None
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    if _ANSWER.fullmatch(lines) is None or b"\nhost:" in lines:  # h11 writes a host first
        return None
    return PlainHead(b"HTTP/1.1 %d \r\n%b\r\n" % (status_code, lines), int(length))
