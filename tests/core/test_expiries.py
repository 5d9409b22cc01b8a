"""Which unsettled events have an expiry of their own, against a plain list of them."""

import random

import pytest
from hookd.core.event import Event
from hookd.core.expiries import SECONDS_AT_ONCE, Expiries
from hookd.core.expiring_event import ExpiringEvent, has_lapsed
from hypothesis import given
from hypothesis import strategies as st


def make(sequence: int, at: float) -> ExpiringEvent:
    return ExpiringEvent(sequence, "e", "c", "t", b"", 0.0, 0.0, (), expires_at=at, expires_monotonic=at)


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 300))
def test_lapsed_are_those_whose_second_has_come(seed: int, steps: int) -> None:
    """However they come and go, and however long nobody looked."""
    chance, expiries, now = random.Random(seed), Expiries(), 0.0
    held: list[ExpiringEvent] = []
    for step in range(steps):
        what = chance.random()
        if what < 0.5:
            held.append(make(step, now + chance.choice((-5.0, 0.0, 0.3, 2.5, 40.0, 1e9, 3e10))))
            expiries.add(held[-1])
        elif what < 0.7 and held:
            expiries.remove(held.pop(chance.randrange(len(held))))
        else:
            now += chance.choice((0.0, 0.4, 1.0, 30.0, 2.0 * SECONDS_AT_ONCE))
            found = expiries.lapsed(now)
            assert {one.sequence for one in found} == {
                one.sequence for one in held if one.expires_monotonic // 1 <= now // 1
            }
            assert {one.sequence for one in held if has_lapsed(one, now)} <= {one.sequence for one in found}
        assert len(expiries) == len(held)


def test_event_that_is_not_held_is_not_removed() -> None:
    """A second time is a bug of ours."""
    expiries = Expiries()
    expiries.add(event := make(1, 5.0))
    expiries.remove(event)
    with pytest.raises(KeyError):
        expiries.remove(event)


def test_event_without_an_expiry_never_lapses() -> None:
    """It has no field for one."""
    event = Event(1, "e", "c", "t", b"", 0.0, 0.0, ())
    assert not has_lapsed(event, 1e18)
    assert event.expires_at is None
