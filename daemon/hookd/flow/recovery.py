"""Owns recovery: a start takes back what the reports before it list as undelivered (contract section 7, One way back).

Rules:
 1. Recovery is over before any attempt begins and before anything is listened on.
 2. It takes up unclaimed reports, the oldest first. Each is read whole before anything of it is admitted, and claimed
    once all of it is.
 3. Killed in between, the next start finds the report unclaimed, beside a crash report of this run. What stands in both
    is admitted once: nothing of either was attempted meanwhile.
 4. A report that cannot be taken up (no payloads, unreadable) stays unclaimed, and the log says so.
 5. After three crashes in a row nothing is taken up: that may be what makes hookd crash.
 6. A stop that comes meanwhile waits until recovery is over, so that the final report lists everything. A forced stop
    ends it between two slices; the rest stays in its own report.
What becomes of one line is flow/resend's, where the files are edge/reports'.
Limits: the ledger's budgets are exceeded if need be, and intake then refuses until there is room; besides, a slice of
one report is held, 128 KiB or one line. 100,000 deliveries take about 3 s.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

import trio

from hookd.core.refusal import Refused
from hookd.core.run_history import (
    CRASHES_IN_A_ROW,
    CRASHES_WITHIN_SECONDS,
    PastRun,
    PreviousRun,
    is_crashing_in_a_row,
    previous_run,
)
from hookd.flow.ports import Channel, Clock, Unclaimed
from hookd.flow.report_lines import ReportLine, read_report_lines
from hookd.flow.resend import Answer, Resend

# For the answer of a file system, each time.
FILES_SECONDS_MAX = 30.0
UNACCOUNTED = (
    "a run before this one left a recording, and its report could not be written: it may list what other reports list. "
    "They stay unclaimed, for the next start or for `hookd resend`."
)
HELD_BACK = (
    f"the last {CRASHES_IN_A_ROW} runs crashed within {CRASHES_WITHIN_SECONDS / 60:g} minutes. Their reports stay "
    "unclaimed, for the next start or for `hookd resend`."
)


class Reports(Protocol):
    def unclaimed(self) -> list[Unclaimed]: ...

    def slices(self, path: str) -> Iterator[list[bytes]]: ...

    def claim(self, path: str, run_id: str) -> bool: ...


class Unreadable(Exception):
    """Not a report, or not one of ours."""


class Recovery:
    """Of the run `run_id`; `past_runs` are those before it, as far as anything of them is left.

    `is_unaccounted`: the recording of one of them has no report yet. That report may list what this start would take
    up from others, and would bring it back a second time.
    """

    def __init__(
        self,
        run_id: str,
        *,
        past_runs: Sequence[PastRun],
        is_unaccounted: bool = False,
        reports: Reports,
        resend: Resend,
        in_thread: Callable[..., Awaitable[Any]],
        clock: Clock,
        log: Channel,
    ) -> None:
        self._run_id = run_id
        self._past_runs = past_runs
        self._is_unaccounted = is_unaccounted
        self._reports = reports
        self._resend = resend
        self._in_thread = in_thread
        self._clock = clock
        self._log = log
        self._recovered: dict[str, int] = {}  # deliveries, by the run whose report listed them

    def previous_run(self) -> PreviousRun | None:
        """How the last run ended, and what this one has of it; None where there was none."""
        return previous_run(self._past_runs, self._recovered)

    async def run(self, forced: trio.Event) -> None:
        """Raises OSError or TooSlowError where a report was taken up and cannot be claimed.

        No attempt may begin then: the next start would take the report up again.
        """
        is_crashing = is_crashing_in_a_row(self._past_runs, now=self._clock.now().wall)
        if self._is_unaccounted or is_crashing:
            reason = HELD_BACK if is_crashing else UNACCOUNTED
            self._log("recovery.held_back", level="error", reason=reason)
            self._log.text(f"NOTHING IS RECOVERED: {reason}\n")
            return
        try:
            unclaimed = await self._with_files(self._reports.unclaimed)
        except (OSError, trio.TooSlowError) as error:
            self._log("recovery.failed", level="error", error=f"{type(error).__name__}: {error}")
            return
        for report in unclaimed:
            if forced.is_set():
                return
            await self._take_up(report, forced)

    async def _take_up(self, report: Unclaimed, forced: trio.Event) -> None:
        answers: Counter[Answer] = Counter()
        try:
            if report.run_id is None:
                raise Unreadable("it is no report that can be read")
            await self._each_slice(report, forced, take=len)
            await self._each_slice(report, forced, take=lambda lines: answers.update(self._resend.recover(lines)))
            if not forced.is_set():
                await self._claim(report, report.run_id, answers)
        except (OSError, trio.TooSlowError, Refused, Unreadable) as error:
            self._leave(report, f"{type(error).__name__}: {error}")
            if answers[Answer.ADMITTED]:
                raise

    async def _each_slice(
        self, report: Unclaimed, forced: trio.Event, *, take: Callable[[Sequence[ReportLine]], object]
    ) -> None:
        slices = self._reports.slices(report.path)
        while not forced.is_set() and (lines := await self._with_files(next, slices, None)):
            take(read_report_lines(lines))

    async def _claim(self, report: Unclaimed, run_id: str, answers: Counter[Answer]) -> None:
        self._recovered[run_id] = answers[Answer.ADMITTED]
        if answers[Answer.NO_PAYLOAD] and not answers[Answer.ADMITTED]:
            self._leave(report, f"it holds no payloads: {answers[Answer.NO_PAYLOAD]:,} deliveries stay undelivered")
            return
        await self._with_files(self._reports.claim, report.path, self._run_id)
        counts = {answer.value: count for answer, count in answers.items()}
        self._log("report.recovered", path=report.path, run_id=run_id, deliveries=counts)

    def _leave(self, report: Unclaimed, why: str) -> None:
        self._log("report.not_recovered", level="warning", path=report.path, run_id=report.run_id, error=why)

    async def _with_files(self, work: Callable[..., Any], *args: Any) -> Any:
        with trio.fail_after(FILES_SECONDS_MAX):
            return await self._in_thread(work, *args)
