"""Owns what an unsettled delivery is granted: how many attempts, how much age, and when the next may begin.

Rules:
 1. Everything is derived at each use from the settings and the registration in force: a PUT or a reload holds at once.
 2. Ages are measured by the endpoint's own clock (core/health). It stands while nothing may be attempted on purpose.
 3. An event's own expiry is a time, not an age: a pause or Retry-After does not put it off. Nothing expires while an
    operator holds the endpoint; what is past its expiry then is not attempted after that.
 4. No attempt is promised for a time when its delivery will have expired.
 5. A deadline is its age, its event's expiry or its last attempt, whichever comes first. Probes use up no attempt.
It changes nothing.
"""

import math
from collections.abc import Callable, Sequence

from hookd.core.deadline import Cause, Deadline
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.expiring_event import ExpiringEvent, has_lapsed
from hookd.core.health import Health, PausedBy, opening_age
from hookd.core.registry import Registry
from hookd.core.timestamps import Moment


class Terms:
    def __init__(
        self,
        effective: EffectiveSettings,
        *,
        registry: Registry,
        health: Callable[[str, str], Health | None],
    ) -> None:
        self._effective = effective
        self._registry = registry
        self._health = health

    def begins_at(self, event: Event, delivery: Delivery, *, now: float) -> float | None:
        """When the next attempt may begin (monotonic); None in flight, when settled, and while none may.

        None too where it will have expired before that, as things are, or stands behind another in strict order.
        """
        if delivery.due_at is None:
            return None
        health = self._health_of(event, delivery)
        if health.held_up_by not in (None, event.id):
            return None
        begins_from = health.begins_from(delivery.due_at)
        expires_at = self.expires_at(event, delivery, now=now)
        is_too_late = expires_at is not None and begins_from >= expires_at
        return None if begins_from == math.inf or is_too_late else begins_from

    def age_clock(self, client_id: str, endpoint_id: str, *, now: float) -> float:
        """What a delivery that is opened now is opened at."""
        return opening_age(self._health(client_id, endpoint_id), now)

    def age_seconds(self, event: Event, delivery: Delivery, *, now: float) -> float:
        """How old an unsettled delivery is, as expiry sees it: 0 while an operator holds its endpoint."""
        return self._health_of(event, delivery).age_of(delivery.opened_at, now)

    def has_expired(self, event: Event, delivery: Delivery, *, now: float) -> bool:
        """Whether it is too old, or past its event's own expiry: never while an operator holds its endpoint."""
        if self.age_seconds(event, delivery, now=now) >= self._effective.settings.retry.age_seconds_max:
            return True
        return type(event) is ExpiringEvent and self.has_lapsed(event, delivery, now=now)

    def has_lapsed(self, event: Event, delivery: Delivery, *, now: float) -> bool:
        """Whether it is past its event's own expiry, and no operator holds its endpoint."""
        return has_lapsed(event, now) and not self._health_of(event, delivery).is_held

    def expires_at(self, event: Event, delivery: Delivery, *, now: float) -> float | None:
        """When it expires (monotonic), by its age or its event; None when settled and while an operator holds it.

        None too where something else ends it before: its endpoint is disabled, or was removed.
        """
        if delivery.is_settled or delivery.is_abandoned:
            return None
        age_seconds_max = self._effective.settings.retry.age_seconds_max
        health = self._health_of(event, delivery)
        if health.disabled:
            return None
        expires_at = health.expires_at(delivery.opened_at, age_seconds_max=age_seconds_max, now=now)
        if expires_at is None or type(event) is not ExpiringEvent:
            return expires_at
        return min(expires_at, max(now, event.expires_monotonic))

    def deadline(self, event: Event, delivery: Delivery, *, now: Moment) -> Deadline | None:
        """When it is given up, as things are, if no attempt before brings it; None where `expires_at` is."""
        expires_at = self.expires_at(event, delivery, now=now.monotonic)
        if expires_at is None:
            return None
        is_own = type(event) is ExpiringEvent and expires_at >= event.expires_monotonic
        found = Deadline(expires_at, Cause.EXPIRY if is_own else Cause.AGE)
        last = self._last_attempt(event, delivery, now.monotonic)
        found = found if last is None or last.at >= expires_at else last
        return found._replace(at=now.wall + found.at - now.monotonic)

    def _last_attempt(self, event: Event, delivery: Delivery, now: float) -> Deadline | None:
        """When it begins (monotonic) if those before fail at once, jitter left out. None while only probes begin."""
        next_at = now if delivery.in_flight else self.begins_at(event, delivery, now=now)
        is_probed = self._health_of(event, delivery).paused_by is PausedBy.FAILURES or delivery.particulars.is_probing
        if next_at is None or is_probed:
            return None
        next_at = max(now, next_at)  # it may be due, and wait for its turn
        number = delivery.attempt_count + (not delivery.in_flight)
        left = self.attempts_allowed(event, delivery) - number
        if left <= 0:
            return Deadline(next_at, Cause.ATTEMPTS)
        failed, schedule_seconds = number - delivery.unscheduled_attempts, self._schedule_seconds(event, delivery)
        waits = sum(schedule_seconds[failed - 1 : failed - 1 + left])
        return Deadline(next_at + waits, Cause.ATTEMPTS, is_exact=False)

    def attempts_max(self, event: Event, delivery: Delivery) -> int:
        """How many attempts it gets, as it is shown; of a settled one, by the schedule in force then."""
        if delivery.is_settled or delivery.is_abandoned:
            return delivery.attempts_max_at_end
        return delivery.attempts_max(self.attempts_of_schedule(event, delivery))

    def attempts_allowed(self, event: Event, delivery: Delivery) -> int:
        """How many attempts the schedule in force grants it; it may have had more already."""
        return delivery.attempts_allowed(self.attempts_of_schedule(event, delivery))

    def is_used_up(self, event: Event, delivery: Delivery) -> bool:
        """Whether the schedule in force grants no attempt after those that it has had."""
        return delivery.attempt_count >= self.attempts_allowed(event, delivery)

    def attempts_of_schedule(self, event: Event, delivery: Delivery) -> int:
        """How many attempts the schedule in force grants to a delivery."""
        return self._effective.attempts_of_schedule(self._registry.endpoint(event.client_id, delivery.endpoint_id))

    def _schedule_seconds(self, event: Event, delivery: Delivery) -> Sequence[float]:
        """That in force; of an endpoint that is not registered, the settings' own."""
        endpoint = self._registry.endpoint(event.client_id, delivery.endpoint_id)
        own = None if endpoint is None else endpoint.schedule_seconds
        return self._effective.settings.retry.schedule_seconds if own is None else own

    def _health_of(self, event: Event, delivery: Delivery) -> Health:
        """The health of an unsettled delivery's endpoint: it is there as long as anything is unsettled."""
        health = self._health(event.client_id, delivery.endpoint_id)
        assert health is not None
        return health
