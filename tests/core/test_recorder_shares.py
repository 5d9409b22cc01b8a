"""One client's share of the flight recorder: beyond it that client is refused, and nobody else."""

import pytest
from hookd.core.budget import WAIT_SECONDS_MAX
from hookd.core.client_schema import URL_CHARS_MAX
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.ledger import Ledger
from hookd.core.refusal import ClientFull, Full
from hookd.core.retry import Reason
from hookd.core.settings import DEFAULTS, IntakeSettings, Settings
from hookd.core.sizing import recorder_layout
from hookd.core.timestamps import Moment

from tests.core.recorder_harness import MemoryStore, make_recorder

SHORT = ["https://x.example/"]
LONG = ["https://x.example/" + "p" * (URL_CHARS_MAX - 18)] * 16


class Daemon:
    """A ledger and a recorder as the settings make them; `room_bytes` is what all rows may take."""

    def __init__(self, intake: IntakeSettings = DEFAULTS.intake) -> None:
        settings = Settings(intake=intake)
        plan = recorder_layout(settings)
        store = MemoryStore(plan.segment_bytes, plan.segments_max)
        self.recorder = make_recorder(store, row_bytes=plan.row_bytes, segments_max=plan.segments_max)
        self.room_bytes = plan.rows_bytes_max(plan.segments_max)
        self.effective = EffectiveSettings(settings)
        self.ledger = Ledger(
            self.effective,
            started=Moment(0.0, 0.0),
            on_settled=lambda event: None,
            on_forgotten=lambda event: None,
            recorder=self.recorder,
        )
        self.admitted = 0

    def admit(self, client_id: str, urls: list[str], *, now: float = 0.0) -> Event:
        demand = self.ledger.demand(2, urls)
        self.ledger.refuse_if_full(client_id, client=demand, whole=demand, now=now)
        self.admitted += 1
        deliveries = tuple(
            Delivery(endpoint_id=f"d{number}", url=url, opened_at=now, due_at=now) for number, url in enumerate(urls)
        )
        return self.ledger.open(
            Submission(client_id, "t", b"{}"), f"e{self.admitted}", deliveries, now=Moment(now, now)
        )

    def settle(self, event: Event, *, now: float = 0.0) -> None:
        for delivery in event.deliveries:
            self.ledger.give_up(event, delivery, Reason.EXPIRED, now=Moment(now, now))

    def admit_until_refused(
        self, client_id: str, urls: list[str], *, now: float = 0.0
    ) -> tuple[list[Event], Full | ClientFull]:
        events = []
        while True:
            try:
                events.append(self.admit(client_id, urls, now=now))
            except (Full, ClientFull) as refused:
                return events, refused


def test_client_with_16_long_urls_is_refused_alone() -> None:
    """Its events stay; 3,000 others of another client find room, and so does a third client."""
    daemon = Daemon()
    events, refused = daemon.admit_until_refused("greedy", LONG)
    assert isinstance(refused, ClientFull)
    assert "greedy" in refused.detail
    assert "recorder.bytes_max" in refused.detail
    assert 200 < len(events) < 250  # a quarter of the 877 that all of the room holds
    for _ in range(3000):
        daemon.admit("modest", SHORT)
    daemon.admit("third", LONG)
    assert daemon.recorder.unrecorded == 0


def test_share_is_free_again_as_events_settle() -> None:
    """Settled, carried or reopened: what is counted for a client is what its unsettled rows take."""
    daemon = Daemon()
    events, _ = daemon.admit_until_refused("greedy", LONG)
    for event in events[:10]:
        daemon.settle(event)
    again, _ = daemon.admit_until_refused("greedy", LONG)
    assert len(again) == 10
    for event in (*events[10:], *again):
        daemon.settle(event)
    assert daemon.recorder.client_room("greedy", share=0.25) == (0, daemon.room_bytes // 4)


@pytest.mark.parametrize(
    ("events_max", "bytes_max", "share"),
    [(10_000, 64 * 2**20, 0.25), (50_000, 64 * 2**20, 0.5), (10_000, 32 * 2**20, 0.125), (1, 1, 0)],
)
def test_share_is_the_larger_of_the_clients_two(events_max: int, bytes_max: int, share: float) -> None:
    """Of the events and of the bytes; where both are tiny the largest row fits still."""
    daemon = Daemon(IntakeSettings(client_events_max=events_max, client_bytes_max=bytes_max, payload_bytes_max=1))
    _, most = daemon.recorder.client_room("one", share=max(events_max / 100_000, bytes_max / 2**28))
    assert most == max(int(daemon.room_bytes * share), recorder_layout(DEFAULTS).row_bytes)


def test_client_that_may_have_every_event_may_fill_the_recorder() -> None:
    daemon = Daemon(IntakeSettings(client_events_max=DEFAULTS.intake.unsettled_events_max))
    events, refused = daemon.admit_until_refused("only", LONG)
    assert isinstance(refused, Full)
    assert len(events) > 800


def test_wait_for_a_share_is_what_the_client_settles() -> None:
    """At two events a second, one row's room is free in half a second; where nothing settled nothing is promised."""
    daemon = Daemon()
    events, refused = daemon.admit_until_refused("greedy", LONG)
    assert refused.retry_after_seconds is None
    for number in range(20):
        daemon.settle(events[number], now=number / 2)
        daemon.admit("greedy", LONG, now=number / 2)
    _, refused = daemon.admit_until_refused("greedy", LONG, now=10.0)
    assert refused.retry_after_seconds == 1 < WAIT_SECONDS_MAX


def test_share_follows_the_settings_in_force() -> None:
    """A reload that doubles the client's events lets it go on at once."""
    daemon = Daemon()
    before, _ = daemon.admit_until_refused("greedy", LONG)
    daemon.effective.settings = Settings(intake=IntakeSettings(client_events_max=50_000))
    after, refused = daemon.admit_until_refused("greedy", LONG)
    assert isinstance(refused, ClientFull)
    assert len(after) == pytest.approx(len(before), abs=1)
