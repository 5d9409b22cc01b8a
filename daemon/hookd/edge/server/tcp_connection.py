"""Owns one connection, from its first byte to its close.

Rules:
 * An error on one connection ends that connection and is logged; it never leaves `Connection.run`.
 * Every write has a deadline, and every wait that is shielded from the app's cancellation can be cut:
   `Connection.cut` ends them all.
 * One deadline says when the peer must have sent something: TLS and a head within `header_timeout_seconds`, the first
   byte of the next head within `keep_alive_seconds`. There is none while a request is in progress: slow bodies are the
   app's to bound.
 * A peer that ends its sending has not hung up: a request that is here is answered, and then the connection is closed.
   Empty lines between requests are no beginning of a head.
 * A connection is closed by ending our side, then reading on for at most LINGER_SECONDS and throwing that away: to
   close a socket with unread bytes resets it, and the peer would lose an answer, such as 413, that it has yet to read.

 * What arrives waits for its turn (gate.py), and so does the next request of a peer that sends several at once. That
   time is not the peer's: its deadline is put off by as much, and it does not count as idle.
 * Until something arrives that is no plain probe (probes.py), nothing is made but this object.

Limits: of what a peer sends, RECEIVE_BYTES_MAX and one head are held here; bodies are counted by the app.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import ConnectionState

from hookd.core.bind import GRANTED, UNIX_PEER
from hookd.edge.server.app_tasks import AppTasks
from hookd.edge.server.arrivals import RECEIVE_BYTES_MAX, Arrivals
from hookd.edge.server.http1 import Http1
from hookd.edge.server.standing import Use
from hookd.edge.server.tls import TlsStream, server_stream

if TYPE_CHECKING:
    from hypercorn.trio.task_group import TaskGroup
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ASGIFramework

    from hookd.edge.server.gate import Gate, Gates
    from hookd.edge.server.http1 import HypercornConfig, Log
    from hookd.edge.server.probes import Probes
    from hookd.edge.server.standing import Standing

    Address = tuple[str, int] | None

LINGER_SECONDS = 2.0
PLAIN_HTTP = (
    b"HTTP/1.1 400 \r\ncontent-type: text/plain\r\ncontent-length: 31\r\nconnection: close\r\n\r\n"
    b"this address speaks https only\n"
)
TOO_MANY = b"HTTP/1.1 503 \r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for every connection of one server."""

    app: ASGIFramework
    log: Log
    config: HypercornConfig
    context: WorkerContext
    gates: Gates
    probes: Probes
    is_for_probes: bool  # others are answered TOO_MANY, and each answer is the connection's last
    note_refused: Callable[[], None]
    note_failed_handshake: Callable[[str | None], None]
    write_timeout_seconds: float
    header_timeout_seconds: float
    keep_alive_seconds: float


