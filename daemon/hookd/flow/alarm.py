"""Owns the deadline of one thing after the other in one task: `trio.move_on_after` at a third of its cost.

    with Alarm() as alarm:
        alarm.renew()
        with alarm.within(seconds):  # as `with trio.move_on_after(seconds)`; any number of times, never nested
            ...

Rules:
 1. One cancel scope is entered once, and its deadline moved from thing to thing. Only one that rang is left.
 2. The deadline stands when its thing is done: to unset it costs as much as to set it. So it may ring later, while the
    task waits for its next thing: that wait is cancelled, and so is all up to the end of the `with Alarm()`.
 3. Whoever has another thing in hand says `renew` before anything else, and waits for nothing up to `within`. A scope
    that rang meanwhile is left there, and the new thing has nothing of it.
"""

import math
from types import TracebackType
from typing import Self

import trio


class Alarm:
    __slots__ = ("_now", "_rings_at", "_scope", "_within")

    def __init__(self) -> None:
        """In a task: the loop's clock is asked itself, at half of what `trio.current_time` costs."""
        self._now = trio.lowlevel.current_clock().current_time
        self._scope: trio.CancelScope | None = None
        self._rings_at = math.inf  # the scope's deadline
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
        if self._scope is not None and self._now() >= self._rings_at:
            self.leave(None, None, None)

    def within(self, seconds: float) -> "_Within":
        self._rings_at = deadline = self._now() + seconds
        if self._scope is None:
            self._scope = trio.CancelScope(deadline=deadline)
            self._scope.__enter__()
        else:
            self._scope.deadline = deadline
        return self._within

    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Leaves the scope, as its `with` would. True where the error is the scope's own cancellation."""
        scope, self._scope = self._scope, None
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
