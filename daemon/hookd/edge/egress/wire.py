"""HTTP/1.1 as bytes: a request written, a response read. No I/O; whoever has the bytes feeds them in.

`request_bytes` makes one request. `ResponseReader` takes what the peer sent, in pieces of any size, and is llhttp
(through httptools) with the parts that a client of strangers needs around it.

Rules for a request:
 * Framing and the connection are ours: Host, Content-Length and Connection are written here, whatever the caller gave;
   Transfer-Encoding, Upgrade, TE, Expect and their like are not sent. `connection: close` is passed on.
 * Nothing goes out that could be read as another line: names are tokens, values hold no control characters.

Rules for a response:
 * The complete final status line and head decide. `has_head` turns true when they are read, and from then on `feed`
   does not raise: what is wrong with the body is `failure`, for whoever reads the body.
 * Everything up to the end of the final head has one byte budget, interim (1xx) responses included, so that an endless
   flood of either ends. Interim responses and fields are counted too: tiny ones cost more time than bytes.
 * The body is kept up to `body_bytes_max` and as it came: transfer coding is undone, content coding is not. More than
   that sets `is_cut`.
 * 101 is an error, since we never ask for another protocol, and so is any transfer coding but `chunked`, which we never
   allow with TE. Whatever head is taken as final, h11 takes with the same status; where the two differ, this one
   refuses: bare LF, obs-fold, two Content-Lengths even if equal, RTSP and ICE, HTTP/2.0.
 * `is_complete` by framing; `has_leftover` when as much as one byte came after that.

Why each head gets a parser of its own, fed exactly up to its end: llhttp takes RTSP, skips blank lines before a status
line, reads a body after 150, and ends at `connection: close` in a 1xx. Why the last byte of a read is fed by itself:
llhttp does not say where in it a message ended, and it skips line ends behind it.

Known limits: 64 KiB, 64 interim responses, 256 fields a head. A response without length that breaks off looks complete.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import httptools
import httpx

HEAD_BYTES_MAX = 65536
INTERIMS_MAX = 64
FIELDS_MAX = 256

Fields = list[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(rb"/[\x21-\x7e]*")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # control characters but tab and line ends
_OUR_NAMES = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"}
    | {b"expect", b"proxy-connection", b"http2-settings"}
)
_CODING = b"transfer-encoding"
_H = ord("H")


def request_bytes(
    method: bytes, path: bytes, authority: bytes, fields: Iterable[tuple[bytes, bytes]], body: bytes
) -> bytes:
    """The whole request. Raises httpx.LocalProtocolError for what cannot be written."""
    if not _TOKEN.fullmatch(method) or method == b"CONNECT":
        raise httpx.LocalProtocolError("the method cannot be sent")
    if not _PATH.fullmatch(path):
        raise httpx.LocalProtocolError("the URL's path cannot be sent")
    lines = [b"%b %b HTTP/1.1" % (method, path), b"host: " + authority]
    has_encoding = False
    for name, value in fields:
        kind = _kind(name)
        if kind == _OURS or (kind == _CONNECTION and value.lower() != b"close"):
            continue
        if kind == _ACCEPT_ENCODING:
            has_encoding = True
        lines.append(b"%b: %b" % (name, value))
    if not has_encoding:
        lines.append(b"accept-encoding: identity")
    if body or method in (b"POST", b"PUT", b"PATCH"):
        lines.append(b"content-length: %d" % len(body))
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    # One look over all of it in place of one at each value: as many line ends as lines, and no other control character.
    if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines) or _FORBIDDEN.search(head):
        raise httpx.LocalProtocolError("a header's value, or the host, holds characters that cannot be sent")
    return head + body


class ResponseReader:
    """Reads one response to one request. What `feed` raises is httpx.RemoteProtocolError and nothing else."""

    __slots__ = (
        "_at_start",
        "_head_bytes",
        "_head_ended",
        "_interims",
        "_keeps_alive",
        "_parser",
        "_refusal",
        "_tail",
        "body",
        "body_bytes_max",
        "failure",
        "fields",
        "has_head",
        "has_leftover",
        "is_complete",
        "is_cut",
        "is_head_only",
        "is_untouched",
        "status_code",
    )

    def __init__(self, *, body_bytes_max: int, is_head_only: bool = False) -> None:
        self.body_bytes_max = body_bytes_max
        self.is_head_only = is_head_only  # the answer to HEAD: lengths in it are of no body that comes
        self.status_code = 0
        self.fields: Fields = []
        self.body = bytearray()
        self.is_untouched = True  # not one byte came
        self.has_head = False
        self.is_cut = False
        self.has_leftover = False
        self.failure: httpx.TransportError | None = None
        self._head_bytes = 0
        self._interims = 0
        self._begin_head()

    @property
    def leaves_connection_clean(self) -> bool:
        """Whether the peer keeps the connection, and nothing on it is this response's any more."""
        return self.is_complete and self._keeps_alive and not self.has_leftover and self.failure is None

    def feed(self, data: bytes) -> None:
        """The next bytes, at least one. Raises only before the final head is complete."""
        self.is_untouched = False
        if not self.has_head:
            data = self._feed_head(data)
        if data:
            self._feed_body(data)

    def feed_end(self) -> None:
        """The peer ended its side. Raises only before the final head is complete."""
        if not self.has_head:
            within = "without sending a response" if self.is_untouched else "within the response's head"
            raise httpx.RemoteProtocolError(f"server disconnected {within}")
        if self.is_complete or not self._is_framed():
            self._complete(keeps_alive=False)
        elif self.failure is None:
            self.failure = httpx.RemoteProtocolError("server disconnected within the response's body")

    # --- the head

    def _begin_head(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.is_complete = False  # to llhttp an interim response is a whole one
        self._keeps_alive = False
        self._at_start = True
        self._head_ended = False
        self._refusal = ""
        self._tail = b""  # the last bytes seen of a head, where its end may have begun
        self.fields.clear()

    def _feed_head(self, data: bytes) -> bytes:
        """Reads up to the end of the final head; returns what lies behind it."""
        while data:
            if self._at_start and data[0] != _H:
                raise httpx.RemoteProtocolError("not HTTP: the response does not begin with a status line")
            self._at_start = False
            end = self._end_of_head(data)
            self._head_bytes += end or len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                raise httpx.RemoteProtocolError(f"no final response head within {HEAD_BYTES_MAX} bytes")
            self._parse_head(data[:end] if end else data)
            if not end:
                break
            data = data[end:]
            self._end_head()
            if self.has_head:
                return data
        return b""

    def _end_of_head(self, data: bytes) -> int:
        """How much of `data` belongs to the head that it ends, 0 if it does not end it."""
        seen = self._tail + data
        found = seen.find(b"\r\n\r\n")
        if found < 0:
            self._tail = seen[-3:]
            return 0
        return found + 4 - len(self._tail)

    def _parse_head(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._head_ended:  # else it is an upgrade's, and the status says more
                # llhttp's words are fixed ones; nothing of what the peer sent is repeated.
                raise httpx.RemoteProtocolError(f"not HTTP/1.1: {self._refusal or error}") from None

    def _end_head(self) -> None:
        status_code = self._parser.get_status_code()
        refusal = self._refusal_of(status_code)
        if refusal:
            raise httpx.RemoteProtocolError(refusal)
        if status_code < 200:
            self._interims += 1
            self._begin_head()
            return
        self.status_code = status_code
        self.has_head = True
        if self.is_head_only:
            self._complete(keeps_alive=False)
        self._release_if_complete()

    def _refusal_of(self, status_code: int) -> str:
        if not self._head_ended:
            return "not HTTP/1.1: the head ends too early"
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            return "not HTTP/1.1"
        if status_code < 100:
            return "not HTTP/1.1: the status code is less than 100"
        if status_code == 101:
            return "101 switching protocols, which nobody asked for"
        if status_code < 200 and self._interims >= INTERIMS_MAX:
            return f"more than {INTERIMS_MAX} interim responses"
        codings = [
            value.lower() for name, value in self.fields if len(name) == len(_CODING) and name.lower() == _CODING
        ]
        return "" if codings in ([], [b"chunked"]) else "a transfer coding that nobody allowed"

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
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.fields)

    def _complete(self, *, keeps_alive: bool) -> None:
        self.is_complete = True
        self._keeps_alive = keeps_alive

    # --- what llhttp calls

    def on_status(self, reason: bytes) -> None:
        if _CONTROL.search(reason):
            self._refuse("a control character in the status line")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            return  # a trailer field
        if len(self.fields) >= FIELDS_MAX:
            self._refuse(f"more than {FIELDS_MAX} header fields")
        # Not the tabs: `chunked` and a tab is no chunked coding to llhttp, and must then be none to us.
        self.fields.append((name, value.rstrip(b" ")))

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

    def _refuse(self, why: str) -> None:
        self._refusal = why
        raise ValueError(why)


_OTHER, _OURS, _CONNECTION, _ACCEPT_ENCODING = range(4)


@lru_cache(maxsize=1024)
def _kind(name: bytes) -> int:
    """What to do with a header, by its name: few names are ever in use, and this is asked ten times a request."""
    if not _TOKEN.fullmatch(name):
        raise httpx.LocalProtocolError("a header's name holds characters that cannot be sent")
    lowered = name.lower()
    if lowered == b"connection":
        return _CONNECTION
    if lowered == b"accept-encoding":
        return _ACCEPT_ENCODING
    return _OURS if lowered in _OUR_NAMES else _OTHER