class TcpConnection:
    """One peer: a reader, hypercorn's protocol, and the app's task for the request in progress.

    Two tasks write, the reader (errors, 100 Continue) and the app's, so a lock is round every write. Both may be
    cancelled in the middle of one: Quart-Trio cancels a request as soon as its response is out, while hypercorn still
    has the close or the next cycle to do in that very task. So what hypercorn sends is shielded from the task that
    sends it, and answers to this object's own deadline instead.
    """

    def __init__(
        self,
        terms: Terms,
        transport: trio.abc.HalfCloseableStream,
        tls_context: ssl.SSLContext | None,
        *,
        first: bytes | None,
        is_answered: bool,
        on_granted: Callable[[TcpConnection], None],
    ) -> None:
        """`first`: what was read already, see reception.py; `is_answered`: that was a plain probe."""
        self._terms = terms
        self._peer = transport
        self._transport = Arrivals(
            transport, terms.gates, terms.probes, self._wait_at, first=None if is_answered else first
        )
        self._on_granted, self._is_granted = on_granted, False
        self._stream: trio.abc.Stream = self._transport
        if tls_context is not None:
            self._stream = server_stream(self._transport, tls_context)
        self._protocol: Http1 | None = None
        self._writing = trio.Lock()
        self._whole = trio.CancelScope()
        self._shields: dict[trio.CancelScope, None] = {}  # a set in order of opening
        self._reading = trio.CancelScope()
        self._receiving = trio.CancelScope()
        patience_seconds = terms.keep_alive_seconds if is_answered else terms.header_timeout_seconds
        self._bytes_due = trio.current_time() + patience_seconds
        self._is_at_gate = False
        self._is_between_requests = is_answered
        self._is_closing = False
        self._is_ended_by_peer = False
        self._answered = trio.Event()  # after the peer's end

    async def run(self) -> None:
        try:
            with self._whole:
                if isinstance(self._stream, trio.SSLStream):
                    await self._shake_hands(self._stream)
                else:
                    self._transport.look()
                    await self._exchange(self._stream)
        except* OSError:
            pass  # the peer was gone before we could ask for its address
        except* Exception as group:  # the one place that contains a connection's crash
            for error in _leaves(group):
                self._terms.log("connection.failed", level="warning", error=f"{type(error).__name__}: {error}"[:300])
        finally:
            self._let_go()
            await trio.aclose_forcefully(self._peer)

    def _let_go(self) -> None:
        """Of what holds us. Else each closed connection is garbage, which waits until all is walked through at once."""
        del self._transport, self._stream
        self._protocol = None

    def cut(self) -> None:
        """Ends it now: the handler, and every write, shielded or not."""
        self._whole.cancel()
        for shield in self._shields:
            shield.cancel()

    def close_if_idle(self, *, by: float = -math.inf) -> None:
        """Closes it unless a request is in progress; bytes that have arrived are still looked at, and may begin one.

        So may those that arrive `by` then, in the loop's time.
        """
        if self._bytes_due < math.inf:
            self._expect_bytes_by(min(self._bytes_due, by))

    @property
    def standing(self) -> Standing | None:
        """Why it could make room, and until when it may go on. The least of several is the first to go.

        None while it is in use, and once it has been told to go.
        """
        if self._is_closing:
            return None if self._whole.cancel_called else (Use.LINGERS, self._reading.deadline)
        if self._is_at_gate or math.isinf(self._bytes_due):
            return None
        return (Use.KEPT if self._is_between_requests else Use.HEADLESS), self._bytes_due

    def _note_granted(self) -> None:
        """The app's word, at each request that it grants; the first one counts."""
        if not self._is_granted:
            self._is_granted = True
            self._on_granted(self)

    async def _shake_hands(self, stream: TlsStream) -> None:
        with trio.CancelScope(deadline=self._bytes_due) as self._receiving:
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                reason = getattr(error.__cause__, "reason", None)
                self._terms.note_failed_handshake(reason)
                if reason == "HTTP_REQUEST":
                    await self._say_https()
                return
        if not self._receiving.cancelled_caught:
            await self._exchange(stream)

    async def _exchange(self, stream: trio.abc.Stream) -> None:
        first = await self._meet()
        if first:
            async with AppTasks() as task_group:
                protocol = self._protocol = self._new_protocol(task_group, is_tls=stream is not self._transport)
                with self._reading:
                    await self._read(protocol, first)
                    if self._is_closing:
                        await self._throw_away_rest()
                await protocol.handle(Closed())  # a handler still at work learns that its peer is gone
        elif self._is_closing:
            with self._reading:
                await self._throw_away_rest()

    async def _meet(self) -> bytes:
        """The first bytes that are no plain probe's; those are answered. Nothing: the connection is at its end."""
        terms = self._terms
        while not self._is_closing and (data := await self._receive()):
            answer = terms.probes.answer(data, is_last=terms.is_for_probes or terms.context.terminated.is_set())
            if answer is not None:
                await self._answer_at_once(*answer)
            elif terms.is_for_probes and not terms.probes.may_begin(data):
                terms.note_refused()
                await self._answer_at_once(TOO_MANY, closes=True)
            else:
                return data
        return b""

    async def _answer_at_once(self, answer: bytes, closes: bool) -> None:
        """Nobody else writes yet."""
        self._expect_bytes_by(math.inf)
        await self._write(self._stream.send_all, answer)
        if closes or self._is_ended_by_peer:
            await self._close_gently()
        else:
            self._is_between_requests = True
            self._expect_bytes_by(trio.current_time() + self._terms.keep_alive_seconds)

    def _new_protocol(self, tasks: TaskGroup, *, is_tls: bool) -> Http1:
        """Raises OSError where the peer is gone."""
        client_address, server_address = addresses(self._peer)
        return Http1(
            ASGIWrapper(self._terms.app),
            self._terms.config,
            self._terms.context,
            tasks,
            ConnectionState({GRANTED: self._note_granted}),
            is_tls,
            client_address,
            server_address,
            self._send,
            turn=self._turn,
        )

    async def _read(self, protocol: Http1, data: bytes) -> None:
        while data and not self._is_closing:
            if self._is_between_requests and data.strip(b"\r\n"):  # the first bytes of the next head
                self._is_between_requests = False
                self._expect_bytes_by(trio.current_time() + self._terms.header_timeout_seconds)
            await protocol.handle(RawData(data))
            data = b"" if self._is_closing else await self._receive()
        if not self._is_ended_by_peer or self._is_closing:
            return
        if protocol.is_in_request:
            await protocol.handle(RawData(b""))  # half a request: 400, if the peer still listens
        elif protocol.is_answering:
            await self._answered.wait()

    async def _receive(self) -> bytes:
        """What arrived, or nothing: the peer ended or is late, or we are closing.

        The deadline is round this wait alone, so that bytes which are there win over it.
        """
        try:
            with trio.CancelScope(deadline=self._bytes_due) as self._receiving:
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES_MAX))
                self._is_ended_by_peer = not data
                return data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return b""

    async def _throw_away_rest(self) -> None:
        """From beneath TLS, which has said goodbye."""
        try:
            while await self._transport.receive_some(RECEIVE_BYTES_MAX):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _turn(self) -> None:
        """Before a request that came behind another is looked at."""
        gate = self._terms.gates.requests
        if not gate.passes():
            await self._wait_at(gate)

    async def _wait_at(self, gate: Gate) -> None:
        """The peer's deadline is put off by as long as this takes. What is here wins over one that is over."""
        began = trio.current_time()
        self._is_at_gate = True
        self._receiving.deadline = math.inf
        try:
            with self._shielded():
                await gate.wait()
        finally:
            self._is_at_gate = False
            self._expect_bytes_by(self._bytes_due + trio.current_time() - began)

    def _expect_bytes_by(self, deadline: float) -> None:
        self._bytes_due = deadline
        if not self._is_at_gate:
            self._receiving.deadline = deadline

    async def _send(self, event: Event) -> None:
        """Hypercorn's way out."""
        if isinstance(event, Updated):
            if event.idle and self._is_ended_by_peer:
                await self._close_gently()
                return
            self._is_between_requests = event.idle
            self._expect_bytes_by(trio.current_time() + self._terms.keep_alive_seconds if event.idle else math.inf)
        elif isinstance(event, RawData):
            await self._write(self._send_all, event.data)
        else:
            await self._close_gently()

    async def _send_all(self, data: bytes) -> None:
        async with self._writing:
            await self._stream.send_all(data)

    async def _write(self, send: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        """All of it, or the connection is cut. Mostly the system takes it at once: there is nothing to wait for."""
        try:
            if self._stream is self._transport and not self._writing.locked() and not self._whole.cancel_called:
                data = self._transport.send_now(data)
            if data:
                await self._write_shielded(send, data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.cut()  # the peer is gone

    async def _write_shielded(self, send: Callable[[bytes], Awaitable[None]], data: bytes) -> None:
        with self._shielded() as shield:
            await send(data)
        self._cut_if_late(shield)

    async def _close_gently(self) -> None:
        self._is_closing = True
        self._answered.set()
        self._bytes_due = math.inf
        self._reading.deadline = trio.current_time() + LINGER_SECONDS
        with self._shielded() as shield:
            try:
                async with self._writing:  # send_eof beside a send_all is BusyResourceError
                    await self._end_our_side()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._reading.cancel()
            self._receiving.cancel()  # the reader goes on in _throw_away_rest
            if self._protocol is not None:
                await self._protocol.handle(Closed())
        self._cut_if_late(shield)

    async def _end_our_side(self) -> None:
        if isinstance(self._stream, trio.SSLStream):
            await self._stream.aclose()  # its goodbye, then the transport's; see tls.py
        else:
            await self._transport.send_eof()

    async def _say_https(self) -> None:
        with trio.move_on_after(1):
            await self._transport.send_all(PLAIN_HTTP)
            await self._transport.send_eof()
            await self._throw_away_rest()

    def _cut_if_late(self, shield: trio.CancelScope) -> None:
        if shield.cancelled_caught and not self._whole.cancel_called:
            self._terms.log("connection.cut", level="info", reason="the peer does not read")
            self.cut()

    @contextmanager
    def _shielded(self) -> Iterator[trio.CancelScope]:
        """Goes on although the task is cancelled, until the write deadline or until the connection is cut."""
        with trio.CancelScope(deadline=trio.current_time() + self._terms.write_timeout_seconds, shield=True) as shield:
            if self._whole.cancel_called:
                shield.cancel()
            self._shields[shield] = None
            try:
                yield shield
            finally:
                del self._shields[shield]


def addresses(stream: trio.abc.HalfCloseableStream) -> tuple[Address, Address]:
    """The peer's and ours; None for a stream in memory. Raises OSError where the peer is gone."""
    if not isinstance(stream, trio.SocketStream):
        return None, None
    if stream.socket.family == socket.AF_UNIX:
        return UNIX_PEER, None
    peer, own = stream.socket.getpeername(), stream.socket.getsockname()
    return (peer[0], peer[1]), (own[0], own[1])


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
