"""Owns the final report of a run, on every channel, and the marker that stands while the run has no report.

Rules:
 1. The summary goes to the log and to stderr before anything touches a file.
 2. Then it goes to the termination log, and last the whole report goes to its file. Each has a deadline of its own: a
    file system that hangs holds nothing else up.
 3. Recorder and marker are removed once the file is there. Without the file they are all that the next start has.
 4. A file that finds no room is tried once more without payloads, and says so; not where the recorder holds them, which
    are more than that file would be.
What the report says is core/report's; where its files are is edge/reports'.
"""

import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import msgspec
import trio

from hookd.core import report, report_text
from hookd.core.bind import url_on_this_machine
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.ledger import Ledger
from hookd.core.no_room import NO_ROOM
from hookd.core.report import Line, Summary
from hookd.core.run import Run, Stop
from hookd.core.sizing import REPORT_LINE_BYTES
from hookd.core.timestamps import Moment
from hookd.flow.ports import Channel, Clock, Pruned

# A report of a full budget takes a few seconds; a file system that hangs must not hold the exit.
REPORT_SECONDS_MAX = 30.0
# A termination log is a small file of the container runtime's; the report's own file must not wait for it.
TERMINATION_LOG_SECONDS_MAX = 1.5
# At most, from the end of the drain: the termination log is written once more where the report is not.
ACCOUNT_SECONDS_MAX = REPORT_SECONDS_MAX + 2 * TERMINATION_LOG_SECONDS_MAX


class Reports(Protocol):
    def path_of(self, summary: Summary) -> object: ...

    def write(self, summary: Summary, lines: Iterator[Line]) -> str: ...

    def write_termination_log(self, path: str, text: str) -> None: ...

    def prune(self, kept: int) -> Pruned: ...

    def open_run(self, run: Run, at: float, counts: dict[str, object] | None = None) -> None: ...

    def close_run(self, run_id: str) -> None: ...


