"""Ports that raise at their n-th call, and a ledger to which one of everything happens.

`Story` is the same whatever its ports do: a run in which none raises says what each other run must come to.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hookd.core import report
from hookd.core.attempt_end import AttemptEnd
from hookd.core.budget import Demand
from hookd.core.delivery import SETTLED, Delivery, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange, Responded, TimedOut
from hookd.core.retry import GiveUp, Reason, Retry, Success, Verdict
from hookd.core.run import Run, Stop
from hookd.core.settings import IntakeSettings, RetentionSettings, Settings
from hookd.core.timestamps import Moment

from tests.core.recorder_harness import WALL, MemoryStore, make_recorder

URL = "https://x.example/"
RUN = Run("run1", "0", "host", 1, WALL)
RECORDER_CALLS = (
    "row_bytes",
    "refuse_if_full",
    "client_room",
    "admitted",
    "added",
    "reopened",
    "restated",
    "begun",
    "ended",
    "settled",
)


class Unspeakable(Exception):
    """Whoever logs it fails as well."""

    def __str__(self) -> str:
        raise ValueError("not even a message")


FAULTS: tuple[Callable[[], Exception], ...] = (
    lambda: OSError(5, "Input/output error"),
    AssertionError,
    Unspeakable,
    MemoryError,
)


class Faults:
    """Counts calls; the n-th, from 1, raises: before it does anything, or after. So does each other that is named."""

    def __init__(self, *nths: int, late: bool = False) -> None:
        self.calls: list[str] = []
        self._nths = nths
        self._late = late

    def on(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*args: Any, **fields: Any) -> Any:
            self.calls.append(name)
            falls = len(self.calls) in self._nths
            if falls and not self._late:
                self.fall(name)
            result = call(*args, **fields)
            if falls:
                self.fall(name)
            return result

        return faulty

    def fall(self, name: str) -> None:
        make = FAULTS[len(self.calls) % len(FAULTS)]
        raise make()


class Faulty:
    """All that is asked of `inner` by these names is counted, and may raise."""

    def __init__(self, inner: Any, faults: Faults, *names: str) -> None:
        self._inner = inner
        for name in names:
            setattr(self, name, faults.on(name, getattr(inner, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FaultyStore(MemoryStore):
    """A store of which each call, and each record that is written, may raise."""

    faults: Faults | None = None

    def allocate(self) -> bool:
        return self._faulty("allocate", super().allocate)()

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        append = self._faulty("begin", super().begin)(number, header)
        return lambda record: self._faulty("append", append)(record)

    def drop(self, number: int, *, keep: bool) -> None:
        self._faulty("drop", super().drop)(number, keep=keep)

    def prove(self) -> None:
        self._faulty("prove", super().prove)()

    def _faulty(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return call if self.faults is None else self.faults.on(name, call)


class Seen(NamedTuple):
    """What must be the same whatever was told of it."""

    statuses: list[tuple[str, ...]]
    totals: object
    held: list[str]
    used: dict[str, tuple[int, int]]


class Story:
    """One of everything that can happen to a ledger, in a fixed order, and again and again."""

    def __init__(self, ports: Faults, *, store: FaultyStore, faulty_recorder: bool, rounds: int = 1) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self.told: Counter[str] = Counter()
        self.store = store
        recorder: Any = make_recorder(store, row_bytes=600, segments_max=16)
        if faulty_recorder:
            recorder = Faulty(recorder, ports, *RECORDER_CALLS, "prove")
        else:
            store.faults = ports
        intake = IntakeSettings(unsettled_events_max=1000, client_events_max=900)
        retention = RetentionSettings(
            exhausted_events_max=3, delivered_events_max=3, delivered_bytes_max=30, age_seconds_max=1e6
        )
        self.ledger = Ledger(
            EffectiveSettings(Settings(intake=intake, retention=retention)),
            started=Moment(0.0, WALL),
            on_settled=ports.on("on_settled", lambda event: self.told.update(["settled"])),
            on_forgotten=ports.on("on_forgotten", lambda event: self.told.update(["forgotten"])),
            on_given_up=ports.on("on_given_up", lambda event, delivery: self.told.update(["given up"])),
            recorder=recorder,
            on_port_failed=self._note,
        )
        self.events: list[Event] = []  # every one that ever was
        self.seconds = 0.0
        self.seen: list[Seen] = []
        for _ in range(rounds):
            for step in self._steps():
                step()
                self.seconds += 1.0
                self.check()

    def _note(self, port: str, error: Exception) -> None:
        self.failures.append((port, error))
        raise RuntimeError("whoever is told raises, too")

    @property
    def now(self) -> Moment:
        return Moment(self.seconds, WALL + self.seconds)

    # What happens

    def _steps(self) -> list[Callable[[], None]]:
        return [
            self._delivers,
            self._fails_then_delivers,
            self._is_cut_and_given_up,
            self._is_reopened_whole,
            self._is_reopened_in_part,
            self._is_redelivered,
            self._owes_nobody,
            self._owes_one_more,
            self._knows_more_of_its_past,
            self._endpoint_is_removed,
            self._is_given_up_by_verdict,
            self._stays_owed,
            lambda: self.ledger.recorder.prove(),
            self._ages,
        ]

    def open(self, *endpoint_ids: str, client_id: str = "a", recovered: bool = False) -> Event:
        demand = self.ledger.demand(10, [URL] * len(endpoint_ids)) if endpoint_ids else Demand()
        self.ledger.refuse_if_full(client_id, client=demand, whole=demand, now=self.now.monotonic)
        deliveries = tuple(Delivery(endpoint_id=one, url=URL, opened_at=0.0, due_at=0.0) for one in endpoint_ids)
        submission = Submission(client_id, "t", b"1" * 10)
        event_id = f"e{len(self.events)}"
        event = self.ledger.open(submission, event_id, deliveries, now=self.now, recovered=recovered)
        self.events.append(event)
        return event

    def begin(self, event: Event, index: int = 0) -> None:
        self.ledger.begin_attempt(event, event.deliveries[index], url=URL, now=self.now)

    def attempt(self, event: Event, verdict: Verdict, index: int = 0) -> None:
        self.begin(event, index)
        outcome = Responded(204) if isinstance(verdict, Success) else TimedOut(15.0)
        exchange = Exchange()
        exchange.excerpt = b"an answer"
        end = AttemptEnd(outcome=outcome, verdict=verdict, exchange=exchange, duration_seconds=0.1, now=self.now)
        self.ledger.end_attempt(event, event.deliveries[index], end)

    def _delivers(self) -> None:
        self.attempt(self.open("x"), Success())

    def _fails_then_delivers(self) -> None:
        event = self.open("x", "y", client_id="b")
        self.attempt(event, Retry(1.0), 0)
        self.attempt(event, Success(), 1)
        self.attempt(event, Success(), 0)

    def _is_cut_and_given_up(self) -> None:
        event = self.open("x")
        self.begin(event)
        self.ledger.cut_attempt(event, event.deliveries[0], exchange=Exchange(), duration_seconds=0.1)
        self.ledger.make_due(event.deliveries[0], now=self.now)
        self.ledger.give_up(event, event.deliveries[0], Reason.EXPIRED, now=self.now)

    def _is_reopened_whole(self) -> None:
        event = self.open("x")
        self.ledger.give_up(event, event.deliveries[0], Reason.GONE, now=self.now)
        self.ledger.reopen(event, event.deliveries[0], now=self.now)
        self.attempt(event, Success())

    def _is_reopened_in_part(self) -> None:
        event = self.open("x", "y")
        self.ledger.give_up(event, event.deliveries[0], Reason.GONE, now=self.now)
        self.ledger.reopen(event, event.deliveries[0], now=self.now)
        self.attempt(event, Success(), 0)
        self.attempt(event, GiveUp(Reason.ATTEMPTS_USED), 1)

    def _is_redelivered(self) -> None:
        event = self.open("x")
        self.attempt(event, Success())
        self.ledger.reopen(event, event.deliveries[0], now=self.now)
        self.attempt(event, Success())

    def _owes_nobody(self) -> None:
        self._add(self.open(client_id="c"), "x")

    def _owes_one_more(self) -> None:
        event = self.open("x", recovered=True)
        self._add(event, "y")
        self.attempt(event, Success(), 0)
        self.attempt(event, Success(), 1)
        self._add(event, "z")
        self.attempt(event, Success(), 2)

    def _add(self, event: Event, endpoint_id: str) -> None:
        delivery = Delivery(endpoint_id=endpoint_id, url=URL, opened_at=0.0, due_at=0.0)
        self.ledger.add_delivery(event, delivery, payload=b"1" * 10, now=self.now)

    def _knows_more_of_its_past(self) -> None:
        event = self.open("x", recovered=True)
        self.ledger.take_past(event, event.deliveries[0], attempt_count=3, maybe_received=True, crash_count=1)
        self.attempt(event, Success())

    def _endpoint_is_removed(self) -> None:
        event = self.open("gone", client_id="d")
        self.begin(event)
        self.ledger.abandon(event, event.deliveries[0], attempts_of_schedule=6)
        self.ledger.cut_attempt(event, event.deliveries[0], exchange=Exchange(), duration_seconds=0.1)
        self.ledger.give_up(event, event.deliveries[0], Reason.ENDPOINT_REMOVED, now=self.now)
        self.ledger.forget_endpoint("d", "gone")

    def _is_given_up_by_verdict(self) -> None:
        self.attempt(self.open("x", client_id="b"), GiveUp(Reason.GONE))

    def _stays_owed(self) -> None:
        event = self.open("x", "y", client_id="e")
        self.attempt(event, Retry(1.0))
        self.begin(event, 1)
        self.ledger.retarget("e", {event.deliveries[0].endpoint_id: "https://y.example/"})

    def _ages(self) -> None:
        self.seconds += 2e6
        while self.ledger.forget_aged(self.now, most=2):
            pass

    # What must hold

    def check(self) -> None:
        totals, ledger = self.ledger.totals(), self.ledger
        duties = [delivery for event in self.events for delivery in event.deliveries]
        assert totals.accepted == len(self.events) == sum(totals.events.values())
        assert totals.opened == len(duties) == sum(totals.deliveries.values())
        statuses = Counter(event.status for event in self.events)
        assert totals.events == {status: statuses[status] for status in Status}
        assert totals.deliveries == {status: sum(one.status is status for one in duties) for status in Status}
        assert totals.in_flight == sum(one.in_flight for one in duties)
        owed = [event for event in self.events if event.status not in SETTLED]
        assert [event.sequence for event in ledger.unsettled.by_sequence()] == [event.sequence for event in owed]
        assert (totals.unsettled_events, totals.unsettled_bytes) == cost(owed)
        used = {one: ledger._books[one].usage.held for one in ledger.client_ids()}
        assert {one: (held.events, held.bytes) for one, held in used.items()} == {
            one: cost([event for event in owed if event.client_id == one]) for one in used
        }
        self._check_health(owed)
        self._check_report(totals.undelivered)
        held = ledger.page(client_id=None, before=None, limit=1000).events
        assert all(event.settled_at is not None for event in held if event.status in SETTLED)
        self.seen.append(
            Seen(
                [(event.id, *(one.status.value for one in event.deliveries)) for event in self.events],
                totals,
                [event.id for event in held],
                {one: (usage.events, usage.bytes) for one, usage in used.items()},
            )
        )

    def _check_health(self, owed: list[Event]) -> None:
        for client_id in self.ledger.client_ids():
            for endpoint_id in self.ledger.endpoint_ids(client_id):
                health = self.ledger.health(client_id, endpoint_id)
                assert health is not None
                mine = [event.delivery_to(endpoint_id) for event in owed if event.client_id == client_id]
                unsettled = [one for one in mine if one is not None and not one.is_settled]
                assert health.unsettled == len(unsettled)
                assert health.in_flight == sum(one.in_flight for one in unsettled)
                assert health.abandoned == sum(one.is_abandoned for one in unsettled)

    def _check_report(self, undelivered: int) -> None:
        stop = Stop(WALL, "SIGTERM", forced=False, drain_seconds=0.0)
        summary = report.summarise(self.ledger, RUN, stop)
        lines = list(report.lines(self.ledger, now_monotonic=self.seconds, now_wall=WALL, payloads=True))
        assert summary.balanced
        assert summary.deliveries.undelivered == undelivered
        assert sum(line.kind == "undelivered" for line in lines) == undelivered
        assert sum(line.kind == "exhausted" for line in lines) == summary.exhausted_held


def cost(events: list[Event]) -> tuple[int, int]:
    """The budget that these take: events and bytes."""
    return len(events), sum(len(event.payload or b"") + 512 + 512 * len(event.deliveries) for event in events)
