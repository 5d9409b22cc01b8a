"""HTTP/1.1 responses as bytes. No I/O; whoever has the bytes feeds them in. Requests are request_head.py's.

`ResponseReader` takes what the peer sent, in pieces of any size, and is llhttp (through httptools) with the parts that
a client of strangers needs around it.

Rules:
 * The complete final status line and head decide. `has_head` turns true when they are read, and from then on `feed`
   does not raise: what is wrong with the body is `failure`, for whoever reads the body.
 * An answer without anything to decide is read in one pass (plain_answer.py), with what llhttp would make of it.
 * Any other head is given to llhttp whole. One that llhttp refuses, or that it reads in a way we do not share, counts
   by its status line all the same (blemished_head.py), and the connection is not clean after it. Error is only what has
   no readable status line, or is over budget.
 * Everything up to the end of the final head has one byte budget, line ends before it and interim (1xx) responses
   included, so that an endless flood of either ends. A head over 8 KiB needs a place besides (long_heads.py). Interim
   responses are counted too: tiny ones cost more time than bytes. Of more fields than FIELDS_MAX the first are kept.
 * Line ends before a head are skipped: what a receiver wrote behind its last answer. As long as nothing else came the
   response is untouched.
 * The body is kept up to `body_bytes_max` and as it came: transfer coding is undone, content coding is not. More than
   that sets `is_cut`.
 * 101 is final, since we never ask for another protocol, and nothing on that connection is HTTP any more.
 * `is_complete` by framing; `has_leftover` when as much as one byte came after that. Where a head announces a body that
   HTTP says is none (204, 304, an interim one), its bytes may come all the same: that connection is not clean.

Why each head gets a parser of its own, fed exactly up to its end: llhttp takes RTSP, reads a body after 150, and ends
at `connection: close` in a 1xx. Why the last byte of a read is fed by itself: llhttp does not say where in it a message
ended, and it skips line ends behind it.

Known limits: 64 KiB, 64 interim responses, 256 fields a head. A response without length that breaks off looks complete.
"""

import re
from collections.abc import Hashable

import httptools
import httpx

from hookd.edge.egress.blemished_head import FIELDS_MAX, Fields, read_blemished_head, status_of
from hookd.edge.egress.long_heads import LONG_HEAD_BYTES, LongHeads
from hookd.edge.egress.plain_answer import PlainAnswer, read_plain_answer

