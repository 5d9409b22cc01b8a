"""Owns a client's deliveries while they wait and fly: its lanes and the attempts begun from them.

Rules: one courier for each client that has work; its task begins with the first delivery and ends when none is left.
At most `concurrency` attempts in flight on an endpoint, `delivery.connections_max` in the whole daemon.
Its lanes outlive a crash of its task: flow/dispatch contains the crash and starts it again.
"""

import math
from collections import deque
from functools import partial

import trio

from daemon.core.client import Endpoint
from daemon.core.delivery import Delivery
from daemon.core.event import Event
from daemon.core.ledger import Ledger
from daemon.core.live import Live
from daemon.core.outcome import Exchange, Responded
from daemon.core.registry import Registry
from daemon.core.retry import GONE, Reason
from daemon.flow.attempt import Attempter
from daemon.flow.lane import Lane
from daemon.flow.ports import Clock


class Slots:
    """The whole daemon's attempts in flight. A courier that finds none free is woken when one is given back."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._taken = 0
        self._waiting: deque[Courier] = deque()  # each courier at most once
        self._idle = trio.lowlevel.ParkingLot()

    def take_nowait(self, courier: "Courier") -> bool:
        if self._taken < self._live.settings.delivery.connections_max:
            self._taken += 1
            return True
        if not courier.waits_for_slot:
            courier.waits_for_slot = True
            self._waiting.append(courier)
        return False

    def give_back(self) -> None:
        self._taken -= 1
        self.offer()
        if not self._taken:
            self._idle.unpark_all()

    def offer(self) -> None:
        """Wakes the courier that has waited longest where a slot is free; one that has no use for it offers it on."""
        if self._waiting and self._taken < self._live.settings.delivery.connections_max:
            courier = self._waiting.popleft()
            courier.waits_for_slot = False
            courier.wake()

    def leave(self, courier: "Courier") -> None:
        """The courier waits no longer; what it was offered goes to the next."""
        if courier.waits_for_slot:
            courier.waits_for_slot = False
            self._waiting.remove(courier)
        self.offer()

    async def wait_idle(self) -> None:
        """Until no attempt is in flight."""
        while self._taken:
            await self._idle.park()


class Courier:
    def __init__(
        self,
        client_id: str,
        *,
        live: Live,
        ledger: Ledger,
        registry: Registry,
        attempter: Attempter,
        slots: Slots,
        clock: Clock,
    ) -> None:
        self.client_id = client_id
        self.waits_for_slot = False
        self._live = live
        self._ledger = ledger
        self._registry = registry
        self._attempter = attempter
        self._slots = slots
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._flying: dict[int, tuple[Lane, Event, Delivery]] = {}
        self._flights = 0
        self._woken = trio.Event()

    def add(self, event: Event, delivery: Delivery) -> None:
        """A delivery that waits, new here or with another due time."""
        lane = self._lanes.get(delivery.endpoint_id)
        if lane is None:
            lane = self._lanes[delivery.endpoint_id] = Lane(delivery.endpoint_id)
        lane.add(event, delivery)
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    @property
    def has_work(self) -> bool:
        return bool(self._flying) or any(lane.next_due() < math.inf for lane in self._lanes.values())

    def next_due(self) -> float:
        """When the next waiting delivery is due (monotonic), infinity if none waits."""
        return min((lane.next_due() for lane in self._lanes.values()), default=math.inf)

    async def run(self) -> None:
        """Delivers until nothing waits and nothing is in flight."""
        async with trio.open_nursery() as nursery:
            while self.has_work:
                self._woken = trio.Event()
                next_due = self._begin_due(nursery)
                self._slots.offer()
                with trio.move_on_at(next_due):
                    await self._woken.wait()
            self._slots.leave(self)

    def recover(self) -> None:
        """After a crash of the task, whose attempts it cut: what flew waits again, the attempt is used up."""
        now = self._clock.now()
        cut = list(self._flying.values())
        self._flying.clear()
        self._slots.leave(self)
        for lane, event, delivery in cut:
            lane.in_flight -= 1
            self._slots.give_back()
            if delivery.in_flight:  # the crash was in the attempt's own end: what it came to is not known
                exchange = Exchange()
                exchange.sending_started = True
                duration_seconds = now.wall - delivery.attempts[-1].started_at
                self._ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=duration_seconds)
            if not delivery.is_waiting:
                continue
            reason = self._reason_to_give_up(delivery)
            if reason is None:
                self._ledger.make_due(delivery, now=now)
                lane.add(event, delivery)
            else:
                self._ledger.give_up(event, delivery, reason, now=now)

    def _reason_to_give_up(self, delivery: Delivery) -> Reason | None:
        """Why a delivery whose attempt was cut by a crash is not attempted again, if it is not."""
        if self._registry.endpoint(self.client_id, delivery.endpoint_id) is None:
            return Reason.ENDPOINT_REMOVED
        if self._ledger.health(self.client_id, delivery.endpoint_id).disabled:
            return Reason.GONE
        return Reason.ATTEMPTS_USED if delivery.attempt_count >= delivery.attempts_max else None

    def _begin_due(self, nursery: trio.Nursery) -> float:
        """Begins what may begin now; returns when the next delivery falls due (one that waits for room: infinity)."""
        now = self._clock.now()
        next_due = math.inf
        for lane in list(self._lanes.values()):
            next_due = min(next_due, self._begin_lane(lane, nursery, now.monotonic))
            if not lane.in_flight and lane.next_due() == math.inf:
                del self._lanes[lane.endpoint_id]
        return next_due

    def _begin_lane(self, lane: Lane, nursery: trio.Nursery, now: float) -> float:
        endpoint = self._registry.endpoint(self.client_id, lane.endpoint_id)
        if endpoint is None:  # removed: what waited is settled, what flies runs out
            return math.inf
        window = self._live.concurrency(endpoint)
        while lane.in_flight < window:
            due_at = lane.next_due()
            if due_at > now:
                return due_at
            if not self._slots.take_nowait(self):
                return math.inf
            taken = lane.take(now)
            assert taken is not None
            self._flights += 1
            self._flying[self._flights] = (lane, *taken)
            lane.in_flight += 1
            nursery.start_soon(partial(self._fly, self._flights, lane, *taken))
        return math.inf

    async def _fly(self, flight: int, lane: Lane, event: Event, delivery: Delivery) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # no attempt begins after the drain's deadline
        endpoint = self._registry.endpoint(self.client_id, lane.endpoint_id)
        outcome = None
        # Between being taken and this first step an operator may have ended the delivery.
        if endpoint is not None and delivery.is_waiting:
            if self._has_expired(delivery):
                self._ledger.give_up(event, delivery, Reason.EXPIRED, now=self._clock.now())
            else:
                outcome = await self._attempter.attempt(event, delivery, endpoint)
        # From here on nothing waits: a cancelled attempt never comes here, `recover` or the report has it.
        del self._flying[flight]
        lane.in_flight -= 1
        self._slots.give_back()
        if endpoint is not None and isinstance(outcome, Responded) and outcome.status_code == GONE:
            self._disable(endpoint)
        if delivery.is_waiting:
            lane.add(event, delivery)
        if self._registry.endpoint(self.client_id, lane.endpoint_id) is None:
            self._ledger.forget_endpoint(self.client_id, lane.endpoint_id)
        self.wake()

    def _disable(self, endpoint: Endpoint) -> None:
        """The endpoint answered 410: what waits is given up as gone, and so is what comes (contract section 2)."""
        registered = self._registry.endpoint(self.client_id, endpoint.id)
        if registered is None or registered.url != endpoint.url:  # the answer says nothing of another URL
            return
        now = self._clock.now()
        self._ledger.health(self.client_id, endpoint.id).disabled = True
        for event, delivery in self._ledger.waiting(self.client_id, endpoint.id):
            self._ledger.give_up(event, delivery, Reason.GONE, now=now)

    def _has_expired(self, delivery: Delivery) -> bool:
        age_seconds = self._clock.now().monotonic - delivery.opened_at
        return age_seconds >= self._live.settings.retry.age_seconds_max
