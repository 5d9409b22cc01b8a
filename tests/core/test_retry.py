"""What an outcome means for its delivery, and how long until the next attempt."""

import pytest
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.retry import (
    DELAY_SECONDS_WITHOUT_SCHEDULE,
    GiveUp,
    Policy,
    Reason,
    Retry,
    Success,
    Verdict,
    delay_seconds,
    verdict,
)
from hypothesis import given
from hypothesis import strategies as st

SCHEDULES = st.lists(st.floats(0, 30 * 86400), min_size=1, max_size=50).map(tuple)
JITTERS = st.floats(0, 1)
UNITS = st.floats(0, 1)
POLICY = Policy(schedule_seconds=(5.0, 30.0, 120.0), jitter=0.2, age_seconds_max=3600.0)
FAILURES: list[Outcome] = [
    Responded(500),
    Responded(429),
    Responded(301),
    TimedOut(15.0),
    Unreachable("refused"),
    Blocked("10.0.0.1"),
    Invalid("not HTTP"),
]


def judge(
    outcome: Outcome,
    *,
    policy: Policy = POLICY,
    attempt_count: int = 1,
    attempts_before: int = 0,
    attempts_max: int = 4,
    age_seconds: float = 0.0,
    jitter_unit: float = 0.5,
) -> Verdict:
    return verdict(
        outcome,
        policy=policy,
        failures=attempt_count - attempts_before,
        is_last=attempt_count >= attempts_max,
        age_seconds=age_seconds,
        jitter_unit=jitter_unit,
    )


@given(SCHEDULES, st.integers(1, 200), JITTERS, UNITS)
def test_delay_stays_within_the_jitter_of_its_entry(
    schedule: tuple[float, ...], failures: int, jitter: float, unit: float
) -> None:
    """The n-th failure waits the n-th entry, past the end the last, times a factor in [1 - jitter, 1 + jitter]."""
    entry = schedule[failures - 1] if failures <= len(schedule) else schedule[-1]
    delay = delay_seconds(schedule, failures=failures, jitter=jitter, jitter_unit=unit)
    slack = entry * 1e-12 + 1e-300
    assert entry * (1 - jitter) - slack <= delay <= entry * (1 + jitter) + slack
    assert delay >= 0


@given(SCHEDULES, st.integers(1, 60), JITTERS)
def test_delay_reaches_both_ends_of_its_range_and_the_entry_between(
    schedule: tuple[float, ...], failures: int, jitter: float
) -> None:
    """The unit 0 is the earliest, 1 the latest, a half the entry itself: the whole range is used."""
    entry = schedule[min(failures, len(schedule)) - 1]
    earliest, middle, latest = (
        delay_seconds(schedule, failures=failures, jitter=jitter, jitter_unit=unit) for unit in (0.0, 0.5, 1.0)
    )
    assert earliest == pytest.approx(entry * (1 - jitter))
    assert middle == pytest.approx(entry)
    assert latest == pytest.approx(entry * (1 + jitter))


@given(SCHEDULES, UNITS, st.integers(0, 100))
def test_delay_past_the_end_holds_the_last_entry(schedule: tuple[float, ...], unit: float, more: int) -> None:
    """A schedule that is used up does not grow, wrap or end."""
    last = delay_seconds(schedule, failures=len(schedule), jitter=0.2, jitter_unit=unit)
    assert delay_seconds(schedule, failures=len(schedule) + more, jitter=0.2, jitter_unit=unit) == last


def test_delay_without_a_schedule_does_not_spin() -> None:
    """A delivery with attempts left and no schedule still waits."""
    assert delay_seconds((), failures=3, jitter=0.2, jitter_unit=1.0) == DELAY_SECONDS_WITHOUT_SCHEDULE > 0


@pytest.mark.parametrize("status_code", range(200, 300))
def test_verdict_on_any_2xx_is_success(status_code: int) -> None:
    """Also on the last attempt and past the greatest age: it was delivered."""
    outcome = Responded(status_code)
    assert judge(outcome) == Success()
    assert judge(outcome, attempt_count=4, age_seconds=1e9) == Success()


@pytest.mark.parametrize(
    "status_code", [100, 199, 300, 301, 304, 307, 400, 401, 404, 409, 411, 429, 500, 503, 599, 999]
)
def test_verdict_on_any_other_status_is_retry(status_code: int) -> None:
    """Redirects and client errors are failures like any other."""
    assert judge(Responded(status_code)) == Retry(5.0)


