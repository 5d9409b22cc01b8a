"""Owns what readers of notices know of an endpoint or a budget, and so what is due to be told (contract section 9).

Rules:
 1. A change is told once. Of one kind at most one is told in NOTICE_EVERY_SECONDS.
 2. What is held back for that is not kept: once it may be told, what is true then is compared with what was told last.
    So a state that has ended again is told to nobody, and one that holds on is told.
 3. An endpoint is failing once a run of failures, at least two of them, has lasted for FAILING_AFTER_SECONDS. An
    operator's pause, and `disabled`, end the run: what fails after them is another. Its end is told as `recovered`, as
    is the end of any other state than ok. But where the endpoint is failing then, that is told anew.
 4. What is given up at an endpoint is told a minute after the first of it.
 5. A budget that fills is told again only after it fell below ENDED_SHARE; so is a refusal for want of room.
Pure: time comes in as a value, monotonic unless it says wall.
Limits: 1 KiB a watch; flow/notice_watch bounds how many there are.
"""

import math
from collections import Counter

from hookd.core.health import TOLD_OK, PausedBy, State, Told
from hookd.core.notice import Kind
from hookd.core.retry import Reason
from hookd.core.timestamps import Moment

NOTICE_EVERY_SECONDS = 60.0
FAILING_AFTER_SECONDS = 30.0
ENDED_SHARE = 0.7
WATCHES_MAX = 15_000
WATCH_BYTES = 1024  # with each kind told within the minute, and something given up

_KINDS = {State.THROTTLED: Kind.THROTTLED, State.PAUSED: Kind.PAUSED, State.DISABLED: Kind.DISABLED}
_BUDGET_KINDS = (Kind.DAEMON_FILLING, Kind.CLIENT_FILLING, Kind.CLIENT_FULL)


class Watch:
    """When each kind was told last."""

    __slots__ = ("_told_at",)

    def __init__(self) -> None:
        self._told_at: dict[Kind, float] = {}

    def _may_tell(self, kind: Kind, now: float) -> bool:
        """Whoever asks tells it then."""
        if now < self._told_at.get(kind, -math.inf) + NOTICE_EVERY_SECONDS:
            return False
        self._told_at[kind] = now
        return True

    def _next_opening(self, now: float) -> float:
        """When a kind that was told may be told again; infinity where each may."""
        for kind in [kind for kind, at in self._told_at.items() if at + NOTICE_EVERY_SECONDS <= now]:
            del self._told_at[kind]
        return min((at + NOTICE_EVERY_SECONDS for at in self._told_at.values()), default=math.inf)


class GivenUp:
    """What was given up at an endpoint, in a minute from `began` on."""

    __slots__ = ("began", "count", "first_event_id", "last_event_id", "reasons")

    def __init__(self, began: Moment, first_event_id: str) -> None:
        self.began = began
        self.first_event_id = self.last_event_id = first_event_id
        self.count = 0
        self.reasons: Counter[Reason] = Counter()

    def note(self, event_id: str, reason: Reason) -> None:
        self.last_event_id = event_id
        self.count += 1
        self.reasons[reason] += 1


class EndpointWatch(Watch):
    """`look_at`: when it is to be looked at again, should nothing happen before."""

    __slots__ = ("_failing_from", "_failures_before", "_told_failing", "_was_held", "given_up", "look_at", "told")

    def __init__(self) -> None:
        super().__init__()
        self.told = TOLD_OK
        self._told_failing = False
        self._failing_from: float | None = None
        self._failures_before = 0  # the run that began then
        self._was_held = False
        self.given_up: GivenUp | None = None
        self.look_at = math.inf

    @property
    def is_idle(self) -> bool:
        """Whether a new watch would know as much."""
        is_quiet = self.told == TOLD_OK and not self._told_failing and self._failing_from is None
        return is_quiet and self.given_up is None and not self._told_at

    def due(self, state: Told, *, failures: int, now: float) -> list[Kind]:
        """What is told now, of an endpoint in this state; so many of its attempts, the last ones, failed."""
        is_failing = self._is_failing(state, failures, now)
        is_new = state != self.told
        found: list[Kind] = []
        is_well = state == TOLD_OK and not is_failing
        is_failing_anew = is_failing and (not self._told_failing or (is_new and state == TOLD_OK))
        has_recovered = is_well and (is_new or (self._told_failing and not failures))
        if is_failing_anew and self._may_tell(Kind.FAILING, now):
            self._told_failing = True
            self.told = state if state == TOLD_OK else self.told
            found.append(Kind.FAILING)
        if has_recovered and self._may_tell(Kind.RECOVERED, now):
            self.told, self._told_failing = state, False
            found.append(Kind.RECOVERED)
        if is_new and state != TOLD_OK and self._may_tell(_KINDS[state[0]], now):
            self.told = state
            found.append(_KINDS[state[0]])
        self.look_at = self._next_look(now)
        return found

    def note_given_up(self, event_id: str, reason: Reason, now: Moment) -> None:
        if self.given_up is None:
            self.given_up = GivenUp(now, event_id)
            self.look_at = min(self.look_at, now.monotonic + NOTICE_EVERY_SECONDS)
        self.given_up.note(event_id, reason)

    def take_given_up(self, now: float) -> GivenUp | None:
        """What was given up, if its minute is over; the next begins with the next."""
        given_up = self.given_up
        if given_up is None or now < given_up.began.monotonic + NOTICE_EVERY_SECONDS:
            return None
        self.given_up = None
        return given_up

    def begin_anew(self) -> None:
        """The endpoint was removed: a later one of this id is another. What was told of it in this minute stays."""
        self.told, self._told_failing, self._failing_from = TOLD_OK, False, None

    def _is_failing(self, state: Told, failures: int, now: float) -> bool:
        is_held = state[0] is State.DISABLED or state[1] is PausedBy.OPERATOR
        if not failures:
            self._failing_from = None
        elif is_held or self._was_held:
            self._failing_from, self._failures_before = now, failures
        elif self._failing_from is None:
            self._failing_from, self._failures_before = now, failures - 1
        self._was_held = is_held
        if self._failing_from is None or failures < self._failures_before + 2:
            return False
        return now >= self._failing_from + FAILING_AFTER_SECONDS

    def _next_look(self, now: float) -> float:
        look_at = self._next_opening(now)
        if self._failing_from is not None and not self._told_failing:
            failing_at = self._failing_from + FAILING_AFTER_SECONDS
            look_at = min(look_at, failing_at if failing_at > now else math.inf)
        if self.given_up is not None:
            look_at = min(look_at, self.given_up.began.monotonic + NOTICE_EVERY_SECONDS)
        return look_at


class BudgetWatch(Watch):
    """Of a client's budget, or the daemon's."""

    __slots__ = ("_told", "_true")

    def __init__(self) -> None:
        super().__init__()
        self._true: set[Kind] = set()
        self._told: set[Kind] = set()

    def note(self, kind: Kind) -> None:
        """It is true from here on, until the budget is emptier."""
        self._true.add(kind)

    def knows(self, kind: Kind) -> bool:
        return kind in self._told

    def see(self, used_share: float) -> None:
        """So much of the budget is taken now."""
        if used_share < ENDED_SHARE:
            self._true.clear()
            self._told.clear()

    def due(self, now: float) -> list[Kind]:
        """What is told now."""
        found = [kind for kind in _BUDGET_KINDS if kind in self._true - self._told and self._may_tell(kind, now)]
        self._told.update(found)
        return found

    def is_idle(self, now: float) -> bool:
        return not self._true and self._next_opening(now) == math.inf
