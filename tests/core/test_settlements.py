"""The settlement feed's ring: against a plain list, for any order of settling, reading and reloading."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hookd.core.delivery import Delivery, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, bundled
from hookd.core.particulars import Particulars
from hookd.core.retry import Reason
from hookd.core.settings import RetentionSettings, Settings
from hookd.core.settlements import BLOCK_ROWS, Settlement, Settlements
from hookd.core.sizing import SETTLEMENT_BYTES
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

DELIVERED, EXHAUSTED = Status.DELIVERED, Status.EXHAUSTED
WALL = 1_800_000_000.25


def ring(settlements_max: int) -> Settlements:
    return Settlements(live_of(settlements_max))


def live_of(settlements_max: int) -> EffectiveSettings:
    return EffectiveSettings(Settings(retention=RetentionSettings(settlements_max=settlements_max)))


def delivery(endpoint_id: str, status: Status, reason: Reason | None = None) -> Delivery:
    return Delivery(
        endpoint_id=endpoint_id, url="https://a.example/", opened_at=0.0, due_at=None,
        status=status, particulars=Particulars(reason=reason),
    )  # fmt: skip


def event(number: int, *deliveries: Delivery, **fields: Any) -> Event:
    given: dict[str, Any] = {"id": f"e{number}", "client_id": f"c{number % 7}", "settled_at": WALL + number}
    return Event(
        sequence=number,
        type="t",
        payload=b"1",
        accepted_at=WALL,
        since=0.0,
        bundle=bundled(deliveries),
        **given | fields,
    )


def numbers(found: list[Settlement]) -> list[int]:
    return [int(one.event_id.removeprefix("e")) for one in found]


class RingMachine(RuleBasedStateMachine):
    """The model is the list of everything that ever settled; the ring must say the end of it."""

    def __init__(self) -> None:
        super().__init__()
        self.effective = live_of(3)
        self.ring = Settlements(self.effective)
        self.model: list[Settlement] = []
        self.oldest = 0

    @property
    def settlements_max(self) -> int:
        return self.effective.settings.retention.settlements_max

    @rule(count=st.integers(1, 2 * BLOCK_ROWS + 3), reason=st.sampled_from([None, *Reason]))
    def settle(self, count: int, reason: Reason | None) -> None:
        for _ in range(count):
            number = len(self.model)
            status = DELIVERED if reason is None else EXHAUSTED
            self.ring.append(event(number, delivery("x", status, reason)))
            self.model.append(Settlement(f"e{number}", f"c{number % 7}", status, reason, WALL + number))
            self.oldest = max(self.oldest, len(self.model) - self.settlements_max)

    @rule()
    def lose(self) -> None:
        """Positions go on at the next block; what was there is told as a gap, also to whoever has read all of it."""
        before = len(self.model)
        self.ring.lose()
        self.oldest = self.ring.end
        assert before < self.ring.end <= before + BLOCK_ROWS
        assert self.ring.page(before, limit=1).has_gap
        lost = Settlement("lost", "", DELIVERED, None, 0.0)
        self.model += [lost] * (self.ring.end - before)

    @rule(settlements_max=st.sampled_from([1, 2, 3, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 1000]))
    def reload(self, settlements_max: int) -> None:
        """A smaller ring drops at once, a larger one brings nothing back."""
        retention = msgspec.structs.replace(self.effective.settings.retention, settlements_max=settlements_max)
        self.effective.settings = msgspec.structs.replace(self.effective.settings, retention=retention)
        self.ring.trim()
        self.oldest = max(self.oldest, len(self.model) - settlements_max)

    @rule(back=st.integers(0, 1500), limit=st.sampled_from([1, 2, BLOCK_ROWS, 1000]))
    def read(self, back: int, limit: int) -> None:
        position = max(0, len(self.model) - back)
        page = self.ring.page(position, limit=limit)
        begin = max(position, self.oldest)
        assert page.rows == self.model[begin : begin + limit]
        assert page.next_position == begin + len(page.rows)
        assert page.has_gap is (position < self.oldest)

    @rule(limit=st.sampled_from([1, 100]))
    def read_from_the_oldest(self, limit: int) -> None:
        page = self.ring.page(None, limit=limit)
        assert page.rows == self.model[self.oldest : self.oldest + limit]
        assert not page.has_gap

    @invariant()
    def pages_follow_each_other(self) -> None:
        found, position = [], None
        while (page := self.ring.page(position, limit=150)).rows:
            found += page.rows
            position = page.next_position
        assert found == self.model[self.oldest :]
        assert page.next_position == self.ring.end == len(self.model)


TestRing = RingMachine.TestCase
TestRing.settings = hypothesis_settings(max_examples=30, stateful_step_count=20)


@pytest.mark.parametrize(
    ("deliveries", "status", "reason"),
    [
        ((), DELIVERED, None),
        ((delivery("x", DELIVERED), delivery("y", DELIVERED)), DELIVERED, None),
        ((delivery("x", DELIVERED), delivery("y", EXHAUSTED, Reason.GONE)), EXHAUSTED, Reason.GONE),
        ((delivery("x", EXHAUSTED, Reason.EXPIRED), delivery("y", EXHAUSTED, Reason.GONE)), EXHAUSTED, Reason.EXPIRED),
    ],
    ids=["unrouted", "delivered", "one exhausted", "two exhausted"],
)
def test_settlement_says_the_events_status_and_its_first_exhausted_deliverys_reason(
    deliveries: tuple[Delivery, ...], status: Status, reason: Reason | None
) -> None:
    """Packed or not."""
    settlements = ring(1000)
    for number in range(BLOCK_ROWS + 1):
        settlements.append(event(number, *deliveries))
    for row in (0, BLOCK_ROWS):
        (found,) = settlements.page(row, limit=1).rows
        assert found == Settlement(f"e{row}", f"c{row % 7}", status, reason, WALL + row)


def test_event_that_settles_again_is_listed_again() -> None:
    """What stood there before stays: the ring tells what happened, not how things are."""
    settlements = ring(10)
    again = event(1, delivery("x", EXHAUSTED, Reason.GONE))
    settlements.append(again)
    again.deliveries[0].status, again.deliveries[0].reason, again.settled_at = DELIVERED, None, WALL + 9
    settlements.append(again)
    found = settlements.page(0, limit=10).rows
    assert [(one.status, one.reason, one.settled_at) for one in found] == [
        (EXHAUSTED, Reason.GONE, WALL + 1),
        (DELIVERED, None, WALL + 9),
    ]


def test_row_takes_no_more_memory_than_the_settings_say() -> None:
    """With both ids at their longest; `hookd check` multiplies this."""
    settlements = ring(100_000)
    rows = 40 * BLOCK_ROWS
    tracemalloc.start()
    try:
        for number in range(rows):
            settlements.append(event(number, id=f"{number:064d}", client_id=f"{number:064d}"))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert settlements.page(None, limit=1).rows[0].event_id == "0" * 64
    assert taken / rows <= SETTLEMENT_BYTES * 1.01


def test_ring_drops_the_memory_of_what_it_dropped() -> None:
    """At most one block more than `settlements_max` is kept."""
    settlements = ring(BLOCK_ROWS)
    for number in range(10):  # what the first block allocates, and caches of the interpreter
        settlements.append(event(number))
    tracemalloc.start()
    try:
        for number in range(10, 50 * BLOCK_ROWS):
            settlements.append(event(number))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 3 * BLOCK_ROWS * SETTLEMENT_BYTES
    assert numbers(settlements.page(0, limit=1).rows) == [49 * BLOCK_ROWS]
