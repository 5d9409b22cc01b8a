"""One request as its receiver handles it: read, and answered in any way, with the tap told what the answer is."""

from collections.abc import Callable
from random import Random

import trio

from tests.simulation.model import Answer, Exchange, Wired
from tests.simulation.wire import End

NEVER = 1 << 60  # an offset


class Talk:
    """One request as its receiver handles it."""

    def __init__(self, wired: Wired, end: End, draw: Random, latency: float, wall: Callable[[], float]) -> None:
        self.wired = wired
        self.end = end
        self.draw = draw
        self.latency = latency
        self.wall = wall
        self.unread = 0  # of the body

    @property
    def exchange(self) -> Exchange:
        assert self.wired.exchange is not None
        return self.wired.exchange

    async def read_head(self) -> bool:
        """Up to its empty line and no further; False where the daemon has no more requests."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = await self.end.receive_some(1)
            if not piece:
                return False
            head += piece
            known = head[-3:]
            where = (known + self.end.incoming.buffer).find(b"\r\n\r\n")
            there = len(self.end.incoming.buffer) - 3 if where < 0 else where + 4 - len(known)
            head += self.end.incoming.get(max(0, there))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.unread = int(length.partition(b":")[2])
        return True

    async def read_body(self, most: float = float("inf")) -> None:
        while self.unread and most > 0:
            piece = await self.end.receive_some(int(min(self.unread, most, 65536)))
            if not piece:
                raise trio.BrokenResourceError
            self.unread -= len(piece)
            most -= len(piece)

    async def answer(
        self,
        status: int,
        *,
        fields: str = "",
        body: bytes = b"ok",
        before: bytes = b"",
        behind: bytes = b"",
        length: int | None = None,
        is_proxys: bool = False,
    ) -> None:
        """One whole head; `length` may promise more than `body` has."""
        announced = len(body) if length is None else length
        head = f"HTTP/1.1 {status} \r\ncontent-length: {announced}\r\n{fields}\r\n".encode()
        written = self.end.outgoing.written + len(before)
        retry_after = fields.partition(":")[2].strip() if fields.lower().startswith("retry-after") else None
        head_end = written + len(head)
        self.exchange.answer = Answer(status, head_end, head_end + announced, retry_after, is_proxys=is_proxys)
        await self.end.send_all(before + head + body + behind)

    async def until_closed(self) -> None:
        while await self.end.receive_some():
            pass

    async def answer_raw(self, status: int, head: bytes, body: bytes = b"", *, before: bytes = b"") -> None:
        """A head as it stands, after which the link must not be used again; `body` is what comes behind it.

        Where that ends is a guess: it is over when the daemon closes.
        """
        head_end = self.end.outgoing.written + len(before) + len(head)
        self.exchange.answer = Answer(status, head_end, NEVER, ends_link=True)
        await self.end.send_all(before + head + body)
