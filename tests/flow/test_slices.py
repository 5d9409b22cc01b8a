"""What one turn does at most, counted in work and not in time: others have theirs in between."""

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
from hookd.core.settings import IntakeSettings, RetrySettings, Settings
from hookd.core.subscription import Subscription
from hookd.flow import endings, housekeeping, replay
from hookd.flow.cancel import LOOKS_AT_ONCE, Range

from tests.flow.harness import Flow, Hang, at, endpoint, now

PATTERNS = [f"invoice.{number}.*" for number in range(100)]
DEEP = "*a" * 60 + "*"  # 60 texts between its stars
ENDPOINTS = 16
ROOMY = IntakeSettings(client_events_max=20_000, client_bytes_max=2**30)


class Counted(Subscription):
    """How many types it was asked about."""

    asked = 0

    def wants(self, event_type: str) -> bool:
        self.asked += 1
        return super().wants(event_type)


class Turns(trio.abc.Instrument):
    """By how much `count` grew at most in one turn of a task, and how many turns each had."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.most = 0
        self.of = Counter[str]()
        self._count = count
        self._before = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._count()
        self.of[task.name] += 1

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.most = max(self.most, self._count() - self._before)


async def most_in_a_turn(work: Callable[[], Awaitable[object]], count: Callable[[], int]) -> int:
    turns = Turns(count)
    trio.lowlevel.add_instrument(turns)
    try:
        await work()
    finally:
        trio.lowlevel.remove_instrument(turns)
    return turns.most


async def backlog(nursery: trio.Nursery, events: int, endpoints: int = 1) -> Flow:
    """Events that wait, of an operator's pause."""
    flow = Flow(Settings(intake=ROOMY, retry=RetrySettings(age_seconds_max=60.0)))
    await flow.start(nursery)
    flow.put("acme", *(endpoint(f"e{number}", f"https://{number}.example/") for number in range(endpoints)))
    for number in range(endpoints):
        flow.sender.script(f"https://{number}.example/", Hang())
        flow.registration.pause("acme", f"e{number}")
    flow.admit_many(events)
    await now()
    return flow


@pytest.mark.parametrize("entries", [PATTERNS, [DEEP] * 2])
async def test_range_of_a_cancel_counts_what_it_compares(autojump_clock, nursery, entries) -> None:
    """A hundred patterns, or two with as many parts: a slice compares so many texts, and looks at fewer events."""
    flow, types = await backlog(nursery, 400), Counted.of(entries)
    assert types is not None
    assert types.comparisons > 100
    most = await most_in_a_turn(
        lambda: flow.cancel.cancel_range("acme", Range(types=types), dry_run=True), lambda: types.asked
    )
    assert types.asked == 400
    assert most * types.comparisons <= LOOKS_AT_ONCE + types.comparisons


async def test_replay_counts_what_it_compares(autojump_clock, nursery) -> None:
    """As a range of a cancel does."""
    flow, types = await backlog(nursery, 400), Counted.of(PATTERNS)
    assert types is not None
    most = await most_in_a_turn(
        lambda: flow.replay.replay("acme", replay.Wanted(types=types), dry_run=True), lambda: types.asked
    )
    assert types.asked == 400
    looks = types.comparisons / replay.COMPARISONS_PER_LOOK
    assert most * looks <= replay.LOOKED_AT_AT_ONCE + looks


async def test_slice_of_endings_counts_deliveries(autojump_clock, nursery) -> None:
    """Of events with sixteen each, most of which are not meant: it looks at so many deliveries, not so many events."""
    events = 1000
    flow = await backlog(nursery, events, ENDPOINTS)
    flow.endings.gone("acme", "e0")  # resumed since: it is disabled no more
    first = events - flow.endings.left
    most = await most_in_a_turn(lambda: at(5), lambda: events - flow.endings.left)
    assert flow.endings.left == 0
    assert max(first, most) * (1 + ENDPOINTS) <= endings.LOOKED_AT_AT_ONCE + 1 + ENDPOINTS


async def test_look_at_what_is_old_counts_deliveries(autojump_clock, nursery) -> None:
    """Held by pauses, so that all of each event are asked: a slice has so many deliveries, however few the events."""
    events = 300
    flow = await backlog(nursery, events, ENDPOINTS)
    await at(61.5)
    turns = Turns(lambda: 0)
    trio.lowlevel.add_instrument(turns)
    await at(62.5)  # with one tick
    trio.lowlevel.remove_instrument(turns)
    assert turns.of["hookd.flow.housekeeping.Housekeeping.run"] > events * ENDPOINTS // housekeeping.ROWS_AT_ONCE
    assert flow.ledger.totals().unsettled_events == events