@pytest.mark.parametrize("outcome", FAILURES)
def test_verdict_on_a_failure_waits_the_entry_of_its_number(outcome: Outcome) -> None:
    """Whatever went wrong, the schedule is the same."""
    delays = [judge(outcome, attempt_count=count) for count in (1, 2, 3)]
    assert delays == [Retry(5.0), Retry(30.0), Retry(120.0)]
    assert judge(outcome, attempt_count=4) == GiveUp(Reason.ATTEMPTS_USED)


@given(st.integers(1, 9), st.floats(0, 1e6))
def test_verdict_on_410_is_gone_at_any_attempt_and_age(attempt_count: int, age_seconds: float) -> None:
    """The client said stop; no other reason is as good."""
    found = judge(Responded(410), attempt_count=attempt_count, age_seconds=age_seconds)
    assert found == GiveUp(Reason.GONE)


@pytest.mark.parametrize(
    ("attempt_count", "age_seconds", "expected"),
    [
        (3, 3599.999, Retry(120.0)),
        (3, 3600.0, GiveUp(Reason.EXPIRED)),
        (1, 1e9, GiveUp(Reason.EXPIRED)),
        (4, 3599.999, GiveUp(Reason.ATTEMPTS_USED)),
        (4, 3600.0, GiveUp(Reason.ATTEMPTS_USED)),
        (5, 0.0, GiveUp(Reason.ATTEMPTS_USED)),
    ],
)
def test_verdict_at_the_limits_names_the_attempts_before_the_age(
    attempt_count: int, age_seconds: float, expected: Verdict
) -> None:
    """The greatest age itself is too old; used attempts are named where both apply."""
    assert judge(Responded(500), attempt_count=attempt_count, age_seconds=age_seconds) == expected


@given(SCHEDULES, st.data())
def test_verdict_after_a_reopening_starts_the_schedule_anew(schedule: tuple[float, ...], data: st.DataObject) -> None:
    """The attempts before it do not count towards the delay: it is that of a fresh delivery."""
    before, since = data.draw(st.integers(0, 100)), data.draw(st.integers(1, len(schedule)))
    policy = Policy(schedule, 0.2, 1e9)
    reopened = judge(
        Responded(500),
        policy=policy,
        attempt_count=before + since,
        attempts_before=before,
        attempts_max=before + policy.attempts_max,
        jitter_unit=0.3,
    )
    fresh = judge(Responded(500), policy=policy, attempt_count=since, attempts_max=policy.attempts_max, jitter_unit=0.3)
    assert reopened == fresh
    assert isinstance(fresh, Retry)


@given(
    st.lists(st.floats(0, 600), max_size=12).map(tuple),
    st.lists(st.sampled_from(FAILURES), min_size=1, max_size=3),
    st.integers(0, 20),
    JITTERS,
    UNITS,
)
def test_driven_delivery_begins_exactly_attempts_max_attempts(
    schedule: tuple[float, ...], outcomes: list[Outcome], before: int, jitter: float, unit: float
) -> None:
    """Retried as the verdicts say and never answered well, it ends after 1 + the schedule's length, not before."""
    policy = Policy(schedule, jitter, 1e9)
    attempts_max = before + policy.attempts_max
    attempt_count, age_seconds = before, 0.0
    while True:
        attempt_count += 1
        found = judge(
            outcomes[attempt_count % len(outcomes)],
            policy=policy,
            attempt_count=attempt_count,
            attempts_before=before,
            attempts_max=attempts_max,
            age_seconds=age_seconds,
            jitter_unit=unit,
        )
        if not isinstance(found, Retry):
            break
        assert attempt_count < attempts_max
        age_seconds += found.delay_seconds
    assert found == GiveUp(Reason.ATTEMPTS_USED)
    assert attempt_count - before == 1 + len(schedule)
    assert age_seconds == pytest.approx(sum(schedule) * (1 - jitter + 2 * jitter * unit))


@given(st.integers(1, 3600), st.integers(1, 3600))
def test_driven_delivery_is_never_attempted_long_after_its_age(age_seconds_max: int, delay: int) -> None:
    """With attempts without end it is the age that ends it: at the first failure that is as old."""
    policy = Policy((delay,), 0.0, age_seconds_max)
    age_seconds, attempt_count = 0.0, 0
    while True:
        attempt_count += 1
        found = judge(
            Responded(500),
            policy=policy,
            attempt_count=attempt_count,
            attempts_max=10**9,
            age_seconds=age_seconds,
        )
        if not isinstance(found, Retry):
            break
        assert age_seconds < age_seconds_max
        age_seconds += found.delay_seconds
    assert found == GiveUp(Reason.EXPIRED)
    assert age_seconds_max <= age_seconds < age_seconds_max + delay
