"""The composition root. It builds everything and owns the nursery tree; it decides nothing about an event.

Indentation is the lifetime:

    supervise
      sender                              its connections and look-ups; closed last
      API (hypercorn, quart-trio)         up to the end, so that on-call can watch the drain
        flow, under the drain's deadline  recovery first; then dispatch, housekeeping, couriers, attempts
      report                              once the flow has ended: log, stderr, file

A signal or a crash of the flow stops it. Either way the run ends in a report and an exit code.
"""

import os
import traceback
from collections.abc import Sequence

import trio

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.mistakes import Mistake
from hookd.core.registry import Registry
from hookd.core.run import Run
from hookd.core.settings import Settings
from hookd.core.signature import SECRET_BYTES, make_secret
from hookd.core.units import format_duration
from hookd.edge.api import Services, create_app
from hookd.edge.api.health_checks import PLAIN_ANSWERS
from hookd.edge.api.services import Connections, Standing
from hookd.edge.reports_watch import ReportsWatch
from hookd.flow.adoption import Adoption
from hookd.flow.attempt import Attempter
from hookd.flow.cancel import Cancel
from hookd.flow.courier import Courier, Keeper
from hookd.flow.declaration import Declaration
from hookd.flow.dispatch import Dispatch
from hookd.flow.drain import drain
from hookd.flow.endings import Endings
from hookd.flow.endpoint_states import EndpointStates
from hookd.flow.feed import Feed
from hookd.flow.final_report import ACCOUNT_SECONDS_MAX, FinalReport
from hookd.flow.gauges import GaugeCollector
from hookd.flow.giving_up import forgotten_logger, given_up_teller
from hookd.flow.housekeeping import COUNTS_EVERY_SECONDS, Housekeeping
from hookd.flow.notice_watch import NoticeWatch
from hookd.flow.operational_events import OperationalEvents
from hookd.flow.pacer import Pacer
from hookd.flow.port_failures import PortFailureLog
from hookd.flow.ports import Sender
from hookd.flow.recovery import Recovery
from hookd.flow.registration import Registration
from hookd.flow.resend import Resend
from hookd.flow.sending_again import sending_again
from hookd.process.certificates import expire_at
from hookd.process.drain_progress import telling_progress
from hookd.process.exit_codes import ExitCode
from hookd.process.outside import Outside
from hookd.process.reloading import Reloading
from hookd.process.service_manager import keep_telling
from hookd.process.stopping import Stopping


