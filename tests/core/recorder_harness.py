"""A recorder whose segments stand in this process, and a ledger driven at random with one that listens."""

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hookd.core.attempt_end import AttemptEnd
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.outcome import Exchange, Responded, TimedOut, Unreachable
from hookd.core.record import FORMAT, Counts, Header
from hookd.core.recorder import SegmentRecorder
from hookd.core.recording import Recording
from hookd.core.retry import GiveUp, Reason, Retry, Success, Verdict
from hookd.core.segment_layout import SegmentLayout
from hookd.core.settings import Settings
from hookd.core.timestamps import Moment

RUN_ID = "run1"
WALL = 1_800_000_000.0


class MemoryStore:
    """Segments as byte arrays; holds its user to what a store may be asked."""

    def __init__(self, segment_bytes: int, segments_room: int) -> None:
        self.segment_bytes = segment_bytes
        self.segments_room = segments_room
        self.spares = 0
        self.log: dict[int, bytearray] = {}
        self._used_bytes = 0

    def allocate(self) -> bool:
        if self.spares + len(self.log) >= self.segments_room:
            return False
        self.spares += 1
        return True

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        assert self.spares > 0
        assert number == max(self.log, default=-1) + 1
        self.spares -= 1
        self.log[number] = bytearray(self.segment_bytes)
        self._used_bytes = 0
        self._append(header)
        return self._append

    def _append(self, record: bytes) -> None:
        offset = self._used_bytes
        self._used_bytes += len(record)
        assert self._used_bytes <= self.segment_bytes
        self.log[max(self.log)][offset : self._used_bytes] = record

    def drop(self, number: int, *, keep: bool) -> None:
        assert number == min(self.log) < max(self.log)
        del self.log[number]
        self.spares += keep

    def prove(self) -> None:
        pass

    def break_off(self) -> None:
        """As a file does: its length is not what its header says."""
        self.log[max(self.log)].append(0)

    def discard(self) -> None:
        self.log.clear()
        self.spares = 0

    def segments(self) -> list[tuple[int, bytes]]:
        return [(number, bytes(data)) for number, data in self.log.items()]


def make_recorder(store: MemoryStore, *, row_bytes: int, segments_max: int, payloads: bool = False) -> SegmentRecorder:
    identity = Header(FORMAT, RUN_ID, 0, "0", "host", 1, WALL, payloads, store.segment_bytes, Counts())
    return SegmentRecorder(store, SegmentLayout(row_bytes, store.segment_bytes, segments_max), identity)


def read(segments: list[tuple[int, bytes]]) -> Recording:
    recording = Recording(RUN_ID)
    recording.take_segments(segments)
    return recording


class Shown(NamedTuple):
    """What of a delivery must come back."""

    endpoint_id: str
    url: str
    status: str
    reason: str | None
    attempt_count: int
    unscheduled_attempts: int
    in_flight: bool
    maybe_received: bool


class Named(NamedTuple):
    """What of an event must come back."""

    id: str
    client_id: str
    type: str
    accepted_at: float
    payload: bytes | None
    traceparent: str | None


def named(event: Event, *, payloads: bool) -> Named:
    payload = event.payload if payloads else None
    return Named(event.id, event.client_id, event.type, event.accepted_at, payload, event.traceparent)


def shown(delivery: Delivery) -> Shown:
    return Shown(
        delivery.endpoint_id,
        delivery.url,
        delivery.status.value,
        delivery.reason.value if delivery.reason else None,
        delivery.attempt_count,
        delivery.unscheduled_attempts,
        delivery.in_flight,
        delivery.maybe_received or delivery.in_flight,
    )


def picture(events: Iterable[Event]) -> dict[int, tuple[Shown, ...]]:
    return {each.sequence: tuple(map(shown, each.deliveries)) for each in sorted(events, key=lambda one: one.sequence)}


