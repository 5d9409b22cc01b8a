"""The composition root: builds everything, owns the nursery tree, decides nothing about an event.

Indentation is the lifetime:

    supervise
      sender                              its connections and look-ups; closed last
      API (hypercorn, quart-trio)         up to the end, so that on-call can watch the drain
        flow, under the drain's deadline  recovery, before anything else moves; dispatch, upkeep, couriers, attempts
      report                              once the flow has ended: log, stderr, file

A stop is a signal or a crash of the flow; either way it ends in a report and an exit code.
"""

import math
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
import trio

from hookd.core.delivery import Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.recorder import NOTHING_RECORDED, Recorder
from hookd.core.refusal import RegistryFull
from hookd.core.registry import Registry
from hookd.core.run import Run
from hookd.core.run_history import PastRun
from hookd.core.settings import Settings
from hookd.core.settlements import Settlements
from hookd.core.signature import SECRET_BYTES, make_secret
from hookd.edge.api import Services, create_app
from hookd.edge.api.services import Connections
from hookd.edge.reports import Provable, ReportsWatch
from hookd.edge.server import Server
from hookd.flow import final_report, recovery
from hookd.flow.attempt import Attempter
from hookd.flow.courier import Courier
from hookd.flow.dispatch import Dispatch
from hookd.flow.drain import drain
from hookd.flow.feed import Feed
from hookd.flow.final_report import ACCOUNT_SECONDS_MAX, FinalReport
from hookd.flow.gauges import GaugeCollector
from hookd.flow.housekeeping import COUNTS_EVERY_SECONDS, Housekeeping
from hookd.flow.intake import Intake
from hookd.flow.pacer import Pacer
from hookd.flow.ports import Channel, Clock, JitterUnit, Sender
from hookd.flow.recovery import Recovery
from hookd.flow.registration import Registration
from hookd.flow.reopening import Reopening
from hookd.flow.replay import Replay
from hookd.flow.resend import Resend
from hookd.flow.retry_now import RetryNow

# Two signals closer than this are one: service managers send SIGTERM and SIGINT together.
SECOND_SIGNAL_SECONDS = 0.25
# What is left for peers of the API once the report is written; then their connections are cut.
API_GRACE_SECONDS = 0.5
# How often the service manager hears of us, at least; its watchdog four times in its interval.
MANAGER_SECONDS_MAX = 5.0
# Of these a reload says that it takes a restart.
RESTART_NEEDED = ("http", "recorder", "recovery")


class ExitCode(IntEnum):
    CLEAN = 0
    BUG = 1
    USAGE = 2
    UNDELIVERED = 3
    UNAVAILABLE = 69
    CONFIG = 78


class LogWriter(Channel, Protocol):
    @property
    def lines_dropped(self) -> int: ...


class Manager(Protocol):
    """The service manager; it may not be there."""

    @property
    def listens(self) -> bool: ...

    @property
    def watchdog_seconds(self) -> float | None: ...

    def ready(self) -> None: ...

    def stopping(self, seconds: float) -> None: ...

    def alive(self) -> None: ...

    def status(self, line: str) -> None: ...


class Reports(final_report.Reports, recovery.Reports, Provable, Protocol):
    """The report directory."""


