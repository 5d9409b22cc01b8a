"""Byte streams in memory that behave like TCP where it matters: bounded buffers, ends, half-closes, resets, late news.

Writing to a peer that has closed succeeds once and resets the link, as on a socket. `close` is sync. Who reads gets
what is there in pieces of random size if a `chance` is given: no parser may rely on where a packet ends.
"""

from collections.abc import Callable
from random import Random

import trio


class Pipe:
    """One direction. `written` and `consumed` count bytes since the start."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer = bytearray()
        self.written = 0
        self.consumed = 0
        self.is_ended = False  # the writer is done
        self.on_consumed: Callable[[], None] = lambda: None
        self.readers = trio.lowlevel.ParkingLot()
        self.writers = trio.lowlevel.ParkingLot()

    def put(self, data: bytes) -> None:
        self.buffer += data
        self.written += len(data)
        self.readers.unpark_all()

    def get(self, count: int) -> bytes:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        self.consumed += len(data)
        self.writers.unpark_all()
        if data:
            self.on_consumed()
        return data

    def wake(self) -> None:
        self.readers.unpark_all()
        self.writers.unpark_all()


class End(trio.abc.HalfCloseableStream):
    """One side of a link; made in pairs by `pair`."""

    def __init__(self, incoming: Pipe, outgoing: Pipe, chance: Random | None) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.peer: End
        self.is_closed = False
        self.is_reset = False
        self.is_hung_up = False  # by the peer: writing breaks, what it said before can be read
        self.on_send: Callable[[bytes], None] = lambda data: None
        self.on_sent: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self._chance = chance

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """No checkpoint where everything fits, like our own TCP link."""
        unsent = bytes(data)
        self.on_send(unsent)
        while unsent:
            if self.is_closed or self.outgoing.is_ended:
                raise trio.ClosedResourceError
            if self.is_reset or self.is_hung_up:
                raise trio.BrokenResourceError
            if self.peer.is_closed:  # the packet goes out, and a reset comes back
                self.is_reset = True
                self.incoming.buffer.clear()
                return
            room = self.outgoing.capacity - len(self.outgoing.buffer)
            if room > 0:
                self.outgoing.put(unsent[:room])
                unsent = unsent[room:]
            else:
                await self.outgoing.writers.park()
        self.on_sent()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_closed:
                raise trio.ClosedResourceError
            if self.is_reset:
                raise trio.BrokenResourceError
            if self.incoming.buffer:
                return self.incoming.get(self._piece(max_bytes or 65536))
            if self.incoming.is_ended:
                return b""
            await self.incoming.readers.park()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError
        self.end()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        self.outgoing.is_ended = True
        self.outgoing.wake()

    def close(self) -> None:
        """With unread bytes this resets, as a socket does."""
        if not self.is_closed:
            self.is_closed = True
            self.on_close()
            if self.incoming.buffer:
                self.peer.reset()
            self.end()
            self.incoming.wake()

    def hang_up(self) -> None:
        """Takes nothing more, and lets the peer read what is there, as Linux does when a reset follows an answer."""
        self.end()
        self.peer.is_hung_up = True
        self.peer.outgoing.wake()

    def abort(self) -> None:
        """Closes with a reset."""
        if not self.is_closed:
            self.peer.reset()
            self.close()

    def die(self) -> None:
        """The process behind this end is killed: its kernel closes, with a reset where something was not read."""
        if not self.is_closed:
            unread = bool(self.incoming.buffer)
            self.end()
            if unread:
                self.peer.reset()
            self.is_reset = True
            self.incoming.wake()

    def reset(self) -> None:
        """What a reset from the peer does here: unread bytes are lost."""
        self.is_reset = True
        self.incoming.buffer.clear()
        self.incoming.wake()
        self.outgoing.wake()

    @property
    def has_news(self) -> bool:
        return bool(self.incoming.buffer) or self.incoming.is_ended or self.is_reset

    def _piece(self, most: int) -> int:
        there = min(len(self.incoming.buffer), most)
        if self._chance is None or self._chance.random() < 0.7:
            return there
        return self._chance.randint(1, there)


def pair(chance: Random | None = None, *, capacity: int = 65536) -> tuple[End, End]:
    there, back = Pipe(capacity), Pipe(capacity)
    first, second = End(back, there, chance), End(there, back, None)
    first.peer, second.peer = second, first
    return first, second
