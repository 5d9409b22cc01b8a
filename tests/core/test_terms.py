"""What the settings and the registry of this moment grant a delivery that waits."""

import math

from hookd.core.client import Client, Endpoint
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.health import Health
from hookd.core.registry import Registry
from hookd.core.settings import RetrySettings, Settings
from hookd.core.terms import Terms

URL = "https://x.example/"


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
