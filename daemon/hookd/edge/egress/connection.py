"""One connection to one endpoint: requests go out on it one after the other, each answer is read to its end or cut.

Rules:
 * Progress is told as it happens, so that a request cut at any point still says how much of it went out:
   `sending_started` before the first byte may leave, `request_sent` when the last one was written.
 * Whatever is not a clean end closes the connection at once, a cancel at any checkpoint included, without waiting.
 * A request of one piece is a short one. It is written, then the answer is read: the socket's buffer takes that much
   from a connection with nothing else in it. A longer one is written by a task of its own while the answer is read. Its
   pieces are not copied: a thousand attempts of one payload hold it once.
 * A final head that comes before all is written decides. Whoever wants the rest written too, since a receiver may well
   answer first and read after, waits for it (`wait_written`); closing cuts it.
 * When writing breaks, what the peer had said before is still read: a complete final head decides there too, and a TLS
   alert is told in place of the reset behind it.
 * Reusable only if the request was written whole, and the response is complete by its framing, keeps the connection
   alive and has nothing behind it. `is_quiet` and, over TLS, `is_quiet_within` are asked before the next use: they find
   what came in since.

Has no timeouts, no retries, and does not know pools: `on_close` is called once, when it closes.
"""

import ssl
from collections.abc import Callable, Hashable
from typing import Protocol

import httpx
import trio

from hookd.edge.egress.network_streams import NetworkStream, TlsStream, secure
from hookd.edge.egress.tls_reasons import tls_reason
from hookd.edge.egress.wire import ResponseReader

RECEIVE_BYTES_MAX = 16384
GOODBYE_SECONDS = 1.0  # for what takes two turns of the loop


class Progress(Protocol):
    """Where a request stands; what is set is never unset."""

    sending_started: bool
    request_sent: bool
    reconnected: bool  # sent once more, on a fresh connection
    unanswered_before: bool  # since the kept one took some of it, and gave no answer


class Connection:
    __slots__ = (
        "_is_written",
        "_network_stream",
        "_nursery",
        "_on_close",
        "_secured",
        "_send_failure",
        "_sending_ended",
        "_stream",
        "is_closed",
        "is_secured",
        "key",
        "looked_up_at",
    )

    def __init__(
        self,
        network_stream: NetworkStream,
        nursery: trio.Nursery,
        *,
        key: Hashable,
        looked_up_at: float,
        on_close: Callable[["Connection"], None],
    ) -> None:
        """`nursery` holds the writing of long requests and must outlive the connection; `key` is the owner's.

        `looked_up_at`: when its address was, by trio's clock.
        """
        self._network_stream = network_stream
        self._stream = network_stream.stream
        self._secured: TlsStream | None = None  # the same, where it is TLS
        self.is_secured = False
        self._nursery = nursery
        self._on_close = on_close
        self._is_written = False  # the request under way, to its last byte
        self._send_failure: Exception | None = None
        self._sending_ended: trio.Event | None = None  # of a long request
        self.is_closed = False
        self.key = key
        self.looked_up_at = looked_up_at

    async def secure(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Before the first request. Raises httpx.ConnectError, and is closed then."""
        try:
            self._network_stream = self._secured = await secure(self._network_stream, context, server_hostname)
            self._stream, self.is_secured = self._secured.stream, True
        except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError) as error:
            self.close()
            raise httpx.ConnectError(f"TLS: {reason_of(error)}") from error
        except BaseException:
            self.close()
            raise

    async def ask(self, request: bytes, response: ResponseReader) -> None:
        """Asks whoever is in between, before TLS and before the first request, and reads the head of what it answers.

        Raises httpx.TransportError; to close is up to the caller.
        """
        try:
            await self._stream.send_all(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.WriteError(reason_of(error)) from error
        while not response.has_head:
            await self.receive(response)

    async def exchange(self, request: tuple[bytes, ...], response: ResponseReader, progress: Progress) -> None:
        """Sends, and reads up to the final head. Raises httpx.TransportError, and is closed then."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()  # from here to the first byte nothing waits
            progress.sending_started = True
            self._is_written = False
            if len(request) == 1:
                await self._send(request, progress)
            else:
                self._sending_ended = trio.Event()
                self._nursery.start_soon(self._send_beside, request, progress, self._sending_ended)
            while not response.has_head:
                await self.receive(response)
        except BaseException as error:
            failure = self._send_failure  # not what closing makes of it
            response.let_go()
            await self.abandon()
            if failure is None or not response.is_untouched or not _says_less(error):
                raise
            raise httpx.WriteError(reason_of(failure)) from failure

    async def receive(self, response: ResponseReader) -> None:
        """Reads once, whatever is there. Raises httpx.TransportError; to close is up to the caller."""
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES_MAX)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(reason_of(error)) from error
        if data:
            response.feed(bytes(data))  # of bytes that is no copy
        else:
            response.feed_end()

    @property
    def is_sending(self) -> bool:
        return self._sending_ended is not None and not self._sending_ended.is_set()

    async def wait_written(self) -> None:
        """Until nothing of the request is being written any more."""
        if self._sending_ended is not None:
            await self._sending_ended.wait()

    def is_quiet(self) -> bool:
        """Whether nothing came in unasked, no end either. Of TLS this is not all: `is_quiet_within`."""
        return not self._network_stream.has_input()

    async def is_quiet_within(self) -> bool:
        """Whether nothing unasked is inside the TLS stream. Asked right before a request, it needs no lock."""
        assert self._secured is not None
        try:
            return not await self._secured.has_decrypted_input()
        except BaseException:
            self.close()
            raise

    def is_reusable_after(self, response: ResponseReader) -> bool:
        return response.leaves_connection_clean and self._is_written and not self.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._network_stream.close()
            self._on_close(self)

    async def abandon(self) -> None:
        """Closes, and waits out the writing that this ends: it may have written its last byte and not said so yet.

        Of a connection that is not writing this is no checkpoint.
        """
        self.close()
        if self.is_sending:
            with trio.move_on_after(GOODBYE_SECONDS, shield=True):
                await self.wait_written()

    async def _send(self, request: tuple[bytes, ...], progress: Progress) -> None:
        try:
            for piece in request:
                await self._stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._send_failure = error  # no reason yet to stop: what the peer said before may be a whole answer
        else:
            self._is_written = progress.request_sent = True

    async def _send_beside(self, request: tuple[bytes, ...], progress: Progress, ended: trio.Event) -> None:
        try:
            await self._send(request, progress)
        finally:
            ended.set()


def _says_less(error: BaseException) -> bool:
    """Than why the writing broke: a TLS alert says more, "certificate required" for one."""
    return isinstance(error, httpx.TransportError) and not isinstance(_root(error), ssl.SSLError)


def reason_of(error: BaseException) -> str:
    """Why, in the words of the operating system or OpenSSL: trio wraps theirs. Never the peer's words."""
    match error := _root(error):
        case ssl.SSLError() if error.reason:
            return tls_reason(error)
        case OSError() if error.strerror:
            return error.strerror
        case _:
            return str(error) or type(error).__name__


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
