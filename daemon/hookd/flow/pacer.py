"""Owns when attempts begin: from two rings of ready lanes, a few in each tick of the event loop, bounded in all.

Rules:
 1. Lanes take turns in the order of their offers. Each attempt in flight puts a lane PLACES_BACK places back: hundreds
    of slow endpoints do not keep a quick one waiting. Places are lost at the offer only, so no lane waits for ever.
 2. Only a few attempts begin in a tick; then every other task that is ready has its turn. A thousand attempts that fall
    due together are a ramp, not a stall.
 3. Failing endpoints have a ring of their own, with one start every few ticks: a hundred that refuse at once would
    otherwise take every turn.
 4. At most `delivery.connections_max` attempts are in flight in all. Failing endpoints hold half of them at most.
It does not know deliveries: a courier offers a lane, and begins from it when asked.
Limits: a lane is in one ring at most once, about 120 B.
"""

import heapq
from itertools import count
from typing import Protocol

import trio

from hookd.core.effective_settings import EffectiveSettings
from hookd.flow.lane import Lane

# The figures for both are tests/benchmarks/isolation.py's, in docs/decisions.md.
STARTS_PER_TICK = 4
TICKS_PER_FAILING_START = 4
# Strictly fewest in flight first starved a lane: offered with one in flight behind a hundred that always have none.
PLACES_BACK = 64


class Begins(Protocol):
    def begin(self, lane: Lane) -> bool:
        """Begins one attempt from the lane if that may be now; offers the lane again if more may."""
        ...


# Rank, order, lane, and who begins from it. No two orders are alike, so lanes are never compared. A plain tuple: to
# make a named one is two calls of Python.
_Offer = tuple[int, int, Lane, Begins]


class Pacer:
    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._well: list[_Offer] = []
        self._failing: list[_Offer] = []
        self._order = count()
        self._in_flight = 0
        self._failing_in_flight = 0
        self._is_closed = False
        self._changed = trio.Event()
        self._idle = trio.lowlevel.ParkingLot()

    def offer(self, lane: Lane, courier: Begins, now: float, *, is_failing: bool) -> None:
        """The lane has something that may begin now (monotonic), and room for it."""
        if not lane.is_offered:
            lane.is_offered, lane.offered_at = True, now
            order = next(self._order)
            ring = self._failing if is_failing else self._well
            heapq.heappush(ring, (order + PLACES_BACK * lane.in_flight, order, lane, courier))
            self._changed.set()

    def began(self, *, is_failing: bool) -> None:
        self._in_flight += 1
        self._failing_in_flight += is_failing

    def ended(self, *, is_failing: bool) -> None:
        """`is_failing` as it was when it began."""
        self._in_flight -= 1
        self._failing_in_flight -= is_failing
        self._changed.set()
        if not self._in_flight:
            self._idle.unpark_all()

    def close(self) -> None:
        """From here on nothing begins."""
        self._is_closed = True

    async def wait_idle(self) -> None:
        """Until no attempt is in flight."""
        while self._in_flight:
            await self._idle.park()

    async def run(self) -> None:
        ticks = 0  # since a failing one began
        while True:
            ticks += 1
            # First, for else the well could leave them no room.
            if ticks >= TICKS_PER_FAILING_START and self._begin_some(self._failing, 1):
                ticks = 0
            self._begin_some(self._well, STARTS_PER_TICK)
            if self._may_begin(self._failing) or self._may_begin(self._well):
                await trio.lowlevel.checkpoint()
            else:
                self._changed = trio.Event()
                await self._changed.wait()

    def _begin_some(self, ring: list[_Offer], starts: int) -> int:
        begun = 0
        while begun < starts and self._may_begin(ring):
            _, _, lane, courier = heapq.heappop(ring)
            lane.is_offered = False
            begun += courier.begin(lane)
        return begun

    def _may_begin(self, ring: list[_Offer]) -> bool:
        if not ring or self._is_closed:
            return False
        most = self._effective.settings.delivery.connections_max
        if ring is self._failing and self._failing_in_flight >= (most + 1) // 2:
            return False
        return self._in_flight < most
