"""The whole flow in virtual time: every object of ours is the real one, what is not ours is scripted.

`Flow` builds what the supervisor builds, without sockets, signals and files. The sender plays a script for each URL
and keeps a transcript; the clock's wall runs along with trio's; the log collects its lines in a list. Nothing in a
test waits for real: under `autojump_clock`, `at(35)` is the moment just after everything due at second 35 has begun.
"""

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import msgspec
import trio
import trio.testing
from hookd.core.client import Client, Endpoint
from hookd.core.delivery import Delivery, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.log_line import Line
from hookd.core.mistakes import Mistake
from hookd.core.no_recorder import NOTHING_RECORDED
from hookd.core.notices import Notices
from hookd.core.outcome import Exchange, Outcome, Responded
from hookd.core.recorder import Recorder
from hookd.core.registry import Registry
from hookd.core.retry import Reason
from hookd.core.run import Run
from hookd.core.settings import Settings
from hookd.core.settlements import Settlements
from hookd.core.timestamps import Moment
from hookd.edge.api import Services
from hookd.edge.api.metrics import process_metrics
from hookd.edge.api.services import Connections, Standing
from hookd.edge.egress import tls_mistakes
from hookd.flow.adoption import Adoption
from hookd.flow.attempt import Attempter
from hookd.flow.cancel import Cancel
from hookd.flow.courier import Courier, Keeper
from hookd.flow.declaration import Declaration
from hookd.flow.dispatch import Dispatch
from hookd.flow.drain import drain
from hookd.flow.endings import Endings
from hookd.flow.endpoint_states import EndpointStates
from hookd.flow.feed import Feed
from hookd.flow.gauges import GaugeCollector
from hookd.flow.giving_up import given_up_teller
from hookd.flow.housekeeping import Housekeeping
from hookd.flow.intake import Intake
from hookd.flow.notice_watch import NoticeWatch
from hookd.flow.operational_events import OperationalEvents
from hookd.flow.pacer import Pacer
from hookd.flow.port_failures import PortFailureLog
from hookd.flow.ports import Clock, DeliveryRequest, Sender
from hookd.flow.registration import Registration
from hookd.flow.resend import Resend
from hookd.flow.sending_again import sending_again

EPOCH = 1_800_000_000.0  # the wall time at virtual second 0
URL = "https://acme.example/hook"
TYPE = "invoice.paid"
PAYLOAD = b'{"amount": 1}'
SECRET = "whsec_" + b64encode(b"s" * 24).decode()
STARTED = Moment(0.0, EPOCH)


