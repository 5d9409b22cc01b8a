"""Owns the budget: what an unsettled event costs, what may still come in, and how long until some of it is free again.

Rules:
 1. An event takes budget when it comes in or is reopened. It gives the same budget back when it settles.
 2. A promised wait is measured: it follows from the rate at which events settled in the last 10 to 20 s.
 3. Where nothing settled there is no rate. The refusal then names the longest wait, or the time of the next attempt.
 4. A client's share of the flight recorder is the larger of those that it may have of the events and of the bytes.
 5. A budget fills from FILLING_SHARE on: what asks for it then is told so.
Pure: time comes in as a value. Which events are unsettled stands in core/ledger.
Limits: `intake.unsettled_*` and `intake.client_*`. One `Usage` for the daemon and one for each client of which the
ledger holds anything: about 300 B each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.recorder_room import RecorderRoom
from hookd.core.refusal import ClientFull, Full
from hookd.core.settings import IntakeSettings

# What the budget counts for a row. Measured at a million events of one delivery each, waiting in a lane: 439 B
# together over the payload; the rest is room for attempts, logs and the allocator.
EVENT_BYTES = 512
DELIVERY_BYTES = 512
# What `Retry-After` may say: sooner is a storm of repeats, later leaves room unused once an endpoint is back.
WAIT_SECONDS_MIN, WAIT_SECONDS_MAX = 1, 60
# Settling is counted in windows of this length: the present one and the one before.
WINDOW_SECONDS = 10.0
# What settled in the first moments is not taken for a rate of thousands a second.
MEASURED_SECONDS_MIN = 1.0
FILLING_SHARE = 0.8


def cost_bytes(payload_bytes: int, delivery_count: int) -> int:
    """What an unsettled event takes of the budget; one that owes nothing to anybody takes none."""
    return payload_bytes + EVENT_BYTES + DELIVERY_BYTES * delivery_count if delivery_count else 0


@dataclass(slots=True)  # counted in with each event: to set a field of a Struct takes two to four times as long
class Demand:
    """Budget asked for, by one event or by several that are admitted together."""

    events: int = 0
    bytes: int = 0
    row_bytes: int = 0  # in the flight recorder, at most

    def add(self, other: "Demand") -> None:
        self.events += other.events
        self.bytes += other.bytes
        self.row_bytes += other.row_bytes

    def beyond(self, held: "Demand") -> "Demand":
        """What of it is asked for beside what the same event holds."""
        return Demand(self.events - held.events, self.bytes - held.bytes, self.row_bytes - held.row_bytes)


@dataclass(slots=True)
class Settling:
    """How fast budget was given back lately."""

    began: float = -math.inf  # monotonic: the present window
    events: int = 0
    bytes: int = 0
    seconds_before: float = 0.0  # the length of the window before; none at the start and after a lull
    events_before: int = 0
    bytes_before: int = 0

    def note(self, freed_bytes: int, now: float) -> None:
        """One event gave its budget back."""
        if now - self.began >= WINDOW_SECONDS:
            self._turn(now)
        self.events += 1
        self.bytes += freed_bytes

    def seconds_until_free(self, lacking: Demand, now: float) -> float:
        """How long until so much more is given back at the measured rate; infinity if nothing settled lately."""
        self._turn(now)
        seconds = max(now - self.began + self.seconds_before, MEASURED_SECONDS_MIN)
        return max(
            _wait(lacking.events, self.events + self.events_before, seconds),
            _wait(lacking.bytes, self.bytes + self.bytes_before, seconds),
        )

    def _turn(self, now: float) -> None:
        age_seconds = now - self.began
        if age_seconds >= 2 * WINDOW_SECONDS:
            self.began = now
            self.seconds_before, self.events_before, self.bytes_before = 0.0, 0, 0
        elif age_seconds >= WINDOW_SECONDS:
            self.began += WINDOW_SECONDS
            self.seconds_before, self.events_before, self.bytes_before = WINDOW_SECONDS, self.events, self.bytes
        else:
            return
        self.events = self.bytes = 0


class Usage(msgspec.Struct, gc=False):
    """What one client, or the whole daemon, holds of the budget now, and how fast it gave some back lately."""

    held: Demand = msgspec.field(default_factory=Demand)
    settling: Settling = msgspec.field(default_factory=Settling)


class Used(NamedTuple):
    """Of a budget."""

    unsettled_events: int
    unsettled_events_max: int
    unsettled_bytes: int
    unsettled_bytes_max: int

    @property
    def share(self) -> float:
        """1 is all of it."""
        return max(self.unsettled_events / self.unsettled_events_max, self.unsettled_bytes / self.unsettled_bytes_max)


class Budget:
    """Counts what is unsettled. The ledger keeps each client's `Usage` beside the client's events."""

    def __init__(self, effective: EffectiveSettings, recorder: RecorderRoom) -> None:
        self._effective = effective
        self._recorder = recorder
        self.whole = Usage()
        self._divide(effective.settings.intake)

    def demand(self, payload_bytes: int, urls: Sequence[str]) -> Demand:
        """What an event with deliveries to these URLs asks for. Raises Full where no recorder could hold it."""
        row_bytes = self._recorder.row_bytes(payload_bytes, urls)
        return Demand(1, cost_bytes(payload_bytes, len(urls)), row_bytes)

    def enter(self, event: Event, client: Usage) -> None:
        """The event takes budget: it came in, or was reopened."""
        taken_bytes = _event_bytes(event)
        for held in (self.whole.held, client.held):
            held.events += 1
            held.bytes += taken_bytes

    def leave(self, event: Event, client: Usage, *, settled_at: float | None) -> None:
        """The event gives its budget back. Only what settled, at `settled_at` (monotonic), counts for the rate."""
        freed_bytes = _event_bytes(event)
        for held in (self.whole.held, client.held):
            held.events -= 1
            held.bytes -= freed_bytes
        if settled_at is not None:
            self.whole.settling.note(freed_bytes, settled_at)
            client.settling.note(freed_bytes, settled_at)

    def refuse_if_full(self, client_id: str, usage: Usage | None, *, client: Demand, whole: Demand, now: float) -> bool:
        """Raises ClientFull or Full unless both demands fit beside what is unsettled now. Returns whether either fills.

        `usage` is the client's, None where the ledger holds nothing of it. A ClientFull without `retry_after_seconds`
        means that nothing of the client settled lately.
        """
        usage = usage or Usage()
        if self._effective.settings.intake is not self._shared:  # to divide anew for each event takes a microsecond
            self._divide(self._effective.settings.intake)
        held, all_held, mark, all_mark = usage.held, self.whole.held, self._client_mark, self._whole_mark
        fills = (
            held.events + client.events >= mark.events
            or held.bytes + client.bytes >= mark.bytes
            or all_held.events + whole.events >= all_mark.events
            or all_held.bytes + whole.bytes >= all_mark.bytes
        )
        if fills:  # nothing is full before it fills
            self._refuse_if_client_full(client_id, usage, client, now)
        self._refuse_if_share_of_recorder_full(client_id, usage, client, now)
        if fills:
            self._refuse_if_whole_full(whole, now)
        self._recorder.refuse_if_full(whole.row_bytes)
        return fills

    def used(self, client: Usage | None) -> Used:
        """What a client holds of its budget, or with None the whole daemon."""
        intake = self._effective.settings.intake
        if client is None:
            held = self.whole.held
            return Used(held.events, intake.unsettled_events_max, held.bytes, intake.unsettled_bytes_max)
        return Used(client.held.events, intake.client_events_max, client.held.bytes, intake.client_bytes_max)

    def _divide(self, intake: IntakeSettings) -> None:
        self._shared = intake
        self._client_share = client_share(intake)
        self._client_mark = _mark(intake.client_events_max, intake.client_bytes_max)
        self._whole_mark = _mark(intake.unsettled_events_max, intake.unsettled_bytes_max)

    def _refuse_if_client_full(self, client_id: str, usage: Usage, client: Demand, now: float) -> None:
        intake, held = self._effective.settings.intake, usage.held
        lacking = Demand(
            held.events + client.events - intake.client_events_max, held.bytes + client.bytes - intake.client_bytes_max
        )
        if lacking.events <= 0 and lacking.bytes <= 0:
            return
        seconds = usage.settling.seconds_until_free(lacking, now)
        raise ClientFull(
            f"client {client_id!r} has {held.events:,} unsettled events; "
            f"intake.client_events_max is {intake.client_events_max:,}"
            if lacking.events > 0
            else f"client {client_id!r} has {held.bytes:,} unsettled bytes and asks for {client.bytes:,} more; "
            f"intake.client_bytes_max is {intake.client_bytes_max:,}",
            retry_after_seconds=None if seconds == math.inf else wait_seconds(seconds),
        ).at(f"intake.client_{'events' if lacking.events > 0 else 'bytes'}_max", client_id)

    def _refuse_if_share_of_recorder_full(self, client_id: str, usage: Usage, client: Demand, now: float) -> None:
        if self._client_share >= 1:
            return
        held_bytes, bytes_max = self._recorder.client_room(client_id, share=self._client_share)
        lacking_bytes = held_bytes + client.row_bytes - bytes_max
        if lacking_bytes <= 0:
            return
        events = math.ceil(lacking_bytes * usage.held.events / held_bytes) if held_bytes else 0
        seconds = usage.settling.seconds_until_free(Demand(events), now) if events else math.inf
        raise ClientFull(
            f"client {client_id!r} has {held_bytes:,} bytes in the flight recorder and asks for {client.row_bytes:,} "
            f"more; its share of recorder.bytes_max is room for {bytes_max:,}",
            retry_after_seconds=None if seconds == math.inf else wait_seconds(seconds),
        ).at("recorder.bytes_max", client_id)

    def _refuse_if_whole_full(self, whole: Demand, now: float) -> None:
        intake, held = self._effective.settings.intake, self.whole.held
        lacking = Demand(
            held.events + whole.events - intake.unsettled_events_max,
            held.bytes + whole.bytes - intake.unsettled_bytes_max,
        )
        if lacking.events <= 0 and lacking.bytes <= 0:
            return
        raise Full(
            f"{held.events:,} events are unsettled; intake.unsettled_events_max is {intake.unsettled_events_max:,}"
            if lacking.events > 0
            else f"{held.bytes:,} bytes are unsettled, {whole.bytes:,} more are asked for; "
            f"intake.unsettled_bytes_max is {intake.unsettled_bytes_max:,}",
            retry_after_seconds=wait_seconds(self.whole.settling.seconds_until_free(lacking, now)),
        ).at(f"intake.unsettled_{'events' if lacking.events > 0 else 'bytes'}_max")


def _mark(events_max: int, bytes_max: int) -> Demand:
    """From so much on a budget fills."""
    return Demand(math.ceil(events_max * FILLING_SHARE), math.ceil(bytes_max * FILLING_SHARE))


def client_share(intake: IntakeSettings) -> float:
    """What one client may have of the events or of the bytes, whichever is more: 1 is everything."""
    return max(
        intake.client_events_max / max(1, intake.unsettled_events_max),
        intake.client_bytes_max / max(1, intake.unsettled_bytes_max),
    )


def budget_used(held: Demand, unsettled: int, intake: IntakeSettings) -> float:
    """What of a client's budget is taken by events that one of its endpoints is yet owed: `unsettled` of those held.

    Of events or of bytes, whichever is more; 1 is all of it. Bytes are those of as many events of mean size.
    """
    if not held.events:
        return 0.0
    used = max(held.events / max(1, intake.client_events_max), held.bytes / max(1, intake.client_bytes_max))
    return used * unsettled / held.events


def wait_seconds(seconds: float) -> int:
    """Whole seconds for `Retry-After`, upward, within its bounds."""
    return math.ceil(min(max(seconds, WAIT_SECONDS_MIN), WAIT_SECONDS_MAX))


def _event_bytes(event: Event) -> int:
    assert event.payload is not None
    bundle = event.bundle
    if type(bundle) is not tuple:  # as nearly all events have one delivery
        return len(event.payload) + EVENT_BYTES + DELIVERY_BYTES
    return cost_bytes(len(event.payload), len(bundle))


def _wait(lacking: int, freed: int, seconds: float) -> float:
    if lacking <= 0:
        return 0.0
    return lacking * seconds / freed if freed else math.inf
