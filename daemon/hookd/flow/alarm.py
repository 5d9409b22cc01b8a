"""Owns the deadline of one thing after the other in one task: `trio.move_on_after` at a tenth of its cost.

    with Alarm(timer) as alarm:
        alarm.renew()
        with alarm.within(seconds):  # as `with trio.move_on_after(seconds)`; any number of times, never nested
            ...

Rules:
 1. One cancel scope is entered once, for one thing after the other. Only one that rang is left.
 2. The timer (flow/timer) looks at each alarm when one of its things would have been over, and then again when the
    present one will be. So to begin a thing moves nothing, unless it has less time than the timer's next look. Then its
    scope has a deadline of trio's own, as it always has without a timer.
 3. The deadline stands when its thing is done: to unset it costs as much as to set it. So it may ring later, while the
    task waits for its next thing: that wait is cancelled, and so is all up to the end of the `with Alarm()`.
 4. Whoever has another thing in hand says `renew` before anything else, and waits for nothing up to `within`. A scope
    that rang meanwhile is left there, and the new thing has nothing of it.
Limits: the timer has one entry for each alarm, for as long as its last thing had time.
"""

import math
from types import TracebackType
from typing import Self

import trio

from hookd.flow.timer import Timer


class Alarm:
    goes_by_clock = False
    __slots__ = ("_has_rung", "_is_moved", "_looked_at", "_now", "_rings_at", "_scope", "_timer", "_within")

    def __init__(self, timer: Timer | None = None) -> None:
        """In a task: the loop's clock is asked itself, at half of what `trio.current_time` costs."""
        self._now = trio.lowlevel.current_clock().current_time
        self._timer = timer
        self._scope: trio.CancelScope | None = None
        self._rings_at = math.inf  # when the present thing, or the last, is over
        self._looked_at = math.inf  # when the timer looks next; infinity: it does not know it
        self._is_moved = False  # the scope has a deadline of trio's own
        self._has_rung = False  # by the timer; a deadline of trio's does not say so
        self._within = _Within(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self.leave(kind, error, traceback)

    @property
    def is_set(self) -> bool:
        """Whether it is still to ring."""
        return self._scope is not None

    def renew(self) -> None:
        """Another thing begins: what rang for the one before does not cut it."""
        if self._has_rung or (self._is_moved and self._now() >= self._rings_at):
            self.leave(None, None, None)

    def within(self, seconds: float) -> "_Within":
        self._rings_at = rings_at = self._now() + seconds
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._scope.__enter__()
        if self._looked_at > rings_at:  # the timer would be late
            self._scope.deadline, self._is_moved = rings_at, True
            if self._timer is not None and self._looked_at == math.inf:
                self._looked_at = rings_at
                self._timer.look_at(self, rings_at)
        elif self._is_moved:
            self._scope.deadline, self._is_moved = math.inf, False
        return self._within

    def look(self, at: float) -> float:
        """The timer's: rings if it is time. Returns when to look again, infinity for never."""
        self._looked_at = math.inf
        if self._scope is not None:
            if self._rings_at > at:
                self._looked_at = self._rings_at
            else:
                self._has_rung = True
                self._scope.cancel()
        return self._looked_at

    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Leaves the scope, as its `with` would. True where the error is the scope's own cancellation."""
        scope, self._scope = self._scope, None
        self._is_moved = self._has_rung = False
        return scope is not None and bool(scope.__exit__(kind, error, traceback))


class _Within:
    __slots__ = ("_alarm",)

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return kind is not None and self._alarm.leave(kind, error, traceback)
