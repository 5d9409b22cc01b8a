"""Faults of receivers whose answers count although something is strange about them, or about the link behind them.

faults.py has the table that they are part of; plan.py names them, and puts them into the weather of some seeds.
"""

from collections.abc import Awaitable, Callable

import trio

from tests.simulation.talk import Talk

# Each head says its status clearly and has one blemish: format it with the status, of three digits.
BLEMISHED = (
    "HTTP/1.1 {} OK\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 {} OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/1.1 {} OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
    "HTTP/1.1 {} OK\r\ntransfer-encoding: identity\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 {} OK\r\nx-note: one\r\n two\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 {} OK\r\nx-note: one\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 {} OK\ncontent-length: 5\n\n",
    "HTTP/1.1 {} OK\r\nx-note: a\x01b\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1 {} OK\r\nx note: a\r\ncontent-length: 5\r\n\r\n",
    "HTTP/1.1  {} OK\r\ncontent-length: 5\r\n\r\n",
)
ENDLESS = (
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
    b"HTTP/1.1 201 Created\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
)


async def _blemished(talk: Talk) -> bool:
    """As sloppy servers write it. The link stays: whether it is used again is up to the daemon."""
    await talk.read_body()
    await trio.sleep(talk.latency)
    status = talk.draw.choice((200, 200, 200, 204, 503, 410))
    head = talk.draw.choice(BLEMISHED).format(status).encode()
    body = b"0\r\n\r\n" if b"chunked" in head else b"" if b"length: 0" in head or status == 204 else b"hello"
    await talk.answer_raw(status, head, body)
    return True


async def _endless(talk: Talk) -> bool:
    """The head is there, and the body goes on until the daemon has had enough."""
    await talk.read_body()
    await trio.sleep(talk.latency)
    head = talk.draw.choice(ENDLESS)
    await talk.answer_raw(int(head[9:12]), head)
    piece = b"1\r\nx\r\n" if b"chunked" in head else b"x"
    for _ in range(talk.draw.choice((0, 20))):
        await trio.sleep(0.2)
        await talk.end.send_all(piece)
    await talk.until_closed()
    return False


async def _answers_and_hangs_up(talk: Talk) -> bool:
    """While the body is still being written. What is written from then on breaks; the answer is there to be read."""
    await talk.read_body(most=talk.draw.choice((0, 10, 5000)))
    await talk.answer(talk.draw.choice((200, 200, 503)), fields="connection: close\r\n")
    talk.exchange.hung_up_at = trio.current_time()
    talk.end.hang_up()
    await trio.sleep(talk.draw.choice((0.1, 2)))
    return False


async def _trails(talk: Talk) -> bool:
    """Line ends before the answer, or line ends or other bytes behind it, at once or when they are least expected."""
    await talk.read_body()
    await trio.sleep(talk.latency)
    status, trail = talk.draw.choice((200, 200, 500, 404)), talk.draw.choice((b"\r\n", b"\n", b"\r\n\r\n", b"stray"))
    match talk.draw.choice(("before", "behind", "late", "late")):
        case "before":
            await talk.answer_raw(status, b"HTTP/1.1 %d \r\ncontent-length: 0\r\n\r\n" % status, before=b"\r\n\r\n")
        case "behind":
            await talk.answer(status, behind=trail)
        case _:
            await _trail_late(talk, status, trail)
    return True


async def _trail_late(talk: Talk, status: int, trail: bytes) -> None:
    await talk.answer(status)
    exchange = talk.exchange
    await trio.sleep(talk.draw.choice((0.001, 0.1, 0.5)))
    await talk.end.send_all(trail)
    if talk.exchange is not exchange and trail == b"stray":
        await talk.until_closed()  # glued to an answer it would hide that


async def _chunked_204(talk: Talk) -> bool:
    """No body, and the end of one a little later."""
    await talk.read_body()
    await trio.sleep(talk.latency)
    await talk.answer_raw(204, b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n")
    await trio.sleep(talk.draw.choice((0, 0.001, 0.1)))
    await talk.end.send_all(b"0\r\n\r\n")
    return True


async def _times_out_kept(talk: Talk) -> bool:
    """A fresh link is kept for the next request, which the receiver gave up to wait for."""
    await talk.read_body()
    await trio.sleep(talk.latency)
    if talk.exchange.is_kept or talk.draw.random() < 0.2:
        await talk.answer(408, fields="connection: close\r\n")
        return False
    await talk.answer(talk.draw.choice((200, 200, 500)))
    return True


STRANGE_ANSWERS: dict[str, Callable[[Talk], Awaitable[bool]]] = {
    "blemished": _blemished,
    "endless": _endless,
    "answers_and_hangs_up": _answers_and_hangs_up,
    "trails": _trails,
    "chunked_204": _chunked_204,
    "408": _times_out_kept,
}
