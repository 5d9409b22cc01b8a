"""What is read and written in one pass is what h11 reads and writes: a differential fuzz, REQUESTS in the suite.

A million by hand: `python -m tests.edge.server.test_plain_exchange 1000000 [SEED]`.
"""

import sys
from collections import Counter
from random import Random
from typing import Any

import h11
import pytest
import trio
from hookd.edge.server.app_tasks import AppTasks
from hookd.edge.server.http1 import HEAD_BYTES_MAX, Http1, HypercornConfig, _in_origin_form, _refusal, _Strict
from hookd.edge.server.plain_exchange import REQUEST_BYTES_MAX, plain_answer_head, read_plain_request
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.events import Closed, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

REQUESTS = 20_000
ANSWERS = 400
SEED = 15
BODY = b'{"a": 1}\r\n\r\n\0\xff'
PLAIN = b"POST /v1/events?a=b HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 2\r\n\r\nok"
LINES = (
    b"POST /v1/events HTTP/1.1",
    b"GET / HTTP/1.1",
    b"PUT /v1/clients/acme?x=%20&y HTTP/1.1",
    b"DELETE /v1/clients/acme HTTP/1.1",
    b"GET //double/../dots HTTP/1.1",
)
ODD_LINES = (
    b"HEAD / HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"post /v1/events HTTP/1.1",
    b"POST /v1/events HTTP/1.0",
    b"POST /v1/events HTTP/2.0",
    b"POST  /v1/events HTTP/1.1",
    b"POST /v1/ev ents HTTP/1.1",
    b"POST http://other/v1/events HTTP/1.1",
    b"POST /\xc3\xa9 HTTP/1.1",
    b"POST v1 HTTP/1.1",
    b"POST /v1/events HTTP/1.1 ",
    b" POST /v1/events HTTP/1.1",
)
FIELDS = (
    b"Content-Type: application/json",
    b"content-type:application/json; charset=utf-8",
    b"Accept: */*",
    b"User-Agent: producer/1.0 (a; b)",
    b"Authorization: Bearer abc",
    b'Idempotency-Key: "k"  ',
    b"X-Twice: a",
    b"X-Twice: b\t",
    b"!#$%&'*+-.^_`|~09: all of a token",
    b"Connection: keep-alive",
    b"TE: trailers",
)
DECIDING = (
    b"Connection: close",
    b"connection: Keep-Alive, Upgrade",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: identity",
    b"Content-Length: 2",
    b"Content-Length: +2",
    b"Content-Length: 2, 2",
    b"Host: other",
    b"host :other",
    b"X-Empty:",
    b"X-Latin: \xe9",
    b"X-Nul: a\0b",
    b"X-Folded: a\r\n b",
    b"X-Bare: a\nb",
    b"X-Cr: a\rb",
    b": nameless",
    b"no colon",
    b"Content_Length: 9",
)
LENGTHS = (b"Content-Length: %d", b"content-length:%d", b"CONTENT-LENGTH: \t%d ", b"Content-Length: 0%d")


