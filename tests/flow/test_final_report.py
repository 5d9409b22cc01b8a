"""What the account of a run says where something around it fails."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from hookd.core.report import Line, Summary
from hookd.core.run import Run
from hookd.core.settings import DrainSettings, RecorderSettings, Settings
from hookd.core.sizing import REPORT_LINE_BYTES
from hookd.flow.final_report import FinalReport
from hookd.flow.ports import Pruned

from tests.core.recorder_harness import MemoryStore, make_recorder
from tests.flow.harness import EPOCH, URL, Flow, Hang, now

RUN = Run("r", "0", "h", 1, EPOCH)


class Desk:
    """Reports in memory; each call may be made to raise."""

    def __init__(self) -> None:
        self.fails: dict[str, list[Exception]] = {}
        self.pruned = Pruned(0, 0)
        self.kept: list[int] = []
        self.opened: list[tuple[float, object]] = []
        self.written: list[tuple[Summary, list[Line]]] = []

    def _may_fail(self, call: str) -> None:
        if self.fails.get(call):
            raise self.fails[call].pop(0)

    def path_of(self, summary: Summary) -> object:
        return "/reports/r.jsonl"

    def write(self, summary: Summary, lines: Iterator[Line]) -> str:
        self._may_fail("write")
        self.written.append((summary, list(lines)))
        return "/reports/r.jsonl"

    def write_termination_log(self, path: str, text: str) -> None:
        self._may_fail("write_termination_log")

    def prune(self, kept: int) -> Pruned:
        self._may_fail("prune")
        self.kept.append(kept)
        return self.pruned

    def open_run(self, run: Run, at: float, counts: dict[str, object] | None = None) -> None:
        self._may_fail("open_run")
        assert run is RUN
        self.opened.append((at, counts))

    def close_run(self, run_id: str) -> None:
        self._may_fail("close_run")
        assert run_id == RUN.run_id


async def at_once(work: Callable[..., Any], *args: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return work(*args)


def account(flow: Flow, desk: Desk) -> FinalReport:
    return FinalReport(
        RUN,
        effective=flow.effective,
        ledger=flow.ledger,
        reports=desk,
        in_thread=at_once,
        clock=flow.clock,
        log=flow.log,
    )


def last_line(flow: Flow) -> dict[str, Any]:
    return {name: value for name, value in flow.log.lines[-1].items() if name != "at"}


async def test_marker_that_cannot_be_written_is_said_and_the_run_begins(autojump_clock) -> None:
    """The same of reports that cannot be pruned."""
    flow, desk = Flow(), Desk()
    desk.fails = {"open_run": [OSError(28, "full")], "prune": [OSError(5, "broken")]}
    await account(flow, desk).begin()
    assert [(line["event"], line["level"], line["error"]) for line in flow.log.lines] == [
        ("reports.not_pruned", "warning", "OSError: [Errno 5] broken"),
        ("run.not_marked", "warning", "OSError: [Errno 28] full"),
    ]


async def test_marker_is_written_at_the_start_and_then_with_the_counts_of_the_moment(autojump_clock, nursery) -> None:
    """Every so often, and what was accepted by then is in it."""
    flow, desk = Flow(), Desk()
    given = account(flow, desk)
    await given.begin()
    counts = iter([{"accepted": 1}, {"accepted": 2}, {"accepted": 3}])
    nursery.start_soon(lambda: given.keep_saying_open(lambda: next(counts), every_seconds=30.0))
    await trio.sleep(65)
    assert desk.opened == [(EPOCH, None), (EPOCH + 30, {"accepted": 1}), (EPOCH + 60, {"accepted": 2})]


async def test_what_was_pruned_and_what_was_held_back_is_said(autojump_clock) -> None:
    """How many, and how many are kept; nothing where there was nothing."""
    flow, desk = Flow(Settings(drain=DrainSettings(reports_kept=7))), Desk()
    await account(flow, desk).begin()
    assert flow.log.lines == []
    desk.pruned = Pruned(3, 2)
    await account(flow, desk).begin()
    pruned, held = flow.log.lines
    assert (pruned["event"], pruned["deleted"]) == ("reports.pruned", 3)
    assert (held["event"], held["level"], held["unclaimed"], held["reports_kept"]) == ("reports.held", "warning", 2, 7)
    assert desk.kept == [7, 7]


@pytest.mark.parametrize("payloads", [True, False])
async def test_report_has_a_line_for_each_delivery_that_is_owed(autojump_clock, nursery, payloads) -> None:
    """With payloads as the settings say; about as many bytes as were foretold."""
    flow, desk = Flow(Settings(drain=DrainSettings(report_payloads=payloads))), Desk()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.admit(event_id="e1")
    await now()
    given = account(flow, desk)
    foretold = flow.ledger.totals().unsettled_bytes if payloads else REPORT_LINE_BYTES
    assert given.report_bytes() == foretold
    assert await given.give(trigger="SIGTERM", forced=True, drain_seconds=1.5)
    [(summary, [line])] = desk.written
    assert (summary.trigger, summary.forced, summary.drain_seconds) == ("SIGTERM", True, 1.5)
    assert (summary.payloads is False, line.event_id) == (not payloads, "e1")
    assert given.is_given
    assert last_line(flow) == {"event": "report.written", "level": "info", "path": "/reports/r.jsonl"}


async def test_disk_without_room_for_payloads_gets_the_report_without_them(autojump_clock, nursery) -> None:
    """Which is said, with why."""
    flow, desk = Flow(), Desk()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.admit(event_id="e1")
    await now()
    desk.fails = {"write": [OSError(28, "full")]}
    assert await account(flow, desk).give(trigger="SIGTERM", forced=False, drain_seconds=0.0)
    [(summary, [line])] = desk.written
    assert (summary.payloads, line.event_id) == (False, "e1")
    [said] = flow.log.of("report.without_payloads")
    assert (said["level"], said["error"]) == ("error", "OSError: [Errno 28] full")
    assert "[Errno 28] full" in flow.log.texts[-1]


@pytest.mark.parametrize("payloads", [True, False])
async def test_reload_does_not_change_what_the_recorder_holds(autojump_clock, nursery, payloads: bool) -> None:
    """Where it holds payloads it stays for the next start; else the list without them is all that can be written."""
    store = MemoryStore(4096, 16)
    recorder = make_recorder(store, row_bytes=1024, segments_max=16, payloads=payloads)
    flow, desk = Flow(Settings(recorder=RecorderSettings(payloads=payloads)), recorder=recorder), Desk()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Hang())
    flow.admit(event_id="e1")
    await now()
    given = account(flow, desk)
    flow.set(recorder=RecorderSettings(payloads=not payloads))
    desk.fails = {"write": [OSError(28, "full")]}
    assert await given.give(trigger="SIGTERM", forced=False, drain_seconds=0.0) is not payloads
    assert bool(store.log) is payloads
    assert len(desk.written) == (not payloads)


async def test_report_that_crashes_is_said_with_its_traceback_and_its_text_stays(autojump_clock) -> None:
    """A bug in it is told apart from a disk that fails."""
    for error, is_crash in ((ValueError("bug"), True), (OSError(5, "broken"), False)):
        flow, desk = Flow(), Desk()
        desk.fails = {"write": [error]}
        given = account(flow, desk)
        assert not await given.give(trigger="SIGTERM", forced=False, drain_seconds=0.0)
        assert given.is_given
        crashes = flow.log.of("report.crashed")
        assert ["ValueError: bug" in line["traceback"] for line in crashes] == [True] * is_crash
        [said] = flow.log.of("report.not_written")
        assert (said["level"], said["error"]) == ("error", f"{type(error).__name__}: {error}")
        assert len(flow.log.texts) == 2


async def test_marker_that_cannot_be_removed_is_said_and_the_report_stands(autojump_clock) -> None:
    """The next start finds the report, and removes what is left."""
    flow, desk = Flow(), Desk()
    desk.fails = {"close_run": [OSError(5, "broken")]}
    assert await account(flow, desk).give(trigger="SIGTERM", forced=False, drain_seconds=0.0)
    assert last_line(flow) == {"event": "run.not_closed", "level": "warning", "error": "OSError: [Errno 5] broken"}
