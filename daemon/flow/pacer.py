"""Owns when attempts begin: from a ring of ready lanes, a few in each tick of the event loop, at most so many at once.

Rules: the lane with the fewest in flight goes first, among equals the one that has waited longest; so an endpoint
that answers quickly is not kept waiting by hundreds that do not. At most STARTS_PER_TICK begin before everything else
that is ready to run has its turn: a thousand attempts that fall due together are a ramp, not a stall. At most
`delivery.connections_max` are in flight in the whole daemon.
It does not know deliveries: a courier offers a lane, and begins from it when asked.
Limits: a lane is in the ring at most once, about 120 B.
"""

import heapq
from itertools import count
from typing import NamedTuple, Protocol

import trio

from daemon.core.live import Live
from daemon.flow.lane import Lane

# A healthy POST's p99 beside 480 refusing ones, on one core: 3.3 ms with eight a tick, 198 ms where all begin at once.
STARTS_PER_TICK = 2


class Begins(Protocol):
    def begin(self, lane: Lane) -> bool:
        """Begins one attempt from the lane if that may be now; offers the lane again if more may."""
        ...


class _Offer(NamedTuple):
    in_flight: int  # when it was offered
    order: int
    lane: Lane
    courier: Begins


class Pacer:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._ring: list[_Offer] = []
        self._order = count()
        self._in_flight = 0
        self._changed = trio.Event()
        self._idle = trio.lowlevel.ParkingLot()

    def offer(self, lane: Lane, courier: Begins) -> None:
        """The lane has something that may begin now, and room for it."""
        if not lane.is_offered:
            lane.is_offered = True
            heapq.heappush(self._ring, _Offer(lane.in_flight, next(self._order), lane, courier))
            self._changed.set()

    def began(self) -> None:
        self._in_flight += 1

    def ended(self) -> None:
        self._in_flight -= 1
        self._changed.set()
        if not self._in_flight:
            self._idle.unpark_all()

    async def wait_idle(self) -> None:
        """Until no attempt is in flight."""
        while self._in_flight:
            await self._idle.park()

    async def run(self) -> None:
        while True:
            self._changed = trio.Event()
            begun = 0
            while begun < STARTS_PER_TICK and self._ring and self._has_room():
                offer = heapq.heappop(self._ring)
                offer.lane.is_offered = False
                begun += offer.courier.begin(offer.lane)
            if self._ring and self._has_room():
                await trio.lowlevel.checkpoint()
            else:
                await self._changed.wait()

    def _has_room(self) -> bool:
        return self._in_flight < self._live.settings.delivery.connections_max
