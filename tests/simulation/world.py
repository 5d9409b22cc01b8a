"""One run of a plan: virtual time, a seeded scheduler, the network, the daemon, the platform, and the stops.

Determinism: the scheduler's own chance is seeded, no thread and no socket is used, every actor draws from its own
source, and cyclic garbage is collected between runs only. `run` is the way in; it returns what came of it, and raises
nothing for a violation.
"""

import contextlib
import gc
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from random import Random
from typing import Any, NoReturn

import msgspec
import trio
import trio.testing
from trio._core import _run as trio_run  # the scheduler's chance; python-trio/trio#2675: there is no public way

from daemon.core.report import Pruned
from daemon.core.report import Run as RunIdentity
from daemon.core.settings import Settings
from daemon.core.timestamps import Moment
from daemon.edge.egress.sender import open_sender
from daemon.edge.egress.transport import client_ssl_context
from daemon.edge.server import Server
from daemon.edge.systemd import Systemd
from daemon.supervisor import ExitCode, Outside, supervise
from tests.simulation import accounts
from tests.simulation.books import Host
from tests.simulation.checks import Checks
from tests.simulation.moods import Receivers
from tests.simulation.network import Listener, Network
from tests.simulation.people import People
from tests.simulation.plan import Action, Plan, Stop, Weather, chance
from tests.simulation.trace import Trace

EPOCH = 1_700_000_000.0
SECOND_SIGNAL_AFTER = 0.4
STOP_SLACK_SECONDS = 2.0
# What a log may say of us that is never right.
CRASHES = ("attempt.crashed", "courier.crashed", "flow.crashed", "api.crashed", "request.crashed", "request.failed")
VIRTUAL_SECONDS_MAX = 20_000.0
CANARIES = ("whsec_", "URL-CANARY", "PAYLOAD-CANARY")


@dataclass
class Result:
    seed: int
    trace: Trace
    violation: str | None
    virtual_seconds: float


@dataclass
class Run:
    """One run of the daemon."""

    number: int
    started_at: float
    listener: Listener
    signal: Callable[[str], None] = lambda name: None
    is_ready: bool = False  # the platform has registered its clients
    stop_asked_at: float | None = None
    no_attempts_after: float | None = None
    must_end_by: float = float("inf")
    is_over: bool = False
    reports: list[bytes] = field(default_factory=list)
    exhausted_forgotten: int = 0


class MemoryReports:
    def __init__(self, run: Run) -> None:
        self._run = run

    def path_of(self, summary: Any) -> str:
        return f"/reports/shutdown-{summary.run_id}.jsonl"

    def write(self, summary: Any, lines: Iterator[Any]) -> str:
        encode = msgspec.json.encode
        self._run.reports.append(b"".join(encode(line) + b"\n" for line in (summary, *lines)))
        return self.path_of(summary)

    def write_termination_log(self, path: str, text: str) -> None:
        raise AssertionError("no run has one")

    def prune(self, kept: int) -> Pruned:
        return Pruned(0, 0)  # all are kept: the checks read every one

    def prove_writable(self, room_bytes: int = 0) -> None:
        pass

    def open_run(self, run: Any, at: float, counts: dict[str, object] | None = None) -> None:
        pass

    def close_run(self, run_id: str) -> None:
        pass

    def unclaimed(self) -> list[Any]:
        raise AssertionError("recovery is off")

    def slices(self, path: str) -> Any:
        raise AssertionError("recovery is off")

    def claim(self, path: str, run_id: str) -> bool:
        raise AssertionError("recovery is off")


