"""Owns a client's deliveries while they wait and fly: its lanes, and the attempts begun from them.

Rules:
 1. Each client that has work has one courier. Its task begins with the first delivery and ends when none is left.
 2. The courier offers a lane to the pacer when an attempt may begin from it: something is due, the endpoint's state
    allows it, and its window has room. The pacer decides when the attempt begins.
 3. Lanes outlive a crash of the task: flow/dispatch contains the crash and starts the task again.
 4. What is registered and how each endpoint is doing is read off the lanes. Whoever changes the registration hands it
    on through `take_client`.
 5. A client holds half of `delivery.connections_max` at most, rounded up, however many endpoints it has.
"""

import math

import msgspec
import trio

from hookd.core.client import Client, Endpoint
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.health import PausedBy, State
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange, Responded
from hookd.core.registry import Registry
from hookd.core.retry import GONE, Reason
from hookd.flow.alarm import Alarm
from hookd.flow.attempt import Attempter
from hookd.flow.endings import Endings
from hookd.flow.endpoint_states import EndpointStates
from hookd.flow.flight_tasks import FlightTasks
from hookd.flow.lane import Lane
from hookd.flow.pacer import Pacer
from hookd.flow.ports import Clock

_FAILURES = PausedBy.FAILURES  # as core/health has it


class _Flight(msgspec.Struct, frozen=True, gc=False):
    number: int
    lane: Lane
    event: Event
    delivery: Delivery
    is_probe: bool
    is_failing: bool  # whether the endpoint was when it began: the pacer counts it so to the end
    began_at: float  # monotonic


