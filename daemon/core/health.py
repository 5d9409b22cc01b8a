"""Owns what is known of an endpoint's health from the attempts on it, for people and for the endpoint's state."""

import msgspec

from daemon.core import outcome as outcomes
from daemon.core.outcome import Outcome


class Health(msgspec.Struct, gc=False):
    """One endpoint's row, about 120 B. Only core/ledger counts in it; `disabled` is flow/registration's."""

    unsettled: int = 0
    in_flight: int = 0
    disabled: bool = False  # answered 410: no attempts until resumed or given another URL
    consecutive_failures: int = 0
    failing_since: float | None = None  # wall
    last_outcome: Outcome | None = None
    last_delivered_at: float | None = None  # wall

    def note(self, outcome: Outcome, wall: float) -> None:
        self.last_outcome = outcome
        if outcomes.is_success(outcome):
            self.consecutive_failures = 0
            self.failing_since = None
            self.last_delivered_at = wall
        else:
            self.consecutive_failures += 1
            if self.failing_since is None:
                self.failing_since = wall

    @property
    def last_error(self) -> str | None:
        """The last failure in a few words; None while the last attempt succeeded."""
        if self.last_outcome is None or outcomes.is_success(self.last_outcome):
            return None
        code = outcomes.status_code(self.last_outcome)
        return f"answered {code}" if code is not None else outcomes.error(self.last_outcome)
