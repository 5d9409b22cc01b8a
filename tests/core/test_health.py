"""An endpoint's health: the window, throttling, the two pauses, and from when attempts may begin."""

import math

import msgspec
import pytest
from hookd.core.health import (
    PAUSE_AFTER_ATTEMPTS,
    PAUSE_AFTER_SECONDS,
    RETRY_AFTER_JITTER,
    THROTTLING,
    Health,
    PausedBy,
    State,
)
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.timestamps import Moment
from hypothesis import given
from hypothesis import strategies as st

OK = Responded(200)
REFUSED = Unreachable("refused")
HARD = (REFUSED, TimedOut(15.0), Responded(500), Responded(503), Responded(999))
NOT_HARD = (OK, Responded(302), Responded(404), Responded(429), Blocked("10.0.0.1"), Invalid("not HTTP"))

outcomes = st.sampled_from(HARD + NOT_HARD)


def noted(
    health: Health,
    outcome: Outcome,
    at: float = 0.0,
    *,
    concurrency: int = 8,
    retry_after: float | None = None,
    jitter_unit: float = 0.0,
) -> Health:
    moment = Moment(at, 1e9 + at)
    health.note(outcome, moment, concurrency=concurrency, retry_after_seconds=retry_after, jitter_unit=jitter_unit)
    return health


def probed(health: Health, outcome: Outcome) -> Health:
    """The next probe begins when it may, and this comes of it at once."""
    health.probe_in_flight = True
    return noted(health, outcome, health.next_probe_at)


def wide(successes: int = 100) -> Health:
    """Window at its concurrency of 8."""
    health = Health()
    for _ in range(successes):
        noted(health, OK)
    return health


def dead() -> Health:
    """Ten refusals over 31.5 s, 3.5 s apart: paused by the tenth."""
    health = Health()
    for number in range(PAUSE_AFTER_ATTEMPTS):
        noted(health, REFUSED, number * 3.5)
    return health


# The window


def test_window_grows_by_one_for_each_windowful_of_successes() -> None:
    """2 after 0, 3 after 2, 4 after 3 more, and so on up to the concurrency, where it stays."""
    health, seen = Health(), []
    for _ in range(2 + 3 + 4 + 20):
        seen.append(health.room(5))
        noted(health, OK, concurrency=5)
    assert seen == [2] * 2 + [3] * 3 + [4] * 4 + [5] * 20


@pytest.mark.parametrize("concurrency", [1, 2, 1000])
def test_window_starts_at_two_and_room_is_never_over_the_concurrency(concurrency: int) -> None:
    """An endpoint that takes one at a time never gets two."""
    health = Health()
    assert health.window == 2
    for _ in range(10):
        assert 1 <= health.room(concurrency) <= concurrency
        noted(health, OK, concurrency=concurrency)


def test_window_follows_a_concurrency_that_was_lowered() -> None:
    """Room obeys at once, the window with the next windowful of successes."""
    health = wide()
    assert health.room(3) == 3
    for _ in range(8):
        noted(health, OK, concurrency=3)
    assert health.window == 3


@pytest.mark.parametrize("outcome", [REFUSED, Responded(500)])
def test_window_is_halved_once_in_a_run_of_failures(outcome: Outcome) -> None:
    """Ten failures of one outage are one piece of news; the run after the next success is another."""
    health = wide()
    for _ in range(5):
        noted(health, outcome)
        assert health.window == 4
    noted(health, OK)
    noted(health, outcome)
    assert health.window == 2


@pytest.mark.parametrize("code", sorted(THROTTLING))
def test_window_is_halved_by_each_throttling_answer_down_to_one(code: int) -> None:
    """429, 502, 503 and 504 each ask for less."""
    health, seen = wide(), []
    for _ in range(5):
        seen.append(noted(health, Responded(code)).window)
    assert seen == [4, 2, 1, 1, 1]


def test_window_is_one_after_a_timeout() -> None:
    """A receiver that does not answer is not given a second to hold."""
    assert noted(wide(), TimedOut(15.0)).window == 1


@pytest.mark.parametrize("outcome", [Responded(302), Responded(404), Blocked("::1"), Invalid("not HTTP")])
def test_window_is_not_touched_by_what_says_nothing_of_load(outcome: Outcome) -> None:
    """A mistake in the request, the policy or the protocol is no sign of overload."""
    assert noted(wide(), outcome).window == 8


