"""One endpoint's waiting deliveries: who is next, and rows that no longer fit."""

import math
from random import Random

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.health import Health, PausedBy
from hookd.flow.lane import Lane
from hypothesis import given
from hypothesis import strategies as st

from tests.flow.harness import EPOCH, PAYLOAD, TYPE, URL


def waiting(event_id: str, *, attempts: int = 0, due_at: float = 0.0, sequence: int = 1) -> tuple[Event, Delivery]:
    delivery = Delivery("default", URL, 0.0, due_at, attempt_count=attempts)
    return Event(sequence, event_id, "acme", TYPE, PAYLOAD, EPOCH, 0.0, (delivery,)), delivery


def begin(taken: tuple[Event, Delivery] | None) -> str | None:
    """What the ledger does when an attempt begins; returns whose."""
    if taken is None:
        return None
    event, delivery = taken
    delivery.in_flight, delivery.due_at = True, None
    delivery.attempt_count += 1
    return event.id


def all_ids(lane: Lane, *, at: float) -> list[str]:
    ids = []
    while (event_id := begin(lane.take(at))) is not None:
        ids.append(event_id)
    return ids


def test_lane_empty_has_nothing_due() -> None:
    """Nothing waits, nothing is taken."""
    lane = Lane("default", endpoint=None, health=Health())
    assert lane.next_due() == math.inf
    assert lane.take(1e9) is None


def test_first_attempts_are_taken_in_order_of_arrival() -> None:
    """First in, first out."""
    lane = Lane("default", endpoint=None, health=Health())
    for event_id in "abcd":
        lane.add(*waiting(event_id))
    assert lane.next_due() == 0.0
    assert all_ids(lane, at=0) == ["a", "b", "c", "d"]


def test_retries_are_taken_by_due_time_and_not_before() -> None:
    """What is due later waits, whatever came in first; equal times keep their order."""
    lane = Lane("default", endpoint=None, health=Health())
    for event_id, due_at in (("late", 30), ("early", 5), ("same", 5)):
        lane.add(*waiting(event_id, attempts=1, due_at=due_at))
    assert lane.next_due() == 5
    assert lane.take(4.999) is None
    assert all_ids(lane, at=5) == ["early", "same"]
    assert lane.next_due() == 30
    assert all_ids(lane, at=30) == ["late"]


def test_overdue_retries_and_first_attempts_take_turns() -> None:
    """Neither a heap of overdue retries nor a flood of new events starves the other."""
    lane = Lane("default", endpoint=None, health=Health())
    for number in range(3):
        lane.add(*waiting(f"new{number}"))
        lane.add(*waiting(f"retry{number}", attempts=1, due_at=number))
    assert all_ids(lane, at=100) == ["new0", "retry0", "new1", "retry1", "new2", "retry2"]


def test_row_of_settled_or_flying_delivery_is_passed_over() -> None:
    """Rows stay when others settle or begin their delivery; they are skipped when they come up."""
    lane = Lane("default", endpoint=None, health=Health())
    rows = [waiting("settled"), waiting("flying"), waiting("good")]
    rows += [waiting("settled-retry", attempts=1), waiting("good-retry", attempts=1, due_at=2)]
    for row in rows:
        lane.add(*row)
    rows[0][1].status = rows[3][1].status = Status.EXHAUSTED
    begin(rows[1])
    assert all_ids(lane, at=10) == ["good", "good-retry"]
    assert lane.next_due() == math.inf


def test_row_of_delivery_due_at_another_time_is_passed_over() -> None:
    """A delivery made due now is added again and taken once, by its new row."""
    lane = Lane("default", endpoint=None, health=Health())
    event, delivery = waiting("a", attempts=1, due_at=1800)
    lane.add(event, delivery)
    delivery.due_at = 7
    assert lane.next_due() == math.inf
    lane.add(event, delivery)
    assert lane.next_due() == 7
    assert all_ids(lane, at=7) == ["a"]
    assert lane.take(1800) is None


def test_delivery_added_twice_is_begun_once() -> None:
    """A second row of the same delivery does not begin a second attempt."""
    lane = Lane("default", endpoint=None, health=Health())
    row = waiting("a")
    lane.add(*row)
    lane.add(*row)
    assert all_ids(lane, at=0) == ["a"]


def test_row_of_another_endpoint_is_none_of_this_lane() -> None:
    """An event whose delivery here is gone does not stand in the way."""
    lane = Lane("default", endpoint=None, health=Health())
    event, delivery = waiting("a")
    lane.add(event, delivery)
    event.deliveries = ()
    lane.add(*waiting("b"))
    assert all_ids(lane, at=0) == ["b"]


def test_next_due_is_the_earlier_of_first_attempts_and_retries() -> None:
    """Whichever of the two it is."""
    lane = Lane("default", endpoint=None, health=Health())
    lane.add(*waiting("new", due_at=20))
    lane.add(*waiting("later", attempts=1, due_at=30))
    assert lane.next_due() == 20
    lane.add(*waiting("sooner", attempts=1, due_at=10))
    assert lane.next_due() == 10


