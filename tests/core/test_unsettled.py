"""Unsettled events in their two orders, against a plain list of them."""

import random
import tracemalloc
from operator import attrgetter

import pytest
from hookd.core.event import Event
from hookd.core.unsettled import CHUNK_EVENTS, Unsettled
from hypothesis import given
from hypothesis import strategies as st

_since, _sequence = attrgetter("since"), attrgetter("sequence")


def make(sequence: int, since: float = 0.0) -> Event:
    return Event(sequence, "e", "c", "t", b"", 0.0, since, ())


def assert_holds(unsettled: Unsettled, expected: list[Event]) -> None:
    assert len(unsettled) == len(expected)
    assert bool(unsettled) == bool(expected)
    assert sorted(unsettled, key=_sequence) == list(unsettled.by_sequence()) == sorted(expected, key=_sequence)
    assert [one.since for one in unsettled] == sorted(one.since for one in expected)
    oldest = unsettled.oldest()
    assert (oldest is None) == (not expected)
    assert oldest is None or oldest.since == min(map(_since, expected))


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 2_000), again=st.floats(0, 0.5), newest_first=st.booleans())
def test_it_is_a_list_that_finds(seed: int, steps: int, again: float, newest_first: bool) -> None:
    """Whatever comes, settles and is unsettled again, in any order: each is found, and both orders hold."""
    chance, unsettled = random.Random(seed), Unsettled()
    held: list[Event] = []
    settled: list[Event] = []
    for step in range(steps):
        if held and chance.random() < 0.45:
            event = held.pop(-1 if newest_first else chance.randrange(min(len(held), 20)))
            unsettled.remove(event)
            settled.append(event)
        elif settled and chance.random() < again:
            event = settled.pop(chance.randrange(len(settled)))
            event.since = float(step // 3)
            unsettled.add(event)
            held.append(event)
        else:
            event = make(step, float(step // 3))
            unsettled.add(event)
            held.append(event)
    assert_holds(unsettled, held)
    assert all(unsettled.find(event.sequence) is event for event in held)
    assert all(unsettled.find(event.sequence) is None for event in settled)


def test_what_is_not_held_is_neither_found_nor_removed() -> None:
    unsettled, event = Unsettled(), make(5)
    for other in (make(4), make(5), make(6)):
        with pytest.raises(KeyError):
            unsettled.remove(other)
        assert unsettled.find(other.sequence) is None
    unsettled.add(event)
    for other in (make(4), make(5), make(6)):
        with pytest.raises(KeyError):
            unsettled.remove(other)
    assert_holds(unsettled, [event])


@pytest.mark.parametrize(("kept_of", "bytes_max"), [(1, 11), (8, 24), (64, 40)])
def test_memory_follows_what_is_held(kept_of: int, bytes_max: int) -> None:
    """A backlog, and one of which all but one in so many have settled: what its places take."""
    events = [make(number) for number in range(64 * CHUNK_EVENTS * 8)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    unsettled = Unsettled()
    for event in events:
        unsettled.add(event)
    for event in events:
        if event.sequence % kept_of:
            unsettled.remove(event)
    held_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 8 <= held_bytes / len(unsettled) <= bytes_max


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 700), count=st.integers(0, 1_500), again=st.booleans())
def test_slices_have_what_was_there_at_first_and_stayed(seed: int, rows: int, count: int, again: bool) -> None:
    """Each once, whatever settles or comes in between; of what comes in, nothing."""
    chance, unsettled = random.Random(seed), Unsettled()
    held = [make(sequence) for sequence in range(1, count + 1)]
    for event in held:
        unsettled.add(event)
    for event in chance.sample(held, k=count // 3) if again else ():  # settled, and unsettled again
        unsettled.remove(event)
        event.since = 1.0
        unsettled.add(event)
    slices = unsettled.slices(rows)
    stayed, came, found = list(held), [], []
    for number in range(1, 6):
        unsettled.add(event := make(count + number, 2.0))
        came.append(event)
    for one in slices:
        assert 0 < len(one) <= rows or not one
        found += one
        for event in chance.sample(stayed, k=min(len(stayed), 7)):
            stayed.remove(event)
            unsettled.remove(event)
        unsettled.add(event := make(count + 6 + len(came), 3.0))
        came.append(event)
    assert len(found) == len(set(map(id, found)))
    assert set(map(id, stayed)) <= set(map(id, found)) <= set(map(id, held))
    assert set(map(id, found)).isdisjoint(map(id, came))
