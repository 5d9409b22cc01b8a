"""The HTTP server: sockets, connections, and an end that is bounded whatever the peers do.

Owns the listening sockets, every connection accepted from them, and the app's lifespan. Hypercorn brings HTTP/1.1 and
ASGI (`H11Protocol`, its streams, its task group); the connection and the accept loop are ours, because those of
hypercorn 0.18 on Trio let one peer end the whole daemon, never close a connection under Quart-Trio, and wait for ever
for a peer that does not read. The only file that imports hypercorn; pinned to 0.18, whose inner names it uses.

Rules:
 * An error on one connection ends that connection and is logged; it never leaves `Server.handle`.
 * Every write has a deadline, and every wait that is shielded from the app's cancellation can be cut:
   `Connection.cut` ends them all.
 * One deadline says when the peer must have sent something: a head within `header_timeout_seconds`, the first byte of
   the next one within `keep_alive_seconds`. There is none while a request is in progress: slow bodies are the app's
   to bound.
 * A connection is closed by ending our side, then reading on for at most LINGER_SECONDS and throwing that away: to
   close a socket with unread bytes resets it, and the peer would lose an answer, such as 413, that it has yet to read.
 * `stop` may be called at any time, and again with less grace; `serve` returns when the end is reached. Cancelling
   `serve` cuts everything at once and skips the app's shutdown.

Does not do: HTTP/2 (an h2c upgrade is ignored, as RFC 9110 allows, and answered in HTTP/1.1; prior knowledge gets 505),
websockets (400), signals, and TLS: that belongs where `_listen` makes a listener, where `_addresses` looks at a socket
and where `_close_gently` ends our side (`SSLStream` has no `send_eof`).

Known limits: a peer that closes its sending side while its request is being handled counts as gone, and the handler is
cancelled. A head that comes too slowly is closed without a 408. The socket file of a `unix:` bind stays behind and is
replaced by the next start. A handler that shields itself from cancellation without a deadline holds the stop.
"""

from __future__ import annotations

import math
import os
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.logging import Logger
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

if TYPE_CHECKING:
    import h11
    from hypercorn.typing import ASGIFramework

    Log = Callable[..., None]
    Address = tuple[str, int] | None

BACKLOG = 512
RECEIVE_BYTES_MAX = 65536
LINGER_SECONDS = 2.0
LIFESPAN_SECONDS_MAX = 10.0
TOO_MANY = b"HTTP/1.1 503 \r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


class CannotBind(Exception):
    """The message names the bind and says what the system answered."""


class AppFailed(Exception):
    """The app's own startup or shutdown failed; the message is the app's."""


