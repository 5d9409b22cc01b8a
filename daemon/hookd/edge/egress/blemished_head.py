"""Reads a response's head that the strict parser refused: its status, its fields, and how its body is framed.

A receiver that writes a clear status line has answered, whatever else is wrong with its head. So this reader takes the
status from the line and from the rest what can be made out. The bytes on such a connection cannot be trusted to end
where we think they do: it is never used again, so that no guess here can touch another event.

Rules, mostly those that RFC 9112 gives to robust recipients (2.2, 3, 5.1, 5.2):
 * A line ends at LF; a CR before it belongs to the end.
 * The status line is `HTTP/1.`, a digit, white space, three digits from 100 to 999, and white space or the line's end.
   White space is SP, HTAB, VT, FF or a bare CR, any number of them. Whatever follows is not read.
 * A line that begins with SP or HTAB goes on with the value above it. One without a colon is skipped.
 * White space around a name and a value is no part of it. Any other byte in them is.
 * The first FIELDS_MAX lines are read, the others are not.
 * The body is chunked if a transfer coding ends in `chunked`; else it has the length that all lengths agree on; else it
   lasts until the end of the connection.

Takes heads that are complete and within their byte budget; `wire` sees to that. Holds no state.
"""

import re
from typing import NamedTuple

FIELDS_MAX = 256

Fields = list[tuple[bytes, bytes]]

_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9][ \t\x0b\x0c\r]+([1-9][0-9]{2})(?![^ \t\x0b\x0c\r\n])")
_BLANKS = b" \t\x0b\x0c\r"
_LENGTH = re.compile(rb"[0-9]{1,18}")  # more digits are no length of anything


class BlemishedHead(NamedTuple):
    status_code: int
    fields: Fields
    framing: bytes  # as one field line with its CRLF, or nothing: until the end of the connection


def read_blemished_head(head: bytes) -> BlemishedHead | None:
    """None where there is no readable status line."""
    status_code = status_of(head)
    if not status_code:
        return None
    fields = _fields(head.split(b"\n", FIELDS_MAX + 1)[1 : FIELDS_MAX + 1])
    return BlemishedHead(status_code, fields, _framing(fields))


def status_of(head: bytes | bytearray) -> int:
    """The status of its first line, which may be all there is; 0 where it cannot be read."""
    found = _STATUS_LINE.match(head)
    return int(found[1]) if found else 0


def _fields(lines: list[bytes]) -> Fields:
    fields: Fields = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if fields:
                name, value = fields.pop()
                fields.append((name, b"%b %b" % (value, line.strip(_BLANKS))))
            continue
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name.strip(_BLANKS), value.strip(_BLANKS)))
    return [(name, value.strip(_BLANKS)) for name, value in fields]


def _framing(fields: Fields) -> bytes:
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    if codings:
        is_chunked = codings[-1].rpartition(b",")[2].strip(_BLANKS) == b"chunked"
        return b"transfer-encoding: chunked\r\n" if is_chunked else b""
    values = b",".join(value for name, value in fields if name.lower() == b"content-length").split(b",")
    lengths = {value.strip(_BLANKS) for value in values}
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        return b""
    return b"content-length: %b\r\n" % length