class FinalReport:
    """Of one run. `in_thread` does what may block, and hang."""

    def __init__(
        self,
        run: Run,
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        reports: Reports,
        in_thread: Callable[..., Awaitable[Any]],
        clock: Clock,
        log: Channel,
    ) -> None:
        self._run = run
        self._effective = effective
        self._ledger = ledger
        self._recorder = ledger.recorder
        self._records_payloads = effective.settings.recorder.payloads  # it does to its end: a reload means the next run
        self._reports = reports
        self._in_thread = in_thread
        self._clock = clock
        self._log = log
        self.summary: Summary | None = None  # once there is one
        self.is_given = False  # also where it could not be written

    # While the run has no report

    async def begin(self) -> None:
        await self._prune()
        self._say_open(self._clock.now().wall)

    async def keep_saying_open(self, counts: Callable[[], dict[str, Any]], *, every_seconds: float) -> None:
        """Writes the newest counts into the marker: they lie beside the reports even if the host is lost.

        A file system that hangs keeps one thread. The end of the drain leaves it behind.
        """
        while True:
            await trio.sleep(every_seconds)
            await self._in_thread(self._say_open, self._clock.now().wall, counts())

    def report_bytes(self) -> int:
        """About what the report would take now, without the payloads of what was given up."""
        totals = self._ledger.totals()
        if self._effective.settings.drain.report_payloads:
            return totals.unsettled_bytes + REPORT_LINE_BYTES * totals.exhausted_held
        return REPORT_LINE_BYTES * (totals.undelivered + totals.exhausted_held)

    # The report

    async def give(self, *, trigger: str, forced: bool, drain_seconds: float) -> bool:
        """Gives the run's one report. False where no file of it stands; the log says why."""
        now, text = self._clock.now(), ""  # may raise, while nothing is given
        self.is_given = True
        try:
            stop = Stop(now.wall, trigger, forced, drain_seconds)
            summary = self._summarise(stop)
            self._log("report", level=_level(summary), **_without_clients(summary))
            text = self._text(summary)
            self._log.text(text)
            await self._write_termination_log(text)
            with trio.fail_after(REPORT_SECONDS_MAX):
                path = await self._write(summary, stop, now)
        except Exception as error:
            await self._say_not_written(error, text)
            return False
        self._log("report.written", path=path)
        self._end()
        await self._prune()
        return True

    async def _write(self, summary: Summary, stop: Stop, now: Moment) -> str:
        """Returns the path. Raises OSError."""
        payloads = summary.payloads is msgspec.UNSET
        try:
            return await self._write_lines(summary, now, payloads=payloads)
        except OSError as error:
            if error.errno not in NO_ROOM or not payloads or self._recorder_has_payloads:
                raise
            why = f"{type(error).__name__}: {error}"
        summary = self._summarise(stop, payloads=False)
        path = await self._write_lines(summary, now, payloads=False)
        self._log("report.without_payloads", level="error", error=why)
        text = report_text.text_without_payloads(why) + self._text(summary)
        self._log.text(text)
        await self._write_termination_log(text)
        return path

    async def _write_lines(self, summary: Summary, now: Moment, *, payloads: bool) -> str:
        lines = report.lines(self._ledger, now_monotonic=now.monotonic, now_wall=now.wall, payloads=payloads)
        path: str = await self._in_thread(self._reports.write, summary, lines)
        return path

    @property
    def _recorder_has_payloads(self) -> bool:
        return self._records_payloads and self._recorder.is_on

    def _text(self, summary: Summary) -> str:
        http = self._effective.settings.http
        url = url_on_this_machine(http.bind, is_https=bool(http.certificate_file))
        return report_text.text(summary, path=str(self._reports.path_of(summary)), url=url)

    def _summarise(self, stop: Stop, *, payloads: bool = True) -> Summary:
        settings = self._effective.settings
        payloads, recovery = payloads and settings.drain.report_payloads, settings.recovery.enabled
        self.summary = summary = report.summarise(self._ledger, self._run, stop, payloads=payloads, recovery=recovery)
        return summary

    async def _say_not_written(self, error: Exception, text: str) -> None:
        """Says so on stderr and, before the summary, in the termination log: the file that both name is not there."""
        if not isinstance(error, OSError | trio.TooSlowError):
            self._log("report.crashed", level="error", traceback="".join(traceback.format_exception(error)))
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, trio.TooSlowError):
            why = f"the file system gave no answer within {REPORT_SECONDS_MAX:g} s"
        self._log("report.not_written", level="error", error=why)
        note = report_text.text_not_written(why, self.summary, is_recorded=self._recorder.is_on)
        self._log.text(note)
        await self._write_termination_log(note + text)

    async def _write_termination_log(self, text: str) -> None:
        path = self._effective.settings.drain.termination_log
        if not path:
            return
        try:
            with trio.fail_after(TERMINATION_LOG_SECONDS_MAX):
                await self._in_thread(self._reports.write_termination_log, path, text)
        except (OSError, ValueError, trio.TooSlowError) as error:
            self._log("termination_log.not_written", level="warning", error=f"{type(error).__name__}: {error}")

    def _end(self) -> None:
        """The report is on disk, so recorder and marker may go."""
        self._recorder.discard()
        try:
            self._reports.close_run(self._run.run_id)
        except OSError as error:  # the next start finds the report, and removes what is left
            self._log("run.not_closed", level="warning", error=f"{type(error).__name__}: {error}")

    def _say_open(self, at: float, counts: dict[str, object] | None = None) -> None:
        try:
            self._reports.open_run(self._run, at, counts)
        except OSError as error:
            self._log("run.not_marked", level="warning", error=f"{type(error).__name__}: {error}")

    async def _prune(self) -> None:
        """Removes old reports, but none that lists what nobody claimed, nor those that tell of crashes in a row."""
        kept = self._effective.settings.drain.reports_kept
        try:
            with trio.fail_after(REPORT_SECONDS_MAX):
                pruned = await self._in_thread(self._reports.prune, kept)
        except (OSError, trio.TooSlowError) as error:
            self._log("reports.not_pruned", level="warning", error=f"{type(error).__name__}: {error}")
            return
        if pruned.deleted:
            self._log("reports.pruned", deleted=pruned.deleted)
        if pruned.held:
            self._log("reports.held", level="warning", unclaimed=pruned.held, reports_kept=kept)


def _level(summary: Summary) -> str:
    return "error" if summary.deliveries.undelivered or not summary.balanced else "info"


def _without_clients(summary: Summary) -> dict[str, object]:
    """One log line: the clients are in the text and in the file."""
    return {
        "trigger": summary.trigger,
        "forced": summary.forced,
        "drain_seconds": summary.drain_seconds,
        "events": summary.events,
        "deliveries": summary.deliveries,
        "undelivered": summary.undelivered,
        "balanced": summary.balanced,
        "exhausted_held": summary.exhausted_held,
        "exhausted_forgotten": summary.exhausted_forgotten,
    }
