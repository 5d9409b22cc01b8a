"""Whatever Redis or a daemon answers, at any step, or however a connection breaks: the relay goes on.

Real time is a twentieth of what the relay's clock shows, so its pauses and its bounds are short. After each fault an
entry that is added then must be posted and acknowledged, and nothing may come out of the relay but its log.
"""

import os
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from hookd.config.named_file import read_named
from hookd.relay.daemon_api import DaemonApi
from hookd.relay.definitions_file import DefinitionsFile
from hookd.relay.entry import position_of
from hookd.relay.lanes import Limits
from hookd.relay.log_troubles import LogAway
from hookd.relay.parking import Row, State
from hookd.relay.redis_log import Names, open_log
from hookd.relay.relaying import Relaying, RelaySettings
from trio.testing import MockClock

from tests.relay.breaking import TRANSPORT, Breaking, BreakingDaemon, BreakingRedis, Fault, response
from tests.relay.harness import GROUP, STREAM, Redis, RedisServer, added, definitions, dict_of, needs_redis

pytestmark = [
    needs_redis,
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
    pytest.mark.usefixtures("library_leaves_streams"),
]
RATE = 20.0
ALL = "HOOKD_TEST_RELAY_FAULTS" in os.environ
SECONDS_MAX = 60.0 * RATE  # for what takes a second on a machine that does nothing else

ERRORS = [
    "ASK 3999 127.0.0.1:6381",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN Hash slot not served",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "ERR max number of clients reached",
    "ERR no such key",
    "ERR unknown command 'HELLO', with args beginning with:",
    "ERR Protocol error: unauthenticated bulk length",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "MOVED 3999 127.0.0.1:6381",
    "MOVED nonsense",
    "NOAUTH Authentication required.",
    "NOGROUP No such key 'events' or consumer group 'hookd' in XREADGROUP with GROUP option",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "NOPROTO unsupported protocol version",
    "NOREPLICAS Not enough good replicas to write.",
    "NOSCRIPT No matching script.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED force unblock from blocking operation, instance state changed",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "",
    "ERR \udcff",
]
SHAPES = [
    b":1",
    b"_",
    b"$-1",
    b"*-1",
    b"*0",
    b"%0",
    b"+OK",
    b"#t",
    b",1.5",
    b"*1\r\n-ERR inside",
]
NOT_RESP = [b"$x", b"#", b":", b"*x", b"", b"=7\r\nmkd:abc", b"HTTP/1.1 400 Bad Request", b"$4\r\nabcdefgh", b"-\xff"]
OF_REDIS = [
    *(Fault(f"-{text[:24]}", f"-{text}\r\n".encode(errors="surrogateescape")) for text in ERRORS),
    *(Fault(repr(data), data + b"\r\n") for data in (*SHAPES, *NOT_RESP)),
    Fault("a message that nobody asked for", is_done=True, cut=lambda data: b">2\r\n+a\r\n+b\r\n" + data),
    Fault("an answer too many", is_done=True, cut=lambda data: data + b":1\r\n"),
]
STEPS = ["SURVEY", "OWN_IDS", "OWN", "READ", "SETTLE", "PARK", "TAKE_BACK", "TAKE_OVER", "FETCH"]
STEPS += ["HELLO", "SELECT", "PING", "HGET", "XREAD", "EVAL", "XGROUP CREATE"]

DEEP, HUGE = b"[" * 100_000, b"1" + b"0" * 400
BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"1",
    b'{"events": [',
    b'{"events": [1]}',
    b'{"events": []}',
    b"\xff",
    DEEP,
]
BODIES += [b'{"deliveries": [1]}', b'{"deliveries": "\xff"}', b'{"deliveries": ' + DEEP, b'{"type": ' + DEEP]
BODIES += [b'{"events": [{"problem": {"type": "/problems/full", "retry_after_seconds": %b}}]}' % HUGE]
BODIES += [b'{"type": "/problems/full", "retry_after_seconds": %b}' % HUGE, b'{"type": "/problems/too-large"}']
STATUSES = [101, 200, 204, 301, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 599]
NOT_HTTP = [
    b"hello\r\n\r\n",
    b"HTTP/1.1 200\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nname: " + b"x" * 2**20,
    b"HTTP/1.0 200 OK\r\n\r\n{",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"\x00\x01\x02\xff\r\n\r\n",
    b"\r\n\r\n",
]
OF_A_DAEMON = [
    *(Fault(f"{body[:50]!r}", response(status, body)) for body in BODIES for status in (200, 202, 503)),
    *(Fault(f"{status}", response(status, b'{"type": "/problems/so", "detail": "so"}')) for status in STATUSES),
    *(Fault(f"{data[:50]!r}", data, ends="closes") for data in NOT_HTTP),
    Fault("a body that is cut", b"HTTP/1.1 202 So\r\ncontent-length: 100\r\n\r\n{", ends="closes"),
    Fault("a chunk that is cut", b"HTTP/1.1 202 So\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{", ends="closes"),
    Fault("17 MiB", response(202, b" " * 17 * 2**20)),
    Fault("an answer too many", is_done=True, cut=lambda data: data + response(200, b"{}")),
]
ROUTES = ["post", "settlements", "lookup", "event", "put"]


