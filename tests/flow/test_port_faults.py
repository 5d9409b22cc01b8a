"""A port that raises once, at any of its calls, costs nothing but what it was told: the flow goes on as it would have.

Recorder, feed and log: every event is sent as often and as late as without the fault. The clock is no port of the
ledger, and what reads it may crash; then, too, the books balance and the report names whatever is owed.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing
from hookd.core import report
from hookd.core.delivery import SETTLED, Delivery
from hookd.core.event import Event
from hookd.core.health import PausedBy
from hookd.core.notices import Notices
from hookd.core.run import Run, Stop
from hookd.core.settings import RetrySettings, Settings
from hookd.core.settlements import Settlements
from hookd.edge.logs import LogWriter
from hookd.edge.reports import ReportDirectory
from hookd.flow.final_report import FinalReport
from hookd.flow.replay import Span, Wanted

from tests.core.port_faults import RECORDER_CALLS, Faults, Faulty, cost
from tests.core.recorder_harness import MemoryStore, make_recorder
from tests.flow.harness import EPOCH, Flow, Hang, VirtualClock, at, endpoint, now, submission

SETTINGS = Settings(retry=RetrySettings(schedule_seconds=(1.0, 3.0), age_seconds_max=20.0))
PORTS = ("recorder", "feed", "log", "notices", "clock")


class Came(NamedTuple):
    """What came of a run. The order of tasks within a moment is trio's."""

    sent: list[tuple[float, str, int]]
    statuses: list[tuple[str, ...]]
    crashed: bool
    steps_failed: int


class Silent:
    """A channel for people that nobody reads."""

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        pass

    def text(self, text: str) -> None:
        pass