class Courier:
    def __init__(
        self,
        client_id: str,
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        registry: Registry,
        attempter: Attempter,
        pacer: Pacer,
        states: EndpointStates,
        endings: Endings,
        clock: Clock,
    ) -> None:
        self.client_id = client_id
        self._effective = effective
        self._ledger = ledger
        self._registry = registry
        self._attempter = attempter
        self._pacer = pacer
        self._states = states
        self._endings = endings
        self._nursery: trio.Nursery | None = None  # while the task runs
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._flying: dict[int, _Flight] = {}
        self._flights = 0
        self._tasks = FlightTasks(self._fly)
        self._woken = trio.Event()

    def add(self, event: Event, delivery: Delivery, *, expedited: bool = False) -> None:
        """A delivery that waits, new here or with another due time; an expedited one goes before all others."""
        lane = self._lane(delivery.endpoint_id)
        lane.add(event, delivery)
        if expedited:
            lane.expedite(event, delivery)
        if expedited or not self._is_busy(lane):
            self.wake()

    def expedite(self, event: Event, delivery: Delivery) -> None:
        """One that waits here and is due goes before all others."""
        self._lane(delivery.endpoint_id).expedite(event, delivery)
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    def take_client(self, client: Client | None) -> None:
        """The client as it is registered from here on; None: it is registered no more."""
        for lane in self._lanes.values():
            lane.take_endpoint(None if client is None else client.endpoint(lane.endpoint_id))

    @property
    def has_work(self) -> bool:
        return bool(self._flying) or any(lane.next_due() < math.inf for lane in self._lanes.values())

    def next_begin(self) -> float:
        """When the next attempt may begin (monotonic), infinity if none may as things are. Probes do not count."""
        lanes = (lane for lane in self._lanes.values() if not _only_probes(lane))
        return min((lane.begins_from() for lane in lanes), default=math.inf)

    def next_attempt(self) -> float:
        """When the next attempt may begin (monotonic), a probe too; infinity if none may as things are."""
        return min((lane.begins_from() for lane in self._lanes.values()), default=math.inf)

    def next_attempt_to(self, endpoint_id: str) -> float:
        """The same for one endpoint; infinity too while what waits stands behind one in flight, in strict order."""
        lane = self._lanes.get(endpoint_id)
        return math.inf if lane is None or not lane.has_turn else lane.begins_from()

    def next_due(self, now: float) -> float:
        """When the next delivery is due (monotonic) of those that no state of their endpoint holds back."""
        due_at = math.inf
        for lane in self._lanes.values():
            if lane.health.state(now) is State.OK:
                due_at = min(due_at, lane.owed_from())
        return due_at

    async def run(self) -> None:
        """Delivers until nothing waits and nothing is in flight."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                while self.has_work:
                    self._woken = trio.Event()
                    with trio.move_on_at(self._offer_ready()):
                        await self._woken.wait()
            finally:
                self._nursery = None
                self._tasks.dismiss()

    def begin(self, lane: Lane) -> bool:
        """The pacer's word: begins one attempt from the lane if that may still be."""
        now, health = self._clock.now().monotonic, lane.health
        if self._nursery is None or not self._may_begin(lane, now):
            self.wake()
            return False
        is_probe = health.paused_by is _FAILURES
        taken = lane.take(now, oldest=is_probe)
        assert taken is not None
        health.probe_in_flight = is_probe
        self._flights += 1
        flight = _Flight(self._flights, lane, *taken, is_probe, health.is_failing, now)
        self._flying[flight.number] = flight
        lane.in_flight += 1
        lane.note_begin(now)
        self._pacer.began(is_failing=flight.is_failing)
        self._tasks.begin(flight, self._nursery)
        self._go_on(lane, now)
        return True

    def recover(self) -> None:
        """After a crash of the task, whose attempts it cut: what flew waits again, the attempt is used up."""
        now = self._clock.now()
        cut = list(self._flying.values())
        self._flying.clear()
        for flight in cut:
            lane, event, delivery = flight.lane, flight.event, flight.delivery
            self._end_flight(flight)
            if delivery.in_flight:  # the crash was in the attempt's own end: what it came to is not known
                exchange = Exchange()
                exchange.sending_started = True
                duration_seconds = now.monotonic - flight.began_at
                self._ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=duration_seconds)
            if delivery.is_settled:
                continue
            reason = self._reason_to_give_up(lane, event, delivery)
            if reason is None:
                self._ledger.make_due(delivery, now=now)
                lane.add(event, delivery)
            else:
                self._ledger.give_up(event, delivery, reason, now=now)

    def _lane(self, endpoint_id: str) -> Lane:
        """The endpoint's lane. Its health is looked up anew: the ledger drops the row while nothing is unsettled."""
        health = self._ledger.ensure_health(self.client_id, endpoint_id)
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            endpoint = self._registry.endpoint(self.client_id, endpoint_id)
            lane = self._lanes[endpoint_id] = Lane(endpoint_id, endpoint=endpoint, health=health)
        lane.health = health
        return lane

    def _offer_ready(self) -> float:
        """Offers the lanes from which an attempt may begin; returns when the next of the others may."""
        now = self._clock.now().monotonic
        wake_at = math.inf
        for lane in list(self._lanes.values()):
            if self._may_begin(lane, now):
                self._pacer.offer(lane, self, is_failing=lane.health.is_failing)
            elif lane.next_due() < math.inf:
                begins_from = lane.begins_from()
                if begins_from > now:  # else it waits for room, and is looked at when an attempt ends
                    wake_at = min(wake_at, begins_from)
            elif not lane.in_flight and not lane.is_offered:
                del self._lanes[lane.endpoint_id]
        return wake_at

    def _go_on(self, lane: Lane, now: float) -> None:
        """After an attempt has begun or ended: offers the lane if another may begin.

        To wake the task costs as much as a signature. So it is woken only to wait for a later moment, or to end.
        """
        if not self._has_room(lane):
            return  # it is looked at when an attempt ends
        begins_from = lane.begins_from()
        if begins_from <= now:
            self._pacer.offer(lane, self, is_failing=lane.health.is_failing)
        elif begins_from < math.inf or not self._flying:
            self.wake()

    def _may_begin(self, lane: Lane, now: float) -> bool:
        return self._has_room(lane) and lane.begins_from() <= now

    def _has_room(self, lane: Lane) -> bool:
        """Whether one more attempt may be in flight; none may to an endpoint that is not registered."""
        endpoint = lane.endpoint
        if endpoint is None or len(self._flying) >= self._flights_max() or not lane.has_turn:
            return False
        if endpoint.is_strict and self._ledger.is_adopting(self.client_id):
            return False
        return lane.in_flight < lane.health.room(self._effective.concurrency(endpoint))

    def _flights_max(self) -> int:
        return (self._effective.settings.delivery.connections_max + 1) // 2

    def _is_busy(self, lane: Lane) -> bool:
        """Whether it is looked at anyway before anything more can begin: by the pacer, when an attempt ends, at resume.

        To wake the courier for each event of a backlog costs more than to admit the event.
        """
        if lane.is_offered or lane.health.begins_from(-math.inf) == math.inf:
            return True
        return lane.endpoint is not None and not self._has_room(lane)

    def _end_flight(self, flight: _Flight) -> None:
        """Also of a flight that never became an attempt, or was cut: then nothing else says that the probe is over."""
        flight.lane.in_flight -= 1
        if not flight.lane.in_flight:
            flight.lane.health.probe_in_flight = False
        self._pacer.ended(is_failing=flight.is_failing)

    async def _fly(self, flight: _Flight, alarm: Alarm) -> bool:
        """One attempt, and what follows. Whether another may begin from its lane."""
        lane, event, delivery = flight.lane, flight.event, flight.delivery
        await trio.lowlevel.checkpoint_if_cancelled()  # no attempt begins after the drain's deadline
        endpoint = lane.endpoint  # the attempt ends with what it began with
        outcome = None
        # Between being taken and this first step an operator may have ended the delivery.
        if endpoint is not None and delivery.is_waiting:
            now = self._clock.now()
            if self._ledger.terms.has_expired(event, delivery, now=now.monotonic):
                self._ledger.give_up(event, delivery, Reason.EXPIRED, now=now)
            else:
                outcome = await self._attempter.attempt(lane, event, delivery, now, alarm, is_probe=flight.is_probe)
        # From here on nothing waits: a cancelled attempt never comes here, `recover` or the report has it.
        if len(self._flying) >= self._flights_max():
            self.wake()  # other lanes waited for this one to end
        del self._flying[flight.number]
        self._end_flight(flight)
        if endpoint is not None and isinstance(outcome, Responded) and outcome.status_code == GONE:
            self._disable(lane, endpoint)
        self._states.tell(self.client_id, lane.endpoint_id)
        if delivery.is_waiting:
            lane.add(event, delivery)
        else:
            lane.note_held_up()
        if lane.endpoint is None:
            self._ledger.forget_endpoint(self.client_id, lane.endpoint_id)
            self.wake()
        else:
            self._go_on(lane, self._clock.now().monotonic)
        return lane.is_offered

    def _disable(self, lane: Lane, endpoint: Endpoint) -> None:
        """`endpoint` answered 410: what waits is given up as gone, and so is what comes (contract section 2)."""
        if lane.endpoint is None or lane.endpoint.url != endpoint.url:  # the answer says nothing of another URL
            return
        self._ledger.ensure_health(self.client_id, endpoint.id).disable(self._clock.now().monotonic)
        self._states.tell(self.client_id, endpoint.id)
        self._endings.gone(self.client_id, endpoint.id)

    def _reason_to_give_up(self, lane: Lane, event: Event, delivery: Delivery) -> Reason | None:
        """Why a delivery whose attempt was cut by a crash of the task is not attempted again, if it is not."""
        if delivery.is_abandoned or lane.endpoint is None:
            return Reason.ENDPOINT_REMOVED
        if lane.health.disabled:
            return Reason.GONE
        return Reason.ATTEMPTS_USED if self._ledger.terms.is_used_up(event, delivery) else None


def _only_probes(lane: Lane) -> bool:
    return lane.health.paused_by is _FAILURES and not lane.is_expedited