class History:
    """A ledger that random things happen to, and what it held after each number of records."""

    def __init__(
        self,
        seed: int,
        *,
        steps: int,
        payloads: bool,
        unsettled_max: int = 12,
        after_step: Callable[["History"], None] = lambda _: None,
    ) -> None:
        self.random = random.Random(seed)
        self.payloads = payloads
        self.store = MemoryStore(4096, 16)
        self.recorder = make_recorder(self.store, row_bytes=1024, segments_max=16, payloads=payloads)
        self.ledger = Ledger(
            EffectiveSettings(Settings()),
            started=Moment(0.0, WALL),
            on_settled=lambda event: None,
            on_forgotten=lambda event: None,
            recorder=self.recorder,
        )
        self.events: dict[int, Event] = {}  # every one that ever was
        self.pictures: dict[int, dict[int, tuple[Shown, ...]]] = {}  # by the last record's sequence
        self._unsettled_max = unsettled_max
        self._settled: list[tuple[Event, Delivery]] = []
        for step in range(steps):
            self._step(Moment(float(step), WALL + step))
            self.pictures[self.recorder.sequence] = picture(self.ledger.unsettled)
            after_step(self)

    def _step(self, now: Moment) -> None:
        pairs = [
            (event, delivery)
            for event in self.ledger.unsettled
            for delivery in event.deliveries
            if not delivery.is_settled
        ]
        if not pairs or (self.random.random() < 0.3 and len(self.ledger.unsettled) < self._unsettled_max):
            return self._open(now)
        if self._settled and self.random.random() < 0.05:
            return self._reopen(now)
        event, delivery = self.random.choice(pairs)
        if not delivery.in_flight:
            url = f"{delivery.url[:20]}{self.random.choice(['', '/v2'])}"
            self.ledger.begin_attempt(event, delivery, url=url, now=now)
        elif self.random.random() < 0.15:
            self.ledger.cut_attempt(event, delivery, exchange=self._exchange(answered=False), duration_seconds=0.25)
            self.ledger.make_due(delivery, now=now)
        else:
            self._end(event, delivery, now)
        return None

    def _open(self, now: Moment) -> None:
        number = len(self.events)
        payload = b"%d" % self.random.getrandbits(self.random.choice([8, 100, 1000])) if self.payloads else b"{}"
        traceparent = f"00-{number + 1:032x}-{number + 1:016x}-01" if number % 4 == 0 else None
        submission = Submission(f"c{number % 3}", f"type.{number % 5}", payload, traceparent=traceparent)
        deliveries = tuple(
            Delivery(endpoint_id=f"e{n}", url=f"https://x.example/{n}/", opened_at=0.0, due_at=0.0)
            for n in range(self.random.choice([0, 1, 1, 1, 2, 3]))
        )
        event = self.ledger.open(submission, f"event_{number}", deliveries, now=now)
        self.events[event.sequence] = event

    def _reopen(self, now: Moment) -> None:
        event, delivery = self._settled.pop()  # given up, or delivered
        self.ledger.reopen(event, delivery, now=now)

    def _end(self, event: Event, delivery: Delivery, now: Moment) -> None:
        kind = self.random.random()
        verdict: Verdict = Success() if kind < 0.6 else Retry(5.0) if kind < 0.9 else GiveUp(Reason.ATTEMPTS_USED)
        outcome = (
            Responded(200) if kind < 0.6 else self.random.choice([Responded(503), TimedOut(15.0), Unreachable("x")])
        )
        self.ledger.end_attempt(
            event,
            delivery,
            AttemptEnd(
                outcome=outcome,
                verdict=verdict,
                exchange=self._exchange(answered=isinstance(outcome, Responded)),
                duration_seconds=0.5,
                now=now,
            ),
        )
        if not isinstance(verdict, Retry):
            self._settled.append((event, delivery))

    def _exchange(self, *, answered: bool) -> Exchange:
        exchange = Exchange()
        exchange.sending_started = exchange.request_sent = self.random.random() < 0.8
        exchange.answer = Responded(503) if answered else None
        return exchange
