"""What peers send that is not HTTP/1.1, or HTTP/1.1 that two programs may read differently; and what they must get.

Each request that has a body has a good event in it: a server that took the head for what it is not would admit it.
Knows nothing of the daemon, so that the acceptance tests can send the same to a real process.
"""

from typing import NamedTuple

EVENT = b'{"client_id": "acme", "type": "probe", "payload": 1}'
LENGTH = b"Content-Length: %d\r\n" % len(EVENT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(EVENT), EVENT)


class Probe(NamedTuple):
    """`statuses`: one of these is answered, in HTTP/1.1, and then the stream ends; 0 allows it to end at once."""

    sent: bytes
    statuses: tuple[int, ...] = (400,)
    ends: bool = False  # the peer closes its sending side after it


def post(headers: bytes, body: bytes = EVENT, *, host: bytes = b"Host: localhost\r\n") -> bytes:
    return b"POST /v1/events HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n" + headers + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0)
HEADERS = b"\x82\x84\x86\x41\x09localhost"  # GET / over http, as HPACK has it
WEBSOCKET = (
    b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\n"
)
CLIENT_HELLO = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(189))

LENGTHS = {
    "length and chunked": post(LENGTH + CHUNKED, CHUNKS),
    "chunked and length": post(CHUNKED + LENGTH, CHUNKS),
    "length twice": post(LENGTH + LENGTH),
    "length twice, in other case": post(LENGTH + LENGTH.upper()),
    "two lengths": post(LENGTH + b"Content-Length: 5\r\n"),
    "list of lengths": post(LENGTH.replace(b"\r", b", %d\r" % len(EVENT))),
    "length with a plus": post(LENGTH.replace(b": ", b": +")),
    "negative length": post(b"Content-Length: -1\r\n"),
    "length in hex": post(b"Content-Length: 0x34\r\n"),
    "length with an underscore": post(b"Content-Length: 5_2\r\n"),
    "no length in its header": post(b"Content-Length:\r\n"),
    "space before the colon": post(LENGTH.replace(b":", b" :")),
    "chunked, with a space before the colon": post(CHUNKED.replace(b":", b" :"), CHUNKS),
}
ENCODINGS = {
    "chunked twice": post(CHUNKED + CHUNKED, CHUNKS),
    "list with chunked last": post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
    "list with chunked first": post(b"Transfer-Encoding: chunked, identity\r\n", CHUNKS),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "identity": post(b"Transfer-Encoding: identity\r\n" + LENGTH),
    "gzip": post(b"Transfer-Encoding: gzip\r\n", CHUNKS),
    "chunked with a control character": post(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "quoted": post(b'Transfer-Encoding: "chunked"\r\n', CHUNKS),
}
CHUNKINGS = {
    "chunk size no number": chunked(b"ZZ\r\nxx\r\n"),
    "negative chunk size": chunked(b"-1\r\n" + CHUNKS),
    "chunk size with 0x": chunked(b"0x" + CHUNKS),
    "chunk size with a plus": chunked(b"+" + CHUNKS),
    "chunk size of 100 digits": chunked(b"f" * 100 + b"\r\n"),
    "chunk longer than its size": chunked(b"5\r\n" + EVENT + b"\r\n0\r\n\r\n"),
    "chunk that ends otherwise": chunked(CHUNKS.replace(b"}\r\n", b"}XX")),
    "chunk size ends without CR": chunked(CHUNKS.replace(b"\r\n", b"\n", 1)),
    "chunks end without CR": chunked(CHUNKS[:-2] + b"\n"),
    "trailer without CR": chunked(CHUNKS[:-2] + b"X: a\n\r\n"),
    "folded trailer": chunked(CHUNKS[:-2] + b"X: a\r\n b\r\n\r\n"),
}
HEADS = {
    "folded header": post(LENGTH + b"X: a\r\n b\r\n"),
    "folded header before the length": post(b"X: a\r\n\tb\r\n" + LENGTH),
    "lines without CR": post(LENGTH).replace(b"\r\n", b"\n"),
    "one line without CR": post(LENGTH.replace(b"\r", b"")),
    "blank line without CR": post(LENGTH).replace(b"\r\n\r\n", b"\r\n\n"),
    "CR alone": post(LENGTH + b"X: a\rY: b\r\n"),
    "NUL in a header": post(LENGTH + b"X: a\0b\r\n"),
    "space in a name": post(LENGTH + b"X Y: a\r\n"),
    "no name": post(LENGTH + b": a\r\n"),
    "no colon": post(LENGTH + b"colon\r\n"),
    "no host": post(LENGTH, host=b""),
    "two hosts": post(LENGTH, host=b"Host: localhost\r\nHost: localhost\r\n"),
    "no version": post(LENGTH).replace(b" HTTP/1.1", b""),
    "two spaces": post(LENGTH).replace(b"POST ", b"POST  "),
    "version in small letters": post(LENGTH).replace(b"HTTP/1.1", b"http/1.1"),
    "no path": post(LENGTH).replace(b"/v1/events", b"?x=1"),
    "no host in a target": post(LENGTH).replace(b"/v1/events", b"http:///v1/events"),
    "noise": bytes(range(1, 256)) * 4 + b"\r\n\r\n",
    "JSON": EVENT + b"\r\n\r\n",
    "TLS": CLIENT_HELLO + b"\r\n\r\n",
    "websocket": WEBSOCKET,
    "websocket and a byte": WEBSOCKET + b"x",
    "CONNECT": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
PROBES = {
    **{name: Probe(sent) for name, sent in {**LENGTHS, **CHUNKINGS, **HEADS}.items()},
    **{name: Probe(sent, (400, 501)) for name, sent in ENCODINGS.items()},
    "chunked in HTTP/1.0": Probe(post(CHUNKED, CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")),
    "length of 5,000 digits": Probe(post(b"Content-Length: " + b"9" * 5000 + b"\r\n"), (400, 413, 0)),
    "HTTP/1.2": Probe(post(LENGTH).replace(b"HTTP/1.1", b"HTTP/1.2"), (400, 505)),
    "HTTP/9.9": Probe(post(LENGTH).replace(b"HTTP/1.1", b"HTTP/9.9"), (505,)),
    "HTTP/2": Probe(PREFACE + _frame(1, 5, 1, HEADERS), (505,)),
    "HTTP/2 CONTINUATION flood": Probe(PREFACE + _frame(1, 1, 1, HEADERS) + _frame(9, 0, 1, b"\0" * 64) * 500, (505,)),
    "HTTP/2 ping flood": Probe(PREFACE + _frame(6, 0, 0, bytes(8)) * 2000, (505,)),
    "HTTP/2 rapid reset": Probe(
        PREFACE + b"".join(_frame(1, 5, n, HEADERS) + _frame(3, 0, n, bytes(4)) for n in range(1, 2001, 2)), (505,)
    ),
    "huge header": Probe(post(LENGTH + b"X: " + b"a" * 200_000 + b"\r\n"), (431,)),
    "header of 17 KiB": Probe(post(LENGTH + b"X: " + b"a" * 17_000 + b"\r\n"), (431,)),
    "5,000 headers": Probe(post(LENGTH + b"".join(b"X%d: a\r\n" % n for n in range(5000))), (431,)),
    "200 headers": Probe(post(LENGTH + b"".join(b"X%d: a\r\n" % n for n in range(200))), (431,)),
    "huge path": Probe(post(LENGTH).replace(b"/v1", b"/" + b"a" * 100_000), (431,)),
    "huge chunk extension": Probe(chunked(b"1;" + b"a" * 200_000 + b"\r\n"), (400, 431)),
    "blank lines": Probe(b"\r\n" * 5000, (400, 431)),
    "body cut, then FIN": Probe(post(LENGTH, EVENT[:-1]), (400,), ends=True),
    "chunks cut, then FIN": Probe(chunked(CHUNKS[:-2]), (400,), ends=True),
    "head cut, then FIN": Probe(post(LENGTH)[:40], (400,), ends=True),
    "nothing, then FIN": Probe(b"", (0,), ends=True),
}
# Those that ended the stock server or made it speak something else, and the shapes of smuggling that it took.
FAMOUS = (
    "websocket",
    "websocket and a byte",
    "chunk size no number",
    "chunk that ends otherwise",
    "length and chunked",
    "length twice",
    "list with chunked last",
    "folded header",
    "lines without CR",
    "no host",
    "TLS",
    "CONNECT",
    "HTTP/2",
    "HTTP/2 CONTINUATION flood",
    "HTTP/2 ping flood",
    "HTTP/2 rapid reset",
    "huge header",
    "body cut, then FIN",
    "head cut, then FIN",
)


def status_of(received: bytes) -> int:
    """Of the first answer; 0 for none."""
    return int(received[9:12]) if received.startswith(b"HTTP/1.1 ") else 0
