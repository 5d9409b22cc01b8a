"""What a report lists as undelivered, in short: it is bounded, whatever the report's file holds."""

import msgspec
import pytest
from hookd.core.loss import LARGEST_MAX, TEXT_CHARACTERS_MAX, loss_of
from hookd.core.report import ClientLine, DeliveryCounts, EventCounts, Recorded, Summary, Undelivered

EARLY, LATE, STOPPED = (f"2026-11-30T0{hour}:00:00.000Z" for hour in (1, 2, 3))


def line(client_id: str, undelivered: int, accepted_at: str = LATE, **fields: str | None) -> ClientLine:
    told = {"failing_since": None, "last_error": None} | fields
    return ClientLine(client_id, "default", undelivered, accepted_at, **told)


def summary(*lines: ClientLine, **changes: object) -> Summary:
    """`lines` as a report has them: those owed most come first."""
    undelivered = sum(one.undelivered for one in lines)
    fields: dict[str, object] = {"trigger": "SIGTERM", "payloads": msgspec.UNSET, "recorder": msgspec.UNSET} | changes
    return Summary(
        run_id="9f0c",
        version="0",
        host="h",
        pid=1,
        started_at=EARLY,
        stopped_at=STOPPED,
        forced=False,
        drain_seconds=0.0,
        events=EventCounts(undelivered, 0, 0, 0, undelivered),
        deliveries=DeliveryCounts(undelivered, 0, 0, undelivered),
        undelivered=Undelivered(undelivered, 0, 0),
        balanced=True,
        exhausted_held=0,
        exhausted_forgotten=0,
        clients=list(lines),
        **fields,  # type: ignore[arg-type]
    )


def test_largest_are_named_and_the_rest_is_counted() -> None:
    """Since when the oldest of them all waits, whoever it is for."""
    owed = [line(f"c{number:02}", 50 - number) for number in range(LARGEST_MAX + 2)]
    owed[-1] = line("last", 3, EARLY)
    loss = loss_of(summary(*owed))
    assert [one.client_id for one in loss.largest] == [f"c{number:02}" for number in range(LARGEST_MAX)]
    assert (loss.more_endpoints, loss.more_deliveries) == (2, 40 + 3)
    assert (loss.deliveries, loss.oldest_accepted_at, loss.ended_at) == (455 + 43, EARLY, STOPPED)
    assert (loss.was_killed, loss.has_payloads, loss.is_whole) == (False, True, True)


@pytest.mark.parametrize("is_whole", [True, False])
def test_killed_run_says_what_cannot_be_known_or_sent(is_whole: bool) -> None:
    """Without payloads nothing can be sent; with a recorder that is not whole, more may be lost."""
    recorder = Recorded(0, 0, 0 if is_whole else 3)
    loss = loss_of(summary(line("acme", 1), trigger="crash", payloads=False, recorder=recorder))
    assert (loss.was_killed, loss.has_payloads, loss.is_whole) == (True, False, is_whole)


def test_texts_of_a_file_are_cut_and_what_is_no_time_is_left_out() -> None:
    """What takes memory and what is shown is bounded by us, not by the file."""
    long = "x" * (TEXT_CHARACTERS_MAX * 9)
    [shown] = loss_of(summary(line(long, 1, long, failing_since=long, last_error=long))).largest
    assert shown == ClientLine(long[:TEXT_CHARACTERS_MAX], "default", 1, "", None, long[:TEXT_CHARACTERS_MAX])
    assert loss_of(summary(line("acme", 1, "yesterday"))).oldest_accepted_at is None
    assert loss_of(summary()).oldest_accepted_at is None
