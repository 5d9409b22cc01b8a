"""A delivery's past attempts in one bytes object: what comes out is what went in, and it stays small."""

import pytest
from hookd.core import history
from hookd.core.history import Attempt
from hookd.core.outcome import Blocked, Exchange, Invalid, Outcome, Responded, TimedOut, Unreachable
from hypothesis import given
from hypothesis import strategies as st

WORDS = st.text(max_size=40)
OUTCOMES = st.one_of(
    st.none(),
    st.builds(Responded, st.integers(100, 999)),
    st.builds(lambda milliseconds: TimedOut(milliseconds / 1000), st.integers(1, 3_600_000)),
    st.builds(Unreachable, WORDS),
    st.builds(Blocked, WORDS),
    st.builds(Invalid, WORDS),
)
ATTEMPTS = st.builds(
    lambda number, at, microseconds, outcome, sent, again: Attempt(
        number, at, microseconds / 1e6, outcome, sent, reconnected=again
    ),
    st.integers(1, 2**32 - 1),
    st.floats(0, 4e9),
    st.integers(0, 2**32 - 2),
    OUTCOMES,
    st.booleans(),
    st.booleans(),
)


def ended(packed: bytes, attempt: Attempt) -> bytes:
    """The history with this attempt begun and ended."""
    exchange = Exchange()
    exchange.request_sent, exchange.reconnected = attempt.request_sent, attempt.reconnected
    begun = history.with_begun(packed, attempt.number, attempt.started_at)
    assert history.started_at(begun) == attempt.started_at
    assert history.last_attempt(begun) == Attempt(attempt.number, attempt.started_at)
    assert attempt.duration_seconds is not None
    return history.with_end(begun, attempt.outcome, exchange, duration_seconds=attempt.duration_seconds)


@given(st.lists(ATTEMPTS, max_size=14))
def test_history_gives_back_the_first_and_the_last_nine_as_they_were(attempts: list[Attempt]) -> None:
    """Every kind of outcome, every flag, times to the microsecond; never more than 253 bytes."""
    packed = b""
    for attempt in attempts:
        packed = ended(packed, attempt)
    kept = attempts if len(attempts) <= 10 else [attempts[0], *attempts[-9:]]
    assert history.attempts(packed) == tuple(kept)
    assert len(packed) <= 220
    if kept:
        assert history.last_attempt(packed) == kept[-1]
        assert history.attempts(history.of_one(kept[-1])) == (kept[-1],)


@pytest.mark.parametrize("attempt", [Attempt(7, 1.5, None, None, request_sent=True), Attempt(1, 0.0, 0.25)])
def test_history_of_one_keeps_what_is_not_known(attempt: Attempt) -> None:
    """A recording has attempts that never ended."""
    assert history.attempts(history.of_one(attempt)) == (attempt,)


def test_history_takes_numbers_and_times_beyond_what_it_can_hold() -> None:
    """A report may say that four billion attempts were made: one more is counted as that many."""
    packed = history.with_begun(b"", 2**40, 1.0)
    packed = history.with_end(packed, TimedOut(1e9), Exchange(), duration_seconds=1e9)
    [attempt] = history.attempts(packed)
    assert attempt.number == 2**32 - 1
    assert attempt.duration_seconds == pytest.approx(4294.967294)
    assert attempt.outcome == TimedOut(4294.967294)


def test_words_that_nobody_used_for_longest_are_gone() -> None:
    """The outcome is still known, and that its words are not; what is used all the time stays."""
    often: Outcome = Unreachable("cannot connect: refused, as ever")
    first = ended(b"", Attempt(1, 0.0, 0.0, Invalid("words that come once")))
    kept = ended(b"", Attempt(1, 0.0, 0.0, often))
    for number in range(history.WORDS_MAX):
        ended(b"", Attempt(1, 0.0, 0.0, Blocked(f"address {number}")))
        if number % 1000 == 0:
            ended(b"", Attempt(1, 0.0, 0.0, often))
    assert history.last_attempt(first).outcome == Invalid(history.WORDS_GONE)
    assert history.last_attempt(kept).outcome == often