def faults(of_all: list[Fault], number: int) -> list[Fault]:
    """Each way in which a connection breaks, and of the others every third: another one at each step."""
    return [*TRANSPORT, *(of_all if ALL else of_all[number % 3 :: 3])]


@pytest.fixture(name="clock")
def _clock() -> MockClock:
    return MockClock(rate=RATE)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - much of it is another process's
            await trio.sleep(0.1)


class Run:
    """The relay in this loop, its Redis and its daemon."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.server, self.redis, self.daemon = server, BreakingRedis(server.port), BreakingDaemon()
        self.log: list[dict[str, Any]] = []
        self.ended = trio.Event()
        self.left: int | None = None
        self.relaying: Relaying
        self._definitions = DefinitionsFile(definitions(folder, {"new": "http://127.0.0.1:1/"}), read_named)
        self._deliver: Callable[[str, float], None] = lambda _name, _late: None
        self._numbers = count()

    async def relay(self) -> None:
        """Until it ends; raises what it raises."""
        to = f"http://{self.daemon.url}"
        settings = RelaySettings(
            f"redis://{self.redis.url}/1",
            STREAM,
            GROUP,
            to,
            [to],
            ("127.0.0.1", 0),
            definitions=self._definitions,
            limits=Limits(parked_max=10),
        )
        self.relaying = Relaying(settings, self._write, self._attach)
        self.left = await self.relaying.run()
        self.ended.set()

    def stop(self) -> None:
        self._deliver("SIGTERM", 0.0)

    @property
    def member(self) -> str:
        return next(str(line["member"]) for line in self.log if line["event"] == "relay.started")

    def ask(self, *commands: list[object]) -> list[Any]:
        """In one step of the database that is the relay's."""
        with Redis(self.server.port) as redis:
            return redis.each([["SELECT", 1], ["MULTI"], *commands, ["EXEC"]])[-1]

    def entries(self, client_id: str, number: int = 1) -> list[list[object]]:
        return [[*added(client_id, f"{client_id}{next(self._numbers)}")] for _ in range(number)]

    def leave_to(self, member: str) -> None:
        """Two entries that nobody has seen, in one step."""
        self.ask(*self.entries("acme", 2), ["XREADGROUP", "GROUP", GROUP, member, "COUNT", 2, "STREAMS", STREAM, ">"])

    async def goes_on(self) -> None:
        """What is added now is posted and acknowledged."""
        [entry_id] = self.ask(*self.entries("acme"))
        await until(lambda: self._is_acknowledged(entry_id))

    def _is_acknowledged(self, entry_id: str) -> bool:
        group, pending = self.ask(["XINFO", "GROUPS", STREAM], ["XPENDING", STREAM, GROUP, entry_id, entry_id, 1])
        last_id = dict_of(group[0])["last-delivered-id"] if group else "0-0"
        return not pending and position_of(last_id) >= position_of(entry_id)

    def _write(self, event: str, **fields: object) -> None:
        self.log.append({"event": event, **fields})

    def _attach(self, deliver: Callable[[str, float], None]) -> None:
        self._deliver = deliver


@asynccontextmanager
async def relayed(folder: Path, server: RedisServer) -> AsyncIterator[Run]:
    """A relay that works. It must end well when it is asked to."""
    run = Run(folder, server)
    async with trio.open_nursery() as nursery:
        for one in (run.redis, run.daemon):
            await nursery.start(one.serve)
        nursery.start_soon(run.relay)
        await until(lambda: any(line["event"] == "relay.redis_connected" for line in run.log))
        await run.goes_on()
        yield run
        run.stop()
        with trio.fail_after(SECONDS_MAX):
            await run.ended.wait()
        nursery.cancel_scope.cancel()


def stir(run: Run, step: str = "") -> None:
    """Something for each step: entries of all sorts, some of a dead relay, and some that it has not seen."""
    run.daemon.has_room = not run.daemon.has_room
    run.daemon.clients.clear()
    run.ask(*(one for client_id in ("acme", "gone", "known", "new") for one in run.entries(client_id)))
    run.ask(*run.entries("full", 30))
    if step == "XGROUP CREATE":
        run.ask(["DEL", STREAM])
    else:
        run.leave_to("released")
        run.leave_to(run.member)
    if step == "EVAL":
        run.ask(["SCRIPT", "FLUSH"])
    run.redis.sever()