@dataclass(frozen=True, slots=True)
class Statistics:
    connections_open: int
    connections_max: int
    connections_refused: int  # closed at once because connections_max were open, since the start


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
        write_timeout_seconds: float = 10.0,
        header_timeout_seconds: float = 10.0,
        keep_alive_seconds: float = 75.0,
        connections_max: int = 1000,
    ) -> None:
        assert connections_max > 0
        self.urls = tuple(_url(one) for one in sockets)
        self.write_timeout_seconds = write_timeout_seconds
        self.header_timeout_seconds = header_timeout_seconds
        self.keep_alive_seconds = keep_alive_seconds
        self.app = app
        self.log = log
        self.config = _HypercornConfig(log)
        self.context = WorkerContext(max_requests=None)
        self._sockets = tuple(sockets)
        self._listeners = tuple(listeners)
        self._connections_max = connections_max
        self._connections_refused = 0
        self._connections: dict[Connection, None] = {}  # a set in order of arrival
        self._waiting_for_closes = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope()
        self._grace = trio.CancelScope()

    async def serve(self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until stopped or cancelled; `started` with the urls. Raises CannotBind or AppFailed."""
        lifespan = _Lifespan(self.app)
        try:
            listeners = self._listen()
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
        return Statistics(len(self._connections), self._connections_max, self._connections_refused)

    async def handle(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One accepted connection, from its first byte to its close."""
        if self._accepting.cancel_called:  # accepted in the same tick as the stop
            await trio.aclose_forcefully(stream)
        elif len(self._connections) >= self._connections_max:
            await self._refuse(stream)
        else:
            connection = Connection(self, stream)
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
                await self.context.terminated.set()  # hypercorn's word for: this response is the connection's last
                with self._grace:
                    while self._connections:
                        await self._waiting_for_closes.park()
            finally:  # also when serve() is cancelled: shielded writes would outlive that
                for connection in tuple(self._connections):
                    connection.cut()

    def _listen(self) -> list[trio.abc.Listener[trio.abc.HalfCloseableStream]]:
        for one, url in zip(self._sockets, self.urls, strict=True):
            try:
                one.listen(BACKLOG)
            except OSError as error:  # two may bind the same address with SO_REUSEADDR; only one may listen
                raise CannotBind(f"{url}: {error.strerror}") from error
        sockets = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in self._sockets]
        return [*sockets, *self._listeners]

    async def _refuse(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._connections_refused += 1
        if self._connections_refused == 1:
            self.log("connection.refused", level="warning", connections_max=self._connections_max)
        try:
            with trio.move_on_after(1):  # it goes into an empty send buffer; whether the peer reads it is its own luck
                await stream.send_all(TOO_MANY)
        except trio.BrokenResourceError:
            pass
        await trio.aclose_forcefully(stream)


class Connection:
    """One peer: a reader, hypercorn's protocol, and the app's task for the request in progress.

    Two tasks write, the reader (errors, 100 Continue) and the app's, so a lock is round every write. Both may be
    cancelled in the middle of one: Quart-Trio cancels a request as soon as its response is out, while hypercorn still
    has the close or the next cycle to do in that very task. So what hypercorn sends is shielded from the task that
    sends it, and answers to this object's own deadline instead.
    """

    def __init__(self, server: Server, stream: trio.abc.HalfCloseableStream) -> None:
        self._server = server
        self._stream = stream
        self._writing = trio.Lock()
        self._whole = trio.CancelScope()
        self._shields: dict[trio.CancelScope, None] = {}  # a set in order of opening
        self._reading = trio.CancelScope()
        self._receiving = trio.CancelScope()
        self._bytes_due = trio.current_time() + server.header_timeout_seconds
        self._is_between_requests = False
        self._is_closing = False

    async def run(self) -> None:
        try:
            with self._whole:
                await self._exchange()
        except* OSError:
            pass  # the peer was gone before we could ask for its address
        except* Exception as group:  # the one place that contains a connection's crash
            for error in _leaves(group):
                self._server.log("connection.failed", level="warning", error=f"{type(error).__name__}: {error}"[:300])
        finally:
            await trio.aclose_forcefully(self._stream)

    def cut(self) -> None:
        """Ends it now: the handler, and every write, shielded or not."""
        self._whole.cancel()
        for shield in self._shields:
            shield.cancel()

    def close_if_idle(self) -> None:
        """Closes it unless a request is in progress; bytes that have arrived are still looked at, and may begin one."""
        if self._bytes_due < math.inf:
            self._expect_bytes_by(-math.inf)

    async def _exchange(self) -> None:
        server = self._server
        client_address, server_address = _addresses(self._stream)
        async with TaskGroup() as task_group:
            self._protocol = _Http1(
                ASGIWrapper(server.app),
                server.config,
                server.context,
                task_group,
                ConnectionState({}),
                False,  # not TLS
                client_address,
                server_address,
                self._send,
            )
            with self._reading:
                await self._read()
            await self._protocol.handle(Closed())  # a handler still at work learns that its peer is gone

    async def _read(self) -> None:
        while data := await self._receive():
            if self._is_closing:
                continue
            if self._is_between_requests:  # the first bytes of the next head
                self._is_between_requests = False
                self._expect_bytes_by(trio.current_time() + self._server.header_timeout_seconds)
            await self._protocol.handle(RawData(data))

    async def _receive(self) -> bytes:
        """What arrived, or nothing: the peer ended, or is late.

        The deadline is round this wait alone, so that bytes which are there win over it.
        """
        try:
            with trio.CancelScope(deadline=self._bytes_due) as self._receiving:
                return bytes(await self._stream.receive_some(RECEIVE_BYTES_MAX))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return b""

    def _expect_bytes_by(self, deadline: float) -> None:
        self._bytes_due = deadline
        self._receiving.deadline = deadline

    async def _send(self, event: Event) -> None:
        """Hypercorn's way out."""
        if isinstance(event, Updated):
            self._is_between_requests = event.idle
            self._expect_bytes_by(trio.current_time() + self._server.keep_alive_seconds if event.idle else math.inf)
        elif isinstance(event, RawData):
            await self._write(event.data)
        else:
            await self._close_gently()

    async def _write(self, data: bytes) -> None:
        try:
            with self._shielded() as shield:
                async with self._writing:
                    await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.cut()  # the peer is gone
        self._cut_if_late(shield)

    async def _close_gently(self) -> None:
        self._is_closing = True
        self._expect_bytes_by(math.inf)
        self._reading.deadline = trio.current_time() + LINGER_SECONDS
        with self._shielded() as shield:
            try:
                async with self._writing:  # send_eof beside a send_all is BusyResourceError
                    await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._reading.cancel()
            await self._protocol.handle(Closed())
        self._cut_if_late(shield)

    def _cut_if_late(self, shield: trio.CancelScope) -> None:
        if shield.cancelled_caught and not self._whole.cancel_called:
            self._server.log("connection.cut", level="info", reason="the peer does not read")
            self.cut()

    @contextmanager
    def _shielded(self) -> Iterator[trio.CancelScope]:
        """Goes on although the task is cancelled, until the write deadline or until the connection is cut."""
        with trio.CancelScope(deadline=trio.current_time() + self._server.write_timeout_seconds, shield=True) as shield:
            if self._whole.cancel_called:
                shield.cancel()
            self._shields[shield] = None
            try:
                yield shield
            finally:
                del self._shields[shield]


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else: hypercorn would switch to HTTP/2 or to a websocket whenever the peer asks for it."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass  # hypercorn's looks for HTTP/2; an ignored h2c upgrade is answered in HTTP/1.1

    async def _create_stream(self, request: h11.Request) -> None:
        status_code = _refusal(request)
        if status_code is None:
            await super()._create_stream(request)
        else:
            await self._send_error_response(status_code)
            await self.send(Closed())


def _refusal(request: h11.Request) -> int | None:
    """The status code for a head that asks for what we do not speak."""
    headers = dict(request.headers)
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    if headers.get(b"upgrade", b"").strip().lower() == b"websocket":
        return 400
    if b"content-length" in headers and b"transfer-encoding" in headers:  # two lengths: request smuggling
        return 400
    return None


class _HypercornLog(Logger):
    """Hypercorn's log calls as our events. Its own logger would write to stderr, and block when nobody reads that."""

    def __init__(self, log: Log) -> None:  # not super's: it makes the handlers
        self._log = log
        self.access_logger = None
        self.error_logger = None

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        pass

    async def exception(self, *_: Any, **__: Any) -> None:
        error = sys.exc_info()[1]
        self._log("request.failed", level="error", error=repr(error)[:300], traceback=traceback.format_exc())


class _HypercornConfig(Config):
    include_server_header = False

    def __init__(self, log: Log) -> None:
        self._log = _HypercornLog(log)


class _Lifespan:
    """The app's lifespan task. When it crashes, hypercorn goes on as a zombie that answers 200; this ends it."""

    def __init__(self, app: ASGIFramework) -> None:
        self.failure: str | None = None
        self._app: Any = app  # the messages are plain dicts here; hypercorn types each one
        self._to_app, self._inbox = trio.open_memory_channel[dict[str, str]](1)
        self._answered = trio.Event()
        self._is_ending = False

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"spec_version": "2.0", "version": "3.0"}, "state": {}}
        await self._app(scope, self._inbox.receive, self._take_answer)
        if not self._is_ending:
            raise RuntimeError("the app's lifespan ended while the server was running")

    async def start(self) -> bool:
        return await self._ask("startup")

    async def end(self) -> bool:
        self._is_ending = True
        return await self._ask("shutdown")

    async def _ask(self, phase: str) -> bool:
        self._answered = trio.Event()
        self._to_app.send_nowait({"type": f"lifespan.{phase}"})
        with trio.move_on_after(LIFESPAN_SECONDS_MAX) as scope:
            await self._answered.wait()
        if scope.cancelled_caught:
            self.failure = f"no answer to {phase} within {LIFESPAN_SECONDS_MAX:g} s"
        return self.failure is None

    async def _take_answer(self, message: dict[str, str]) -> None:
        if message["type"].endswith(".failed"):
            self.failure = f"{message['type']}: {message.get('message', '')}"
        self._answered.set()


