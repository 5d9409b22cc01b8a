"""The usual answer, read in one pass where llhttp takes four: nearly all are of this kind.

Rules:
 * It takes a whole answer, head and body, that came in one piece and says its own length, and in which nothing takes a
   decision. Whatever is not exactly that it leaves alone: then `wire` reads it, by llhttp.
 * What it takes, `wire` takes in the same way: status, fields, body, and a connection that may be used again
   (tests/edge/egress/test_plain_answer.py). So this is for speed alone: without it everything is as it is with it.

Exactly that is:
 * `HTTP/1.1`, one blank, a status from 200 on whose answer has a body (not 204 and 304), a reason of printable ASCII.
 * A head that needs no place (long_heads.py), of one to 64 fields: each a token, a colon and printable ASCII. Lines end
   with CRLF.
 * One Content-Length, in one to six digits, of exactly the bytes that are there.
 * No Transfer-Encoding, Connection, Proxy-Connection or Upgrade, which decide how it is read and what comes after it.

Not for answers to HEAD.
"""

import re

import msgspec

from hookd.edge.egress.blemished_head import Fields
from hookd.edge.egress.long_heads import LONG_HEAD_BYTES

_HEAD = re.compile(
    rb"HTTP/1\.1 (20[0-35-9]|2[1-9][0-9]|30[0-35-9]|3[1-9][0-9]|[45][0-9][0-9]) [ -~]*\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ -~]*\r\n){1,64}\r\n"
)
# In lower case: a length that is plain, or any other line that decides.
_DECIDING = re.compile(
    rb"\n(?:content-length: ?([0-9]{1,6})\r|(?:content-length|transfer-encoding|connection|proxy-connection|upgrade):)"
)


class PlainAnswer(msgspec.Struct, frozen=True, gc=False):
    data: bytes
    lowered: bytes  # the head
    status_code: int
    fields_at: int
    body_at: int

    def may_have(self, name: bytes) -> bool:
        """False where no field has this name, in lower case."""
        return name in self.lowered

    @property
    def fields(self) -> Fields:
        """As they came."""
        lines = self.data[self.fields_at : self.body_at - 4].split(b"\r\n")[1:]
        return [(name, value.strip(b" ")) for name, _, value in (line.partition(b":") for line in lines)]


def read_plain_answer(data: bytes, *, body_bytes_max: int) -> PlainAnswer | None:
    """None where it is not one of these, or its body is longer than that."""
    head = _HEAD.match(data)
    if head is None:
        return None
    body_at = head.end()
    if body_at > LONG_HEAD_BYTES:
        return None
    lowered = data[:body_at].lower()
    lengths = _DECIDING.findall(lowered)
    if len(lengths) != 1 or not lengths[0]:  # one is empty where another line decides
        return None
    body_bytes = len(data) - body_at
    if int(lengths[0]) != body_bytes or body_bytes > body_bytes_max:
        return None
    return PlainAnswer(data, lowered, int(head[1]), head.end(1), body_at)
