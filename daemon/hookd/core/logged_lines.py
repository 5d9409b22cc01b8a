"""Owns the two lines that come with each event, and which lines of the log an operator wants (`[log]`).

Rules: counts, states and reports are logged whatever is chosen: they are few, and the account of a run. A line of an
attempt has level info, whatever came of it.
"""

import msgspec

from hookd.core.delivery import Status
from hookd.core.log_line import REPORT_EVENTS, Line
from hookd.core.outcome import OutcomeName
from hookd.core.settings import LOG_LEVELS, LogSettings

# By the first word of their names: what becomes of endpoints, of the daemon and of runs.
_ALWAYS_ABOUT = {"endpoint", "daemon", "drain", "report", "reports", "run", "recovery"}
_ALWAYS = {"counts", "client.filling", "client.full"} | REPORT_EVENTS


class EventAccepted(Line, frozen=True, tag="event.accepted"):
    event_id: str
    client_id: str
    type: str
    endpoints: list[str]


class DeliveryAttempted(Line, frozen=True, tag="delivery.attempted"):
    event_id: str
    client_id: str
    endpoint_id: str
    url: str
    attempt: int
    attempts_max: int
    outcome: OutcomeName
    status_code: int | None
    error: str | None
    request_sent: bool
    reconnected: bool
    duration_seconds: float
    status: str
    reason: str | None
    retry_in_seconds: float | None


class LogChoice(msgspec.Struct, frozen=True):
    """The lines that `[log]` asks for."""

    settings: LogSettings

    @property
    def is_everything(self) -> bool:
        return self.settings == LogSettings()

    def takes(self, event: str, level: str) -> bool:
        if LOG_LEVELS.index(level) >= LOG_LEVELS.index(self.settings.level):
            return True
        return event in _ALWAYS or event.partition(".")[0] in _ALWAYS_ABOUT

    def takes_line(self, line: Line) -> bool:
        """Of a line that is made already."""
        match line:
            case EventAccepted():
                is_chosen = self.settings.events
            case DeliveryAttempted():
                has_failed = line.status != Status.DELIVERED.value
                is_chosen = self.settings.attempts == "all" or (self.settings.attempts == "failed" and has_failed)
            case _:
                is_chosen = True
        return is_chosen and self.takes(line.event, "info")
