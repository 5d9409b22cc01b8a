"""What the settings and the registry of this moment grant a delivery that waits."""

import math

from hookd.core.client import Client, Endpoint
from hookd.core.deadline import Cause, Deadline
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.expiring_event import expiring
from hookd.core.health import Health, PausedBy
from hookd.core.registry import Registry
from hookd.core.settings import RetrySettings, Settings
from hookd.core.terms import Terms
from hookd.core.timestamps import Moment

URL = "https://x.example/"
WALL = 1_800_000_000.0


class Desk:
    """One client with an endpoint that has a schedule of its own, and one that has none."""

    def __init__(self) -> None:
        effective = EffectiveSettings(Settings(retry=RetrySettings(schedule_seconds=(1.0,) * 5, age_seconds_max=100.0)))
        registry = Registry(effective)
        own = Endpoint(id="own", url=URL, secret="s", schedule_seconds=(1.0, 2.0))
        registry.put(Client(id="a", endpoints=(own, Endpoint(id="usual", url=URL, secret="s"))))
        self.health = {"own": Health(), "usual": Health()}
        self.terms = Terms(effective, registry=registry, health=lambda _, endpoint_id: self.health.get(endpoint_id))

    def event(self, endpoint_id: str, *, due_at: float = 0.0) -> tuple[Event, Delivery]:
        delivery = Delivery(endpoint_id=endpoint_id, url=URL, opened_at=0.0, due_at=due_at)
        event = Event(
            sequence=1,
            id="e",
            client_id="a",
            type="t",
            payload=b"1",
            accepted_at=0.0,
            since=0.0,
            bundle=(delivery,),
        )
        return event, delivery


def test_schedule_is_the_endpoint_s_own_or_the_settings() -> None:
    """One attempt more than there are delays; of an endpoint that is not registered, the settings'."""
    desk = Desk()
    for endpoint_id, count in (("own", 3), ("usual", 6), ("removed", 6)):
        event, delivery = desk.event(endpoint_id)
        assert desk.terms.attempts_of_schedule(event, delivery) == count
        assert desk.terms.attempts_allowed(event, delivery) == count
        assert desk.terms.attempts_max(event, delivery) == count
        for attempts in range(count + 2):
            delivery.attempt_count = attempts
            assert desk.terms.is_used_up(event, delivery) is (attempts >= count)


def test_age_is_counted_from_the_opening_and_ends_it_at_the_age_in_force() -> None:
    """At its very end, not before; not at all while an operator holds its endpoint."""
    desk = Desk()
    event, delivery = desk.event("usual")
    for now in (0.0, 99.0, 100.0, 101.0):
        assert desk.terms.age_seconds(event, delivery, now=now) == now
        assert desk.terms.has_expired(event, delivery, now=now) is (now >= 100.0)
        assert desk.terms.expires_at(event, delivery, now=now) == 100.0
    desk.health["usual"].pause(50.0)
    assert desk.terms.age_seconds(event, delivery, now=200.0) == 0.0
    assert not desk.terms.has_expired(event, delivery, now=200.0)
    assert desk.terms.expires_at(event, delivery, now=200.0) is None


def test_next_attempt_is_promised_only_where_one_may_begin_before_the_expiry() -> None:
    """Not in flight, not while it is held, and not at or after its end."""
    desk = Desk()
    for due_at, begins_at in ((0.0, 0.0), (99.0, 99.0), (100.0, None), (math.inf, None)):
        event, delivery = desk.event("usual", due_at=due_at)
        assert desk.terms.begins_at(event, delivery, now=0.0) == begins_at
    delivery.due_at = None
    assert desk.terms.begins_at(event, delivery, now=0.0) is None
    event, delivery = desk.event("usual")
    desk.health["usual"].disable(0.0)
    assert (desk.terms.begins_at(event, delivery, now=0.0), desk.terms.expires_at(event, delivery, now=0.0)) == (
        None,
        None,
    )
    assert desk.terms.age_clock("a", "usual", now=7.0) == desk.terms.age_clock("a", "removed", now=7.0) == 7.0


def test_deadline_is_the_age_or_the_last_attempt_whichever_comes_first() -> None:
    """By the schedule in force, jitter left out; exact where the next attempt is the last. In wall time."""
    desk = Desk()
    event, delivery = desk.event("own", due_at=10.0)
    now = Moment(5.0, WALL)
    for attempts, deadline in [
        (0, Deadline(WALL + 5 + 3, Cause.ATTEMPTS, is_exact=False)),
        (1, Deadline(WALL + 5 + 2, Cause.ATTEMPTS, is_exact=False)),
        (2, Deadline(WALL + 5, Cause.ATTEMPTS)),
        (9, Deadline(WALL + 5, Cause.ATTEMPTS)),
    ]:
        delivery.attempt_count = attempts
        assert desk.terms.deadline(event, delivery, now=now) == deadline
    delivery.attempt_count, delivery.due_at = 0, 97.5
    assert desk.terms.deadline(event, delivery, now=now) == Deadline(WALL + 95, Cause.AGE)
    delivery.due_at = 200.0
    assert desk.terms.deadline(event, delivery, now=now) == Deadline(WALL + 95, Cause.AGE)


def test_deadline_of_what_is_in_flight_counts_that_attempt() -> None:
    """As if it failed now."""
    desk = Desk()
    event, delivery = desk.event("own")
    delivery.due_at, delivery.in_flight, delivery.attempt_count = None, True, 1
    assert desk.terms.deadline(event, delivery, now=Moment(5.0, WALL)) == Deadline(WALL + 3, Cause.ATTEMPTS, False)
    delivery.attempt_count = 3
    assert desk.terms.deadline(event, delivery, now=Moment(5.0, WALL)) == Deadline(WALL, Cause.ATTEMPTS)


def test_deadline_while_only_probes_begin_is_the_age() -> None:
    """They use up no attempt. An operator's pause ends nothing, and a reopened delivery has its schedule anew."""
    desk = Desk()
    event, delivery = desk.event("own")
    delivery.attempt_count = delivery.attempts_before = 7
    now = Moment(5.0, WALL)
    assert desk.terms.deadline(event, delivery, now=now) == Deadline(WALL + 3, Cause.ATTEMPTS, is_exact=False)
    health = desk.health["own"]
    health.paused_by, health.next_probe_at = PausedBy.FAILURES, 6.0
    assert desk.terms.deadline(event, delivery, now=now) == Deadline(WALL + 95, Cause.AGE)
    health.paused_by, delivery.is_probing = None, True
    assert desk.terms.deadline(event, delivery, now=now) == Deadline(WALL + 95, Cause.AGE)
    health.pause(5.0)
    assert desk.terms.deadline(event, delivery, now=now) is None


def test_deadline_is_the_event_s_own_expiry_where_that_comes_first() -> None:
    """And is called so."""
    desk = Desk()
    event, delivery = desk.event("own", due_at=50.0)
    now = Moment(5.0, WALL)
    for seconds, deadline in [
        (20, Deadline(WALL + 20, Cause.EXPIRY)),
        (47, Deadline(WALL + 47, Cause.EXPIRY)),
        (90, Deadline(WALL + 48, Cause.ATTEMPTS, is_exact=False)),
    ]:
        assert desk.terms.deadline(expiring(event, WALL + seconds, now=now), delivery, now=now) == deadline
    delivery.due_at = 99.0
    assert desk.terms.deadline(expiring(event, WALL + 200, now=now), delivery, now=now) == Deadline(
        WALL + 95, Cause.AGE
    )