def bound_sockets(binds: Sequence[str]) -> list[socket.socket]:
    """Bound, not yet listening: HOST:PORT, [::1]:PORT, unix:/path or fd://N. All of them, or CannotBind and none."""
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            sockets.append(_bound_socket(bind))
    except CannotBind:
        for one in sockets:
            one.close()
        raise
    return sockets


def addresses_of(sockets: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    """(address, port) of each TCP socket among them: where nothing of ours may be sent."""
    names = (one.getsockname() for one in sockets if one.family in (socket.AF_INET, socket.AF_INET6))
    return tuple((name[0], name[1]) for name in names)


def _bound_socket(bind: str) -> socket.socket:
    try:
        if bind.startswith("fd://"):
            return _inherited_socket(int(bind.removeprefix("fd://")))
        if bind.startswith("unix:"):
            return _unix_socket(bind.removeprefix("unix:"))
        host, colon, port = bind.rpartition(":")
        if not (host and colon):
            raise ValueError("not HOST:PORT, unix:/path or fd://N")
        return _tcp_socket(host.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError) as error:
        raise CannotBind(f"{bind}: {getattr(error, 'strerror', None) or error}") from error


def _tcp_socket(host: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart must not wait for TIME_WAIT
    return _bind(one, (host, port))


def _unix_socket(path: str) -> socket.socket:
    if _is_stale(path):
        os.unlink(path)
    return _bind(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)


def _is_stale(path: str) -> bool:
    """A socket file that nobody listens on, left by an earlier run. Anything else in the way makes bind fail."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener whose backlog is full is alive too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False


def _inherited_socket(number: int) -> socket.socket:
    one = socket.socket(fileno=number)
    if one.type != socket.SOCK_STREAM:
        one.detach()  # not ours to close
        raise ValueError("not a stream socket")
    one.setblocking(False)
    return one


def _bind(one: socket.socket, address: tuple[str, int] | str) -> socket.socket:
    try:
        one.bind(address)
    except BaseException:
        one.close()
        raise
    one.setblocking(False)
    return one


def _url(one: socket.socket) -> str:
    address = one.getsockname()
    if one.family == socket.AF_UNIX:
        return f"unix:{address}"
    host = f"[{address[0]}]" if one.family == socket.AF_INET6 else address[0]
    return f"http://{host}:{address[1]}"


def _addresses(stream: trio.abc.HalfCloseableStream) -> tuple[Address, Address]:
    """The peer's and ours; None for a unix socket, and for a stream in memory."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family == socket.AF_UNIX:
        return None, None
    peer, own = stream.socket.getpeername(), stream.socket.getsockname()
    return (peer[0], peer[1]), (own[0], own[1])


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
