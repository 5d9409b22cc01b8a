"""Owns an endpoint's health: what its attempts say of it. From that follows how many may be in flight, and from when.

The four states of contract section 2:
 * ok: none of the others.
 * disabled: it answered 410. No attempt begins until it is resumed or gets another URL.
 * paused, by failures: the last ten attempts all ended unreachable, timed out or 5xx, over at least 30 s. One probe at
   a time follows, after 5 s, then at growing intervals up to 60 s. An answer below 500 ends the pause.
 * paused, by an operator: no probes. Only a resume ends it.
 * throttled: 429, 502, 503 or 504 halved the window, or Retry-After holds attempts back. The next 2xx ends it, but not
   before the time that Retry-After named. A resume, or another URL, lifts that hold.
The age clock is what its deliveries' ages are measured by. It stands still while an operator pauses the endpoint, and
while Retry-After holds attempts back: such time is no part of any age.
The window is how many attempts may be in flight:
 * It starts at 2, and at 1 after a pause.
 * Each windowful of successes adds one, up to the endpoint's concurrency.
 * The first failure of a run of unreachable or 5xx halves it: ten failures of one outage are one piece of news.
 * A timeout sets it to 1.
Pure: time, concurrency and jitter come in as values.
"""

import enum
import math

import msgspec

from hookd.core import outcome as outcomes
from hookd.core.outcome import Outcome, Responded, TimedOut, Unreachable
from hookd.core.rate import RateLog
from hookd.core.retry_after import RETRY_AFTER_SECONDS_MAX
from hookd.core.timestamps import Moment

WINDOW_START = 2
WINDOW_AFTER_PAUSE = 1
FAILING_FOR_SUCCESSES = 8
THROTTLING = frozenset({429, 502, 503, 504})
PAUSE_AFTER_ATTEMPTS = 10
PAUSE_AFTER_SECONDS = 30.0
# So long all its attempts have failed, whatever with: 4xx only pauses nothing, and is trouble all the same.
FAILING_AFTER_ATTEMPTS, FAILING_AFTER_SECONDS = 2, 30.0
PROBE_SECONDS_MIN, PROBE_SECONDS_MAX = 5.0, 60.0
# Attempts begin up to this share later than Retry-After asks, never earlier, and never later than an hour from now.
RETRY_AFTER_JITTER = 0.2


class State(enum.Enum):
    OK = "ok"
    THROTTLED = "throttled"
    PAUSED = "paused"
    DISABLED = "disabled"


class PausedBy(enum.Enum):
    FAILURES = "failures"
    OPERATOR = "operator"


# To reach a member through its enum takes Python 3.11 0.17 us, a dozen times an event.
_FAILURES, _OPERATOR = PausedBy.FAILURES, PausedBy.OPERATOR

Told = tuple[State, PausedBy | None]
TOLD_OK: Told = (State.OK, None)


