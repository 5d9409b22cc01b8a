"""Owns when something is looked at next: alarms (flow/alarm) and couriers, by one task for them all.

Rules:
 1. Whoever wants a look has one entry. An earlier look takes the place of a later one; a later one is not noted, since
    who is looked at says itself when to look again.
 2. Couriers go by the clock: all that are due are looked at in one turn of the loop.
 3. Alarms go by the moment that was waited for, one moment a turn: after a stop of the process answers are read first.
    So they have a heap of their own. To take out all that are due in each of these turns, and put them back, took 4.4 s
    of CPU with 4,096 alarms; this takes 0.13.
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
    @property
    def goes_by_clock(self) -> bool:
        """Else by the moment that was waited for."""
        ...

    def look(self, at: float) -> float:
        """All is looked at that wanted it by `at`. Returns when to look again (the loop's clock), infinity for not."""
        ...


_Heap = list[tuple[float, int, LookedAt]]  # when; and who is looked at does not compare


class Timer:
    def __init__(self) -> None:
        self._by_clock: _Heap = []
        self._by_moment: _Heap = []
        self._next: dict[LookedAt, float] = {}  # what else stands in the heaps is passed over
        self._order = count()
        self._sooner = trio.Event()

    def look_at(self, one: LookedAt, at: float) -> None:
        """By the loop's clock; SOON: in the next turn of the loop."""
        if at >= self._next.get(one, math.inf):
            return
        self._next[one] = at
        heap = self._heap(one)
        heapq.heappush(heap, (at, next(self._order), one))
        if heap[0][2] is one:
            self._sooner.set()
        if len(self._by_clock) + len(self._by_moment) > 2 * len(self._next) + _STALE_MIN:
            self._sweep()

    def forget(self, one: LookedAt) -> None:
        """No look at it is wanted any more."""
        self._next.pop(one, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._sooner = trio.Event()
            at = min((heap[0][0] for heap in (self._by_clock, self._by_moment) if heap), default=math.inf)
            if at == SOON:
                await trio.lowlevel.checkpoint()
                self._look(at)
                continue
            with trio.move_on_at(at) as waiting:
                await self._sooner.wait()
            if waiting.cancelled_caught:
                self._look(at)

    def _look(self, at: float) -> None:
        for heap, until in ((self._by_moment, at), (self._by_clock, max(at, trio.current_time()))):
            for one in self._due(heap, until):
                self.look_at(one, one.look(until))

    def _due(self, heap: _Heap, until: float) -> list[LookedAt]:
        due = []
        while heap and heap[0][0] <= until:
            wanted_at, _, one = heapq.heappop(heap)
            if self._next.get(one) == wanted_at:
                del self._next[one]
                due.append(one)
        return due

    def _heap(self, one: LookedAt) -> _Heap:
        return self._by_clock if one.goes_by_clock else self._by_moment

    def _sweep(self) -> None:
        for heap in (self._by_clock, self._by_moment):
            heap.clear()
        for one, at in self._next.items():
            self._heap(one).append((at, next(self._order), one))
        for heap in (self._by_clock, self._by_moment):
            heapq.heapify(heap)
