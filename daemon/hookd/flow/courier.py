"""Owns a client's deliveries while they wait and fly: its lanes, and the attempts begun from them.

Rules:
 1. Each client that has work has one courier, which its keeper, flow/dispatch, releases when none is left.
 2. The courier offers a lane to the pacer when an attempt may begin from it: something is due, the endpoint's state
    allows it, and its window has room. The pacer decides when the attempt begins.
 3. When a delivery comes in, or an attempt ends, its lane is looked at there and then. Where one has to wait for a
    later moment, or all may have changed, the timer (flow/timer) has the courier look at each. It has no task.
 4. Lanes outlive a crash, which the keeper contains. From then on nothing begins for `REST_SECONDS`.
 5. What is registered and how each endpoint is doing is read off the lanes. Whoever changes the registration hands it
    on through `take_client`.
 6. A client holds half of `delivery.connections_max` at most, rounded up, however many endpoints it has.
"""

import math
from typing import Protocol

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
from hookd.flow.lane import Lane
from hookd.flow.pacer import Pacer
from hookd.flow.ports import Clock
from hookd.flow.timer import SOON

REST_SECONDS = 1.0
_FAILURES = PausedBy.FAILURES  # as core/health has it


class Flight(msgspec.Struct, frozen=True, gc=False):
    courier: "Courier"
    number: int
    lane: Lane
    event: Event
    delivery: Delivery
    is_probe: bool
    is_failing: bool  # whether the endpoint was when it began: the pacer counts it so to the end
    began_at: float  # monotonic


class Keeper(Protocol):
    """Whoever has the tasks and the timer."""

    @property
    def is_running(self) -> bool:
        """Whether there may be tasks. Cancelled, the pacer may have one more turn than the keeper."""
        ...

    def fly(self, flight: Flight) -> None:
        """Has the flight made by its courier's `fly`."""
        ...

    def look_at(self, courier: "Courier", at: float) -> None:
        """Has the courier's `look` called by then at the latest (the loop's clock), until it is released."""
        ...

    def release(self, courier: "Courier") -> None:
        """The courier has no work left."""
        ...

    def contain(self, courier: "Courier", crash: Exception) -> None:
        """The courier has crashed: it is said so, and rests."""
        ...