def test_probe_takes_the_oldest_by_admission_due_or_not() -> None:
    """Of first attempts and retries alike; what waits there no longer is none of them."""
    lane = Lane("default", endpoint=None, health=Health())
    settled = waiting("settled", attempts=1, due_at=400, sequence=1)
    for row in (
        waiting("new", sequence=4),
        waiting("newer", sequence=5),
        waiting("far", attempts=1, due_at=500, sequence=2),
        waiting("near", attempts=1, due_at=300, sequence=3),
        settled,
    ):
        lane.add(*row)
    settled[1].status = Status.DELIVERED
    taken = [begin(lane.take(0, oldest=True)) for _ in range(5)]
    assert taken == ["far", "near", "new", "newer", None]


def test_expedited_goes_first_whatever_else_is_due() -> None:
    """In the order in which they were expedited, each once; others have their turns after them."""
    lane = Lane("default", endpoint=None, health=Health())
    old, retry, new = waiting("old", sequence=1), waiting("retry", attempts=2, due_at=3, sequence=2), waiting("new")
    overdue = waiting("overdue", attempts=1, sequence=3)
    new[0].sequence = 4
    for row in (old, overdue, retry, new):
        lane.add(*row)
    assert not lane.is_expedited
    for row in (new, retry, new):
        lane.expedite(*row)
    assert lane.is_expedited
    assert begin(lane.take(3)) == "new"
    assert lane.is_expedited
    assert begin(lane.take(3)) == "retry"
    assert not lane.is_expedited
    assert all_ids(lane, at=3) == ["old", "overdue"]


def test_expedited_that_waits_for_something_else_by_now_is_passed_over() -> None:
    """It was attempted meanwhile and is due later: that one waits like any other."""
    lane = Lane("default", endpoint=None, health=Health())
    event, delivery = waiting("a", attempts=1, due_at=3)
    lane.add(event, delivery)
    lane.expedite(event, delivery)
    delivery.due_at = 60.0
    lane.add(event, delivery)
    assert not lane.is_expedited
    assert lane.take(3) is None
    assert all_ids(lane, at=60) == ["a"]


def test_expedited_of_a_lane_paused_by_failures_does_not_wait_for_its_probe() -> None:
    """What an operator asked for may begin when it is due; all else waits for the probe."""
    health = Health()
    health.paused_by, health.next_probe_at = PausedBy.FAILURES, 500.0
    lane = Lane("default", endpoint=None, health=health)
    event, delivery = waiting("a", attempts=1, due_at=3)
    lane.add(event, delivery)
    assert lane.begins_from() == 500
    lane.expedite(event, delivery)
    assert lane.begins_from() == 3


def test_cleared_lane_has_nothing_left() -> None:
    """Its endpoint was removed: first attempts, retries and expedited ones are gone alike."""
    lane = Lane("default", endpoint=None, health=Health())
    retry = waiting("retry", attempts=1)
    for row in (waiting("new"), retry):
        lane.add(*row)
    lane.expedite(*retry)
    lane.clear()
    assert lane.next_due() == math.inf
    assert lane.take(10) is None
    assert not lane.is_expedited


STEPS = st.lists(
    st.sampled_from(["first", "first", "first of another", "retry", "take", "take", "oldest", "settle", "expedite"]),
    max_size=30,
)


@given(STEPS, st.randoms(use_true_random=False))
def test_lane_with_first_attempts_alone_is_as_any_other(steps: list[str], chance: Random) -> None:
    """It looks at them alone where nothing else waits. One that has a stale retry each time gives the same."""
    lane, general = (Lane("default", endpoint=None, health=Health()) for _ in range(2))
    kept: list[tuple[Event, Delivery]] = []
    for number, step in enumerate(steps):
        stale = waiting("stale", attempts=1)
        general.add(*stale)
        begin(stale)
        match step:
            case "first" | "retry":
                pair = waiting(str(number), attempts=int(step == "retry"), due_at=float(number))
                pair[0].sequence = number
                kept.append(pair)
                for one in (lane, general):
                    one.add(*pair)
            case "first of another":
                event, delivery = waiting(str(number))
                delivery.endpoint_id = "another"
                for one in (lane, general):
                    one.add(event, delivery)
            case "take" | "oldest":
                taken = lane.take(float(number), oldest=step == "oldest")
                assert general.take(float(number), oldest=step == "oldest") == taken
                begin(taken)
            case _ if kept:
                event, delivery = chance.choice(kept)
                if step == "settle":
                    delivery.status = Status.EXHAUSTED
                elif delivery.is_waiting:
                    for one in (lane, general):
                        one.expedite(event, delivery)
        general.add(*(stale := waiting("stale", attempts=1)))
        begin(stale)
        assert lane.next_due() == general.next_due()
        assert lane.begins_from() == general.begins_from()
        assert lane.is_expedited == general.is_expedited
