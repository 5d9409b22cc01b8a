"""What is due to be told: each change once, of one kind at most one a minute, and what holds on after that minute."""

from hookd.core.health import TOLD_OK, PausedBy, State, Told
from hookd.core.notice import Kind
from hookd.core.retry import Reason
from hookd.core.timestamps import Moment
from hookd.core.watch import BudgetWatch, EndpointWatch

THROTTLED: Told = (State.THROTTLED, None)
PAUSED: Told = (State.PAUSED, PausedBy.FAILURES)
HELD: Told = (State.PAUSED, PausedBy.OPERATOR)
DISABLED: Told = (State.DISABLED, None)


class Endpoint:
    """A watch, and what is true of its endpoint; time passes second by second, looked at as housekeeping does."""

    def __init__(self) -> None:
        self.watch = EndpointWatch()
        self.state, self.failures, self.now = TOLD_OK, 0, 0.0
        self.told: list[tuple[float, Kind]] = []

    def becomes(self, state: Told, *, has_failed: bool = True) -> None:
        """With two more attempts that failed, or one that did not."""
        self.state = state
        for _ in range(2 if has_failed else 1):
            self.failures = self.failures + 1 if has_failed else 0
            self._look()

    def until(self, seconds: float) -> None:
        while self.now < seconds:
            self.now += 1.0
            if self.watch.look_at <= self.now:
                self._look()

    def _look(self) -> None:
        self.told += [(self.now, kind) for kind in self.watch.due(self.state, failures=self.failures, now=self.now)]


def test_each_change_of_state_is_told_once() -> None:
    """However often it is looked at."""
    one = Endpoint()
    for state, has_failed in ((THROTTLED, True), (THROTTLED, True), (DISABLED, True), (DISABLED, True)):
        one.becomes(state, has_failed=has_failed)
    one.becomes(TOLD_OK, has_failed=False)
    one.becomes(TOLD_OK, has_failed=False)
    assert [kind for _, kind in one.told] == [Kind.THROTTLED, Kind.DISABLED, Kind.RECOVERED]


def test_failing_is_told_after_30_seconds_of_failures_and_once() -> None:
    """Whether or not anything is attempted then."""
    one = Endpoint()
    one.becomes(TOLD_OK)
    one.until(29)
    assert one.told == []
    one.until(200)
    assert one.told == [(30, Kind.FAILING)]
    one.becomes(TOLD_OK, has_failed=False)
    assert one.told[1:] == [(200, Kind.RECOVERED)]


def test_failures_that_end_within_30_seconds_are_not_told() -> None:
    """The next run of failures has 30 s of its own."""
    one = Endpoint()
    one.becomes(TOLD_OK)
    one.until(25)
    one.becomes(TOLD_OK, has_failed=False)
    one.until(26)
    one.becomes(TOLD_OK)
    one.until(55)
    assert one.told == []
    one.until(56)
    assert one.told == [(56, Kind.FAILING)]


def test_one_attempt_that_failed_is_no_run_of_failures() -> None:
    """Nothing was attempted since: what the next one comes to is not known."""
    watch = EndpointWatch()
    assert watch.due(TOLD_OK, failures=1, now=0.0) == []
    assert watch.due(TOLD_OK, failures=1, now=100.0) == []
    assert watch.due(TOLD_OK, failures=2, now=101.0) == [Kind.FAILING]


def test_failing_is_told_beside_the_state_it_has() -> None:
    """A throttled endpoint fails as well; both are told, and one recovery."""
    one = Endpoint()
    one.becomes(THROTTLED)
    one.until(31)
    one.becomes(PAUSED)
    one.until(40)
    one.becomes(TOLD_OK, has_failed=False)
    assert one.told == [(0, Kind.THROTTLED), (30, Kind.FAILING), (31, Kind.PAUSED), (40, Kind.RECOVERED)]


def test_pause_that_ends_while_it_fails_is_told_as_failing() -> None:
    """A probe answered 404 ends the pause, and not the failures; a second pause is told, too."""
    one = Endpoint()
    one.becomes(TOLD_OK)
    one.until(31)
    one.becomes(PAUSED)
    one.until(100)
    one.becomes(TOLD_OK)
    one.until(140)
    one.becomes(PAUSED)
    assert one.told == [(30, Kind.FAILING), (31, Kind.PAUSED), (100, Kind.FAILING), (140, Kind.PAUSED)]