class Courier:
    goes_by_clock = True

    def __init__(
        self,
        client_id: str,
        keeper: Keeper,
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
        self._keeper = keeper
        self._effective = effective
        self._ledger = ledger
        self._registry = registry
        self._attempter = attempter
        self._pacer = pacer
        self._states = states
        self._endings = endings
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._flying: dict[int, Flight] = {}
        self._flights = 0
        self._is_resting = False  # after a crash
        self._rests_until = math.inf  # by the loop's clock

    def add(self, event: Event, delivery: Delivery, *, expedited: bool = False) -> None:
        """A delivery that waits, new here or with another due time; an expedited one goes before all others."""
        lane = self._lane(delivery.endpoint_id)
        lane.add(event, delivery)
        if expedited:
            lane.expedite(event, delivery)
        self._look(lane)

    def expedite(self, event: Event, delivery: Delivery) -> None:
        """One that waits here and is due goes before all others."""
        lane = self._lane(delivery.endpoint_id)
        lane.expedite(event, delivery)
        self._look(lane)

    def wake(self) -> None:
        """Has every lane looked at, soon."""
        self._keeper.look_at(self, SOON)

    def rest(self) -> None:
        """After a crash: nothing begins for a while. A bug that comes again at once must not hold up the others."""
        self._is_resting, self._rests_until = True, trio.current_time() + REST_SECONDS
        self._keeper.look_at(self, self._rests_until)

    def take_client(self, client: Client | None) -> None:
        """The client as it is registered from here on; None: it is registered no more."""
        for lane in self._lanes.values():
            lane.take_endpoint(None if client is None else client.endpoint(lane.endpoint_id))

    @property
    def has_work(self) -> bool:
        if self._flying:
            return True
        for lane in self._lanes.values():  # noqa: SIM110 - `any` is three calls more, for each event of many clients
            if lane.next_due() < math.inf:
                return True
        return False

    @property
    def is_worth_keeping(self) -> bool:
        """For its client's next event. With many lanes it takes memory, and a crash may have torn it."""
        return len(self._lanes) == 1 and self._rests_until == math.inf

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

    def most_overdue(self, now: float) -> str | None:
        """The endpoint of `next_due`; None where nothing is due."""
        lanes = self._lanes.items()
        owed = ((lane.owed_from(), endpoint_id) for endpoint_id, lane in lanes if lane.health.state(now) is State.OK)
        due_at, endpoint_id = min(owed, default=(math.inf, None))
        return endpoint_id if due_at <= now else None

    def ready_from(self, now: float) -> float:
        """Since when (monotonic) an attempt that could begin has not, to an endpoint that does well; infinity if none.

        Its window has room, and nothing of its own holds it back: it waits for us.
        """
        ready_from = math.inf
        for lane in self._lanes.values():
            health = lane.health
            if lane.in_flight >= health.window or health.is_failing:
                continue  # as nearly all that have a backlog: the rest takes 3 us
            if self._may_begin(lane, now):
                ready_from = min(ready_from, lane.offered_at if lane.is_offered else lane.owed_from())
        return ready_from

    def look(self, at: float) -> float:
        """The timer's: offers the lanes from which an attempt may begin; returns when the next of the others may."""
        try:
            if self._is_resting and at < self._rests_until:
                return self._rests_until
            self._is_resting = False
            if self.has_work:
                return self._offer_ready()
            self._keeper.release(self)
        except Exception as crash:
            self._keeper.contain(self, crash)
        return math.inf

    def begin(self, lane: Lane) -> bool:
        """The pacer's word: begins one attempt from the lane if that may still be."""
        now, health = self._clock.now().monotonic, lane.health
        if not self._keeper.is_running:
            return False
        if not self._may_begin(lane, now):
            self._go_on(lane)
            return False
        is_probe = health.paused_by is _FAILURES
        taken = lane.take(now, oldest=is_probe)
        assert taken is not None
        health.probe_in_flight = is_probe
        self._flights += 1
        flight = Flight(self, self._flights, lane, *taken, is_probe, health.is_failing, now)
        self._flying[flight.number] = flight
        lane.in_flight += 1
        lane.note_begin(now)
        self._pacer.began(is_failing=flight.is_failing)
        self._keeper.fly(flight)
        self._go_on(lane, now)
        return True

    def recover(self, flight: Flight) -> None:
        """After a crash of the flight: its delivery waits again, its attempt is used up."""
        now, lane, event, delivery = self._clock.now(), flight.lane, flight.event, flight.delivery
        if self._flying.pop(flight.number, None) is not None:  # else the crash was in what follows an attempt
            self._end_flight(flight)
        if delivery.in_flight:  # the crash was in the attempt's own end: what it came to is not known
            exchange = Exchange()
            exchange.sending_started = True
            duration_seconds = now.monotonic - flight.began_at
            self._ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=duration_seconds)
        if delivery.is_settled:
            return
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
                self._pacer.offer(lane, self, now, is_failing=lane.health.is_failing)
            elif lane.next_due() < math.inf:
                begins_from = lane.begins_from()
                if begins_from > now:  # else it waits for room, and is looked at when an attempt ends
                    wake_at = min(wake_at, begins_from)
            elif not lane.in_flight and not lane.is_offered:
                del self._lanes[lane.endpoint_id]
        return wake_at

    def _look(self, lane: Lane) -> None:
        """What came in is in its lane by now: a crash from here on is not that of whoever brought it."""
        if lane.is_offered:  # as most are while a batch comes in
            return
        try:
            self._go_on(lane)
        except Exception as crash:
            self._keeper.contain(self, crash)

    def _go_on(self, lane: Lane, now: float | None = None) -> None:
        """After something was added to the lane, or an attempt from it has begun or ended: offers it if one may begin.

        The clock is read where that is wanted, unless it was just read: `now`.
        """
        if lane.is_offered:
            return
        begins_from = lane.begins_from()  # infinity where nothing waits, which costs least to see
        if begins_from == math.inf or not self._has_room(lane):  # without room: when an attempt ends
            if not self._flying and not self._is_resting and not self.has_work:
                self._keeper.release(self)
            return
        now = self._clock.now().monotonic if now is None else now
        if begins_from <= now:
            self._pacer.offer(lane, self, now, is_failing=lane.health.is_failing)
        else:
            self._keeper.look_at(self, begins_from)

    def _may_begin(self, lane: Lane, now: float) -> bool:
        return lane.begins_from() <= now and self._has_room(lane)

    def _has_room(self, lane: Lane) -> bool:
        """Whether one more attempt may be in flight; none may to an endpoint that is not registered."""
        endpoint = lane.endpoint
        if endpoint is None or self._is_resting or self._is_full():
            return False
        if lane.is_strict and (lane.in_flight or self._ledger.is_adopting(self.client_id)):
            return False
        return lane.in_flight < lane.health.room(self._effective.concurrency(endpoint))

    def _is_full(self) -> bool:
        """Whether the client has half of all connections, rounded up."""
        return 2 * len(self._flying) >= self._effective.settings.delivery.connections_max

    def _end_flight(self, flight: Flight) -> None:
        """Also of a flight that never became an attempt, or was cut: then nothing else says that the probe is over."""
        flight.lane.in_flight -= 1
        if not flight.lane.in_flight:
            flight.lane.health.probe_in_flight = False
        self._pacer.ended(is_failing=flight.is_failing)

    async def fly(self, flight: Flight, alarm: Alarm) -> None:
        """One attempt, and what follows."""
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
        if len(self._lanes) > 1 and self._is_full():
            self.wake()  # other lanes waited for this one to end
        del self._flying[flight.number]
        self._end_flight(flight)
        if endpoint is not None and isinstance(outcome, Responded) and outcome.status_code == GONE:
            self._disable(lane, endpoint)
        self._states.tell(self.client_id, lane.endpoint_id)
        if delivery.is_waiting:
            lane.add(event, delivery)
        elif lane.is_strict:
            lane.note_held_up()
        if lane.endpoint is None:
            self._ledger.forget_endpoint(self.client_id, lane.endpoint_id)
            self.wake()
        else:
            self._go_on(lane)

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
            return delivery.abandoned_as or Reason.ENDPOINT_REMOVED
        if lane.health.disabled:
            return Reason.GONE
        return Reason.ATTEMPTS_USED if self._ledger.terms.is_used_up(event, delivery) else None


def _only_probes(lane: Lane) -> bool:
    return lane.health.paused_by is _FAILURES and not lane.is_expedited
