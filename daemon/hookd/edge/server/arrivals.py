"""Owns how bytes come in from a peer: when there are some, the connection waits for its turn, and only then reads them.
And how they go out: at once, where the system takes them; it mostly does, and a wait costs a turn of the event loop.

Rules:
 * What waits is in the system's buffers. Of a connection in line FIRST_BYTES are read, to tell whether it is a probe:
   probes have gates of their own. Over TLS nobody can tell, and a probe waits like the others.
 * The end of the peer's sending, and a reset, are arrivals too: a thousand peers that go at once go some a turn.

A stream that is no socket is in memory, and so are its bytes: they are read before they wait.
"""

import errno
import os
from collections.abc import Awaitable, Callable

import trio

from hookd.edge.server.gate import Gate, Gates
from hookd.edge.server.probes import Probes

RECEIVE_BYTES_MAX = 65536
# A probe's head is shorter.
FIRST_BYTES = 1024

HalfCloseable = trio.abc.HalfCloseableStream


class Arrivals(HalfCloseable):
    """The stream, whose reads wait for their turn. `wait` is how: its time is not the peer's."""

    def __init__(
        self,
        stream: HalfCloseable,
        gates: Gates,
        probes: Probes,
        wait: Callable[[Gate], Awaitable[None]],
        *,
        first: bytes | None = None,
    ) -> None:
        """`first`: what was read of it already, and is still to be received."""
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._gates, self._probes, self._wait = gates, probes, wait
        self._first = first

    def look(self) -> None:
        """Takes what of the first bytes is here already; it is still to be received, then without a wait for it."""
        try:
            if self._first is None:
                self._first = read_now(self._stream, FIRST_BYTES)
        except trio.BrokenResourceError:
            pass  # whoever receives is told

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Waits for bytes, and for their turn."""
        bytes_max = max_bytes or RECEIVE_BYTES_MAX
        if self._socket is None:
            read = bytes(await self._stream.receive_some(bytes_max))
            await self._pass(self._gate_of(read))
            return read
        first, self._first = self._first, None
        while first is None:
            await trio.lowlevel.wait_readable(self._socket)
            if not self._gates.requests.passes():
                first = read_now(self._stream, FIRST_BYTES)
            elif (data := read_now(self._stream, bytes_max)) is not None:
                return data
        await self._pass(self._gate_of(first))
        if len(first) < FIRST_BYTES:
            return first
        return first + (read_now(self._stream, bytes_max - FIRST_BYTES) or b"")

    async def _pass(self, gate: Gate) -> None:
        if not gate.passes():
            await self._wait(gate)

    def _gate_of(self, first: bytes) -> Gate:
        if not self._probes.begins(first):
            return self._gates.requests
        return self._gates.probes if self._probes.answer(first) is None else self._gates.plain_probes

    def send_now(self, data: bytes) -> bytes:
        """What the system does not take at once. Raises as `write_now` does."""
        return data if self._socket is None else write_now(self._socket, data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """A checkpoint only where it has to wait. One task at a time."""
        rest = self.send_now(bytes(data))
        if rest:
            await self._stream.send_all(rest)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def read_now(stream: HalfCloseable, bytes_max: int) -> bytes | None:
    """What of these bytes is here; b"" at the end of the stream; None where there is nothing yet, or no socket.

    Raises BrokenResourceError or ClosedResourceError.
    """
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        return os.read(stream.socket.fileno(), bytes_max)
    except BlockingIOError:
        return None
    except OSError as error:
        raise _stream_error(error) from error


def write_now(connected: trio.socket.SocketType, data: bytes) -> bytes:
    """What of it the system does not take at once. Raises BrokenResourceError or ClosedResourceError."""
    try:
        return data[os.write(connected.fileno(), data) :]
    except BlockingIOError:
        return data
    except OSError as error:
        raise _stream_error(error) from error


def _stream_error(error: OSError) -> Exception:
    if error.errno == errno.EBADF:
        return trio.ClosedResourceError("this socket was closed")
    return trio.BrokenResourceError(f"the connection is broken: {error}")
