"""Receivers for the memory benchmark, in a child process: one port for each way to behave.

deaf: takes connections and never reads. ok: 200. wrong: 400 with a long body. garbage: an answer that is not HTTP.
head: 60 KiB of a head that does not end. body: a head and most of a long body, and then nothing.
"""

import asyncio
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = ("deaf", "ok", "wrong", "garbage", "head", "body")
WRONG_BODY = ("\N{PILE OF POO}" + "x" * 1020).encode()  # as text each character would take four bytes
ANSWERS = {
    "ok": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "wrong": b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n%b" % (len(WRONG_BODY), WRONG_BODY),
    "garbage": b"SMTP ready\r\n\r\n",
    "head": b"HTTP/1.1 400 No\r\n" + b"x: %b\r\n" % (b"y" * 231) * 255,
    "body": b"HTTP/1.1 400 No\r\ncontent-length: 16000\r\n\r\n" + b"z" * 15_900,
}


class _Answers(asyncio.Protocol):
    """Each piece that comes is a request: they are small, and sent at once."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._kind == "deaf":
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        del data
        self._transport.write(ANSWERS[self._kind])
        if self._kind == "garbage":
            self._transport.close()


@contextmanager
def receivers() -> Iterator[dict[str, int]]:
    """The port of each kind."""
    listeners = {kind: socket.create_server(("127.0.0.1", 0), backlog=4096) for kind in KINDS}
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(listeners,), daemon=True)
    process.start()
    try:
        yield {kind: listener.getsockname()[1] for kind, listener in listeners.items()}
    finally:
        process.kill()
        process.join()
        for listener in listeners.values():
            listener.close()


def _serve(listeners: dict[str, socket.socket]) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for kind, listener in listeners.items():
            if kind == "deaf":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.create_server(lambda kind=kind: _Answers(kind), sock=listener)  # type: ignore[misc]
        await asyncio.Event().wait()

    asyncio.run(serve())
