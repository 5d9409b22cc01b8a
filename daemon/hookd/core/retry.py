"""Owns the retry policy: what an outcome means for its delivery, and how long until the next attempt.

Pure: the age, the jitter's random unit and the settings come in as values.
"""

import enum
from collections.abc import Sequence

import msgspec

from hookd.core import outcome as outcomes
from hookd.core.outcome import Outcome, Responded

GONE = 410
# Where a probe failed by a schedule that is empty: short enough not to matter, long enough not to spin.
DELAY_SECONDS_WITHOUT_SCHEDULE = 1.0


class Reason(enum.Enum):
    """Why a delivery was given up."""

    ATTEMPTS_USED = "attempts_used"
    EXPIRED = "expired"
    GONE = "gone"
    ENDPOINT_REMOVED = "endpoint_removed"
    CRASHED = "crashed"
    REFUSED = "refused"
    CANCELLED = "cancelled"  # the recorder writes their order: new ones stand last

    __hash__ = object.__hash__  # as Status has it


class Success(msgspec.Struct, frozen=True, gc=False):
    pass


class Retry(msgspec.Struct, frozen=True, gc=False):
    delay_seconds: float


class GiveUp(msgspec.Struct, frozen=True, gc=False):
    reason: Reason


Verdict = Success | Retry | GiveUp

SUCCESS = Success()


class Policy(msgspec.Struct, frozen=True, gc=False):
    """The retry settings in force for one endpoint."""

    schedule_seconds: tuple[float, ...]
    jitter: float
    age_seconds_max: float

    @property
    def attempts_max(self) -> int:
        return 1 + len(self.schedule_seconds)


def delay_seconds(schedule_seconds: Sequence[float], *, failures: int, jitter: float, jitter_unit: float) -> float:
    """The wait after the `failures`-th failed attempt since the delivery was opened, `jitter_unit` being in [0, 1].

    The schedule's entry times a factor in [1 - jitter, 1 + jitter]; past its end the last entry holds.
    """
    assert failures >= 1
    assert 0 <= jitter_unit <= 1
    if not schedule_seconds:
        return DELAY_SECONDS_WITHOUT_SCHEDULE
    backoff_seconds = schedule_seconds[min(failures, len(schedule_seconds)) - 1]
    return backoff_seconds * (1 - jitter + 2 * jitter * jitter_unit)


def verdict(
    outcome: Outcome,
    *,
    policy: Policy,
    failures: int,
    is_last: bool,
    age_seconds: float,
    jitter_unit: float,
    is_refusal: bool = False,
    has_lapsed: bool = False,
) -> Verdict:
    """Any 2xx succeeds, 410 gives up; every other outcome is due again while attempts and age allow it.

    `is_refusal`: the endpoint gives up on the status that it answered. `has_lapsed`: the event's own expiry has passed.

    `failures` are those since the delivery was last opened, probes not counted: the schedule starts anew with them.
    `is_last`: the schedule in force grants no attempt after this one.
    """
    if outcomes.is_success(outcome):
        return SUCCESS
    if isinstance(outcome, Responded) and outcome.status_code == GONE:
        return GiveUp(Reason.GONE)
    if is_refusal:
        return GiveUp(Reason.REFUSED)
    if is_last:
        return GiveUp(Reason.ATTEMPTS_USED)
    if has_lapsed or age_seconds >= policy.age_seconds_max:
        return GiveUp(Reason.EXPIRED)
    delay = delay_seconds(
        policy.schedule_seconds,
        failures=failures,
        jitter=policy.jitter,
        jitter_unit=jitter_unit,
    )
    return Retry(delay)