async def breaks(run: Run, server: Breaking, step: str, fault: Fault) -> None:
    print(step, fault)
    server.arm(step, fault)
    with trio.fail_after(SECONDS_MAX):
        while server.armed is not None:
            stir(run, step)
            await server.hit_within(3.0)
    await run.goes_on()


@pytest.mark.parametrize("step", STEPS)
async def test_relay_goes_on_whatever_redis_does(step: str, tmp_path: Path, clock: MockClock) -> None:
    """At each of its steps."""
    with RedisServer(tmp_path) as server:
        async with relayed(tmp_path, server) as run:
            for fault in faults(OF_REDIS, STEPS.index(step)):
                await breaks(run, run.redis, step, fault)


@pytest.mark.parametrize("route", ROUTES)
async def test_relay_goes_on_whatever_a_daemon_does(route: str, tmp_path: Path, clock: MockClock) -> None:
    """On each route that the relay asks."""
    with RedisServer(tmp_path) as server:
        async with relayed(tmp_path, server) as run:
            for fault in faults(OF_A_DAEMON, ROUTES.index(route)):
                await breaks(run, run.daemon, route, fault)


async def test_relay_ends_whatever_redis_does_at_its_stop(tmp_path: Path, clock: MockClock) -> None:
    """What it could not leave to the others is theirs once Redis has not seen it for long."""
    with RedisServer(tmp_path) as server:
        for fault in faults(OF_REDIS, 0):
            is_armed = True
            while is_armed:  # on a busy machine the time for it may have passed
                async with relayed(tmp_path, server) as run:
                    run.redis.arm("RELEASE", fault)
                is_armed = run.redis.armed is not None


async def test_bug_of_ours_in_what_is_asked_ends_the_relay(tmp_path: Path, clock: MockClock) -> None:
    """With its own type and traceback, and so with 1. Called a Redis that is away it would be tried again for ever."""
    with RedisServer(tmp_path) as server:
        run = Run(tmp_path, server)
        bug: Any = None

        async def told() -> None:
            with pytest.raises(BaseExceptionGroup) as told:
                await run.relay()
            leaf: BaseException = told.value
            while isinstance(leaf, BaseExceptionGroup):
                [leaf] = leaf.exceptions
            assert isinstance(leaf, AttributeError)
            assert "settle" in [frame.name for frame in traceback.extract_tb(leaf.__traceback__)]

        async with trio.open_nursery() as nursery:
            for one in (run.redis, run.daemon):
                await nursery.start(one.serve)
            with trio.fail_after(SECONDS_MAX):
                async with trio.open_nursery() as relay:
                    relay.start_soon(told)
                    await until(lambda: any(line["event"] == "relay.redis_connected" for line in run.log))
                    run.relaying.state.table.settled.append(bug)
            nursery.cancel_scope.cancel()


async def test_answer_behind_an_answer_is_nobodys(clock: MockClock) -> None:
    """Its connection is not used again."""
    async with trio.open_nursery() as nursery:
        daemon = BreakingDaemon()
        await nursery.start(daemon.serve)
        api = DaemonApi(f"http://{daemon.url}", None)
        daemon.arm("put", Fault("", is_done=True, cut=lambda data: data + response(404, b"")))
        assert await api.put_client("acme", b"{}") is None
        assert await api.look_up([]) == []
        await api.aclose()
        nursery.cancel_scope.cancel()


async def test_answer_with_another_ones_entries_is_none(tmp_path: Path, clock: MockClock) -> None:
    """Two posts read their events again at once; an answer too many before them would have shifted theirs."""
    with RedisServer(tmp_path) as server:
        async with trio.open_nursery() as nursery:
            redis = BreakingRedis(server.port)
            await nursery.start(redis.serve)
            async with open_log(f"redis://{redis.url}/0", Names(STREAM, GROUP, "relay:a")) as log:
                await log.make_group()
                server.add("acme", ["e0"])
                [entry] = (await log.read(10, 10_000)).entries
                row = Row(entry.id, "acme", "e0", State.POSTING)
                assert len((await log.fetch([row]))[0].entries) == 1
                shifted = entry.id.encode(), b"9" + entry.id.encode()[1:]
                redis.arm("FETCH", Fault("", is_done=True, cut=lambda data: data.replace(*shifted)))
                with pytest.raises(LogAway, match="that of another command"):
                    await log.fetch([row])
            nursery.cancel_scope.cancel()
