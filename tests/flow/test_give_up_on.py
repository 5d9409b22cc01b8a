"""`give_up_on`: statuses that exhaust a delivery at once, as `refused`."""

import pytest
from hookd.core.delivery import Status
from hookd.core.outcome import TimedOut, Unreachable
from hookd.core.retry import Reason

from tests.flow.harness import URL, Flow, at, endpoint, now


async def ended(nursery, give_up_on: tuple[int | str, ...], *steps: object) -> tuple[Status, Reason | None, int]:
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(schedule_seconds=(5.0, 5.0), give_up_on=give_up_on))
    flow.sender.script(URL, *steps)
    event = flow.admit()
    await at(60)
    delivery = event.deliveries[0]
    return delivery.status, delivery.reason, delivery.attempt_count


@pytest.mark.parametrize(
    ("give_up_on", "status_code"),
    [((400,), 400), (("4xx",), 422), (("3xx",), 301), ((503, "4xx"), 503), (("5xx",), 599), ((429,), 429)],
)
async def test_status_of_the_list_exhausts_at_once(autojump_clock, nursery, give_up_on, status_code) -> None:
    """One attempt, whatever the schedule would grant."""
    assert await ended(nursery, give_up_on, status_code) == (Status.EXHAUSTED, Reason.REFUSED, 1)


@pytest.mark.parametrize(
    ("give_up_on", "step"),
    [
        ((), 400),
        ((400,), 401),
        (("4xx",), 500),
        (("3xx", "5xx"), 404),
        (("4xx", "5xx"), TimedOut(1.0)),
        (("4xx", "5xx"), Unreachable("refused")),
    ],
)
async def test_any_other_failure_is_tried_again(autojump_clock, nursery, give_up_on, step) -> None:
    assert await ended(nursery, give_up_on, step) == (Status.EXHAUSTED, Reason.ATTEMPTS_USED, 3)


async def test_list_counts_for_the_last_attempt_too_and_410_stays_gone(autojump_clock, nursery) -> None:
    """On the last attempt the reason is what the endpoint said; 410 disables the endpoint, whatever the list has."""
    assert await ended(nursery, (400,), 500, 500, 400) == (Status.EXHAUSTED, Reason.REFUSED, 3)


async def test_410_of_the_list_is_gone(autojump_clock, nursery) -> None:
    assert await ended(nursery, ("4xx", 410), 410) == (Status.EXHAUSTED, Reason.GONE, 1)


async def test_list_in_force_when_the_answer_comes_counts(autojump_clock, nursery) -> None:
    """A PUT holds for what waits and for what is in flight. What was refused can be reopened like all else."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint(schedule_seconds=(5.0, 5.0)))
    flow.sender.script(URL, 400, 400, 200)
    event = flow.admit()
    await now()
    assert event.deliveries[0].status is Status.FAILED
    flow.put("acme", endpoint(schedule_seconds=(5.0, 5.0), give_up_on=("4xx",)))
    await at(5)
    assert event.deliveries[0].reason is Reason.REFUSED
    assert flow.ledger.counters.given_up[Reason.REFUSED] == 1
    assert flow.retry_now.retry(event)
    await now()
    assert event.deliveries[0].status is Status.DELIVERED
