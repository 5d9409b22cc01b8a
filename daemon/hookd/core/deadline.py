"""Owns the deadline of an unsettled delivery: when it is given up, and what for, if no attempt before brings it.

What else may end it before is no deadline: a 410, a status of give_up_on, a cancel.
"""

import enum
from typing import NamedTuple

from hookd.core.time_text import ahead, moment
from hookd.core.timestamps import rfc3339


class Cause(enum.Enum):
    """What comes first."""

    AGE = "age"
    EXPIRY = "expiry"  # its event's own expires_at
    ATTEMPTS = "attempts"


class Deadline(NamedTuple):
    """`at` is wall. That of the attempts is when the last begins; it is not exact where jitter is still to come."""

    at: float
    cause: Cause
    is_exact: bool = True

    def within(self, now: float) -> str:
        """For a sentence that began with "the oldest"."""
        when = moment(rfc3339(self.at), now)
        match self.cause:
            case Cause.AGE:
                return f"is given up for its age at {when}"
            case Cause.EXPIRY:
                return f"is given up by its own expires_at at {when}"
            case Cause.ATTEMPTS:
                return f"is given up {'at' if self.is_exact else 'about'} {when}, if all its attempts fail"

    def alone(self, now: float) -> str:
        """The same where there is room, with how long that is."""
        when = ahead(rfc3339(self.at), now)
        match self.cause:
            case Cause.AGE:
                return f"is given up for its age {when}"
            case Cause.EXPIRY:
                return f"is given up by its own expires_at {when}"
            case Cause.ATTEMPTS:
                return f"has its last attempt {'' if self.is_exact else 'about '}{when}, and is given up if that fails"