def test_shrinking_begins_a_new_windowful() -> None:
    """Successes from before a failure do not count towards the next growth."""
    health = wide()
    for _ in range(7):
        noted(health, OK)
    noted(health, Responded(503))
    for _ in range(3):
        assert noted(health, OK).window == 4
    assert noted(health, OK).window == 5


@given(st.lists(outcomes, max_size=120), st.integers(1, 20))
def test_window_after_any_outcomes_is_within_its_bounds(run: list[Outcome], concurrency: int) -> None:
    """At least 1; grows by at most one at a time, on success only; room is from 1 to the concurrency."""
    health = Health()
    for number, outcome in enumerate(run):
        before = health.window
        noted(health, outcome, number * 0.1, concurrency=concurrency)  # under 30 s: no pause
        assert 1 <= health.window <= max(concurrency, 2)
        assert 1 <= health.room(concurrency) <= concurrency
        if outcome == OK:
            assert health.window in (before, min(before + 1, max(concurrency, 1)))
        else:
            assert health.window in (before, max(1, before // 2), 1)
            assert health.window <= before


# Throttled and Retry-After


@pytest.mark.parametrize("code", sorted(THROTTLING))
def test_throttled_lasts_until_the_next_success(code: int) -> None:
    """No time ends it, no other failure does, a 2xx does; it imposes no wait."""
    health = noted(wide(), Responded(code))
    assert health.state(0) is health.state(1e9) is State.THROTTLED
    assert health.begins_from(7.0) == 7.0
    assert noted(health, Responded(404), 1).state(1) is State.THROTTLED
    assert noted(health, OK, 2).state(2) is State.OK


def test_first_5xx_after_a_404_shrinks_the_window_too() -> None:
    """The run of failures that says something of its strength begins there."""
    health = noted(noted(wide(), Responded(404), 0), Responded(500), 1)
    assert health.window == wide().window // 2
    assert noted(health, Responded(500), 2).window == wide().window // 2


@pytest.mark.parametrize("code", [500, 501, 400, 404, 302, 505])
def test_other_failures_do_not_throttle(code: int) -> None:
    """Only the four codes that speak of load."""
    assert noted(Health(), Responded(code)).state(0) is State.OK


@pytest.mark.parametrize("code", [429, 503, 500, 404, 302])
def test_retry_after_holds_attempts_back_whatever_failed(code: int) -> None:
    """No attempt begins before the time asked for, due or expedited; throttled until then even after a success."""
    health = noted(Health(), Responded(code), 100, retry_after=60.0)
    assert health.begins_from(105.0) == health.expedited_begins_from(105.0) == 160.0
    assert health.begins_from(500.0) == 500.0
    noted(health, OK, 110)  # was in flight already
    assert health.state(159.9) is State.THROTTLED
    assert health.state(160.0) is State.OK
    assert health.begins_from(105.0) == 160.0


def test_retry_after_is_never_shortened_by_a_later_one() -> None:
    """The answer of another attempt that asks for less does not take back what was asked."""
    health = noted(Health(), Responded(503), 0, retry_after=600.0)
    noted(health, Responded(503), 1, retry_after=5.0)
    assert health.begins_from(0) == 600.0


def test_retry_after_of_a_success_is_nothing() -> None:
    """A 2xx did not ask to be spared."""
    assert noted(Health(), OK, retry_after=60.0).begins_from(0) == 0


@given(st.floats(0, 3600), st.floats(0, 1), st.floats(0, 1e6))
def test_retry_after_has_jitter_upward_only(seconds: float, jitter_unit: float, at: float) -> None:
    """Never earlier than asked, never later than a fifth of it more."""
    health = noted(Health(), Responded(429), at, retry_after=seconds, jitter_unit=jitter_unit)
    assert at + seconds <= health.begins_from(0) <= at + seconds * (1 + RETRY_AFTER_JITTER) + 1e-6


# The short way


@given(
    run=st.lists(st.tuples(outcomes, st.floats(0, 12), st.none() | st.floats(0, 20), st.integers(1, 9)), max_size=40),
    acts=st.lists(st.sampled_from(["pause", "disable", "resume", "start_anew", "be_removed"]), max_size=3),
    last=st.tuples(st.floats(0, 30), st.none() | st.floats(0, 20), st.integers(1, 9)),
)
def test_success_that_changes_no_state_is_noted_as_any_other(run, acts, last) -> None:
    """What most attempts come to takes fewer steps; a probe's success goes the general way. Both leave the same."""
    health, at = Health(), 0.0
    for number, (outcome, wait, retry_after, concurrency) in enumerate(run):
        at += wait
        noted(health, outcome, at, retry_after=retry_after, concurrency=concurrency)
        if number < len(acts):
            getattr(health, acts[number])(at)
    general = Health(**msgspec.structs.asdict(health) | {"probe_in_flight": True})
    wait, retry_after, concurrency = last
    for one in (health, general):
        noted(one, OK, at + wait, retry_after=retry_after, concurrency=concurrency)
    assert msgspec.structs.asdict(health) == msgspec.structs.asdict(general)


# Paused by failures


@given(st.lists(st.tuples(outcomes, st.floats(0, 12)), max_size=60))
def test_pause_comes_exactly_when_the_last_ten_failed_hard_for_thirty_seconds(run: list[tuple[Outcome, float]]) -> None:
    """Ten in a row unreachable, timed out or 5xx, in a run that began 30 s ago or earlier; anything else resets."""
    health, at, begun = Health(), 0.0, []
    for outcome, wait in run:
        at += wait
        begun = [*begun, at] if outcome in HARD else []
        noted(health, outcome, at)
        expected = len(begun) >= PAUSE_AFTER_ATTEMPTS and at - begun[0] >= PAUSE_AFTER_SECONDS
        assert (health.paused_by is PausedBy.FAILURES) == expected
        if expected:
            assert health.next_probe_at == at + 5
            return


@pytest.mark.parametrize(("attempts", "last_at", "paused"), [(10, 30.0, True), (10, 29.999, False), (9, 600.0, False)])
def test_pause_needs_both_ten_attempts_and_thirty_seconds(attempts: int, last_at: float, paused: bool) -> None:
    """Nine in an hour are none; ten in a moment are a restart of the receiver."""
    health = Health()
    for _ in range(attempts - 1):
        noted(health, REFUSED, 0)
    noted(health, REFUSED, last_at)
    assert (health.state(last_at) is State.PAUSED) == paused


@pytest.mark.parametrize("outcome", NOT_HARD)
def test_pause_is_put_off_by_anything_but_a_hard_failure(outcome: Outcome) -> None:
    """Nine refusals, one of these, nine refusals: not paused; the tenth after it, 30 s on, is."""
    health = Health()
    for number in range(9):
        noted(health, REFUSED, number * 5)
    noted(health, outcome, 45)
    for number in range(9):
        assert noted(health, REFUSED, 50 + number * 5).paused_by is None
    assert noted(health, REFUSED, 95).paused_by is PausedBy.FAILURES


def test_probes_come_after_5_10_20_40_60_and_60_seconds() -> None:
    """Each wait counts from the end of the probe before."""
    health = dead()
    at, waits = 31.5, []
    for _ in range(6):
        waits.append(health.next_probe_at - at)
        at = health.next_probe_at
        probed(health, REFUSED)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_paused_endpoint_begins_at_the_next_probe_and_one_at_a_time() -> None:
    """Whatever a delivery's own due time; nothing while a probe flies; a expedited one waits for no probe."""
    health = dead()
    assert health.room(8) == 1
    assert health.begins_from(0) == health.begins_from(1e6) == health.next_probe_at == 36.5
    assert health.begins_from(math.inf) == math.inf
    assert health.expedited_begins_from(32) == 32
    health.probe_in_flight = True
    assert health.begins_from(0) == math.inf


def test_probe_does_not_begin_before_retry_after() -> None:
    """The later of the two."""
    health = dead()
    health.probe_in_flight = True
    noted(health, Responded(503), 36.5, retry_after=300.0)
    assert health.next_probe_at == 46.5
    assert health.begins_from(0) == health.expedited_begins_from(0) == 336.5


@pytest.mark.parametrize("code", [200, 204, 302, 404, 410, 429])
def test_pause_ends_with_an_answer_below_500_and_the_window_is_one(code: int) -> None:
    """It is there again, whatever it thinks of the event; the window grows from 1, and ten more are needed to pause."""
    health = probed(dead(), Responded(code))
    assert health.paused_by is None
    assert (health.window, health.next_probe_at) == (1, math.inf)
    for number in range(9):
        assert noted(health, REFUSED, 100 + number * 60).paused_by is None
    assert noted(health, REFUSED, 900).paused_by is PausedBy.FAILURES
    assert health.next_probe_at == 905


@pytest.mark.parametrize("outcome", [*HARD, Blocked("10.0.0.1"), Invalid("not HTTP")])
def test_pause_is_not_ended_by_what_is_no_answer_below_500(outcome: Outcome) -> None:
    """It stays paused, and the next probe is ten seconds off: never at once, and never not at all."""
    health = probed(dead(), outcome)
    assert health.paused_by is PausedBy.FAILURES
    assert health.next_probe_at == 46.5
    assert not health.probe_in_flight


def test_attempt_in_flight_from_before_the_pause_is_no_probe() -> None:
    """Its failure does not put the probe off; its success ends the pause."""
    health = noted(dead(), REFUSED, 33)
    assert health.next_probe_at == 36.5
    assert noted(health, OK, 34).paused_by is None


def test_window_grows_from_one_after_a_pause() -> None:
    """One success more for two, two more for three; the probe itself does not count."""
    health, seen = probed(dead(), OK), []
    for _ in range(1 + 2 + 3 + 1):
        seen.append(health.window)
        noted(health, OK, 50)
    assert seen == [1, 2, 2, 3, 3, 3, 4]


# An operator's hand


def test_operators_pause_has_no_probes_and_no_end() -> None:
    """Nothing may begin, expedited or not; answers of what was in flight change nothing of it."""
    health = Health()
    health.pause(40)
    assert health.begins_from(0) == health.expedited_begins_from(0) == health.next_probe_at == math.inf
    noted(health, OK, 1)
    for number in range(20):
        noted(health, REFUSED, 2 + number * 10)
    assert (health.paused_by, health.next_probe_at) == (PausedBy.OPERATOR, math.inf)


def test_operators_pause_over_one_by_failures_stops_the_probes() -> None:
    """The stronger word holds, also when the probe in flight succeeds."""
    health = dead()
    health.probe_in_flight = True
    health.pause(40)
    noted(health, OK, 40)
    assert (health.paused_by, health.begins_from(0)) == (PausedBy.OPERATOR, math.inf)


@pytest.mark.parametrize("by", ["operator", "failures", "disabled"])
def test_resume_ends_every_pause_and_disabled(by: str) -> None:
    """Attempts may begin at once; out of a pause with a window of 1."""
    health = dead() if by == "failures" else Health()
    if by == "operator":
        health.pause(40)
    health.disabled = by == "disabled"
    assert health.state(40) is (State.DISABLED if by == "disabled" else State.PAUSED)
    health.resume(0.0)
    assert health.state(40) is State.OK
    assert health.begins_from(40) == 40
    assert health.window == (2 if by == "disabled" else 1)


def test_resume_lifts_what_the_receiver_asked_for() -> None:
    """An operator's word: attempts may begin at once, and the age clock runs on from here."""
    health = noted(Health(), Responded(503), 0, retry_after=100.0)
    assert health.age_clock(40) == 0.0
    health.pause(40)
    health.resume(60)
    assert health.begins_from(60) == 60
    assert health.age_clock(70) == 10.0


def test_start_anew_forgets_what_the_old_url_taught() -> None:
    """Disabled, throttled, Retry-After, failures and the window, also those that had not paused it yet."""
    health = noted(wide(), Responded(503), 0, retry_after=1000.0)
    for number in range(8):
        noted(health, REFUSED, number)
    health.disabled = True
    health.start_anew(0.0)
    assert health.state(10) is State.OK
    assert health.begins_from(10) == 10
    assert (health.window, health.consecutive_failures, health.failing_since) == (2, 0, None)
    assert health.last_error is None
    assert noted(health, REFUSED, 60).paused_by is None


def test_start_anew_ends_a_pause_by_failures_and_keeps_an_operators() -> None:
    """The operator meant the endpoint, whatever its URL."""
    health = dead()
    health.start_anew(0.0)
    assert (health.state(40), health.window) == (State.OK, 2)
    health.pause(40)
    health.start_anew(0.0)
    assert health.paused_by is PausedBy.OPERATOR


def test_second_pause_by_an_operator_changes_nothing_of_the_first() -> None:
    """It is paused since the first, and so long has the age clock stood."""
    health = Health()
    health.pause(40)
    assert health.since == 40
    health.pause(70)
    assert (health.since, health.age_clock(100)) == (40, 40)
    health.resume(100)
    assert health.age_clock(110) == 50


def test_paused_endpoint_has_room_for_its_probe_alone() -> None:
    """However wide the window still is: a run of refusals halves it once."""
    health = wide()
    for number in range(PAUSE_AFTER_ATTEMPTS):
        noted(health, REFUSED, number * 3.5)
    assert health.paused_by is PausedBy.FAILURES
    assert health.window > 1
    assert health.room(8) == 1


def test_probes_of_a_second_pause_begin_at_five_seconds_again() -> None:
    """How long the probes of the first had come to wait is not carried over."""
    health = dead()
    for _ in range(4):
        probed(health, REFUSED)
    probed(health, OK)
    for number in range(PAUSE_AFTER_ATTEMPTS):
        noted(health, REFUSED, 1000 + number * 3.5)
    waits = [health.next_probe_at - 1031.5]
    probed(health, REFUSED)
    assert [*waits, health.next_probe_at - 1036.5] == [5, 10]


def test_new_url_needs_a_whole_windowful_of_successes() -> None:
    """Those that the old URL had come to are not counted in."""
    health = noted(Health(), OK)
    health.start_anew(0.0)
    assert noted(health, OK).window == 2
    assert noted(health, OK).window == 3


def test_resumed_endpoint_that_is_throttled_still_does_not_say_since_when() -> None:
    """When its pause began is not when the throttling did: the time is one before everything, not one to come."""
    health = noted(Health(), Responded(503), 5)
    health.pause(40)
    health.resume(60)
    assert (health.state(60), health.since) == (State.THROTTLED, -math.inf)


@pytest.mark.parametrize("outcome", [Responded(503), REFUSED])
def test_half_of_an_odd_window_is_a_whole_number(outcome: Outcome) -> None:
    """Downward: of five, two."""
    health = Health()
    for _ in range(2 + 3 + 4):
        noted(health, OK)
    assert noted(health, outcome).window == 2
    assert noted(health, OK).window == 2
    assert noted(health, OK).window == 3


def test_failures_in_a_row_are_counted() -> None:
    """Each of them, hard or not, until a success."""
    health = Health()
    for outcome in (REFUSED, Responded(404), REFUSED):
        noted(health, outcome)
    assert health.consecutive_failures == 3
    assert noted(health, OK).consecutive_failures == 0


def test_expiry_is_the_age_from_the_opening_without_what_an_operator_held() -> None:
    """However late it is asked for; none while it is held, and later by the pause after it."""
    health = Health()
    for now in (10.0, 11.0, 50.0, 109.0):
        assert health.expires_at(10.0, age_seconds_max=100, now=now) == 110.0
    health.pause(60.0)
    assert health.expires_at(10.0, age_seconds_max=100, now=70.0) is None
    health.resume(80.0)
    for now in (80.0, 90.0, 129.0):
        assert health.expires_at(10.0, age_seconds_max=100, now=now) == 130.0
    assert health.expires_at(health.age_clock(90.0), age_seconds_max=100, now=90.0) == 190.0


def test_failing_is_said_after_two_failures_over_thirty_seconds_whatever_they_were() -> None:
    """4xx too, which pauses nothing; one success ends it, and so does another URL."""
    health = wide()
    noted(health, Responded(404), 10)
    assert not health.fails_straight(100)  # one attempt is no run
    noted(health, Responded(404), 12)
    assert (health.state(100), health.fails_straight(39), health.fails_straight(40)) == (State.OK, False, True)
    noted(health, Responded(204), 41)
    assert not health.fails_straight(100)
    for second in (50, 60):
        noted(health, REFUSED, second)
    assert health.fails_straight(80)
    health.start_anew(81)
    assert not health.fails_straight(200)
