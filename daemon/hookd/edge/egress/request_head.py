"""HTTP/1.1 requests as bytes: what is the same in all of an endpoint's is checked and written once.

Rules:
 * Framing and the connection are ours: Host, Content-Length and Connection are written here, whatever the caller gave;
   Transfer-Encoding, Upgrade, TE, Expect and their like are not sent. `connection: close` is passed on.
 * `accept: */*` and `accept-encoding: identity` are sent unless the caller has its own.
 * Nothing goes out that could be read as another line: names are tokens, values hold no control characters.
 * Of the fields that vary, the names may be none of those above: those are written once.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import httpx

SENT_AT_ONCE_BYTES_MAX = 16384  # what Linux takes at once for a peer with the smallest receive buffer is 17,856 bytes

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"(?:http://[\x21-\x2e\x30-\x7e]+)?/[\x21-\x7e]*")  # with a proxy: the absolute form
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # control characters but tab and line ends
_OUR_NAMES = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"te", b"trailer", b"upgrade"}
    | {b"expect", b"proxy-connection", b"http2-settings"}
)
_OTHER, _OURS, _CONNECTION, _ACCEPT, _ACCEPT_ENCODING = range(5)


class RequestHead:
    """The head of requests that differ in a few fields and in their body."""

    __slots__ = ("_has_length", "_same")

    def __init__(self, method: bytes, target: bytes, authority: bytes, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """`fields` are in all of them. Raises httpx.LocalProtocolError for what cannot be written."""
        if not _TOKEN.fullmatch(method) or method == b"CONNECT":
            raise httpx.LocalProtocolError("the method cannot be sent")
        if not _TARGET.fullmatch(target):
            raise httpx.LocalProtocolError("the URL's path cannot be sent")
        lines = [b"%b %b HTTP/1.1" % (method, target), b"host: " + authority, *_lines(fields), b""]
        self._same = b"\r\n".join(lines)
        self._has_length = method in (b"POST", b"PUT", b"PATCH")
        _refuse_other_lines(self._same, len(lines) - 1)

    def __len__(self) -> int:
        """Of what is the same, in bytes."""
        return len(self._same)

    def request(self, varying: Sequence[tuple[str, str]], body: bytes) -> tuple[bytes, ...]:
        """The whole request: in one piece where it is sent at once, else the head, and the body as it is held anyway.

        Raises httpx.LocalProtocolError, and UnicodeError for what is not Latin-1.
        """
        lines = b""
        if varying:
            names, values = zip(*varying, strict=True)
            lines = (_varying_form(names) % values).encode("latin-1")
            if not "".join(values).isprintable():  # what is printable ends no line: as nearly always
                _refuse_other_lines(lines, len(varying))
        length = b"content-length: %d\r\n" % len(body) if body or self._has_length else b""
        if len(self._same) + len(lines) + len(body) > SENT_AT_ONCE_BYTES_MAX:
            return b"%b%b%b\r\n" % (self._same, lines, length), body
        return (b"%b%b%b\r\n%b" % (self._same, lines, length, body),)


def _lines(fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    lines = []
    has_accept = has_encoding = False
    for name, value in fields:
        kind = _kind(name)
        if kind == _OURS or (kind == _CONNECTION and value.lower() != b"close"):
            continue
        if kind == _ACCEPT:
            has_accept = True
        elif kind == _ACCEPT_ENCODING:
            has_encoding = True
        lines.append(b"%b: %b" % (name, value))
    if not has_accept:
        lines.append(b"accept: */*")
    if not has_encoding:
        lines.append(b"accept-encoding: identity")
    return lines


def _refuse_other_lines(text: bytes, count: int) -> None:
    """One look over all of it in place of one at each value: as many line ends as lines, nothing else of control."""
    if text.count(b"\r") != count or text.count(b"\n") != count or _FORBIDDEN.search(text):
        raise httpx.LocalProtocolError("a header's value, or the host, holds characters that cannot be sent")


@lru_cache(maxsize=1024)
def _kind(name: bytes) -> int:
    """What to do with a header, by its name: few names are ever in use."""
    if not _TOKEN.fullmatch(name):
        raise httpx.LocalProtocolError("a header's name holds characters that cannot be sent")
    lowered = name.lower()
    if lowered == b"connection":
        return _CONNECTION
    if lowered == b"accept":
        return _ACCEPT
    if lowered == b"accept-encoding":
        return _ACCEPT_ENCODING
    return _OURS if lowered in _OUR_NAMES else _OTHER


@lru_cache(maxsize=64)  # every attempt has the same names, or those with `traceparent`
def _varying_form(names: tuple[str, ...]) -> str:
    """The lines of fields that may differ from one request to the next, with a place for each value."""
    for name in names:
        if _kind(name.encode("ascii")) != _OTHER:
            raise httpx.LocalProtocolError("a header's name is one that cannot vary")
    return "".join([f"{name.replace('%', '%%')}: %s\r\n" for name in names])
