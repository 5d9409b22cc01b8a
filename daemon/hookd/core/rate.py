"""Owns an endpoint's rate: how many of its attempts may begin in how long, and when the next one may.

Rules:
 * A rate is a number of attempts a second, a minute or an hour: `10/s`, `30/m`, `5/h`.
 * One second's worth may begin at once, and one at least. No more than that begin in any window of the time that it
   stands for: of `10/s` ten in any second, of `30/m` one in any two seconds.
Pure: time comes in as a value.
Limits: RATE_PER_SECOND_MAX; a log holds 8 B for each attempt that may begin at once.
"""

import math
import re
from array import array
from typing import NamedTuple, Self

RATE_PATTERN = "^[1-9][0-9]{0,6}/[smh]$"
# The log's memory. One daemon carries some 2,000 attempts a second to all endpoints together.
RATE_PER_SECOND_MAX = 1000
RATE_RULE = 'must be a number of attempts a second, minute or hour such as "10/s", at most 1000/s'
LOG_BYTES = 160

_RATE = re.compile(RATE_PATTERN)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Rate(NamedTuple):
    text: str
    burst: int  # as many may begin at once
    window_seconds: float  # and no more in any window of this length

    @classmethod
    def of(cls, text: str) -> Self:
        """Raises ValueError."""
        if not _RATE.fullmatch(text):
            raise ValueError(RATE_RULE)
        count, seconds = int(text[:-2]), _SECONDS[text[-1]]
        if count > RATE_PER_SECOND_MAX * seconds:
            raise ValueError(RATE_RULE)
        burst = max(1, count // seconds)
        return cls(text, burst, burst * seconds / count)

    @property
    def log_bytes(self) -> int:
        return LOG_BYTES + 8 * self.burst


class RateLog:
    """When the last attempts began: as many as may begin at once."""

    __slots__ = ("_begun_at", "_next")

    def __init__(self) -> None:
        self._begun_at = array("d")  # monotonic, a ring
        self._next = 0  # where the oldest stands, and the next one will

    def begins_from(self, rate: Rate) -> float:
        """When the next attempt may begin (monotonic)."""
        self._fit(rate.burst)
        return self._begun_at[self._next] + rate.window_seconds

    def note(self, rate: Rate, now: float) -> None:
        """An attempt begins."""
        self._fit(rate.burst)
        self._begun_at[self._next] = now
        self._next = (self._next + 1) % rate.burst

    def _fit(self, burst: int) -> None:
        """Another rate is in force: what began lately still counts."""
        if len(self._begun_at) == burst:
            return
        in_order = self._begun_at[self._next :] + self._begun_at[: self._next]
        kept = in_order[-burst:]
        self._begun_at = array("d", [-math.inf] * (burst - len(kept))) + kept
        self._next = 0
