"""What a plan runs in: the network, the machine, one process of the daemon after the other, the platform, the stops.

Determinism: no thread and no socket is used, and every actor draws from its own source. The clock and the scheduler's
chance are engine.py's.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from random import Random
from typing import Any

import trio
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.log_line import Line
from hookd.core.run import Run as RunIdentity
from hookd.core.settings import Settings
from hookd.core.timestamps import Moment
from hookd.edge.egress.sender import open_sender
from hookd.edge.egress.transport import client_ssl_context
from hookd.edge.server import Server
from hookd.edge.systemd import Systemd
from hookd.flow.ports import Sender
from hookd.process.exit_codes import ExitCode
from hookd.process.outside import Outside
from hookd.process.reloading import ReloadRefused
from hookd.process.supervisor import supervise

from tests.simulation import answer_invariants, log_invariants
from tests.simulation.faults import Receivers
from tests.simulation.invariants import Checks
from tests.simulation.machine import Machine
from tests.simulation.model import Host
from tests.simulation.network import Listener, Network
from tests.simulation.plan import (
    CRASHES,
    OPERATORS_PROXY,
    OPERATORS_PROXY_ADDRESS,
    STEADY,
    Action,
    Plan,
    Stop,
    Weather,
    chance,
)
from tests.simulation.ports import Ports
from tests.simulation.proxies import WatchedSender
from tests.simulation.starting import Starting
from tests.simulation.trace import Trace
from tests.simulation.workload import Workload

EPOCH = 1_700_000_000.0
SECOND_SIGNAL_AFTER = 0.4
STOP_SLACK_SECONDS = 2.0
# What is claimed of a run whose clock has raised: who read it has crashed, and may be anywhere in what it did.
CLAIMED_AFTER_A_CRASH = ("S1", "S6", "S10", "S11", "S12", "S15", "bug")
SHAKEN_SECONDS_MAX = 20.0  # then its operator restarts it
LOOKS_MAX = 60  # at files, until a start has recovered
# What a log may say of us that is never right.
BUGS = (
    "attempt.crashed",
    "courier.crashed",
    "flow.crashed",
    "api.crashed",
    "signal.crashed",
    "request.crashed",
    "request.failed",
    "port.failed",
    "recorder.failed",
)
VIRTUAL_SECONDS_MAX = 20_000.0
CANARIES = ("whsec_", "URL-CANARY", "PAYLOAD-CANARY")


@dataclass
class Run:
    """One run of the daemon."""

    number: int
    started_at: float
    listener: Listener
    ports: Ports
    resend: str = "none"
    signal: Callable[[str], None] = lambda name: None
    is_ready: bool = False  # the platform has registered its clients
    stop_asked_at: float | None = None
    no_attempts_after: float | None = None
    must_end_by: float = float("inf")
    is_over: bool = False
    ended_by: Stop | None = None
    killed_at_report: str = ""  # before or after it
    looks_left: int | None = None  # at files, before `stopped_by`, while it has not answered yet
    stopped_by: str = ""
    has_answered: bool = False
    was_stopped_at_start: bool = False
    not_recovered: set[str] = field(default_factory=set)  # reports of which the log says so

    @property
    def may_drain(self) -> bool:
        """It was asked to stop; or it has crashed, and said so, which ends it."""
        return self.stop_asked_at is not None or self.ports.has_crashed

    @property
    def is_lasting(self) -> bool:
        return self.is_ready and self.stop_asked_at is None and not self.is_over


class World:
    """Also the daemon's clock and log."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self.plan = plan
        self.settings: Settings = plan.settings
        self.violation: str | None = None
        self.checks = Checks(self)
        self.run = Run(0, 0.0, listener=None, ports=Ports(self, 0))  # type: ignore[arg-type]  # before the first
        self.own_log = _Log(self)
        self.network: Network
        self.workload: Workload
        self.machine: Machine
        self._trace = trace
        self._faults: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}
        self._fault_draws: dict[tuple[str, ...], Random] = {}
        self._walls = [(0.0, 0.0)]  # from when, by how much the wall clock is off
        self._ids = self._reloads = 0
        self.is_live = False  # the faults of the core have stopped
        self._refused: ReloadRefused | None = None
        self._nursery: trio.Nursery
        self._jitter = chance(plan.seed, "jitter")
        self._bytes = chance(plan.seed, "bytes")
        self._whole = trio.CancelScope()
        self._daemon = trio.CancelScope()
        self._ended = trio.Event()
        self._safety_over = trio.Event()

    # What the daemon is given

    def clock_now(self) -> Moment:
        return Moment(trio.current_time(), self.wall())

    def log(self, event: str, *, level: str = "info", is_lost: bool = False, **fields: Any) -> None:
        """`is_lost`: nobody reads it. What it tells has happened all the same."""
        line = f"{event} {fields}".replace(str(self.machine.where), "/reports")
        self.trace("lost" if is_lost else "log", line if "traceback" not in fields else event)
        for canary in CANARIES:
            if canary in line:
                self.fail("S11", f"{canary} stands in the log: {line[:300]}")
        if event in BUGS and not self.run.ports.is_injected(event, fields):
            self.fail("bug", f"{event}: {fields.get('traceback') or fields}")
        if event == "report.not_recovered":
            self.run.not_recovered.add(fields["path"].rpartition("/")[2])
        if not self.run.is_over:
            log_invariants.note(self, event, fields)
            self._cover(event, fields)

    def _outside(self, run: Run, identity: RunIdentity) -> Outside:
        log = self.own_log

        def attach(deliver: Callable[[str, float], None]) -> None:
            run.signal = lambda name: deliver(name, 0.0)

        return Outside(
            clock=_Clock(self),
            log=log,
            open_sender=self._open_sender,
            reports=self.machine.directory,
            manager=Systemd({}),
            server=partial(Server, sockets=(), listeners=[run.listener], log=log),
            attach_signals=attach,
            random_bytes=self._bytes.randbytes,
            jitter_unit=self._jitter.random,
            new_event_id=self._new_id,
            announce=lambda urls: None,
            reload=self._read_configuration,
            in_thread=self._threads_of(run),
            past_runs=self.machine.directory.past_runs(),
            is_unaccounted=bool(self.machine.folder.left_behind()),
            recorder=self.machine.recorder(identity, run.ports),
            settlements=run.ports.settlements,
            notices=run.ports.notices,
        )

    @asynccontextmanager
    async def _open_sender(self, effective: EffectiveSettings) -> AsyncIterator[Sender]:
        network = self.network
        async with open_sender(
            effective, resolve=network.resolve, dial=network.dial, ssl_context=_ssl_context()
        ) as sender:
            yield WatchedSender(sender, network) if self.plan.proxy_faults else sender

    def reload(self, settings: Settings, refused: ReloadRefused | None) -> bool:
        """SIGHUP, with another file or one that has a mistake; whether the daemon took it. One that stops does not."""
        before = self.settings
        self.settings, self._refused, self._reloads = settings, refused, 0
        self.run.signal("SIGHUP")
        if not self._reloads or refused is not None:
            self.settings = before
        return bool(self._reloads)

    def _read_configuration(self) -> Settings:
        self._reloads += 1
        if self._refused is not None:
            raise self._refused
        return self.settings

    def _threads_of(self, run: Run) -> Callable[..., Awaitable[Any]]:
        """Virtual time has none. The process may be killed on either side of the report's writing, and stopped at any
        look at files while it recovers, which may take a while.
        """
        draw = chance(self.plan.seed, "threads", run.number)

        async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
            await trio.sleep(0 if run.has_answered else draw.choice((0, 0, 0, 0.02)) + self.plan.look_seconds)
            if run.looks_left is not None and not run.has_answered:
                run.looks_left -= 1
                if run.looks_left < 0:
                    run.looks_left = None
                    await self._stop_at_start(run)
            is_report = work == self.machine.directory.write
            if is_report and run.killed_at_report == "before":
                self.crash(run, run.ended_by)
            if run.is_over:
                await trio.sleep_forever()
            result = work(*args)
            if is_report and run.killed_at_report == "after":
                self.crash(run, run.ended_by)
                await trio.sleep_forever()
            return result

        return in_thread

    def _new_id(self) -> str:
        self._ids += 1
        return f"evt_{self._ids}"

    # What the others are given

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        """Never before 1970, as the daemon's own clock."""
        return max(0.0, EPOCH + trio.current_time() + self._walls[-1][1])

    def jump(self, seconds: float) -> None:
        self._walls.append((self.now(), self._walls[-1][1] + seconds))

    def has_jumped_since(self, moment: float) -> bool:
        return self._walls[-1][0] >= moment > 0

    @property
    def has_jumped(self) -> bool:
        return len(self._walls) > 1

    @property
    def recorder_kind(self) -> str:
        """As coverage.py names them."""
        given = self.settings
        held = "off" if self.plan.layout is None else "payloads" if given.recorder.payloads else "ids"
        return f"{held}, recovery" if given.recovery.enabled else held

    def cover_killed_start(self) -> None:
        self._trace.ends["start killed", self.recorder_kind] += 1

    def cover_port(self, port: str, call: str, *, late: bool) -> None:
        self._trace.ports["after" if late else "before", f"{port} {call}"] += 1

    def walls_between(self, begin: float, end: float) -> list[tuple[float, float]]:
        """What the wall clock showed, from when to when for each of its jumps."""
        found = []
        for index, (since, offset) in enumerate(self._walls):
            until = self._walls[index + 1][0] if index + 1 < len(self._walls) else end
            first, last = max(begin, since), min(end, until)
            if first <= last:
                found.append((max(0.0, EPOCH + first + offset), max(0.0, EPOCH + last + offset)))
        return found

    def trace(self, *parts: object) -> None:
        self._trace.add(trio.current_time(), *parts)

    def count(self, what: str, times: int = 1) -> None:
        if times:
            self._trace.counts[what] += times

    def fail(self, rule: str, message: str) -> None:
        """The first one counts; the world ends with it."""
        if self.run.ports.shaken_at is not None and not self.run.is_over and rule not in CLAIMED_AFTER_A_CRASH:
            return
        if self.violation is None:
            self.violation = f"{rule} at {trio.current_time():.3f} s, run {self.run.number}: {message}"
            self.trace("VIOLATION", self.violation)
            self._whole.cancel()

    def fault_of(self, host: Host) -> str:
        faults = self._faults.get(host.key, (("ok", 1),))
        draw = self._fault_draws.setdefault(
            host.key, chance(self.plan.seed, "mood", *host.key)
        )  # the word is part of what a seed means
        return draw.choices([kind for kind, _ in faults], [weight for _, weight in faults])[0]

    def proxy_fault_of(self, host: Host, way: str) -> str:
        """What the proxy that leads to it does with an attempt; empty: it passes it on."""
        if self.is_live or host.key[0] == STEADY:
            return ""
        draw = self._fault_draws.setdefault(("proxy", *host.key), chance(self.plan.seed, "proxy", *host.key))
        kinds, weights = zip(*self.plan.proxy_faults, strict=True)
        fault = str(draw.choices(kinds, weights)[0])
        return "" if fault == "ok" or (fault == "proxy_private" and way == OPERATORS_PROXY) else fault

    # The run

    async def main(self) -> None:
        self.machine = Machine(self)
        try:
            with self._whole:
                async with trio.open_nursery() as nursery:
                    with trio.move_on_after(VIRTUAL_SECONDS_MAX) as limit:
                        await self._effective(nursery)
                    if limit.cancelled_caught:
                        self.fail("S12", "the world did not come to its end")
                    nursery.cancel_scope.cancel()
        finally:
            self.machine.remove()

    async def _effective(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        receivers = Receivers(self.plan.seed, self.plan.latency, self.wall)
        self.network = Network(self.plan.seed, self.checks, nursery, receivers.receive, capacity=self.plan.capacity)
        self.network.add_proxy(OPERATORS_PROXY, OPERATORS_PROXY_ADDRESS)
        self.workload = Workload(self, nursery)
        nursery.start_soon(self._timeline, nursery)
        await self._runs()

    async def _runs(self) -> None:
        stop: Stop | None = None
        number = 0
        while not self._safety_over.is_set():
            number += 1
            await self._start(stop)
            await self._one_run(number, stop)
            stop = self.run.ended_by
            await trio.sleep(stop.restart_after if stop else 1.0)
        self.plan.full = []
        await self._start(None)  # the last one's report may have found no room
        self.machine.check_sums(number)

    async def _start(self, stop: Stop | None) -> None:
        """Accounts for the runs before; a start that is killed while it does is followed by another."""
        self.machine.remembered()
        kills = stop.starts_killed if stop is not None else ()
        for number, killed_at in enumerate(kills):
            if self.machine.account(killed_at=killed_at, draw=chance(self.plan.seed, "start", number)):
                return
            await trio.sleep(1.0)
        self.machine.account(killed_at=None, draw=chance(self.plan.seed, "start"))

    async def _one_run(self, number: int, last: Stop | None) -> None:
        resend = last.resend if last is not None else "none"
        self.run = run = Run(number, self.now(), Listener(), Ports(self, number), resend=resend)
        self.network.begin_run()
        self.checks.begin_run()
        self.machine.begin_run()
        if last is not None and last.recovery_ends is not None:
            run.looks_left, run.stopped_by = last.recovery_ends
        self.trace("run", number)
        self.count("runs")
        identity = RunIdentity(f"run{number}", "0", "host", 1, self.wall())
        outside = self._outside(run, identity)
        self._ended = trio.Event()
        code: ExitCode | None = None
        with trio.CancelScope() as self._daemon:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Starting(self.workload).set_up, run)
                code = await supervise(self.settings, outside, identity)
                nursery.cancel_scope.cancel()
        run.is_over = True
        run.listener.is_closed = True
        self.trace("exit", code)
        self._ended.set()
        self.machine.disarm()
        if code is not None:
            run.ports.check_end()
        if code is not None and self.now() > run.must_end_by:
            self.fail("S12", f"the daemon ended {self.now() - run.must_end_by:.3f} s too late")
        if run.ended_by is not None:
            self._trace.ends[f"{run.ended_by.kind}{' at start' * run.was_stopped_at_start}", self.recorder_kind] += 1
        self.checks.end_run()
        report = self.machine.ended(run, code)
        if report is not None:
            answer_invariants.check_end(self, run, code, report)

    def stop_shaken(self) -> None:
        """The clock has raised: what the platform knows of the run is in doubt, and it is stopped soon."""
        self._nursery.start_soon(self._stop_shaken, self.run)

    async def _stop_shaken(self, run: Run) -> None:
        await trio.sleep(chance(self.plan.seed, "shaken", run.number).uniform(0, SHAKEN_SECONDS_MAX))
        if run is self.run:
            await self._stop(Stop(self.now(), "sigterm", 1.0, "last"))

    async def _watch_end(self, run: Run) -> None:
        """A stop that never comes to its end must not hold the world."""
        while self.now() <= run.must_end_by + 1:  # the second signal moves the deadline
            await trio.sleep(1)
            if run.is_over:
                return
        self.fail("S12", "the daemon was told to stop and did not")

    async def _timeline(self, nursery: trio.Nursery) -> None:
        plan = self.plan
        events: list[Weather | Action | Stop] = [*plan.weather, *plan.actions, *plan.stops]
        for event in sorted(events, key=lambda one: one.at):
            await trio.sleep_until(event.at)
            if isinstance(event, Weather):
                self._faults[event.client_id, event.endpoint_id] = event.faults
            elif isinstance(event, Action):
                self.trace("action", event.kind, event.number)
                nursery.start_soon(self.workload.act, event)
            else:
                nursery.start_soon(self._stop, event)
        await trio.sleep_until(plan.seconds)
        await self._live_on()

    async def _live_on(self) -> None:
        """The faults of the core stop for good; what it is owed must settle; then the last stop."""
        self.trace("liveness")
        self.machine.disarm()
        while not self.run.is_lasting or self.run.ports.shaken_at is not None:  # noqa: ASYNC110  # whichever it is
            await trio.sleep(0.5)
        self.is_live = True
        self.run.ports.arm_clock(False)
        for key in self.plan.core:
            self._faults[key] = (("ok", 1),)
        await self.workload.live_on(self.plan.core)
        self._safety_over.set()
        await self._stop(Stop(self.now(), "sigterm", 0.0, "none"))

    async def _stop(self, stop: Stop) -> None:
        run, kind = self.run, stop.kind
        if run.is_over or run.number == 0 or (run.stop_asked_at is not None and kind not in CRASHES):
            return None
        self.trace("stop", kind)
        match kind:
            case "crash":
                return self.crash(run, stop)
            case "crash in write":
                return self.machine.arm(stop, run)
            case "crash before report" | "crash after report":
                run.killed_at_report = kind.split(" ")[1]
        if run.stop_asked_at is not None:
            return None
        drain_seconds = self.settings.drain.timeout_seconds
        run.stop_asked_at, run.ended_by = self.now(), stop
        run.no_attempts_after = self.now() + drain_seconds
        # It recovers first, where it has not answered yet; a look that was begun then may still go on.
        slack_seconds = STOP_SLACK_SECONDS + (1 if run.has_answered else LOOKS_MAX) * self.plan.look_seconds
        run.must_end_by = run.no_attempts_after + slack_seconds
        self._nursery.start_soon(self._watch_end, run)
        run.signal("SIGINT" if kind == "sigint" else "SIGTERM")
        if kind == "twice":
            run.signal("SIGINT")  # service managers send both at once: that is one
            await trio.sleep(SECOND_SIGNAL_AFTER)
            if not run.is_over:
                run.no_attempts_after = min(run.no_attempts_after, self.now())
                run.must_end_by = min(run.must_end_by, self.now() + slack_seconds)
                run.signal("SIGTERM")
        return None

    async def _stop_at_start(self, run: Run) -> None:
        stop = Stop(self.now(), run.stopped_by, 1.0, "none")
        run.was_stopped_at_start = True
        if run.stopped_by == "twice":
            self._nursery.start_soon(self._stop, stop)
        else:
            await self._stop(stop)

    def crash(self, run: Run, stop: Stop | None) -> None:
        """The process is gone, in the middle of whatever it did: nothing that its tasks still do has any effect."""
        if not run.is_over:
            self.trace("killed")
            self.count("crashes")
            self.count("crashes in the drain", run.stop_asked_at is not None)
            run.is_over, run.ended_by = True, stop
            run.listener.kill()
            self.network.kill()
            self.machine.kill()
            self._daemon.cancel()

    def _cover(self, event: str, fields: dict[str, Any]) -> None:
        if event == "delivery.attempted":
            attempt = self.network.attempt_of_task()
            fault = attempt.met if attempt is not None else "?"
            outcome = "" if fields["reason"] is None else f" {fields['reason']}"
            self._trace.coverage[f"{fields['outcome']} -> {fields['status']}{outcome}", fault] += 1
            self.count("attempts")
            self.network.attempt_ended()
        elif event.startswith(("endpoint.", "event.", "delivery.")):
            self.count(event)


class _Clock:
    def __init__(self, world: World) -> None:
        self.now = world.run.ports.clock(world.clock_now)


class _Log:
    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self._world.run.ports.log(event, level, fields)

    def made(self, line: Line) -> None:
        event, fields = line.told()
        self(event, **fields)

    @property
    def lines_dropped(self) -> int:
        return self._world.run.ports.lines_dropped

    def text(self, text: str) -> None:
        self._world.run.ports.text(text)
        self._world.trace("stderr", text.replace(str(self._world.machine.where), "/reports"))


@lru_cache(maxsize=1)
def _ssl_context() -> Any:
    return client_ssl_context()