def test_flapping_within_a_minute_is_told_once_and_what_holds_on_after_it() -> None:
    """Throttled at 0, 10 and 20 s, and from then on: told at 0 and at 60 s."""
    one = Endpoint()
    for second in (0, 10, 20):
        one.until(second)
        one.becomes(THROTTLED)
        if second < 20:
            one.until(second + 1)
            one.becomes(TOLD_OK, has_failed=False)
    one.until(300)
    kinds = [told for told in one.told if told[1] is Kind.THROTTLED]
    assert kinds == [(0, Kind.THROTTLED), (60, Kind.THROTTLED)]
    assert [told for told in one.told if told[1] is Kind.RECOVERED] == [(1, Kind.RECOVERED)]


def test_what_was_held_back_and_is_true_no_more_is_told_to_nobody() -> None:
    """The reader knows it as it is."""
    one = Endpoint()
    one.becomes(THROTTLED)
    one.until(1)
    one.becomes(TOLD_OK, has_failed=False)
    one.until(2)
    one.becomes(THROTTLED)
    one.until(3)
    one.becomes(TOLD_OK, has_failed=False)
    one.until(300)
    assert one.told == [(0, Kind.THROTTLED), (1, Kind.RECOVERED)]
    assert one.watch.is_idle


def test_time_that_an_operator_holds_it_is_no_time_of_failures() -> None:
    """Its failures begin anew at the resume."""
    one = Endpoint()
    one.becomes(TOLD_OK)
    one.until(10)
    one.becomes(HELD)
    one.until(500)
    one.becomes(TOLD_OK)
    one.until(501)
    one.becomes(TOLD_OK)
    one.until(529)
    assert one.told == [(10, Kind.PAUSED), (500, Kind.RECOVERED)]
    one.until(530)
    assert one.told[2:] == [(530, Kind.FAILING)]


def test_endpoint_that_was_removed_begins_anew_within_its_minute() -> None:
    """Its recovery is no news, and its id is not told of twice in a minute."""
    one = Endpoint()
    one.becomes(THROTTLED)
    one.watch.begin_anew()
    one.becomes(TOLD_OK, has_failed=False)
    one.until(5)
    one.becomes(THROTTLED)
    one.until(120)
    assert one.told == [(0, Kind.THROTTLED), (35, Kind.FAILING), (60, Kind.THROTTLED)]


def test_what_is_given_up_is_told_by_the_minute() -> None:
    """How many, the first and the last, and why."""
    watch = EndpointWatch()
    for second, event_id, reason in ((0, "a", Reason.GONE), (5, "b", Reason.GONE), (59, "c", Reason.EXPIRED)):
        watch.note_given_up(event_id, reason, Moment(second, 1000.0 + second))
    assert watch.look_at == 60
    assert watch.take_given_up(59.9) is None
    minute = watch.take_given_up(60.0)
    assert minute is not None
    assert (minute.count, minute.first_event_id, minute.last_event_id) == (3, "a", "c")
    assert minute.reasons == {Reason.GONE: 2, Reason.EXPIRED: 1}
    watch.note_given_up("d", Reason.GONE, Moment(61.0, 1061.0))
    watch.due(TOLD_OK, failures=0, now=61.0)
    assert (watch.look_at, watch.take_given_up(120.0), watch.is_idle) == (121.0, None, False)


def test_budget_is_told_again_only_after_it_emptied() -> None:
    """80 % is filling, below 70 % is over; in between what was told holds."""
    watch = BudgetWatch()
    watch.note(Kind.CLIENT_FILLING)
    assert watch.due(0.0) == [Kind.CLIENT_FILLING]
    for second in range(1, 200):
        watch.see(0.75)
        watch.note(Kind.CLIENT_FILLING)
        assert watch.due(float(second)) == []
    watch.see(0.69)
    watch.note(Kind.CLIENT_FILLING)
    assert watch.due(200.0) == [Kind.CLIENT_FILLING]


def test_budget_held_back_is_told_after_its_minute_if_it_is_full_still() -> None:
    """And not if it emptied meanwhile."""
    watch = BudgetWatch()
    watch.note(Kind.CLIENT_FULL)
    assert watch.due(0.0) == [Kind.CLIENT_FULL]
    watch.see(0.1)
    watch.note(Kind.CLIENT_FULL)
    assert watch.due(10.0) == []
    watch.see(0.9)
    assert watch.due(60.0) == [Kind.CLIENT_FULL]
    watch.see(0.1)
    watch.note(Kind.CLIENT_FULL)
    assert watch.due(70.0) == []
    watch.see(0.1)
    assert watch.due(130.0) == []
    assert watch.is_idle(130.0)
