"""A connected socket, with fewer turns of the event loop than `trio.SocketStream` takes.

Rules: a write is a checkpoint only where it has to wait; a read waits before it asks the socket, since right after an
answer there is nothing yet. For the rest it is the trio stream that it was made of. Whoever writes from two tasks puts
a lock round `send_all`, and calls `send_now` only while nobody holds it.
"""

import errno
import os

import trio

RECEIVE_BYTES = 65536


class QuickStream(trio.abc.HalfCloseableStream):
    __slots__ = ("_stream",)

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    def send_now(self, data: bytes) -> bytes:
        """What the system does not take at once. Raises trio.BrokenResourceError or trio.ClosedResourceError."""
        try:
            return data[os.write(self._stream.socket.fileno(), data) :]
        except BlockingIOError:
            return data
        except OSError as error:
            raise _stream_error(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = self.send_now(bytes(data))
        if rest:
            await self._stream.send_all(rest)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            number = self._stream.socket.fileno()
            if number == -1:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(number)
            try:
                return os.read(number, max_bytes or RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise _stream_error(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _stream_error(error: OSError) -> Exception:
    return trio.ClosedResourceError() if error.errno == errno.EBADF else trio.BrokenResourceError()