class World:
    """Also the daemon's clock and log."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self.plan = plan
        self.settings: Settings = plan.settings
        self.violation: str | None = None
        self.checks = Checks(self)
        self.run = Run(0, 0.0, listener=None)  # type: ignore[arg-type]  # before the first
        self.reports: list[bytes] = []  # every report, in order; what a restart keeps
        self.network: Network
        self.people: People
        self._trace = trace
        self._moods: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}
        self._mood_draws: dict[tuple[str, str], Random] = {}
        self._walls = [(0.0, 0.0)]  # from when, by how much the wall clock is off
        self._ids = 0
        self._jitter = chance(plan.seed, "jitter")
        self._bytes = chance(plan.seed, "bytes")
        self._whole = trio.CancelScope()
        self._daemon = trio.CancelScope()
        self._ended = trio.Event()
        self._safety_over = trio.Event()

    # What the daemon is given

    def clock_now(self) -> Moment:
        return Moment(trio.current_time(), self.wall())

    def log(self, event: str, *, level: str = "info", **fields: Any) -> None:
        line = f"{event} {fields}"
        self.trace("log", line if "traceback" not in fields else event)
        for canary in CANARIES:
            if canary in line:
                self.fail("S11", f"{canary} stands in the log: {line[:300]}")
        if event in CRASHES:
            self.fail("bug", f"{event}: {fields.get('traceback') or fields}")
        self._cover(event, fields)

    def _outside(self, run: Run) -> Outside:
        clock, log = _Clock(self), _Log(self)

        async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return work(*args)

        def attach(deliver: Callable[[str], None]) -> None:
            run.signal = deliver

        def refuse_reload() -> NoReturn:
            raise AssertionError("nobody asked for a reload")

        return Outside(
            clock=clock,
            log=log,
            open_sender=partial(
                open_sender, resolve=self.network.resolve, dial=self.network.dial, ssl_context=_ssl_context()
            ),
            reports=MemoryReports(run),
            manager=Systemd({}),
            server=partial(Server, sockets=(), listeners=[run.listener], log=log),
            attach_signals=attach,
            random_bytes=self._bytes.randbytes,
            jitter_unit=self._jitter.random,
            new_event_id=self._new_id,
            announce=lambda urls: None,
            reload=refuse_reload,
            in_thread=in_thread,
        )

    def _new_id(self) -> str:
        self._ids += 1
        return f"evt_{self._ids}"

    # What the others are given

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return EPOCH + trio.current_time() + self._walls[-1][1]

    def jump(self, seconds: float) -> None:
        self._walls.append((self.now(), self._walls[-1][1] + seconds))

    def walls_between(self, begin: float, end: float) -> list[tuple[float, float]]:
        """What the wall clock showed, from when to when for each of its jumps."""
        found = []
        for index, (since, offset) in enumerate(self._walls):
            until = self._walls[index + 1][0] if index + 1 < len(self._walls) else end
            first, last = max(begin, since), min(end, until)
            if first <= last:
                found.append((EPOCH + first + offset, EPOCH + last + offset))
        return found

    def trace(self, *parts: object) -> None:
        self._trace.add(trio.current_time(), *parts)

    def count(self, what: str) -> None:
        self._trace.counts[what] += 1

    def fail(self, rule: str, message: str) -> None:
        """The first one counts; the world ends with it."""
        if self.violation is None:
            self.violation = f"{rule} at {trio.current_time():.3f} s, run {self.run.number}: {message}"
            self.trace("VIOLATION", self.violation)
            self._whole.cancel()

    def mood_of(self, host: Host) -> str:
        moods = self._moods.get(host.key, (("ok", 1),))
        draw = self._mood_draws.setdefault(host.key, chance(self.plan.seed, "mood", *host.key))
        return draw.choices([kind for kind, _ in moods], [weight for _, weight in moods])[0]

    # The run

    async def main(self) -> None:
        with self._whole:
            async with trio.open_nursery() as nursery:
                with trio.move_on_after(VIRTUAL_SECONDS_MAX) as limit:
                    receivers = Receivers(self.plan.seed, self.plan.latency, self.wall)
                    self.network = Network(
                        self.plan.seed, self.checks, nursery, receivers.receive, capacity=self.plan.capacity
                    )
                    self.people = People(self, nursery)
                    nursery.start_soon(self._timeline, nursery)
                    await self._runs()
                if limit.cancelled_caught:
                    self.fail("S12", "the world did not come to its end")
                nursery.cancel_scope.cancel()

    async def _runs(self) -> None:
        restarts = iter(self.plan.stops)
        number = 0
        while True:
            number += 1
            await self._one_run(number)
            if self._safety_over.is_set():
                return
            stop = next(restarts, None)
            await trio.sleep(stop.restart_after if stop else 1.0)

    async def _one_run(self, number: int) -> None:
        self.run = run = Run(number, self.now(), Listener())
        self.network.begin_run()
        self.checks.begin_run()
        self.trace("run", number)
        self.count("runs")
        identity = RunIdentity(f"run{number}", "0", "host", 1, self.wall())
        self._ended = trio.Event()
        code: ExitCode | None = None
        with trio.CancelScope() as self._daemon:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.people.set_up, run)
                nursery.start_soon(self._watch_end, run)
                code = await supervise(self.settings, self._outside(run), identity)
                nursery.cancel_scope.cancel()
        run.is_over = True
        run.listener.is_closed = True
        self.trace("exit", code)
        self._ended.set()
        if code is not None:
            if self.now() > run.must_end_by:
                self.fail("S12", f"the daemon ended {self.now() - run.must_end_by:.3f} s too late")
            accounts.check_end(self, run, code)
            self.reports += run.reports

    async def _watch_end(self, run: Run) -> None:
        """A stop that never comes to its end must not hold the world."""
        while self.now() <= run.must_end_by + 1:  # noqa: ASYNC110  # the second signal moves the deadline
            await trio.sleep(1)
        self.fail("S12", "the daemon was told to stop and did not")

    async def _timeline(self, nursery: trio.Nursery) -> None:
        plan = self.plan
        events: list[Weather | Action | Stop] = [*plan.weather, *plan.actions, *plan.stops]
        for event in sorted(events, key=lambda one: one.at):
            await trio.sleep_until(event.at)
            if isinstance(event, Weather):
                self._moods[event.client_id, event.endpoint_id] = event.moods
            elif isinstance(event, Action):
                self.trace("action", event.kind, event.number)
                nursery.start_soon(self.people.act, event)
            else:
                nursery.start_soon(self._stop, event.kind)
        await trio.sleep_until(plan.seconds)
        await self._live_on()

    async def _live_on(self) -> None:
        """The faults of the core stop for good; what it is owed must settle; then the last stop."""
        self.trace("liveness")
        while not self.run.is_ready or self.run.stop_asked_at is not None:  # noqa: ASYNC110  # of whichever run
            await trio.sleep(0.5)
        for key in self.plan.core:
            self._moods[key] = (("ok", 1),)
        await self.people.live_on(self.plan.core)
        self._safety_over.set()
        await self._stop("sigterm")

    async def _stop(self, kind: str) -> None:
        run = self.run
        if run.is_over or run.number == 0 or (run.stop_asked_at is not None and kind != "crash"):
            return
        self.trace("stop", kind)
        self.count(f"stop {kind}")
        if kind == "crash":
            self.network.kill()
            run.is_over = run.listener.is_closed = True
            self._daemon.cancel()
            return
        drain_seconds = self.settings.drain.timeout_seconds
        run.stop_asked_at = self.now()
        run.no_attempts_after = self.now() + drain_seconds
        run.must_end_by = run.no_attempts_after + STOP_SLACK_SECONDS
        run.signal("SIGINT" if kind == "sigint" else "SIGTERM")
        if kind == "twice":
            run.signal("SIGINT")  # service managers send both at once: that is one
            await trio.sleep(SECOND_SIGNAL_AFTER)
            if not run.is_over:
                run.no_attempts_after = min(run.no_attempts_after, self.now())
                run.must_end_by = min(run.must_end_by, self.now() + STOP_SLACK_SECONDS)
                run.signal("SIGTERM")

    def _cover(self, event: str, fields: dict[str, Any]) -> None:
        if event == "delivery.attempted":
            attempt = self.network.attempt_of_task()
            fault = attempt.fault if attempt is not None else "?"
            outcome = "" if fields["reason"] is None else f" {fields['reason']}"
            self._trace.coverage[f"{fields['outcome']} -> {fields['status']}{outcome}", fault] += 1
            self.count("attempts")
        elif event.startswith(("endpoint.", "event.", "delivery.")):
            self.count(event)


class _Clock:
    def __init__(self, world: World) -> None:
        self.now = world.clock_now


class _Log:
    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self._world.log(event, level=level, **fields)

    def text(self, text: str) -> None:
        self._world.trace("stderr", text)


@lru_cache(maxsize=1)
def _ssl_context() -> Any:
    return client_ssl_context()


@contextlib.contextmanager
def _seeded_scheduler(seed: int) -> Iterator[None]:
    was_allowed, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    gc.disable()  # finalizers at chance moments
    try:
        yield
    finally:
        gc.enable()
        trio_run._r.setstate(state)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was_allowed  # type: ignore[misc]


def run(plan: Plan, *, keeps_lines: bool = False) -> Result:
    trace = Trace(keeps_lines=keeps_lines)
    world: World | None = None
    ended_at = 0.0

    async def main() -> None:
        nonlocal world, ended_at
        world = World(plan, trace)
        try:
            await world.main()
        finally:
            ended_at = trio.current_time()

    crash = ""
    with _seeded_scheduler(plan.seed):
        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except Exception as error:
            crash = "".join(traceback.format_exception(error))
    violation = world.violation if world is not None else None
    if violation is None and crash:
        violation = f"bug: {crash}"
    if violation is not None and crash:
        violation += f"\nand {crash[-3000:]}" if not violation.startswith("bug") else ""
    return Result(plan.seed, trace, violation, ended_at)