async def in_own_thread(work: Callable[..., Any], *args: Any) -> Any:
    """What blocks, and may hang for ever: nobody else's thread is taken, and a cancelled wait leaves it behind.

    Where the system gives no thread it is done here and now: a report that holds the loop is better than none.
    """
    began = False

    def begin() -> Any:
        nonlocal began
        began = True
        return work(*args)

    try:
        return await trio.to_thread.run_sync(begin, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    except RuntimeError:
        if began:
            raise
        return begin()


class Outside(NamedTuple):
    """What is not ours, injected: so the whole daemon runs in virtual time, or over sockets that a test made."""

    clock: Clock
    log: LogWriter
    open_sender: Callable[[EffectiveSettings], AbstractAsyncContextManager[Sender]]
    reports: Reports
    manager: Manager
    server: Callable[..., Server]
    attach_signals: Callable[[Callable[[str], None]], None]
    random_bytes: Callable[[int], bytes]
    jitter_unit: JitterUnit
    new_event_id: Callable[[], str]
    announce: Callable[[Sequence[str]], None]
    reload: Callable[[], Settings]
    """Reads the configuration again; raises ReloadRefused."""
    in_thread: Callable[..., Awaitable[Any]] = in_own_thread
    """Where files are written; virtual time has no threads."""
    recorder: Recorder = NOTHING_RECORDED
    is_unaccounted: bool = False
    """A run before this one left a recording, and its report could not be written."""
    past_runs: Sequence[PastRun] = ()
    """Those before this one, as far as anything of them is left."""


class ReloadRefused(Exception):
    lines: tuple[str, ...]

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class _Stopping:
    """What asked the daemon to stop, and whether it was asked twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.requested = trio.Event()
        self.forced = trio.Event()
        self.trigger = "error"
        self.requested_at = 0.0

    def request(self, trigger: str) -> None:
        now = self._clock.now().monotonic
        if not self.requested.is_set():
            self.trigger, self.requested_at = trigger, now
            self.requested.set()
        elif now - self.requested_at > SECOND_SIGNAL_SECONDS:
            self.forced.set()


async def supervise(settings: Settings, outside: Outside, run: Run) -> ExitCode:
    """One whole run of the daemon, its connections to the outside closed last."""
    effective = EffectiveSettings(settings)
    async with outside.open_sender(effective) as sender:
        return await Supervisor(effective, outside, run, sender).run()


class Supervisor:
    """One run of the daemon. `run` is identity and start, as it stands in the report."""

    def __init__(self, effective: EffectiveSettings, outside: Outside, run: Run, sender: Sender) -> None:
        self._outside = outside
        self._run = run
        clock, log = outside.clock, outside.log
        self._effective = effective
        self._stopping = _Stopping(clock)
        self._crashed = False
        self._drain_seconds = 0.0
        self._telling_manager = trio.CancelScope()

        self._feed = Feed(Settlements(effective))
        self._ledger = ledger = Ledger(
            effective,
            started=clock.now(),
            on_settled=self._feed.note,
            on_forgotten=self._log_forgotten,
            recorder=outside.recorder,
        )
        self._registry = registry = Registry(effective)
        departures, arrivals = trio.open_memory_channel[Event](float("inf"))  # the ledger is the bound
        self._pacer = Pacer(effective)
        self._attempter = Attempter(
            effective=effective,
            ledger=ledger,
            sender=sender,
            clock=clock,
            jitter_unit=outside.jitter_unit,
            log=log,
            user_agent=f"hookd/{run.version}",
        )
        self._dispatch = dispatch = Dispatch(arrivals, new_courier=self._new_courier, log=log)
        self._housekeeping = Housekeeping(effective=effective, ledger=ledger, clock=clock, log=log)
        self._intake = intake = Intake(
            departures,
            effective=effective,
            ledger=ledger,
            registry=registry,
            dispatch=dispatch,
            clock=clock,
            new_id=outside.new_event_id,
            log=log,
        )
        self._registration = Registration(
            effective=effective,
            registry=registry,
            ledger=ledger,
            dispatch=dispatch,
            intake=intake,
            clock=clock,
            log=log,
        )
        self._resend = Resend(ledger=ledger, registry=registry, dispatch=dispatch, intake=intake, clock=clock, log=log)
        self._recovery = self._new_recovery()
        self._account = FinalReport(
            run,
            effective=effective,
            ledger=ledger,
            recorder=outside.recorder,
            reports=outside.reports,
            in_thread=outside.in_thread,
            clock=clock,
            log=log,
        )
        self._reports_watch = ReportsWatch(
            outside.reports, log=log, in_thread=outside.in_thread, room_bytes=self._account.report_bytes
        )
        self._server = outside.server(create_app(self._services()))

    def _new_recovery(self) -> Recovery:
        outside = self._outside
        return Recovery(
            self._run.run_id,
            past_runs=outside.past_runs,
            is_unaccounted=outside.is_unaccounted,
            reports=outside.reports,
            resend=self._resend,
            in_thread=outside.in_thread,
            clock=outside.clock,
            log=outside.log,
        )

    def _services(self) -> Services:
        """What the routes call on."""
        effective, clock, log = self._effective, self._outside.clock, self._outside.log
        ledger, registry, dispatch, intake = self._ledger, self._registry, self._dispatch, self._intake
        reopening = Reopening(effective=effective, ledger=ledger, registry=registry, intake=intake)
        return Services(
            run=self._run,
            effective=effective,
            clock=clock,
            log=log,
            ledger=ledger,
            feed=self._feed,
            registry=registry,
            intake=intake,
            dispatch=dispatch,
            attempter=self._attempter,
            registration=self._registration,
            retry_now=RetryNow(
                ledger=ledger, registry=registry, dispatch=dispatch, intake=intake, reopening=reopening, clock=clock
            ),
            replay=Replay(
                ledger=ledger,
                registry=registry,
                dispatch=dispatch,
                intake=intake,
                reopening=reopening,
                clock=clock,
                log=log,
            ),
            resend=self._resend,
            housekeeping=self._housekeeping,
            gauge_collector=GaugeCollector(ledger=ledger, registry=registry, dispatch=dispatch, clock=clock),
            previous_run=self._recovery.previous_run,
            new_secret=lambda: make_secret(self._outside.random_bytes(SECRET_BYTES)),
            connections=self._connections,
            log_lines_dropped=lambda: log.lines_dropped,
            reports_problem=lambda: self._reports_watch.problem,
            dev=effective.settings.dev,
        )

    def _new_courier(self, client_id: str) -> Courier:
        return Courier(
            client_id,
            effective=self._effective,
            ledger=self._ledger,
            registry=self._registry,
            attempter=self._attempter,
            pacer=self._pacer,
            clock=self._outside.clock,
        )

    async def run(self) -> ExitCode:
        """Until it is stopped; always ends in a report."""
        self._outside.attach_signals(self._on_signal)
        self._registration.take_config(self._effective.settings.clients)
        await self._account.begin()
        try:
            async with trio.open_nursery() as api:
                api.start_soon(self._tell_manager)
                await self._run_flow(api)
                await self._report()
                self._telling_manager.cancel()
                self._feed.close()
                self._server.stop(grace_seconds=0 if self._stopping.forced.is_set() else API_GRACE_SECONDS)
        except* Exception as crash:
            self._note_crash("api.crashed", crash)
        if not self._account.is_given:
            await self._report()
        return self._exit_code()

    async def _run_flow(self, api: trio.Nursery) -> None:
        try:
            async with trio.open_nursery() as flow:
                await flow.start(self._dispatch.run)
                if (
                    self._effective.settings.recovery.enabled
                ):  # before the pacer: no attempt begins until all is claimed
                    await self._recovery.run(self._stopping.forced)
                if not self._stopping.requested.is_set() or self._seconds_to_drain() > 0:
                    flow.start_soon(self._pacer.run)
                flow.start_soon(self._housekeeping.run)
                flow.start_soon(self._reports_watch.run)
                flow.start_soon(
                    partial(
                        self._account.keep_saying_open, self._housekeeping.counts, every_seconds=COUNTS_EVERY_SECONDS
                    )
                )
                urls = await api.start(self._server.serve)
                self._outside.announce(urls)
                self._outside.manager.ready()
                self._outside.log("daemon.started", run_id=self._run.run_id, version=self._run.version, urls=urls)
                await self._stopping.requested.wait()
                await self._drain()
                flow.cancel_scope.cancel()
        except* Exception as crash:
            self._note_crash("flow.crashed", crash)

    def _seconds_to_drain(self) -> float:
        """What is left of `drain.timeout`, which begins with the signal: a recovery may have taken of it.

        Nothing once the stop is forced: that cuts a recovery, and what was admitted of a report that is not claimed
        must not be attempted, since the next start admits it again.
        """
        if self._stopping.forced.is_set():
            return 0.0
        waited_seconds = self._outside.clock.now().monotonic - self._stopping.requested_at
        return max(0.0, self._effective.settings.drain.timeout_seconds - waited_seconds)

    async def _drain(self) -> None:
        timeout_seconds = self._effective.settings.drain.timeout_seconds
        self._intake.close()
        self._outside.manager.stopping(timeout_seconds + ACCOUNT_SECONDS_MAX)
        self._feed.answer_waiting()
        self._outside.log(
            "drain.started",
            trigger=self._stopping.trigger,
            timeout_seconds=timeout_seconds,
            unsettled_events=len(self._ledger.unsettled),
            in_flight=self._ledger.in_flight,
        )
        started = self._outside.clock.now().monotonic
        await drain(
            dispatch=self._dispatch,
            pacer=self._pacer,
            timeout_seconds=self._seconds_to_drain(),
            forced=self._stopping.forced,
        )
        self._drain_seconds = self._outside.clock.now().monotonic - started
        self._outside.log(
            "drain.finished",
            drain_seconds=round(self._drain_seconds, 3),
            forced=self._stopping.forced.is_set(),
            unsettled_events=len(self._ledger.unsettled),
        )

    async def _report(self) -> None:
        self._intake.close()
        stopping = self._stopping
        self._crashed |= not await self._account.give(
            trigger=stopping.trigger, forced=stopping.forced.is_set(), drain_seconds=self._drain_seconds
        )

    async def _tell_manager(self) -> None:
        """That the loop keeps its times, and what it holds; up to the report. A late turn says nothing of the kind."""
        manager = self._outside.manager
        if not manager.listens:
            return
        period_seconds = min(MANAGER_SECONDS_MAX, (manager.watchdog_seconds or math.inf) / 4)
        due = trio.current_time()
        with self._telling_manager:
            while True:
                manager.status(self._status_line())
                if trio.current_time() - due < period_seconds:
                    manager.alive()
                due = trio.current_time() + period_seconds
                await trio.sleep_until(due)

    def _status_line(self) -> str:
        totals = self._ledger.totals()
        state = "draining" if self._intake.is_draining else "running"
        counts = f"{totals.undelivered:,} undelivered, {totals.in_flight:,} in flight"
        return f"{state}: {totals.accepted:,} accepted, {counts}"

    def _exit_code(self) -> ExitCode:
        if self._crashed:
            return ExitCode.BUG
        summary = self._account.summary
        assert summary is not None
        return ExitCode.UNDELIVERED if summary.deliveries.undelivered else ExitCode.CLEAN

    def _on_signal(self, name: str) -> None:
        if name == "SIGHUP":
            self._reload()
        else:
            self._stopping.request(name)

    def _reload(self) -> None:
        """The whole configuration or none of it."""
        if self._intake.is_draining:
            return
        try:
            settings = self._outside.reload()
        except ReloadRefused as refused:
            self._outside.log("config.refused", level="error", mistakes=refused.lines)
            return
        old, self._effective.settings = self._effective.settings, settings
        try:
            self._registration.take_config(settings.clients)
        except RegistryFull as refused:  # with the clients that are there through the API; nothing was changed yet
            self._effective.settings = old
            self._outside.log("config.refused", level="error", mistakes=[refused.detail])
            return
        self._feed.settlements.trim()
        self._feed.settlements.trim()
        restart = _restart_needed_for(old, settings)
        if old.drain.report_directory != settings.drain.report_directory:
            restart.append("drain.report_directory")
        self._outside.log(
            "config.reloaded",
            clients=len(settings.clients),
            tokens=[token.name for token in settings.http.tokens],
            restart_needed_for=restart,
        )

    def _note_crash(self, event: str, crash: Exception) -> None:
        self._crashed = True
        self._stopping.trigger = "error"
        self._outside.log(event, level="error", traceback="".join(traceback.format_exception(crash)))

    def _log_forgotten(self, event: Event) -> None:
        exhausted = [one.endpoint_id for one in event.deliveries if one.status is Status.EXHAUSTED]
        self._outside.log(
            "event.forgotten", level="warning", event_id=event.id, client_id=event.client_id, exhausted=exhausted
        )

    def _connections(self) -> Connections:
        statistics = self._server.statistics()
        return Connections(statistics.connections_open, statistics.connections_max, statistics.connections_refused)


def _restart_needed_for(old: Settings, new: Settings) -> list[str]:
    """Tokens are read at each request, the rest of [http] when the sockets are made."""
    sections = {name: getattr(old, name) for name in RESTART_NEEDED}
    sections["http"] = msgspec.structs.replace(old.http, tokens=new.http.tokens)
    return [name for name, section in sections.items() if section != getattr(new, name)]
