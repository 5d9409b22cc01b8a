"""Owns the way from the intake channel to the couriers, the couriers' lives, and the tasks of all of them.

Rules:
 1. A courier's crash is contained here and nowhere else. It is logged with its traceback and counted, the attempt in
    whose end it came is used up, and the courier rests for a second. Its other attempts go on.
 2. A crash of dispatch itself is not contained: it ends the daemon, with a report.
 3. Nothing flows back into the intake channel.
 4. A courier without work is kept for its client's next event, as long as the client's registration is the same.
Limits: a courier for each client that has work, and KEPT_MAX besides.
"""

import math
import traceback
from collections.abc import Awaitable, Callable

import trio

from hookd.core.client import Client
from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.flow.alarm import Alarm
from hookd.flow.courier import REST_SECONDS, Courier, Flight, Keeper
from hookd.flow.flight_tasks import FlightTasks
from hookd.flow.ports import Log
from hookd.flow.timer import Timer

# Deliveries; about 3 ms. One event a turn put a healthy endpoint 18 s behind a backlog of 100,000 for others.
ROUTED_AT_ONCE = 1000
# Couriers without work, for their clients' next events: as many as connections are kept, 1.5 KB each. To make one for
# each event takes 9 us.
KEPT_MAX = 1024
NOT_KEPT_MAX = 8 * KEPT_MAX


class Dispatch:
    def __init__(
        self,
        arrivals: trio.MemoryReceiveChannel[Event],
        *,
        new_courier: Callable[[str, Keeper], Courier],
        log: Log,
    ) -> None:
        self._arrivals = arrivals
        self._new_courier = new_courier
        self._log = log
        self._couriers: dict[str, Courier] = {}
        self._kept: dict[str, Courier] = {}  # those without work
        self._not_kept = 0  # since it was full
        self._timer = Timer()
        self._flights = FlightTasks(self._fly, self._timer)
        self._nursery: trio.Nursery | None = None
        self.crashed_couriers = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._timer.run)
            try:
                task_status.started()
                async for event in self._arrivals:
                    self.route(event)
                    self._route_more()
            finally:
                self._nursery = None

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work that goes on beside, as long as dispatch runs. Its crash ends the daemon, as one of dispatch does."""
        assert self._nursery is not None, "dispatch must run before anything goes on beside it"
        self._nursery.start_soon(work)

    def _route_more(self) -> None:
        """What else has arrived, before the others have a turn: they may take milliseconds, a backlog must not."""
        routed = 0
        while routed < ROUTED_AT_ONCE:
            try:
                event = self._arrivals.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return
            self.route(event)
            routed += len(event.deliveries)

    def route(self, event: Event) -> None:
        """Hands the event's waiting deliveries to its client's courier, starting one where there is none."""
        for delivery in event.deliveries:
            if delivery.is_waiting:
                self.add(event, delivery)

    def add(self, event: Event, delivery: Delivery, *, expedited: bool = False) -> None:
        """One waiting delivery, new or with another due time."""
        assert self._nursery is not None, "dispatch must run before anything is routed"
        courier = self._couriers.get(event.client_id)
        if courier is None:
            courier = self._kept.pop(event.client_id, None) or self._new_courier(event.client_id, self)
            self._couriers[event.client_id] = courier
        courier.add(event, delivery, expedited=expedited)

    def expedite(self, event: Event, delivery: Delivery) -> None:
        """One that is due, and that its courier has, or will have once it is routed: no probe is waited for."""
        courier = self._couriers.get(event.client_id)
        if courier is None:
            self.add(event, delivery, expedited=True)
        else:
            courier.expedite(event, delivery)

    def take_client(self, client_id: str, client: Client | None) -> None:
        """The registration has changed, and nothing was awaited since; None: the client is registered no more."""
        courier = self._couriers.get(client_id)
        if courier is not None:
            courier.take_client(client)
        self._kept.pop(client_id, None)

    def wake(self, client_id: str) -> None:
        """The client's endpoints or their states have changed: another attempt may begin."""
        courier = self._couriers.get(client_id)
        if courier is not None:
            courier.wake()

    def next_begin(self) -> float:
        """When the next attempt of any client may begin (monotonic); now, while arrivals are not routed yet."""
        arrivals = self._arrivals.statistics()
        if arrivals.current_buffer_used or not arrivals.tasks_waiting_receive:  # or `run` has one in hand
            return -math.inf
        return min((courier.next_begin() for courier in self._couriers.values()), default=math.inf)

    def next_attempt(self, client_id: str) -> float:
        """When the client's next attempt may begin (monotonic), a probe too; infinity if none may as things are."""
        courier = self._couriers.get(client_id)
        return math.inf if courier is None else courier.next_attempt()

    def next_attempt_to(self, client_id: str, endpoint_id: str) -> float:
        """The same for one of its endpoints."""
        courier = self._couriers.get(client_id)
        return math.inf if courier is None else courier.next_attempt_to(endpoint_id)

    def couriers(self) -> list[Courier]:
        """Of the clients that have work, as a list that outlives their ending."""
        return list(self._couriers.values())

    # What the couriers have done for them

    @property
    def is_running(self) -> bool:
        return self._nursery is not None

    def fly(self, flight: Flight) -> None:
        assert self._nursery is not None
        self._flights.begin(flight, self._nursery)

    def look_at(self, courier: Courier, at: float) -> None:
        self._timer.look_at(courier, at)

    def release(self, courier: Courier) -> None:
        self._timer.forget(courier)
        if self._couriers.get(courier.client_id) is courier:  # the pacer may still ask one that was released
            del self._couriers[courier.client_id]
            if courier.is_worth_keeping:
                self._keep(courier)

    def _keep(self, courier: Courier) -> None:
        """While there is room. Where clients take turns each would push out the next: then few are kept, at no cost."""
        if len(self._kept) < KEPT_MAX:
            self._kept[courier.client_id] = courier
            return
        self._not_kept += 1
        if self._not_kept >= NOT_KEPT_MAX:  # those that are kept may have no more events
            self._kept.clear()
            self._not_kept = 0

    async def _fly(self, flight: Flight, alarm: Alarm) -> None:
        try:
            await flight.courier.fly(flight, alarm)
        except* Exception as crash:
            flight.courier.recover(flight)
            self.contain(flight.courier, crash)

    def contain(self, courier: Courier, crash: Exception) -> None:
        self.crashed_couriers += 1
        self._log(
            "courier.crashed",
            level="error",
            client_id=courier.client_id,
            restart_in_seconds=REST_SECONDS,
            traceback="".join(traceback.format_exception(crash)),
        )
        courier.rest()