HEAD_BYTES_MAX = 65536
INTERIMS_MAX = 64

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CODING = b"transfer-encoding"
_FRAMING = (_CODING, b"content-length")
_BEGINS = b"HTTP/1."
_H = ord("H")
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class ResponseReader:
    """Reads one response to one request. What `feed` raises is httpx.RemoteProtocolError and nothing else."""

    # As they stand at first; to set each anew would take as long as to read a plain answer.
    status_code = 0
    has_place = False  # of a long head, until `let_go`
    is_untouched = True  # not one byte came, but line ends
    has_begun = False  # what came may be an answer's: as far as it goes it is HTTP
    has_head = False
    is_blemished = False  # it counts by its status, and nothing after it on the connection would
    is_cut = False
    is_complete = False
    has_leftover = False
    failure: httpx.TransportError | None = None
    body: bytes | bytearray = b""  # a bytearray where it does not come with its head
    _plain: PlainAnswer | None = None  # whose fields nobody has asked for
    _head: bytes | bytearray = b""  # the one being read, where it did not come in one piece
    _framing: bytes | None = None  # of a blemished head
    _head_bytes = 0
    _interims = 0
    _keeps_alive = False
    _head_ended = False
    _parser: httptools.HttpResponseParser

    def __init__(
        self,
        body_bytes_max: int,
        long_heads: LongHeads | None = None,
        endpoint: Hashable = None,
        *,
        is_head_only: bool = False,
    ) -> None:
        """`endpoint` is whose place a long head takes among `long_heads`."""
        self._long_heads = long_heads
        self.endpoint = endpoint
        self.body_bytes_max = body_bytes_max
        self.is_head_only = is_head_only  # the answer to HEAD: lengths in it are of no body that comes
        self._fields: Fields = []

    @property
    def leaves_connection_clean(self) -> bool:
        """Whether the peer keeps the connection, and nothing on it is this response's any more."""
        is_whole = self.is_complete and not self.has_leftover and self.failure is None
        return is_whole and self._keeps_alive and not self.is_blemished

    @property
    def fields(self) -> Fields:
        """Of the final head, as they came."""
        if self._plain is not None:
            self._fields, self._plain = self._plain.fields, None
        return self._fields

    def only_value(self, name: bytes) -> str | None:
        """Of the field with this name, in lower case. One that came with values that differ says nothing."""
        if self._plain is not None and not self._plain.may_have(name):
            return None
        values = {value for key, value in self.fields if len(key) == len(name) and key.lower() == name}
        return values.pop().decode("latin-1") if len(values) == 1 else None

    def feed(self, data: bytes) -> None:
        """The next bytes, at least one. Raises only before the final head is complete."""
        if self.is_untouched and self._feed_plain(data):
            return
        if not self.has_head:
            data = self._feed_head(data)
        if data:
            self._feed_body(data)

    def let_go(self) -> None:
        """Nothing more is read, or wanted, of this response."""
        if self.has_place and self._long_heads is not None:
            self.has_place = False
            self._long_heads.give_back(self.endpoint)

    def feed_end(self) -> None:
        """The peer ended its side. Raises only before the final head is complete."""
        if not self.has_head:
            within = "without sending a response" if self.is_untouched else "within the response's head"
            raise httpx.RemoteProtocolError(f"server disconnected {within}")
        if self.is_complete or not self._is_framed():
            self._complete(keeps_alive=False)
        elif self.failure is None:
            self.failure = httpx.RemoteProtocolError("server disconnected within the response's body")

    # --- all at once, as nearly always

    def _feed_plain(self, data: bytes) -> bool:
        """Whether it was a plain answer, which is read then."""
        if self._head_bytes or self.is_head_only:
            return False
        plain = read_plain_answer(data, body_bytes_max=self.body_bytes_max)
        if plain is None:
            return False
        self._plain = plain
        self.status_code = plain.status_code
        self.body = data[plain.body_at :]
        self.is_untouched = False
        self.has_begun = self.has_head = self.is_complete = self._keeps_alive = True
        return True

    # --- the head

    def _feed_head(self, data: bytes) -> bytes:
        """Reads up to the end of the final head; returns what lies behind it."""
        while data and not self.has_head:
            if not self._head and data[0] != _H:
                data = self._skip_line_ends(data)
            head, data = self._split(data)
            if head:
                self._read_head(head)
        return data

    def _skip_line_ends(self, data: bytes) -> bytes:
        rest = data.lstrip(b"\r\n")
        if len(rest) < len(data):
            self.is_blemished = True
            self._spend(len(data) - len(rest))
        return rest

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """The whole head that ends in the data, and what is behind it; nothing as long as none ends."""
        if not data:
            return b"", b""
        self.is_untouched = False
        seen = len(self._head)
        self._head += data if seen else b""
        begun: bytes | bytearray = self._head if seen else data
        if not begun.startswith(_BEGINS) and not _BEGINS.startswith(begun):
            raise httpx.RemoteProtocolError("not HTTP: the response does not begin with a status line")
        self.has_begun = True
        end = _END_OF_HEAD.search(begun, max(0, seen - 2))
        if end is None:
            self._keep_unended(begun)
            return b"", b""
        self._spend(end.end())
        self._head = b""
        return bytes(begun[: end.end()]), bytes(begun[end.end() :])

    def _keep_unended(self, data: bytes | bytearray) -> None:
        """What has no end yet: a status line that cannot be read is an error now, not when the rest comes."""
        if not self._head:
            self._head = bytearray(data)
        if b"\n" in data and not status_of(data):
            raise httpx.RemoteProtocolError("not HTTP/1.1: the status line cannot be read")
        self._check(self._head_bytes + len(data))

    def _spend(self, count: int) -> None:
        self._head_bytes += count
        self._check(self._head_bytes)

    def _check(self, head_bytes: int) -> None:
        if head_bytes <= LONG_HEAD_BYTES:
            return
        if head_bytes > HEAD_BYTES_MAX:
            raise httpx.RemoteProtocolError(f"no final response head within {HEAD_BYTES_MAX} bytes")
        if not self.has_place and self._long_heads is not None:
            if not self._long_heads.take(self.endpoint):
                said = f"a response head over {LONG_HEAD_BYTES} bytes, while too many such are being read"
                raise httpx.RemoteProtocolError(said)
            self.has_place = True

    def _read_head(self, head: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._head_ended = False
        self.is_complete = self._keeps_alive = False
        self._fields, self.body = [], bytearray()
        status_code = self._read_strictly(head)
        if not status_code:
            status_code = self._read_blemished(head)
        if status_code < 200 and status_code != 101:
            self._pass_interim()
            return
        self.status_code = status_code
        self.has_head = True
        if status_code == 101:
            self._complete(keeps_alive=False)
        elif self._framing is not None:
            # As the strict parser would have it, for the body's sake; `connection: close`, since that is what follows.
            self._parser.feed_data(b"HTTP/1.1 %d \r\nconnection: close\r\n%b\r\n" % (status_code, self._framing))
        if self.is_head_only:
            self._complete(keeps_alive=False)
        if self.is_complete:
            if status_code in (204, 304) and self._announces_a_body():
                self._keeps_alive = False
            self._release_if_complete()

    def _read_strictly(self, head: bytes) -> int:
        """The status, 0 where llhttp refuses the head or takes it for something that it is not to us."""
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the status says it
        except httptools.HttpParserError:
            return 0
        status_code: int = self._parser.get_status_code()
        if not self._head_ended or status_code < 100 or self._parser.get_http_version() not in ("1.1", "1.0"):
            return 0
        codings = [
            value.lower() for name, value in self._fields if len(name) == len(_CODING) and name.lower() == _CODING
        ]
        return status_code if codings in ([], [b"chunked"]) else 0

    def _read_blemished(self, head: bytes) -> int:
        read = read_blemished_head(head)
        if read is None:
            raise httpx.RemoteProtocolError("not HTTP/1.1: the status line cannot be read")
        self.is_blemished = True
        self._parser = httptools.HttpResponseParser(self)
        self._fields[:] = read.fields
        self._framing = read.framing
        return read.status_code

    def _pass_interim(self) -> None:
        """To llhttp it was a whole response."""
        if self._interims >= INTERIMS_MAX:
            raise httpx.RemoteProtocolError(f"more than {INTERIMS_MAX} interim responses")
        self._interims += 1
        self.is_blemished = self.is_blemished or not self._keeps_alive or self._announces_a_body()
        self._framing = None
        self.is_complete = False

    def _announces_a_body(self) -> bool:
        return any(name.lower() in _FRAMING and value != b"0" for name, value in self._fields)

    # --- the body

    def _feed_body(self, data: bytes) -> None:
        if self.is_complete or self.failure is not None:
            self.has_leftover = True
            return
        try:
            if len(data) > 1:
                self._parser.feed_data(data[:-1])
            if self.is_complete:
                self.has_leftover = True
            else:
                self._parser.feed_data(data[-1:])
        except httptools.HttpParserError as error:
            if self.is_complete:
                self.has_leftover = True
            else:
                self.failure = httpx.RemoteProtocolError(f"the response's body is broken: {error}")
        self._release_if_complete()

    def _release_if_complete(self) -> None:
        """The parser holds us and we hold it: without this each request would be garbage that only gc finds."""
        if self.is_complete:
            del self._parser

    def _is_framed(self) -> bool:
        if self._framing is not None:
            return bool(self._framing)
        return any(name.lower() in _FRAMING for name, _ in self._fields)

    def _complete(self, *, keeps_alive: bool) -> None:
        self.is_complete = True
        self._keeps_alive = keeps_alive

    # --- what llhttp calls

    def on_status(self, reason: bytes) -> None:
        if _CONTROL.search(reason):
            raise ValueError("a control character in the status line")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            return  # a trailer field
        if len(self._fields) >= FIELDS_MAX:
            raise ValueError("more header fields than are kept")
        # Not the tabs: `chunked` and a tab is no chunked coding to llhttp, and must then be none to us.
        self._fields.append((name, value.rstrip(b" ")))

    def on_headers_complete(self) -> None:
        self._head_ended = True

    def on_body(self, data: bytes) -> None:
        if self.is_complete:
            return  # of what was planted behind the response
        room = self.body_bytes_max - len(self.body)
        self.is_cut = self.is_cut or len(data) > room
        self.body += data[: max(room, 0)]

    def on_message_complete(self) -> None:
        if not self.is_complete:
            self._complete(keeps_alive=self._parser.should_keep_alive())
