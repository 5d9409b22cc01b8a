"""A link: one open byte stream to one address, over TCP or TLS.

What it adds to a trio stream is what a pool needs and `trio.abc.Stream` lacks: a `close` that does not wait, so that
whoever is being cancelled, evicts or shuts down can close at once, and `has_input`, which says without a wait whether
the peer sent something that nobody asked for. TLS may have taken some of that off its socket: `has_decrypted_input`.
Tests and simulations make links of memory streams; `Dial` is how they come in.

Rules:
 * `dial` connects to exactly the address that it is given, which must be a literal: nothing is resolved here.
 * A failed or cancelled `dial` leaves no socket behind.
 * TLS verifies the certificate against the name, by a context that is not ours to choose. SNI is the name too.
 * Closing says no goodbye (close_notify): HTTP frames its messages itself, and a peer that does not read could hold it.
 * A peer that sends in drips is read by turns (drips.py).
 * TCP_NODELAY is on: a request goes out when it is written.

Known limits: a look at a TLS stream takes a session ticket that comes late for input, which costs one connection.
"""

import errno
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from hookd.edge.egress.drips import DRIP_BYTES, DRIPS_MAX, Drips


class NetworkStream(Protocol):
    @property
    def stream(self) -> trio.abc.Stream: ...

    def close(self) -> None:
        """Closes now, whoever waits on the stream gets trio.ClosedResourceError. May be called again."""
        ...

    def has_input(self) -> bool:
        """Whether there are bytes, or an end, to be read right now; of TLS, on what is below it."""
        ...


RECEIVE_BYTES = 16384
SECURED_AT_ONCE_BYTES = 64 * 1024

Dial = Callable[[str, int], Awaitable[NetworkStream]]


async def dial(address: str, port: int, *, drips: Drips) -> NetworkStream:
    """Connects to an IP literal; raises OSError."""
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await trio.socket.from_stdlib_socket(opened).connect((address, port))
    except BaseException:
        opened.close()
        raise
    return TcpStream(opened, drips)


async def secure(network_stream: NetworkStream, context: ssl.SSLContext, server_hostname: str) -> "TlsStream":
    """The link with TLS on top, once the handshake is done. If it fails the link is still the caller's to close.

    Raises trio.BrokenResourceError from ssl's own error, and ValueError for a name that TLS cannot ask for.
    """
    secured = TlsStream(network_stream, context, server_hostname)
    await secured.shake_hands()
    return secured


class TcpStream(trio.abc.Stream):
    """A connected, non-blocking socket.

    Not a `trio.SocketStream`, for its cost, a fifth of a whole POST: that one takes a turn of the loop after a write
    that was done at once, and asks for bytes before it waits for them, which right after a request are never there.
    Here every read is a checkpoint, and a write is one only where it has to wait.
    """

    __slots__ = ("_drips", "_poll", "_short_reads", "_socket")

    def __init__(self, connected: socket.socket, drips: Drips) -> None:
        self._socket = connected
        self._drips = drips
        self._short_reads = 0  # since the last write
        self._poll = select.poll()  # to make one takes as long as the look itself
        self._poll.register(connected, select.POLLIN)

    @property
    def stream(self) -> trio.abc.Stream:
        return self

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._short_reads = 0
        unsent: bytes | bytearray | memoryview = data
        while unsent:
            try:
                sent = self._socket.send(unsent)
                if sent == len(unsent):
                    return
                unsent = memoryview(unsent)[sent:]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise _stream_error(error) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            number = self._socket.fileno()
            if number == -1:
                raise trio.ClosedResourceError
            if self._short_reads < DRIPS_MAX:
                await trio.lowlevel.wait_readable(number)
            else:
                await self._drips.wait(self)
            try:
                data = self._socket.recv(max_bytes or RECEIVE_BYTES)
            except BlockingIOError:
                continue  # readable no more: the kernel may throw away what it announced
            except OSError as error:
                raise _stream_error(error) from error
            if len(data) < DRIP_BYTES:
                self._short_reads += 1
            return data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._drips.wake(self)

    def has_input(self) -> bool:
        return bool(
            self._poll.poll(0)
        )  # an error or a hang-up too, and whatever the number is by then once it is closed


def _stream_error(error: OSError) -> Exception:
    return trio.ClosedResourceError() if error.errno == errno.EBADF else trio.BrokenResourceError()


class TlsStream(trio.abc.Stream):
    """TLS by trio, of which one thing is not as we need it: once its writing broke it reads no more.

    A receiver that answers while the request is still coming, and closes, resets us while we write. Its answer, or the
    alert that says why, is here by then. So what breaks below is not told to trio's stream; `send_all` raises it.
    """

    __slots__ = ("_network_stream", "_secured", "_valve")

    def __init__(self, network_stream: NetworkStream, context: ssl.SSLContext, server_hostname: str) -> None:
        self._network_stream = network_stream
        self._valve = _Valve(network_stream.stream)
        self._secured = trio.SSLStream(self._valve, context, server_hostname=server_hostname, https_compatible=True)

    @property
    def stream(self) -> trio.abc.Stream:
        return self

    async def shake_hands(self) -> None:
        await self._secured.do_handshake()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Piece by piece: what is encrypted of a long body is held besides it until the peer takes it."""
        unsent = memoryview(data)
        for at in range(0, len(unsent), SECURED_AT_ONCE_BYTES):
            await self._secured.send_all(unsent[at : at + SECURED_AT_ONCE_BYTES])
            if self._valve.send_failure is not None:
                raise self._valve.send_failure

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._secured.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self._secured.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._network_stream.close()

    def has_input(self) -> bool:
        return self._network_stream.has_input()

    async def has_decrypted_input(self) -> bool:
        """Whether there is input inside the SSL stream, decrypted or not: it reads one byte without the socket."""
        self._valve.is_shut = True
        try:
            await self._secured.receive_some(1)
        except trio.WouldBlock:
            return False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return True
        finally:
            self._valve.is_shut = False
        return True


class _Valve(trio.abc.Stream):
    """Passes everything through. While it is shut, reading raises trio.WouldBlock instead of waiting.

    When writing breaks it keeps why, and takes whatever is written from then on for written.
    """

    __slots__ = ("_stream", "is_shut", "send_failure")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_shut = False
        self.send_failure: trio.BrokenResourceError | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.is_shut:
            raise trio.WouldBlock
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.send_failure is not None:
            return
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self.send_failure = error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