class Day:
    """Deliveries, retries, a 410, a removal, a pause, a retry by hand, a replay, and a drain."""

    def __init__(self, faults: dict[str, Faults]) -> None:
        none = Faults()
        on = {port: faults.get(port, none) for port in PORTS}
        self._fd = os.memfd_create("log")
        self.log = LogWriter(self._fd, pretty=False, colours=False, wall=on["log"].on("wall", lambda: EPOCH))
        recorder: Any = make_recorder(MemoryStore(4096, 16), row_bytes=1024, segments_max=16)
        clock = VirtualClock()
        self.flow = Flow(
            SETTINGS,
            clock=clock,
            log=self.log,
            recorder=Faulty(recorder, on["recorder"], *RECORDER_CALLS, "prove"),  # type: ignore[arg-type]
            settlements=lambda effective: Faulty(Settlements(effective), on["feed"], "append"),  # type: ignore[arg-type, return-value]
            notices=lambda effective: Faulty(Notices(effective), on["notices"], "append"),  # type: ignore[arg-type, return-value]
        )
        clock.now = on["clock"].on("now", clock.now)  # type: ignore[method-assign]
        self.steps_failed = 0
        self.crashed = False

    def step(self, call: Callable[[], object]) -> None:
        """As a request would: what raises is a 500, and nobody else's business."""
        try:
            call()
        except Exception:
            self.steps_failed += 1

    async def pass_by(self) -> None:
        flow, step = self.flow, self.step
        flow.sender.script("https://fails.example/", 503, 503, 200)
        flow.sender.script("https://gone.example/", 410)
        flow.sender.script("https://hangs.example/", Hang())
        step(lambda: flow.put("acme", endpoint("good"), endpoint("fails", "https://fails.example/")))
        step(lambda: flow.put("beta", endpoint("gone", "https://gone.example/", concurrency=1)))
        step(lambda: flow.put("slow", endpoint("hangs", "https://hangs.example/"), endpoint("good")))
        for number in range(3):
            step(lambda: flow.admit("acme", f"a{number}"))  # noqa: B023
            step(lambda: flow.admit("slow", f"s{number}"))  # noqa: B023
        step(lambda: flow.intake.admit_whole([submission("beta", f"b{number}") for number in range(3)]))
        await at(2.5)
        step(lambda: flow.registration.resume("beta", "gone"))
        step(lambda: flow.put("slow", endpoint("good"), end_unsettled=True))
        step(lambda: flow.registration.pause("acme", "good"))
        step(lambda: flow.admit("acme", "a8"))
        step(lambda: flow.retry_now.retry(flow.ledger.find("beta", "b0")))  # type: ignore[arg-type]
        await at(8.5)
        step(lambda: flow.registration.resume("acme", "good"))
        step(lambda: flow.registration.resume("beta", "gone"))
        with suppress(Exception):
            await flow.replay.replay("beta", Wanted(Span(EPOCH - 10.0, None)))
        await at(12.5)
        step(lambda: flow.admit("beta", "b9"))

    @classmethod
    async def live(cls, faults: dict[str, Faults]) -> "Day":
        day = cls(faults)
        await day._live()
        assert day.log.close(timeout_seconds=10.0)
        return day

    def said(self, event: str) -> list[dict[str, Any]]:
        """Once it has lived."""
        lines = [json.loads(line) for line in os.pread(self._fd, 1 << 20, 0).splitlines()]
        return [line for line in lines if line["event"] == event]

    async def _live(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                await self.flow.start(nursery)
                await self.pass_by()
                await at(40.5)
                await self.flow.drain(timeout_seconds=1.0)
                nursery.cancel_scope.cancel()
        except* Exception:
            self.crashed = True


def lived(**faults: Faults) -> tuple[Day, Came]:
    day = trio.run(Day.live, faults, clock=trio.testing.MockClock(autojump_threshold=0))
    sent = sorted((round(one.at, 6), one.event_id, one.attempt_number) for one in day.flow.sender.transcript)
    statuses = [(one.id, *(duty.status.value for duty in one.deliveries)) for one in day.flow.events()]
    return day, Came(sent, statuses, day.crashed, day.steps_failed)


@cache
def without_faults() -> tuple[Came, dict[str, list[str]]]:
    faults = {port: Faults() for port in PORTS}
    _, came = lived(**faults)
    assert not came.crashed
    return came, {port: one.calls for port, one in faults.items()}


def assert_books_balance(day: Day) -> None:
    """The totals are what the rows come to; the report of a stop now lists whatever is owed."""
    assert day.flow.balanced()
    ledger, stop = day.flow.ledger, Stop(EPOCH, "SIGTERM", forced=False, drain_seconds=0.0)
    summary = report.summarise(ledger, Run("r", "0", "h", 1, EPOCH), stop)
    assert summary.balanced
    lines = list(report.lines(ledger, now_monotonic=60.0, now_wall=EPOCH, payloads=True))
    assert summary.deliveries.undelivered == len(owed(day)) == sum(line.kind == "undelivered" for line in lines)
    held = [each for each in day.flow.events() if each.status not in SETTLED]
    assert [each.sequence for each in ledger.unsettled.by_sequence()] == sorted(each.sequence for each in held)
    assert (ledger.totals().unsettled_events, ledger.totals().unsettled_bytes) == cost(held)


def owed(day: Day) -> list[tuple[Event, Delivery]]:
    return [(one, duty) for one in day.flow.events() for duty in one.deliveries if not duty.is_settled]


def is_held_back(day: Day, event: Event, delivery: Delivery) -> bool:
    """By an operator, whose request to let it go on was a 500."""
    health = day.flow.ledger.health(event.client_id, delivery.endpoint_id)
    return day.steps_failed == 1 and health is not None and health.paused_by is PausedBy.OPERATOR


@pytest.mark.parametrize(("port", "calls_least"), [("recorder", 10), ("feed", 10), ("log", 10), ("notices", 5)])
def test_port_that_raises_once_changes_nothing_that_the_flow_does(port: str, calls_least: int) -> None:
    """Each call in turn: the same requests at the same times, the same statuses, no 500 and no crash."""
    clean, calls = without_faults()
    assert len(calls[port]) > calls_least
    for nth in range(1, len(calls[port]) + 1):
        day, came = lived(**{port: Faults(nth)})
        assert came == clean, (port, nth)
        assert_books_balance(day)
        if port == "log":
            assert day.log.lines_dropped == 1
            assert [line["lines"] for line in day.said("log.dropped")] == [1]
        else:
            assert day.flow.ledger.port_failures == {port: 1}
            (said,) = day.said("recorder.failed" if port == "recorder" else "port.failed")
            assert said["level"] == "error"


def test_clock_that_raises_once_leaves_books_that_balance() -> None:
    """A request of that moment fails, a courier or the flow crashes: nothing is half done, and nothing is forgotten."""
    _, calls = without_faults()
    crashes = 0
    for nth in range(1, len(calls["clock"]) + 1):
        day, came = lived(clock=Faults(nth))
        assert_books_balance(day)
        assert day.flow.ledger.port_failures in ({}, {"notices": 1})  # those that it kept from being made
        crashes += came.crashed
        if not came.crashed:
            assert all(is_held_back(day, *pair) for pair in owed(day)), nth
    assert 0 < crashes < len(calls["clock"])


async def test_settlement_that_the_feed_could_not_take_is_a_gap_for_all_who_read(autojump_clock, nursery) -> None:
    """Who read up to it, and who waits for it: both are told that something is missing, and may look it up."""
    faults = Faults(2)
    flow = Flow(settlements=lambda effective: Faulty(Settlements(effective), faults, "append"))  # type: ignore[arg-type, return-value]
    await flow.start(nursery)
    flow.put()
    flow.admit()
    await now()
    first = flow.feed.ring.page(None, limit=10)
    assert (len(first.rows), first.next_position) == (1, 1)
    woken = trio.Event()

    async def wait() -> None:
        await flow.feed.wait(1, seconds=100.0)
        woken.set()

    nursery.start_soon(wait)
    flow.admit()
    await now()
    assert woken.is_set()
    page = flow.feed.ring.page(1, limit=10)
    assert (page.has_gap, page.rows) == (True, [])
    flow.admit()
    await now()
    after = flow.feed.ring.page(page.next_position, limit=10)
    assert (after.has_gap, len(after.rows)) == (False, 1)


async def test_report_is_still_to_be_given_where_the_clock_raised_before_it(autojump_clock, nursery, tmp_path) -> None:
    """The run's end is read before anything says that the report is given: whoever asks again gets it."""

    async def at_once(work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    flow, faults = Flow(), Faults(1)
    await flow.start(nursery)
    flow.put()
    flow.admit()
    given = FinalReport(
        Run("r", "0", "h", 1, EPOCH),
        effective=flow.effective,
        ledger=flow.ledger,
        reports=ReportDirectory(str(tmp_path)),
        in_thread=at_once,
        clock=Faulty(VirtualClock(), faults, "now"),  # type: ignore[arg-type]
        log=Silent(),
    )
    with pytest.raises(AssertionError):
        await given.give(trigger="SIGTERM", forced=False, drain_seconds=0.0)
    assert not given.is_given
    assert await given.give(trigger="error", forced=False, drain_seconds=0.0)
    assert given.is_given
    assert len(list(tmp_path.glob("shutdown-*.jsonl"))) == 1
