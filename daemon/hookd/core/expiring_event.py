"""Owns the event that has an expiry of its own, beyond which it is not attempted any more.

Rules:
 1. Few events have one. So it is a row of its own kind, and the others have no field for it.
 2. It is given as wall time, and shown as it was given. What is left of it is measured once, when this run takes the
    event in: from then on it passes by the monotonic clock, whatever is done to the other.
Limits: 64 B more than any other event, and what core/expiries takes.
"""

import math

from hookd.core.event import Event
from hookd.core.timestamps import Moment


class ExpiringEvent(Event, gc=False, eq=False):
    expires_at: float = math.inf  # wall
    expires_monotonic: float = math.inf


def expiring(event: Event, expires_at: float, *, now: Moment) -> ExpiringEvent:
    """The same event, which expires then (wall)."""
    fields = {name: getattr(event, name) for name in Event.__struct_fields__}
    return ExpiringEvent(**fields, expires_at=expires_at, expires_monotonic=now.monotonic + expires_at - now.wall)


def has_lapsed(event: Event, now: float) -> bool:
    """Whether it is later (monotonic) than the event's own expiry, if it has one."""
    return type(event) is ExpiringEvent and now >= event.expires_monotonic