async def supervise(settings: Settings, outside: Outside, run: Run) -> ExitCode:
    """One whole run of the daemon. The connections to endpoints are closed last."""
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
        self._stopping = Stopping(clock)
        self._crashed, self._drain_seconds = False, 0.0
        self._telling_service_manager = trio.CancelScope()

        self._feed = Feed(outside.settlements(effective))
        self._registry = registry = Registry(effective)
        self._ledger = ledger = Ledger(
            effective,
            registry=registry,
            started=clock.now(),
            on_settled=self._feed.note,
            on_given_up=given_up_teller(log, lambda event, delivery: self._notices.given_up(event, delivery)),
            on_forgotten=forgotten_logger(log),
            on_port_failed=PortFailureLog(log),
            recorder=outside.recorder,
        )
        operations = OperationalEvents(
            effective=effective, ledger=ledger, registry=registry, intake=lambda: self._intake, clock=clock, log=log
        )
        self._notices = notices = NoticeWatch(
            run.run_id,
            ledger=ledger,
            feed=Feed(outside.notices(effective)),
            operations=operations,
            clock=clock,
            log=log,
        )
        self._states = states = EndpointStates(ledger=ledger, notices=notices, clock=clock, log=log)
        self._endings = endings = Endings(
            ledger=ledger, registry=registry, clock=clock, wake=lambda client_id: self._dispatch.wake(client_id)
        )
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
        self._housekeeping = Housekeeping(
            effective=effective,
            ledger=ledger,
            states=states,
            endings=endings,
            clock=clock,
            log=log,
            loop_watch=outside.loop_watch,
        )
        self._intake = intake = outside.intake(
            departures,
            effective=effective,
            ledger=ledger,
            registry=registry,
            dispatch=dispatch,
            notices=notices,
            clock=clock,
            new_id=outside.new_event_id,
            log=log,
        )
        self._adoption = Adoption(ledger=ledger, registry=registry, dispatch=dispatch, clock=clock)
        self._registration = Registration(
            effective=effective,
            registry=registry,
            ledger=ledger,
            dispatch=dispatch,
            intake=intake,
            states=states,
            endings=endings,
            adoption=self._adoption,
            clock=clock,
            log=log,
        )
        self._declaration = Declaration(
            registry=registry,
            registration=self._registration,
            ledger=ledger,
            dispatch=dispatch,
            intake=intake,
            log=log,
        )
        self._cancel = Cancel(
            ledger=ledger, registry=registry, dispatch=dispatch, endings=endings, clock=clock, log=log
        )
        self._resend = Resend(ledger=ledger, registry=registry, dispatch=dispatch, intake=intake, clock=clock, log=log)
        self._recovery = self._new_recovery()
        self._final_report = FinalReport(
            run,
            effective=effective,
            ledger=ledger,
            reports=outside.reports,
            in_thread=outside.in_thread,
            clock=clock,
            log=log,
        )
        self._reports_watch = ReportsWatch(
            outside.reports,
            log=log,
            in_thread=outside.in_thread,
            room_bytes=self._final_report.report_bytes,
            unclaimed=outside.unclaimed_reports,
        )
        self._reloading = Reloading(
            outside.reload,
            started_at=run.started_at,
            effective=effective,
            registration=self._registration,
            rings=(self._feed.ring, self._notices.feed.ring),
            choose_lines=outside.choose_lines,
            clock=clock,
            log=log,
        )
        self._app = create_app(self._services())
        self._server = outside.server(self._app, plain_answers=PLAIN_ANSWERS)

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
        again = sending_again(ledger=ledger, registry=registry, dispatch=dispatch, intake=intake, clock=clock, log=log)
        return Services(
            run=self._run,
            effective=effective,
            clock=clock,
            log=log,
            ledger=ledger,
            feed=self._feed,
            notices=self._notices,
            registry=registry,
            intake=intake,
            dispatch=dispatch,
            attempter=self._attempter,
            registration=self._registration,
            declaration=self._declaration,
            **again._asdict(),
            cancel=self._cancel,
            resend=self._resend,
            housekeeping=self._housekeeping,
            gauge_collector=GaugeCollector(ledger=ledger, registry=registry, dispatch=dispatch, clock=clock),
            previous_run=self._recovery.previous_run,
            new_secret=lambda: make_secret(self._outside.random_bytes(SECRET_BYTES)),
            prove_tls=self._prove_tls,
            connections=self._connections,
            log_lines_dropped=lambda: log.lines_dropped,
            report_directory=os.path.abspath(effective.settings.drain.report_directory),
            reports_problem=lambda: self._reports_watch.problem,
            standing=self._standing,
            process_metrics=self._outside.process_metrics,
        )

    async def _prove_tls(self, egress: EndpointEgress) -> Sequence[Mistake]:
        found: Sequence[Mistake] = await self._outside.in_thread(lambda: tuple(self._outside.prove_tls(egress)))
        return found

    def _standing(self) -> Standing:
        certificates = expire_at(self._outside.certificate_expires_at(), self._effective.settings.egress)
        return Standing(self._reports_watch.unclaimed, self._reloading, certificates)

    def _new_courier(self, client_id: str, keeper: Keeper) -> Courier:
        return Courier(
            client_id,
            keeper,
            effective=self._effective,
            ledger=self._ledger,
            registry=self._registry,
            attempter=self._attempter,
            pacer=self._pacer,
            states=self._states,
            endings=self._endings,
            clock=self._outside.clock,
        )

    async def run(self) -> ExitCode:
        """Runs until it is stopped. It always ends in a report."""
        self._outside.attach_signals(self._on_signal)
        self._registration.take_config(self._effective.settings.clients)
        await self._final_report.begin()
        try:
            async with trio.open_nursery() as api:
                api.start_soon(self._tell_service_manager)
                await self._run_flow(api)
                await self._report()
                self._telling_service_manager.cancel()
                self._feed.close()
                self._notices.feed.close()
                self._server.stop(**self._stopping.farewell(self._drain_seconds)._asdict())
        except* Exception as crash:
            self._note_crash("api.crashed", crash)
        if not self._final_report.is_given:
            await self._report()
        return self._exit_code()

    async def _run_flow(self, api: trio.Nursery) -> None:
        try:
            async with trio.open_nursery() as flow:
                await flow.start(self._dispatch.run)
                if self._effective.settings.recovery.enabled:  # first: no attempt begins until all is claimed
                    await self._recovery.run(self._stopping.forced)
                self._notices.tell_run_before(self._recovery.previous_run())
                if not self._stopping.requested.is_set() or self._seconds_to_drain() > 0:
                    flow.start_soon(self._pacer.run)
                flow.start_soon(self._housekeeping.run)
                flow.start_soon(self._endings.run)
                flow.start_soon(self._reports_watch.run)
                flow.start_soon(self._keep_saying_open)
                async with self._app.app_context():  # the server's tasks keep it: else each request makes one
                    urls = await api.start(self._server.serve)
                self._outside.announce(urls)
                self._outside.manager.ready()
                self._outside.log("daemon.started", run_id=self._run.run_id, version=self._run.version, urls=urls)
                await self._stopping.requested.wait()
                await self._drain()
                flow.cancel_scope.cancel()
        except* Exception as crash:
            self._note_crash("flow.crashed", crash)

    async def _keep_saying_open(self) -> None:
        await self._final_report.keep_saying_open(self._housekeeping.counts, every_seconds=COUNTS_EVERY_SECONDS)

    def _seconds_to_drain(self) -> float:
        return self._stopping.seconds_to_drain(self._effective.settings.drain.timeout_seconds)

    async def _drain(self) -> None:
        timeout_seconds = self._effective.settings.drain.timeout_seconds
        self._intake.close()
        await self._server.wind_down()
        self._outside.manager.stopping(timeout_seconds + ACCOUNT_SECONDS_MAX)
        self._feed.answer_waiting()
        self._notices.feed.answer_waiting()
        self._outside.log(
            "drain.started",
            trigger=self._stopping.trigger,
            timeout_seconds=timeout_seconds,
            unsettled_events=len(self._ledger.unsettled),
            in_flight=self._ledger.in_flight,
        )
        started = self._outside.clock.now().monotonic
        async with telling_progress(self._outside.tell_person, self._progress_line):
            await drain(
                dispatch=self._dispatch,
                pacer=self._pacer,
                adoption=self._adoption,
                endings=self._endings,
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
        self._endings.close()
        stopping = self._stopping
        self._crashed |= not await self._final_report.give(
            trigger=stopping.trigger, forced=stopping.forced.is_set(), drain_seconds=self._drain_seconds
        )

    async def _tell_service_manager(self) -> None:
        """Up to the report."""
        with self._telling_service_manager:
            await keep_telling(self._outside.manager, self._status_line)

    def _status_line(self) -> str:
        totals = self._ledger.totals()
        state = "draining" if self._intake.is_draining else "running"
        counts = f"{totals.undelivered:,} undelivered, {totals.in_flight:,} in flight"
        return f"{state}: {totals.accepted:,} accepted, {counts}"

    def _progress_line(self) -> str:
        left = format_duration(round(self._seconds_to_drain()))
        return f"{self._status_line()}; {left} left, Ctrl-C again stops at once\n"

    def _exit_code(self) -> ExitCode:
        if self._crashed:
            return ExitCode.BUG
        summary = self._final_report.summary
        assert summary is not None
        return ExitCode.UNDELIVERED if summary.deliveries.undelivered else ExitCode.CLEAN

    def _on_signal(self, name: str, late_seconds: float) -> None:
        """It raises nothing: the loop would end by it, and no report would be written."""
        try:
            if name != "SIGHUP":
                self._stopping.request(name, late_seconds)
            elif not self._intake.is_draining:
                self._reloading.reload()
        except Exception as crash:
            self._note_crash("signal.crashed", crash)

    def _note_crash(self, event: str, crash: Exception) -> None:
        self._crashed = True
        self._stopping.crash()
        self._outside.log(event, level="error", traceback="".join(traceback.format_exception(crash)))

    def _connections(self) -> Connections:
        found = self._server.statistics()
        return Connections(
            found.connections_open, found.connections_max, found.connections_refused, found.connections_displaced
        )
