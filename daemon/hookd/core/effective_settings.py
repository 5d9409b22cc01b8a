"""Owns the settings in force: one cell, so that SIGHUP replaces them whole while everyone who reads them holds on."""

from hookd.core.client import Endpoint
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.retry import Policy
from hookd.core.settings import Settings


class EffectiveSettings:
    """Read `settings` at each use, never keep a part of it."""

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def policy(self, endpoint: Endpoint) -> Policy:
        retry = self.settings.retry
        schedule = retry.schedule_seconds if endpoint.schedule_seconds is None else endpoint.schedule_seconds
        return Policy(schedule, retry.jitter, retry.age_seconds_max)

    def attempts_of_schedule(self, endpoint: Endpoint | None) -> int:
        """How many attempts the schedule in force grants; of an endpoint that is not registered, the settings' own."""
        own = None if endpoint is None else endpoint.schedule_seconds
        return 1 + len(self.settings.retry.schedule_seconds if own is None else own)

    def concurrency(self, endpoint: Endpoint) -> int:
        return self.settings.delivery.concurrency if endpoint.concurrency is None else endpoint.concurrency

    def timeout_seconds(self, endpoint: Endpoint) -> float:
        given = endpoint.timeout_seconds
        return self.settings.delivery.timeout_seconds if given is None else given

    def egress(self, endpoint: Endpoint) -> EndpointEgress | None:
        """None: straight to it, with certifi's authorities and no certificate."""
        shared = self.settings.egress.shared
        return shared if endpoint.egress is None else endpoint.egress.over(shared)
