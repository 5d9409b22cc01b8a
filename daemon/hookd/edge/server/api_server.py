"""Owns the accept loop, every connection accepted, the app's lifespan, and the end of all three.

Rules: `stop` may be called at any time, and again with less grace; `serve` returns when the end is reached. Cancelling
`serve` cuts everything at once and skips the app's shutdown.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from hypercorn.trio.worker_context import WorkerContext

from hookd.edge.server.http1 import HypercornConfig
from hookd.edge.server.lifespan import AppFailed, Lifespan
from hookd.edge.server.sockets import listen, url_of
from hookd.edge.server.tcp_connection import TcpConnection, Terms

if TYPE_CHECKING:
    import ssl

    from hypercorn.typing import ASGIFramework

    from hookd.edge.server.http1 import Log
    from hookd.edge.server.tls import Tls

TOO_MANY = b"HTTP/1.1 503 \r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Statistics:
    connections_open: int
    connections_max: int
    connections_refused: int  # closed at once because connections_max were open, since the start
    handshakes_failed: int  # since the start


class Server:
    """Serves one ASGI app on sockets from `bound_sockets`, which are its own from then on: `serve` closes them.

    `listeners` are others that listen already, for streams that are no sockets; they are closed as well.
    """

    def __init__(
        self,
        app: ASGIFramework,
        sockets: Sequence[socket.socket],
        *,
        log: Log,
        listeners: Sequence[trio.abc.Listener[trio.abc.HalfCloseableStream]] = (),
        tls: Tls | None = None,
        write_timeout_seconds: float = 10.0,
        header_timeout_seconds: float = 10.0,
        keep_alive_seconds: float = 75.0,
        connections_max: int = 1000,
    ) -> None:
        assert connections_max > 0
        self.urls = tuple(url_of(one, is_tls=tls is not None) for one in sockets)
        self._app = app
        self._log = log
        self._terms = Terms(
            app=app,
            log=log,
            config=HypercornConfig(log),
            context=WorkerContext(max_requests=None),
            note_failed_handshake=self._note_failed_handshake,
            write_timeout_seconds=write_timeout_seconds,
            header_timeout_seconds=header_timeout_seconds,
            keep_alive_seconds=keep_alive_seconds,
        )
        self._sockets = tuple(sockets)
        self._listeners = tuple(listeners)
        self._tls = tls
        self._handshakes_failed = 0
        self._handshake_reason = ""
        self._connections_max = connections_max
        self._connections_refused = 0
        self._connections: dict[TcpConnection, None] = {}  # a set in order of arrival
        self._waiting_for_closes = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope()
        self._grace = trio.CancelScope()

    async def serve(self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until stopped or cancelled; `started` with the urls. Raises CannotBind or AppFailed."""
        lifespan = Lifespan(self._app)
        try:
            sockets = [listen(one, url) for one, url in zip(self._sockets, self.urls, strict=True)]
            listeners = [*sockets, *self._listeners]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lifespan.run)
                if await lifespan.start():
                    await self._serve_connections(listeners, task_status)
                    await lifespan.end()
                nursery.cancel_scope.cancel()
        finally:
            for one in self._sockets:
                one.close()
        if lifespan.failure is not None:
            raise AppFailed(lifespan.failure)

    def stop(self, *, grace_seconds: float) -> None:
        """No new connections, idle ones are closed, requests in progress have `grace_seconds`; then all is cut."""
        self._grace.deadline = min(self._grace.deadline, trio.current_time() + grace_seconds)
        self._accepting.cancel()
        for connection in tuple(self._connections):
            connection.close_if_idle()

    def statistics(self) -> Statistics:
        return Statistics(
            len(self._connections), self._connections_max, self._connections_refused, self._handshakes_failed
        )

    async def handle(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One accepted connection, from its first byte to its close."""
        if self._accepting.cancel_called:  # accepted in the same tick as the stop
            await trio.aclose_forcefully(stream)
        elif len(self._connections) >= self._connections_max:
            await self._refuse(stream)
        else:
            connection = TcpConnection(self._terms, stream, self._tls_context(stream))
            self._connections[connection] = None
            try:
                await connection.run()
            finally:
                del self._connections[connection]
                self._waiting_for_closes.unpark_all()

    async def _serve_connections(
        self,
        listeners: list[trio.abc.Listener[trio.abc.HalfCloseableStream]],
        task_status: trio.TaskStatus[tuple[str, ...]],
    ) -> None:
        async with trio.open_nursery() as nursery:
            try:
                task_status.started(self.urls)  # they listen: whoever connects from here on is served
                with self._accepting:
                    await trio.serve_listeners(self.handle, listeners, handler_nursery=nursery)
                # Hypercorn's word for: this response is the connection's last.
                await self._terms.context.terminated.set()
                with self._grace:
                    while self._connections:
                        await self._waiting_for_closes.park()
            finally:  # also when serve() is cancelled: shielded writes would outlive that
                for connection in tuple(self._connections):
                    connection.cut()

    def _note_failed_handshake(self, reason: str | None) -> None:
        """Logged when it changes; a peer that only connects and goes gives none."""
        self._handshakes_failed += 1
        if reason is not None and reason != self._handshake_reason:
            self._handshake_reason = reason
            self._log("handshake.failed", level="warning", reason=reason, failed=self._handshakes_failed)

    def _tls_context(self, stream: trio.abc.Stream) -> ssl.SSLContext | None:
        """None for plain http; a unix socket is reached from this machine alone, and always is."""
        if isinstance(stream, trio.SocketStream) and stream.socket.family == socket.AF_UNIX:
            return None
        return None if self._tls is None else self._tls.context

    async def _refuse(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._connections_refused += 1
        if self._connections_refused == 1:
            self._log("connection.refused", level="warning", connections_max=self._connections_max)
        try:
            if self._tls_context(stream) is not None:  # a handshake, to say so, is what there is no room for
                return
            with trio.move_on_after(1):  # it goes into an empty send buffer; whether the peer reads it is its own luck
                await stream.send_all(TOO_MANY)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)
