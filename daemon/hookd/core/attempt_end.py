"""Owns what the ledger is told when an attempt ends: its outcome, the verdict on it, and what the endpoint learns."""

import msgspec

from hookd.core.health import Health
from hookd.core.outcome import Exchange, Outcome
from hookd.core.retry import Verdict
from hookd.core.timestamps import Moment


class AttemptEnd(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One attempt that has an outcome. The last four fields are for the endpoint's health alone."""

    outcome: Outcome
    verdict: Verdict
    exchange: Exchange
    duration_seconds: float
    now: Moment
    concurrency: int = 1  # the endpoint's; its window does not grow past it
    retry_after_seconds: float | None = None
    jitter_unit: float = 0.0  # in [0, 1]
    judged: bool = True  # False: the outcome says nothing of the endpoint as it is registered now

    def tell(self, health: Health) -> None:
        health.answer_seconds = self.duration_seconds
        health.note(
            self.outcome,
            self.now,
            concurrency=self.concurrency,
            retry_after_seconds=self.retry_after_seconds,
            jitter_unit=self.jitter_unit,
        )
