"""Owns the accept loop, every connection accepted, the app's lifespan, and the end of all three.

Rules: `stop` may be called at any time, and again with less grace; `serve` returns when the end is reached. Cancelling
`serve` cuts everything at once and skips the app's shutdown. From `wind_down` on each answer is its connection's last,
and says so. A socket that the service manager holds is accepted on no more then: what connects waits for the next
process.

Where `connections_max` are open, one makes room for the next (room.py). Where all are in use, a connection gets one of
`spare_connections`, on which the probes alone are answered: an orchestrator that hears nothing kills the process, and
all that it holds. What cannot become a probe gets 503 there at its first bytes. Beyond those a connection is answered
503 and closed, but for a plain probe (probes.py).

Who connects is received first (reception.py); what those who are served bring waits for its turn at the gate (gate.py).

Limits: connections_max, and thrice `spare_connections`; two of these for moments: what makes room closes a tick later.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.trio.worker_context import WorkerContext

from hookd.edge.server.arrivals import FIRST_BYTES, read_now
from hookd.edge.server.gate import Gates
from hookd.edge.server.http1 import HypercornConfig
from hookd.edge.server.lifespan import AppFailed, Lifespan
from hookd.edge.server.probes import Probes
from hookd.edge.server.reception import Listener, Newcomer, Reception, listen
from hookd.edge.server.room import Room
from hookd.edge.server.sockets import url_of
from hookd.edge.server.strangers import Network, Strangers, network_of
from hookd.edge.server.tcp_connection import TOO_MANY, TcpConnection, Terms, addresses

if TYPE_CHECKING:
    import ssl

    from hypercorn.typing import ASGIFramework

    from hookd.edge.server.http1 import Log
    from hookd.edge.server.tls import Tls

Listeners = list[trio.abc.Listener[Any]]  # ours, or of streams

SPARE_CONNECTIONS = 16


def spare_connections(connections_max: int) -> int:
    """How many: with a small descriptor limit fewer, since each takes a descriptor of the 64 that are kept back."""
    return min(SPARE_CONNECTIONS, max(4, connections_max // 4))


@dataclass(frozen=True, slots=True)
class Statistics:
    connections_open: int  # of connections_max; those that make room are no longer counted
    connections_max: int
    connections_spare: int  # beyond those: only probes are answered there
    connections_refused: int  # closed at once because connections_max were in use, since the start
    connections_displaced: int  # those that made room for others, since the start
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
        probes: Collection[str] = ("/livez", "/readyz"),
        plain_answers: Mapping[str, bytes] | None = None,
        held_descriptors: Collection[int] = (),
        shard: str = "",
    ) -> None:
        """`plain_answers`: of probes that are always answered 200. `held_descriptors`: of sockets that outlive us."""
        assert connections_max > 0
        self.urls = tuple(url_of(one, is_tls=tls is not None) for one in sockets)
        self._app, self._log = app, log
        self._terms = self._new_terms(
            HypercornConfig(log, shard),
            probes,
            plain_answers or {},
            write_timeout_seconds=write_timeout_seconds,
            header_timeout_seconds=header_timeout_seconds,
            keep_alive_seconds=keep_alive_seconds,
        )
        self._probe_terms = replace(self._terms, app=_only(probes, app, self._note_refused), is_for_probes=True)
        self._sockets, self._listeners = tuple(sockets), tuple(listeners)
        self._held_descriptors, self._held = held_descriptors, list[Listener]()  # once they listen
        self._tls, self._handshake_reason = tls, ""
        self._connections_max, self._spare_max = connections_max, spare_connections(connections_max)
        self._handshakes_failed = self._connections_refused = self._connections_displaced = 0
        self._connections: dict[TcpConnection, None] = {}  # a set in order of arrival
        self._strangers, self._spare = Strangers[TcpConnection](), dict[TcpConnection, None]()  # among those; beyond
        self._room, self._spare_room = self._new_room(self._connections, self._strangers), self._new_room(self._spare)
        self._reception, self._waiting_for_closes = self._new_reception(), trio.lowlevel.ParkingLot()
        self._accepting, self._grace, self._requests_by = trio.CancelScope(), trio.CancelScope(), math.inf

    def _new_terms(
        self, config: HypercornConfig, probes: Collection[str], plain_answers: Mapping[str, bytes], **seconds: float
    ) -> Terms:
        return Terms(
            app=self._app,
            log=self._log,
            config=config,
            context=WorkerContext(max_requests=None),
            gates=Gates(),
            probes=Probes(probes, plain_answers, config),
            is_for_probes=False,
            note_refused=self._note_refused,
            note_failed_handshake=self._note_failed_handshake,
            **seconds,
        )

    def _new_room(
        self, connections: Collection[TcpConnection], strangers: Strangers[TcpConnection] | None = None
    ) -> Room:
        return Room(
            connections,
            strangers,
            turns=self._terms.gates.turns,
            connections_max=self._connections_max,
            header_timeout_seconds=self._terms.header_timeout_seconds,
        )

    def _new_reception(self) -> Reception:
        return Reception(
            self._terms.probes,
            room=lambda: max(0, self._connections_max - len(self._connections)),
            beyond_max=max(1, self._spare_max // 2),
            is_last=self._terms.context.terminated.is_set,
        )

    async def serve(self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until stopped or cancelled; `started` with the urls. Raises CannotBind or AppFailed."""
        lifespan = Lifespan(self._app)
        turns = self._terms.gates.turns
        trio.lowlevel.add_instrument(turns)
        try:
            sockets = [self._listen(one, url) for one, url in zip(self._sockets, self.urls, strict=True)]
            self._held = [one for one in sockets if one.descriptor in self._held_descriptors]
            listeners: Listeners = [*sockets, *self._listeners]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lifespan.run)
                if await lifespan.start():
                    await self._serve_connections(listeners, task_status)
                    await lifespan.end()
                nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(turns)
            for one in self._sockets:
                one.close()
        if lifespan.failure is not None:
            raise AppFailed(lifespan.failure)

    def _listen(self, one: socket.socket, url: str) -> Listener:
        return listen(one, url, self._reception, is_tls=self._is_tls(one.family))

    async def wind_down(self) -> None:
        """Every peer hears with its answer that it was the last one here. No wait."""
        self._leave_held()
        await self._terms.context.terminated.set()  # hypercorn's word for: this response is the connection's last

    def _leave_held(self) -> None:
        for one in self._held:
            one.leave()

    def stop(self, *, grace_seconds: float, patience_seconds: float = 0.0) -> None:
        """No new connections, idle ones are closed, requests in progress have `grace_seconds`; then all is cut.

        Who had connected before, and was not accepted yet, is answered as well.
        `patience_seconds`: for so long an idle one is waited for. A request that its peer sends just then is answered.
        """
        now = trio.current_time()
        self._grace.deadline = min(self._grace.deadline, now + grace_seconds)
        self._requests_by = now + patience_seconds
        self._leave_held()
        self._accepting.cancel()
        self._close_idle()

    def _close_idle(self) -> None:
        for connection in (*self._connections, *self._spare):
            connection.close_if_idle(by=self._requests_by)

    def statistics(self) -> Statistics:
        return Statistics(
            min(len(self._connections) + self._reception.placed, self._connections_max),
            self._connections_max,
            len(self._spare),
            self._connections_refused,
            self._connections_displaced,
            self._handshakes_failed,
        )

    async def handle(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One accepted connection, from its first byte to its close."""
        await self._serve(stream)

    async def _receive(self, newcomer: Newcomer | trio.abc.HalfCloseableStream) -> None:
        """What the listeners hand out."""
        if isinstance(newcomer, Newcomer):
            self._reception.leave(newcomer)
            await self._serve(newcomer.stream, newcomer)
        else:
            await self.handle(newcomer)

    async def _serve(self, stream: trio.abc.HalfCloseableStream, newcomer: Newcomer | None = None) -> None:
        network, first = _network(stream), None if newcomer is None else newcomer.first
        for connections, terms in ((self._connections, self._terms), (self._spare, self._probe_terms)):
            if self._has_room(connections, network, newcomer):
                connection = TcpConnection(
                    terms,
                    stream,
                    self._tls_context(stream),
                    first=first,
                    is_answered=newcomer is not None and newcomer.is_answered,
                    on_granted=lambda one: self._strangers.discard(one, network),
                )
                await self._run(connections, connection, network)
                return
        await self._refuse(stream, first)

    async def _run(self, connections: dict[TcpConnection, None], connection: TcpConnection, network: Network) -> None:
        connections[connection] = None
        if connections is self._connections:
            self._strangers.add(connection, network)
        if self._accepting.cancel_called:  # it had connected before the stop
            connection.close_if_idle(by=self._requests_by)
        try:
            await connection.run()
        finally:
            del connections[connection]
            self._strangers.discard(connection, network)
            self._waiting_for_closes.unpark_all()

    def _has_room(self, connections: Collection[TcpConnection], network: Network, newcomer: Newcomer | None) -> bool:
        """Those who wait with a place are as if they were among the connections."""
        if connections is self._spare:
            count, most, room = len(connections), self._spare_max, self._spare_room
        else:
            count, most, room = len(connections) + self._reception.placed, self._connections_max, self._room
        if count < most or (connections is self._connections and newcomer is not None and newcomer.has_place):
            return True
        if count >= most + self._spare_max or not room.make(network):
            return False
        self._note_displaced()
        return True

    def _note_displaced(self) -> None:
        self._connections_displaced += 1
        if self._connections_displaced == 1:
            self._log("connection.displaced", level="warning", connections_max=self._connections_max)

    async def _serve_connections(
        self,
        listeners: Listeners,
        task_status: trio.TaskStatus[tuple[str, ...]],
    ) -> None:
        async with trio.open_nursery() as nursery:
            try:
                task_status.started(self.urls)  # they listen: whoever connects from here on is served
                with self._accepting:
                    await trio.serve_listeners(self._receive, listeners, handler_nursery=nursery)
                self._serve_last(listeners, nursery)
                await self.wind_down()
                for _ in range(2):  # then all that was accepted is among the connections
                    await trio.lowlevel.checkpoint()
                self._close_idle()  # those too that had their answer since the stop, before it was said to be the last
                with self._grace:
                    while self._connections or self._spare:
                        await self._waiting_for_closes.park()
            finally:  # also when serve() is cancelled: shielded writes would outlive that
                for connection in (*self._connections, *self._spare):
                    connection.cut()
                for listener in listeners:
                    if isinstance(listener, Listener):
                        for newcomer in listener.last():
                            newcomer.stream.socket.close()

    def _serve_last(self, listeners: Listeners, nursery: trio.Nursery) -> None:
        for listener in listeners:
            if isinstance(listener, Listener):
                for newcomer in listener.last():
                    nursery.start_soon(self._receive, newcomer)

    def _note_failed_handshake(self, reason: str | None) -> None:
        """Logged when it changes; a peer that only connects and goes gives none."""
        self._handshakes_failed += 1
        if reason is not None and reason != self._handshake_reason:
            self._handshake_reason = reason
            self._log("handshake.failed", level="warning", reason=reason, failed=self._handshakes_failed)

    def _tls_context(self, stream: trio.abc.Stream) -> ssl.SSLContext | None:
        """None for plain http; a unix socket is reached from this machine alone, and always is."""
        family = stream.socket.family if isinstance(stream, trio.SocketStream) else None
        return self._tls.context if self._tls is not None and self._is_tls(family) else None

    def _is_tls(self, family: int | None) -> bool:
        return self._tls is not None and family != socket.AF_UNIX

    def _note_refused(self) -> None:
        self._connections_refused += 1
        if self._connections_refused == 1:
            self._log("connection.refused", level="warning", connections_max=self._connections_max)

    async def _refuse(self, stream: trio.abc.HalfCloseableStream, first: bytes | None) -> None:
        """Answers that there are too many; but a plain probe that is here is answered as ever."""
        try:
            if self._tls_context(stream) is not None:  # a handshake, to say so, is what there is no room for
                self._note_refused()
                return
            first = read_now(stream, FIRST_BYTES) if first is None else first
            answer = self._terms.probes.answer(first or b"", is_last=True)
            if answer is None:
                self._note_refused()
            with trio.move_on_after(1):  # it goes into an empty send buffer; whether the peer reads it is its own luck
                await stream.send_all(TOO_MANY if answer is None else answer[0])
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)


def _network(stream: trio.abc.HalfCloseableStream) -> Network:
    try:
        return network_of(addresses(stream)[0])
    except OSError:  # the peer is gone
        return ""


def _only(paths: Collection[str], app: ASGIFramework, note_refused: Callable[[], None]) -> ASGIFramework:
    """The app for these paths alone, each answer the last of its connection; 503 for any other."""

    async def answer(scope: Any, receive: Any, send: Any, *others: Any) -> None:
        async def send_last(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        if scope["type"] != "http" or scope["path"] in paths:
            await cast(Any, app)(scope, receive, send_last, *others)
            return
        note_refused()
        headers = [(b"content-length", b"0"), (b"retry-after", b"1")]
        await send_last({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return cast("ASGIFramework", answer)