def written(random: Random) -> bytes:
    """One request, half of them spoiled in one way or another."""
    body = BODY[: random.choice((0, 0, 2, len(BODY)))]
    fields = [b"Host: localhost", *random.sample(FIELDS, random.randrange(5))]
    if body or random.random() < 0.3:
        fields.append(random.choice(LENGTHS) % len(body))
    line = random.choice(LINES)
    for _ in range(random.choice((0, 0, 1, 2))):
        match random.randrange(6):
            case 0:
                line = random.choice(ODD_LINES)
            case 1 | 2:
                fields.insert(random.randrange(len(fields) + 1), random.choice(DECIDING))
            case 3:
                fields.pop(random.randrange(len(fields))) if fields else None
            case 4:
                body += random.choice((b"x", b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
            case _:
                body = body[:-1]
    random.shuffle(fields)
    data = b"\r\n".join([line, *fields, b"", body])
    for _ in range(random.choice((0, 0, 0, 1))):
        at = random.randrange(len(data))
        data = (
            data[:at]
            + random.choice((b"", b"\n", b"\r", b"\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\x80"))
            + data[at + 1 :]
        )
    return data


def as_h11_reads(data: bytes) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes] | None:
    """The request, if it is one that the server answers, whole, with nothing behind it, on a connection that stays."""
    connection = _Strict(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    connection.receive_data(data)
    body = b""
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request) or _refusal(request) is not None:
            return None
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return None
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    if connection.trailing_data[0] or connection.their_state is not h11.DONE:
        return None
    if connection.they_are_waiting_for_100_continue:
        return None
    request = _in_origin_form(request)
    return request.method.decode(), request.target, list(request.headers), body


def compare(count: int, seed: int) -> Counter[str]:
    random, seen = Random(seed), Counter[str]()
    for _ in range(count):
        data = written(random)
        read, general = read_plain_request(data), as_h11_reads(data)
        if read is not None:
            assert tuple(read) == general, data
        seen["plain" if read is not None else "valid" if general is not None else "refused"] += 1
    return seen


def test_plain_request_is_what_h11_reads() -> None:
    seen = compare(REQUESTS, SEED)
    assert min(seen["plain"], seen["valid"], seen["refused"]) > REQUESTS // 50, seen


@pytest.mark.parametrize(
    "request_",
    [
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN.replace(b"Host: localhost:8080\r\n", b""),
        b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * REQUEST_BYTES_MAX + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 64 + b"\r\n",
        *(PLAIN.replace(b"Host", one + b"\r\nHost") for one in DECIDING[:-1]),
    ],
)
def test_what_is_not_plain_is_left_to_h11(request_: bytes) -> None:
    assert read_plain_request(PLAIN) is not None
    assert read_plain_request(request_) is None


# Answers

NAMES = (b"content-type", b"x-a", b"Location", b"host", b"connection", b"transfer-encoding", b"retry-after")
VALUES = (b"a", b"a b", b"", b"close", b"chunked", b"\xc3\xa9", b"7", b"a\tb")


class App:
    """Answers as it was told, in pieces."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], pieces: list[bytes]) -> None:
        self.answer = status, headers, pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, headers, pieces = self.answer
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        assert body == b"ok"
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def answered(app: App, reads: list[bytes]) -> tuple[bytes, str]:
    """What goes out for these reads, without its date, and what becomes of the connection."""
    sent, ends = b"", []

    async def send(event: Any) -> None:
        nonlocal sent
        if isinstance(event, RawData):
            sent += event.data
        elif not isinstance(event, Updated) or event.idle:
            ends.append("kept" if isinstance(event, Updated) else "closed")

    failed: list[str] = []
    config = HypercornConfig(lambda event, **_: failed.append(event))
    config.include_date_header = False
    with trio.fail_after(5):
        async with AppTasks() as tasks:
            context = WorkerContext(max_requests=None)
            state = ConnectionState({})
            http = Http1(
                ASGIWrapper(app), config, context, tasks, state, False, None, None, send, turn=trio.lowlevel.checkpoint
            )
            for read in reads:
                await http.handle(RawData(read))
            while not ends:
                await trio.lowlevel.checkpoint()
            await http.handle(Closed())
    return sent, f"{ends[0]}, {failed}"


def told(random: Random) -> App:
    pieces = [b"x" * random.choice((0, 1, 70)) for _ in range(random.randrange(4))]
    length = sum(map(len, pieces)) + random.choice((0, 0, 0, 0, 0, 1, -1))
    headers = [(random.choice(NAMES), random.choice(VALUES)) for _ in range(random.choice((0, 0, 1, 2)))]
    for _ in range(random.choice((1, 1, 1, 1, 0, 2))):
        headers.append(
            (random.choice((b"content-length", b"content-length", b"Content-Length")), b"%d" % max(0, length))
        )
    random.shuffle(headers)
    return App(random.choice((200, 202, 204, 304, 404, 503)), headers, pieces)


async def test_answer_to_a_plain_request_is_what_h11_writes() -> None:
    """Also where the app breaks its own word, and the connection with it."""
    random, seen = Random(SEED), Counter[bool]()
    for _ in range(ANSWERS):
        app = told(random)
        at = random.randrange(1, len(PLAIN))
        assert await answered(app, [PLAIN]) == await answered(app, [PLAIN[:at], PLAIN[at:]]), app.answer
        seen[plain_answer_head(*app.answer[:2]) is not None] += 1
    assert min(seen.values()) > ANSWERS // 10, seen


if __name__ == "__main__":
    print(compare(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else SEED))
