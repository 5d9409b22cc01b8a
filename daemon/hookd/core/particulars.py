"""Owns what few deliveries have: probes, earlier rounds of attempts, a crash, a removal or a cancel, a reason, an end.

Rules:
 1. Deliveries that are alike in all of it share one object, which is never changed. Nearly all share `NOTHING`, and of
    the delivered nearly all share another. So a delivery has one field for nine.
 2. A change makes another object, or finds the one that was made for the same change lately.
Limits: 90 B where a delivery shares with none; SHARED_MAX changes are known, at most 0.5 MB.
"""

import math
from functools import lru_cache
from typing import Any

import msgspec

from hookd.core.retry import Reason

SHARED_MAX = 1024


class Particulars(msgspec.Struct, frozen=True, gc=False):
    reason: Reason | None = None
    attempts_before: int = 0  # attempts before it was last reopened; of earlier runs, all that were unscheduled
    probe_failures: int = 0  # probes that failed since then: they take nothing from the schedule
    is_probing: bool = False  # the attempt in flight began as a probe
    attempts_max_at_end: int = 0  # what held when it settled or was abandoned; before that it is derived
    maybe_received: bool = False  # in some attempt the request went out, wholly or in part, and no answer was read
    # Its endpoint was removed, or it was cancelled: no attempt begins, and one in flight is the last.
    abandoned_as: Reason | None = None
    crash_count: int = 0  # at how many crashes of hookd it was in flight, since it was opened or reopened
    # Monotonic: when it was reopened or added, where that is later than its event's `since`.
    owed_since: float = -math.inf


NOTHING = Particulars()


@lru_cache(maxsize=SHARED_MAX)
def changed(particulars: Particulars, name: str, value: Any) -> Particulars:
    return msgspec.structs.replace(particulars, **{name: value})
