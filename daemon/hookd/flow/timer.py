"""Owns when something is looked at next: alarms (flow/alarm) and couriers, by one task for them all.

Rules:
 1. Whoever wants a look has one entry. An earlier look takes the place of a later one; a later one is not noted, since
    who is looked at says itself when to look again.
 2. The timer says up to which moment it waited. What ends by a deadline goes by that and not by the clock: after a stop
    of the process answers are read first.
 3. All that is due by the clock is looked at in one turn of the loop.
To wait for a moment in a task of one's own costs a scope, a deadline of trio's and two turns of that task each time.
Limits: about 250 B for each that wants a look, twice that at most for looks that were taken back or came earlier.
"""

import heapq
import math
from itertools import count
from typing import Protocol

import trio

SOON = -math.inf
_STALE_MIN = 64  # so few are not worth a sweep


class LookedAt(Protocol):
    def look(self, at: float) -> float:
        """The timer waited until `at`. Returns when to look again (the loop's clock), infinity for not by itself."""
        ...


class Timer:
    def __init__(self) -> None:
        self._looks: list[tuple[float, int, LookedAt]] = []  # a heap; and who is looked at does not compare
        self._next: dict[LookedAt, float] = {}  # what else stands in the heap is passed over
        self._order = count()
        self._sooner = trio.Event()

    def look_at(self, one: LookedAt, at: float) -> None:
        """By the loop's clock; SOON: in the next turn of the loop."""
        if at >= self._next.get(one, math.inf):
            return
        self._next[one] = at
        heapq.heappush(self._looks, (at, next(self._order), one))
        if self._looks[0][2] is one:
            self._sooner.set()
        if len(self._looks) > 2 * len(self._next) + _STALE_MIN:
            self._sweep()

    def forget(self, one: LookedAt) -> None:
        """No look at it is wanted any more."""
        self._next.pop(one, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._sooner = trio.Event()
            at = self._looks[0][0] if self._looks else math.inf
            if at == SOON:
                await trio.lowlevel.checkpoint()
                self._look(at)
                continue
            with trio.move_on_at(at) as waiting:
                await self._sooner.wait()
            if waiting.cancelled_caught:
                self._look(at)

    def _look(self, at: float) -> None:
        now, due = max(at, trio.current_time()), []
        while self._looks and self._looks[0][0] <= now:
            wanted_at, _, one = heapq.heappop(self._looks)
            if self._next.get(one) == wanted_at:
                del self._next[one]
                due.append(one)
        for one in due:
            self.look_at(one, one.look(at))

    def _sweep(self) -> None:
        self._looks = [(at, next(self._order), one) for one, at in self._next.items()]
        heapq.heapify(self._looks)