async def at(seconds: float) -> None:
    """Virtual time has come to `seconds`, and whatever is due then has happened."""
    await trio.sleep_until(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def now() -> None:
    """Whatever can happen without time passing has happened."""
    await trio.testing.wait_all_tasks_blocked()


class VirtualClock:
    """Both clocks read trio's; the next reading can be made to raise, or to call something of the test's."""

    def __init__(self) -> None:
        self._at_next: Callable[[], object] | None = None
        self.set_by_seconds = 0.0  # how far someone has set the wall clock

    def call_once(self, call: Callable[[], object]) -> None:
        self._at_next = call

    def fail_once(self) -> None:
        def fail() -> None:
            raise OSError("the clock cannot be read")

        self.call_once(fail)

    def now(self) -> Moment:
        call, self._at_next = self._at_next, None
        if call is not None:
            call()
        return Moment(trio.current_time(), EPOCH + trio.current_time() + self.set_by_seconds)


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.texts: list[str] = []

    def text(self, text: str) -> None:
        self.texts.append(text)

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.lines.append({"event": event, "level": level, "at": trio.current_time(), **fields})

    def made(self, line: Line) -> None:
        event, fields = line.told()
        self(event, **fields)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


# What a receiver may do, besides answering with a status code, failing as an Outcome, or raising an exception.


class Hang:
    """Takes the request and never answers."""


class Stall(NamedTuple):
    """Answers with a head whose body never ends."""

    status_code: int


class Slow(NamedTuple):
    """Answers after so many seconds."""

    seconds: float
    status_code: int


class Later(NamedTuple):
    """Answers with a Retry-After header, after so many seconds."""

    status_code: int
    retry_after: str
    seconds: float = 0.0


class Held:
    """Answers once it is released."""

    def __init__(self) -> None:
        self._released = trio.Event()
        self._status_code = 0

    def release(self, status_code: int) -> None:
        self._status_code = status_code
        self._released.set()

    async def wait(self) -> int:
        await self._released.wait()
        return self._status_code


class Calling(NamedTuple):
    """Answers after calling something of the test's."""

    call: Callable[[], object]
    status_code: int


Step = int | Outcome | Exception | Hang | Stall | Slow | Later | Held | Calling


class Sent(NamedTuple):
    """One line of the transcript."""

    at: float
    event_id: str
    attempt_number: int
    request: DeliveryRequest


class ScriptedSender:
    """Plays each URL's steps in turn, the last for ever; a URL without a script answers 200."""

    def __init__(self) -> None:
        self.transcript: list[Sent] = []
        self.peaks: Counter[str] = Counter()  # most in flight at once, by URL and in "all"
        self._scripts: dict[str, list[Step]] = {}
        self._flying: Counter[str] = Counter()

    def script(self, url: str, *steps: Step) -> None:
        self._scripts[url] = list(steps)

    def to(self, url: str) -> list[Sent]:
        return [sent for sent in self.transcript if sent.request.url == url]

    def times(self, event_id: str) -> list[float]:
        """When the event's attempts began, in seconds rounded to the microsecond."""
        return [round(sent.at, 6) for sent in self.transcript if sent.event_id == event_id]

    @property
    def flying(self) -> int:
        return self._flying["all"]

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        headers = dict(request.headers)
        number = int(headers["hookd-attempt"])
        self.transcript.append(Sent(trio.current_time(), headers["webhook-id"], number, request))
        steps = self._scripts.get(request.url, [200])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        for key in (request.url, "all"):
            self._flying[key] += 1
            self.peaks[key] = max(self.peaks[key], self._flying[key])
        try:
            return await _play(step, exchange)
        finally:
            for key in (request.url, "all"):
                self._flying[key] -= 1


async def _play(step: Step, exchange: Exchange) -> Outcome:
    await trio.lowlevel.checkpoint()
    match step:
        case Exception():
            raise step
        case Hang():
            exchange.sending_started = exchange.request_sent = True
            await trio.sleep_forever()
        case Stall(status_code):
            _answer(exchange, status_code)
            await trio.sleep_forever()
        case Slow(seconds, status_code):
            exchange.sending_started = exchange.request_sent = True
            await trio.sleep(seconds)
            return _answer(exchange, status_code)
        case Later(status_code, retry_after, seconds):
            if seconds:
                await trio.sleep(seconds)
            exchange.retry_after = retry_after
            return _answer(exchange, status_code)
        case Held():
            exchange.sending_started = exchange.request_sent = True
            return _answer(exchange, await step.wait())
        case Calling(call, status_code):
            call()
            return _answer(exchange, status_code)
        case int():
            return _answer(exchange, step)
        case _:
            return step
    raise AssertionError("a receiver that hangs does not come here")


def _answer(exchange: Exchange, status_code: int) -> Responded:
    exchange.sending_started = exchange.request_sent = True
    exchange.answer = Responded(status_code)
    exchange.excerpt = b"answered %d" % status_code
    return exchange.answer


def endpoint(endpoint_id: str = "default", url: str = URL, **fields: Any) -> Endpoint:
    return Endpoint(id=endpoint_id, url=url, secret=SECRET, **fields)


def submission(client_id: str = "acme", event_id: str | None = None, **fields: Any) -> Submission:
    return Submission(**{"client_id": client_id, "type": TYPE, "payload": PAYLOAD, "id": event_id} | fields)


class Reloaded(NamedTuple):
    """How reloads went."""

    is_successful: bool = True
    succeeded_at: float = EPOCH


class Flow:
    """As the supervisor builds it; `start` runs dispatch and housekeeping in a nursery of the test's."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        jitter_unit: Callable[[], float] = lambda: 0.5,  # a factor of exactly one
        new_courier: Callable[[str, Keeper], Courier] | None = None,
        log: Any = None,
        recorder: Recorder = NOTHING_RECORDED,
        settlements: Callable[[EffectiveSettings], Settlements] = Settlements,
        intake: Callable[..., Intake] = Intake,
        around_sender: Callable[[Sender], Sender] = lambda sender: sender,
        notices: Callable[[EffectiveSettings], Notices] = Notices,
    ) -> None:
        self.effective = EffectiveSettings(settings or Settings())
        self.clock = clock or VirtualClock()
        self.sender = ScriptedSender()
        self.log = log or Lines()
        self.forgotten: list[str] = []
        self._ids = count(1)
        self._secrets = count(1)
        everything = {"effective": self.effective, "clock": self.clock, "log": self.log}
        self.feed = Feed(settlements(self.effective))
        self.registry = Registry(self.effective)
        self.ledger = Ledger(
            self.effective,
            registry=self.registry,
            on_given_up=given_up_teller(self.log, lambda event, delivery: self.notices.given_up(event, delivery)),
            on_port_failed=PortFailureLog(self.log),
            recorder=recorder,
            started=STARTED,
            on_settled=self.feed.note,
            on_forgotten=lambda forgotten: self.forgotten.append(forgotten.id),
        )
        self.operations = OperationalEvents(
            effective=self.effective,
            ledger=self.ledger,
            registry=self.registry,
            intake=lambda: self.intake,
            clock=self.clock,
            log=self.log,
        )
        self.notices = NoticeWatch(
            "run_1",
            ledger=self.ledger,
            feed=Feed(notices(self.effective)),
            operations=self.operations,
            clock=self.clock,
            log=self.log,
        )
        self.states = EndpointStates(ledger=self.ledger, notices=self.notices, clock=self.clock, log=self.log)
        everything |= {"ledger": self.ledger}
        self.attempter = Attempter(
            **everything, sender=around_sender(self.sender), jitter_unit=jitter_unit, user_agent="hookd/test"
        )
        self.endings = Endings(
            ledger=self.ledger, registry=self.registry, clock=self.clock, wake=lambda one: self.dispatch.wake(one)
        )
        everything |= {"registry": self.registry}
        departures, arrivals = trio.open_memory_channel[Event](math.inf)
        self.departures = departures
        self.pacer = Pacer(self.effective)
        self.dispatch = Dispatch(arrivals, new_courier=new_courier or self._new_courier, log=self.log)
        self.housekeeping = Housekeeping(
            effective=self.effective,
            ledger=self.ledger,
            states=self.states,
            endings=self.endings,
            clock=self.clock,
            log=self.log,
        )
        everything |= {"dispatch": self.dispatch}
        self.gauge_collector = GaugeCollector(
            ledger=self.ledger, registry=self.registry, dispatch=self.dispatch, clock=self.clock
        )
        self.intake = intake(departures, **everything, notices=self.notices, new_id=lambda: f"evt_{next(self._ids)}")
        everything |= {"intake": self.intake}
        self.adoption = Adoption(
            ledger=self.ledger, registry=self.registry, dispatch=self.dispatch, clock=everything["clock"]
        )
        self.registration = Registration(**everything, states=self.states, endings=self.endings, adoption=self.adoption)
        self.declaration = Declaration(
            registry=self.registry,
            registration=self.registration,
            ledger=self.ledger,
            dispatch=self.dispatch,
            intake=self.intake,
            log=self.log,
        )
        del everything["log"]
        del everything["effective"]
        self.resend = Resend(**everything, log=self.log)
        self.retry_now, self.redelivery, self.replay = sending_again(**everything, log=self.log)
        self.cancel = Cancel(
            ledger=self.ledger,
            registry=self.registry,
            dispatch=self.dispatch,
            endings=self.endings,
            clock=self.clock,
            log=self.log,
        )

    async def start(self, nursery: trio.Nursery) -> None:
        await self.stand_by(nursery)
        self.begin(nursery)

    async def stand_by(self, nursery: trio.Nursery) -> None:
        """No attempt begins yet, and nothing expires."""
        await nursery.start(self.dispatch.run)

    def begin(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.pacer.run)
        nursery.start_soon(self.housekeeping.run)
        nursery.start_soon(self.endings.run)

    # What tests do to it

    def put(self, client_id: str = "acme", *endpoints: Endpoint, end_unsettled: bool = False) -> bool:
        """Registers a client; without endpoints, one `default` at URL."""
        client = Client(id=client_id, endpoints=endpoints or (endpoint(),))
        return self.registration.put(client, end_unsettled=end_unsettled)

    def admit(self, client_id: str = "acme", event_id: str | None = None, **fields: Any) -> Event:
        return self.intake.admit(submission(client_id, event_id, **fields)).event

    def admit_many(self, number: int, client_id: str = "acme") -> list[Event]:
        return [self.admit(client_id) for _ in range(number)]

    def set(self, **sections: msgspec.Struct) -> None:
        """Other settings from here on, as after SIGHUP."""
        self.effective.settings = msgspec.structs.replace(self.effective.settings, **sections)
        self.feed.ring.trim()
        self.notices.feed.ring.trim()

    async def drain(self, *, timeout_seconds: float = 20.0, forced: trio.Event | None = None) -> float:
        """Closes intake and drains; returns how long that took."""
        self.intake.close()
        started = trio.current_time()
        await drain(
            dispatch=self.dispatch,
            pacer=self.pacer,
            adoption=self.adoption,
            endings=self.endings,
            timeout_seconds=timeout_seconds,
            forced=trio.Event() if forced is None else forced,
        )
        return trio.current_time() - started

    # What tests ask of it

    def services(self, **others: Any) -> Services:
        fields: dict[str, Any] = {
            "run": Run("run_1", "0.0.test", "host", 1, EPOCH),
            "effective": self.effective,
            "clock": self.clock,
            "log": self.log,
            "ledger": self.ledger,
            "feed": self.feed,
            "notices": self.notices,
            "registry": self.registry,
            "intake": self.intake,
            "dispatch": self.dispatch,
            "attempter": self.attempter,
            "registration": self.registration,
            "declaration": self.declaration,
            "retry_now": self.retry_now,
            "redelivery": self.redelivery,
            "replay": self.replay,
            "cancel": self.cancel,
            "resend": self.resend,
            "housekeeping": self.housekeeping,
            "gauge_collector": self.gauge_collector,
            "previous_run": lambda: None,
            "report_directory": "/reports",
            "new_secret": lambda: "whsec_" + b64encode(b"%024d" % next(self._secrets)).decode(),
            "prove_tls": self._prove_tls,
            "connections": lambda: Connections(1, 1000, 0, 0),
            "log_lines_dropped": lambda: 0,
            "reports_problem": lambda: None,
            "standing": lambda: Standing((), Reloaded(), {}),
            "process_metrics": process_metrics(),
        }
        return Services(**fields | others)

    async def _prove_tls(self, egress: EndpointEgress) -> Sequence[Mistake]:
        return tuple(tls_mistakes(egress, wall=lambda: self.clock.now().wall))

    def attempts_max(self, event: Event) -> int:
        """As it is shown of the event's one delivery."""
        return self.ledger.terms.attempts_max(event, only(event))

    def begins_at(self, event: Event) -> float | None:
        """When the next attempt of the event's one delivery may begin, as it is shown."""
        return self.ledger.terms.begins_at(event, only(event), now=self.clock.now().monotonic)

    def balanced(self) -> bool:
        """The totals are what a count of the rows comes to (nothing forgotten)."""
        return all(self._column_balanced(is_operational=one) for one in (False, True))

    def _column_balanced(self, *, is_operational: bool) -> bool:
        totals = self.ledger.operations.snapshot() if is_operational else self.ledger.totals()
        events = [event for event in self.events() if event.is_operational is is_operational]
        deliveries = [delivery for event in events for delivery in event.deliveries]
        held = Counter(event.status for event in events)
        duties = Counter(delivery.status for delivery in deliveries)
        return (
            totals.is_balanced
            and totals.in_flight == sum(delivery.in_flight for delivery in deliveries)
            and all(totals.events[status] == held[status] for status in Status)
            and all(totals.deliveries[status] == duties[status] for status in Status)
        )

    def events(self) -> list[Event]:
        found: list[Event] = []
        before = None
        while True:
            page, before = self.ledger.page(client_id=None, before=before, limit=1000)
            found += page
            if before is None:
                return found

    def _new_courier(self, client_id: str, keeper: Keeper) -> Courier:
        return Courier(
            client_id,
            keeper,
            effective=self.effective,
            ledger=self.ledger,
            registry=self.registry,
            attempter=self.attempter,
            pacer=self.pacer,
            states=self.states,
            endings=self.endings,
            clock=self.clock,
        )


def only(event: Event) -> Delivery:
    """The one delivery of an event to one endpoint."""
    assert len(event.deliveries) == 1
    return event.deliveries[0]


def standing(event: Event) -> tuple[Status, Reason | None, int]:
    """The one delivery's status, reason and attempts begun."""
    delivery = only(event)
    return delivery.status, delivery.reason, delivery.attempt_count


def statuses(events: Sequence[Event]) -> Counter[Status]:
    return Counter(event.status for event in events)