class Health(msgspec.Struct, gc=False, eq=False):
    """One endpoint's row, about 300 B. The ledger counts in it and notes outcomes. Operators pause and resume."""

    unsettled: int = 0
    in_flight: int = 0
    abandoned: int = 0  # of the unsettled: those of an endpoint of this id that was removed
    disabled: bool = False
    gone: int = 0  # deliveries given up since its 410, that one's own included
    since: float = -math.inf  # monotonic: when its present state began; says nothing while that is ok
    paused_by: PausedBy | None = None
    window: int = WINDOW_START
    successes: int = 0  # since the window last changed
    throttled: bool = False
    not_before: float = -math.inf  # monotonic: Retry-After
    age_base: float = 0.0  # what the age clock shows while it stands
    age_from: float = 0.0  # monotonic: from then it runs, unless an operator's pause holds it
    told: Told = TOLD_OK  # the state that the log was last told of
    is_watched: bool = False  # the notices are to be told of what follows, whatever it is
    probe_in_flight: bool = False
    next_probe_at: float = math.inf  # monotonic
    probe_seconds: float = PROBE_SECONDS_MIN
    consecutive_failures: int = 0
    successes_to_be_well: int = 0
    hard_failures: int = 0  # consecutive ones that are unreachable, timed out or 5xx
    hard_since: float = math.inf  # monotonic: when that run began
    failing_since: float | None = None  # wall
    failing_from: float = math.inf  # monotonic: the same moment
    last_outcome: Outcome | None = None
    last_delivered_at: float | None = None  # wall
    answer_seconds: float | None = None  # its last attempt took so long
    held_up_by: str | None = None  # with strict order: the event that failed, and that all others wait for
    held_up_attempts: int = 0  # how many it has had
    rate_log_or_none: RateLog | None = None  # made where the endpoint has a rate

    @property
    def rate_log(self) -> RateLog:
        if self.rate_log_or_none is None:
            self.rate_log_or_none = RateLog()
        return self.rate_log_or_none

    def state(self, now: float) -> State:
        if self.disabled:
            return State.DISABLED
        if self.paused_by is not None:
            return State.PAUSED
        return State.THROTTLED if self.throttled or now < self.not_before else State.OK

    def told_at(self, now: float) -> Told:
        """The state as it is told."""
        state = self.state(now)
        return state, self.paused_by if state is State.PAUSED else None

    @property
    def is_plainly_ok(self) -> bool:
        """Whether it is ok at any time, until something is noted that says otherwise."""
        return not (self.disabled or self.throttled) and self.paused_by is None and self.not_before == -math.inf

    @property
    def is_untold_ok(self) -> bool:
        """Whether it is plainly ok, and nobody was told otherwise or is about to be."""
        return self.is_plainly_ok and self.failing_since is None and not self.is_watched and self.told == TOLD_OK

    @property
    def owed(self) -> int:
        """Unsettled deliveries that are still to be attempted, or whose attempt in flight need not be the last."""
        return self.unsettled - self.abandoned

    @property
    def is_held(self) -> bool:
        """Whether an operator paused it: nothing expires there."""
        return self.paused_by is _OPERATOR

    def age_clock(self, now: float) -> float:
        """What deliveries' ages are measured by, in seconds; it runs with the monotonic clock or stands still."""
        stands = self.paused_by is _OPERATOR or now <= self.age_from
        return self.age_base if stands else self.age_base + (now - self.age_from)

    def age_of(self, opened_at: float, now: float) -> float:
        """How old a delivery opened then is; 0 while an operator holds it."""
        return 0.0 if self.paused_by is _OPERATOR else self.age_clock(now) - opened_at

    def expires_at(self, opened_at: float, *, age_seconds_max: float, now: float) -> float | None:
        """When (monotonic) a delivery opened then is too old, as things are; None while an operator holds it."""
        if self.is_held:
            return None
        return max(now, self.age_from) + age_seconds_max - (self.age_clock(now) - opened_at)

    def begins_from(self, due_at: float) -> float:
        """The earliest (monotonic) that a delivery due at `due_at` may be attempted; infinity while none may.

        While paused by failures that is the next probe, whatever the delivery's own due time.
        """
        if self.disabled or self.paused_by is _OPERATOR:
            return math.inf
        if self.paused_by is _FAILURES:
            if self.probe_in_flight or due_at == math.inf:
                return math.inf
            return max(self.next_probe_at, self.not_before)
        return due_at if due_at > self.not_before else self.not_before  # `max` takes three times as long

    def expedited_begins_from(self, due_at: float) -> float:
        """The same for a delivery that an operator expedited. It does not wait for a probe."""
        if self.disabled or self.paused_by is _OPERATOR:
            return math.inf
        return max(due_at, self.not_before)

    def room(self, concurrency: int) -> int:
        """How many attempts may be in flight: a paused endpoint's one is its probe."""
        if self.paused_by is _FAILURES:
            return 1
        return self.window if self.window < concurrency else concurrency

    def note(
        self,
        outcome: Outcome,
        now: Moment,
        *,
        concurrency: int,
        retry_after_seconds: float | None,
        jitter_unit: float,
    ) -> None:
        """What an attempt came to."""
        if self.is_plainly_ok and not self.probe_in_flight and outcomes.is_success(outcome):
            self.last_outcome = outcome  # as nearly all end: nothing below would do more
            self._succeeded(now, concurrency)
            return
        state_before = self.state(now.monotonic)
        was_probe, self.probe_in_flight = self.probe_in_flight, False
        self.last_outcome = outcome
        if retry_after_seconds is not None and not outcomes.is_success(outcome):
            wait_seconds = retry_after_seconds * (1 + RETRY_AFTER_JITTER * jitter_unit)
            self._hold_back(now.monotonic, min(wait_seconds, RETRY_AFTER_SECONDS_MAX))
        if outcomes.is_success(outcome):
            self._succeeded(now, concurrency)
        else:
            self._failed(outcome, now, was_probe=was_probe)
        if isinstance(outcome, Responded) and outcome.status_code < 500 and self.paused_by is _FAILURES:
            self._end_pause()  # last, since it resets what the probe's own success counted
        if self.state(now.monotonic) is not state_before:
            self.since = now.monotonic

    def pause(self, now: float) -> None:
        """By an operator."""
        if not self.is_held:
            self.age_base = self.age_clock(now)
            self.since = now
        self.paused_by = PausedBy.OPERATOR
        self.next_probe_at = math.inf

    def disable(self, now: float) -> None:
        """It answered 410."""
        self.disabled, self.since = True, now

    def resume(self, now: float) -> None:
        """Ends `disabled`, a pause of either kind, and what is left of a Retry-After."""
        self._lift(now)
        self.disabled, self.gone = False, 0
        self.since = -math.inf  # it may be throttled still; since when is not kept
        if self.paused_by is not None:
            self._end_pause()

    def start_anew(self, now: float) -> None:
        """The endpoint has another URL. What was learnt of the old URL goes; an operator's pause stays."""
        self._lift(now)
        self.disabled = self.throttled = False
        self.gone = 0
        if self.paused_by is _FAILURES:
            self._end_pause()
        self.window, self.successes = WINDOW_START, 0
        self.consecutive_failures = self.successes_to_be_well = self.hard_failures = 0
        self.hard_since = math.inf
        self.failing_since = self.last_outcome = self.last_delivered_at = None
        self.failing_from = math.inf

    def be_removed(self, now: float) -> None:
        """The endpoint was removed. Its row lives on while an attempt is in flight; a later endpoint of this id starts
        from it, so nothing that was learnt stays, and no pause."""
        self.resume(now)
        self.start_anew(now)
        self.told = TOLD_OK

    @property
    def is_failing(self) -> bool:
        """Whether one of its last few attempts failed: the pacer keeps such endpoints out of the others' way."""
        return self.successes_to_be_well > 0

    def fails_straight(self, now: float) -> bool:
        """Whether all attempts of the last 30 s or longer failed, two at least; also of an endpoint that is ok."""
        is_run = self.consecutive_failures >= FAILING_AFTER_ATTEMPTS
        return is_run and now - self.failing_from >= FAILING_AFTER_SECONDS

    @property
    def last_error(self) -> str | None:
        """The last failure in a few words; None while the last attempt succeeded."""
        if self.last_outcome is None or outcomes.is_success(self.last_outcome):
            return None
        code = outcomes.status_code(self.last_outcome)
        return f"answered {code}" if code is not None else outcomes.error(self.last_outcome)

    def _succeeded(self, now: Moment, concurrency: int) -> None:
        self.throttled = False
        if self.consecutive_failures:
            self.consecutive_failures = self.hard_failures = 0
            self.hard_since = math.inf
            self.failing_since = None
            self.failing_from = math.inf
        self.last_delivered_at = now.wall
        if self.successes_to_be_well:
            self.successes_to_be_well -= 1
        self.successes += 1
        if self.successes >= self.window:
            self.window = min(self.window + 1, max(concurrency, 1))
            self.successes = 0

    def _failed(self, outcome: Outcome, now: Moment, *, was_probe: bool) -> None:
        self.consecutive_failures += 1
        self.successes_to_be_well = FAILING_FOR_SUCCESSES
        if self.failing_since is None:
            self.failing_since, self.failing_from = now.wall, now.monotonic
        code = outcomes.status_code(outcome)
        is_hard = isinstance(outcome, Unreachable | TimedOut) or (code is not None and code >= 500)
        if code in THROTTLING:
            self.throttled = True
            self._shrink(self.window // 2)
        elif isinstance(outcome, TimedOut):
            self._shrink(1)
        elif is_hard and not self.hard_failures:
            self._shrink(self.window // 2)
        if is_hard:
            self.hard_failures += 1
            self.hard_since = min(self.hard_since, now.monotonic)
        else:
            self.hard_failures, self.hard_since = 0, math.inf
        if self.paused_by is _FAILURES and was_probe:
            self.probe_seconds = min(self.probe_seconds * 2, PROBE_SECONDS_MAX)
            self.next_probe_at = now.monotonic + self.probe_seconds
        elif self.paused_by is None and self._is_dead(now.monotonic):
            self.paused_by = PausedBy.FAILURES
            self.probe_seconds = PROBE_SECONDS_MIN
            self.next_probe_at = now.monotonic + self.probe_seconds

    def _is_dead(self, now: float) -> bool:
        return self.hard_failures >= PAUSE_AFTER_ATTEMPTS and now - self.hard_since >= PAUSE_AFTER_SECONDS

    def _hold_back(self, now: float, seconds: float) -> None:
        """No attempt begins for so long, and the age clock stands until then."""
        self.not_before = max(self.not_before, now + seconds)
        self.age_base = self.age_clock(now)
        self.age_from = max(self.age_from, self.not_before)

    def _lift(self, now: float) -> None:
        """What Retry-After asked for holds no more; the age clock runs on from here, or once a pause ends."""
        self.age_base = self.age_clock(now)
        self.age_from = now
        self.not_before = -math.inf

    def _shrink(self, window: int) -> None:
        self.window = max(1, window)
        self.successes = 0

    def _end_pause(self) -> None:
        self.paused_by = None
        self.next_probe_at = math.inf
        self.window = WINDOW_AFTER_PAUSE
        self.successes = 0
        self.hard_failures, self.hard_since = 0, math.inf


def opening_age(health: Health | None, now: float) -> float:
    """What a delivery that is opened now is opened at, by its endpoint's age clock; None: nothing went there yet."""
    return now if health is None else health.age_clock(now)
