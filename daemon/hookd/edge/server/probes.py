"""Owns what a probe is, as far as its bytes say, and the answer that a plain one gets at once.

An orchestrator that hears nothing kills the process, and all that it holds. So probes come before others, and the one
that asks whether the process lives is answered from its first bytes: it takes two turns of the event loop and 0.1 ms,
where the way through the protocol and the application takes eight turns and 0.6 ms.

Rules: plain is a GET for one of these paths, without a query or a body, whole in one read, whose headers are those that
orchestrators and load balancers send. Everything else goes the long way, and is told the same there. The answer is
what the application answers, byte by byte; tests/edge/test_plain_probes.py compares them.
"""

import re
from collections.abc import Collection, Mapping

from hypercorn.config import Config

# Each at most once.
_HEADERS = frozenset((b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"))
_VALUE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_METHODS = ("GET", "HEAD")


class Probes:
    """`plain` has the text that each path is answered with, always, and with 200."""

    def __init__(self, paths: Collection[str], plain: Mapping[str, bytes], config: Config) -> None:
        beginnings = [f"{method} {path}".encode() for method in _METHODS for path in paths]
        self._beginnings = tuple(one + end for one in beginnings for end in (b" ", b"?"))
        self._plain = {b"GET %s HTTP/1.1" % path.encode(): body for path, body in plain.items()}
        self._config = config

    def begins(self, data: bytes) -> bool:
        """Whether this is the beginning of a probe's head."""
        return data.startswith(self._beginnings)

    def may_begin(self, data: bytes) -> bool:
        """Whether it is, or may yet become one. Empty lines before it mean nothing."""
        data = data.lstrip(b"\r\n")
        return self.begins(data) or any(one.startswith(data) for one in self._beginnings)

    def answer(self, data: bytes, *, is_last: bool = False) -> tuple[bytes, bool] | None:
        """What a plain probe is answered, and whether the connection ends with that. None: it is none."""
        if not data.endswith(b"\r\n\r\n"):
            return None
        line, *fields = data[:-4].split(b"\r\n")
        body = self._plain.get(line)
        headers = None if body is None else _headers(fields)
        if body is None or headers is None:
            return None
        closes = is_last or headers.get(b"connection", b"").lower() == b"close"
        return self._answer(body, closes=closes), closes

    def _answer(self, body: bytes, *, closes: bool) -> bytes:
        named = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        named += self._config.response_headers("h11")
        if closes:
            named.append((b"Connection", b"close"))
        return b"HTTP/1.1 200 \r\n%s\r\n%s" % (b"".join(b"%s: %s\r\n" % one for one in named), body)


def _headers(fields: list[bytes]) -> dict[bytes, bytes] | None:
    """By their names in lower case. None where one of them says more than a plain probe does."""
    found: dict[bytes, bytes] = {}
    for field in fields:
        name, colon, value = field.partition(b":")
        name, value = name.lower(), value.strip(b" ")
        if not colon or name not in _HEADERS or name in found or not _VALUE.fullmatch(value):
            return None
        found[name] = value
    is_plain = found.get(b"accept", b"*/*") == b"*/*"
    is_plain = is_plain and found.get(b"connection", b"close").lower() in (b"close", b"keep-alive")
    return found if is_plain and b"host" in found else None
