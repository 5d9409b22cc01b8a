"""`[log]` leaves out what it says, and never counts, states or reports."""

import pytest
from hookd.core.log_line import REPORT_EVENTS
from hookd.core.logged_lines import DeliveryAttempted, EventAccepted, LogChoice
from hookd.core.settings import LOG_LEVELS, LogSettings

ACCEPTED = EventAccepted("e1", "acme", "a.b", ["default"])
KEPT = {
    "counts",
    "endpoint.paused",
    "client.full",
    "daemon.started",
    "drain.started",
    "run.undelivered",
} | REPORT_EVENTS


def attempted(status: str) -> DeliveryAttempted:
    return DeliveryAttempted(
        "e1", "acme", "default", "https://x/", 1, 6, "responded", 200, None, True, False, 0.1, status, None, None
    )


@pytest.mark.parametrize(
    ("attempts", "logged"), [("all", (True, True)), ("failed", (False, True)), ("none", (False, False))]
)
def test_attempts_have_lines_as_chosen(attempts: str, logged: tuple[bool, bool]) -> None:
    """All of them, those that failed, or none; an accepted event has its line all the same."""
    choice = LogChoice(LogSettings(attempts=attempts))
    assert (choice.takes_line(attempted("delivered")), choice.takes_line(attempted("failed"))) == logged
    assert choice.takes_line(attempted("exhausted")) == logged[1]
    assert choice.takes_line(ACCEPTED)


def test_accepted_events_have_no_line_where_nobody_wants_one() -> None:
    """Attempts still have theirs."""
    choice = LogChoice(LogSettings(events=False))
    assert not choice.takes_line(ACCEPTED)
    assert choice.takes_line(attempted("delivered"))


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_level_leaves_out_what_is_below_it_but_counts_states_and_reports(level: str) -> None:
    """The account of a run does not depend on how much is logged beside it."""
    choice = LogChoice(LogSettings(level=level))
    taken = [one for one in LOG_LEVELS if choice.takes("client.registered", one)]
    assert taken == list(LOG_LEVELS[LOG_LEVELS.index(level) :])
    assert all(choice.takes(event, "info") for event in KEPT)
    assert choice.takes_line(ACCEPTED) == (level == "info")


def test_default_is_everything() -> None:
    assert LogChoice(LogSettings()).is_everything
    assert not LogChoice(LogSettings(events=False)).is_everything
