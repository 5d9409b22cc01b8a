"""Registrations that change under an attempt in flight, and while the daemon drains."""

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.report import class_of
from hookd.core.retry import Reason

from tests.flow.harness import SECRET, URL, Flow, Held, at, endpoint, now, only, standing

NEW_URL = "https://acme.example/v2"
NEW_SECRET = SECRET[:-4] + "AAAA"


def signatures(flow: Flow) -> list[int]:
    """How many each attempt bore: one for each secret in force."""
    return [len(dict(sent.request.headers)["webhook-signature"].split(" ")) for sent in flow.sender.transcript]


async def in_flight(nursery: trio.Nursery) -> tuple[Flow, Held]:
    flow, held = Flow(), Held()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, held, 200)
    flow.sender.script(NEW_URL, 200)
    flow.admit(event_id="e1")
    await now()
    assert flow.sender.flying == 1
    return flow, held


async def test_secret_rotated_under_an_attempt_signs_the_retry_with_both(autojump_clock, nursery) -> None:
    """The attempt in flight bears the old one, and is what it was; its retry verifies with either."""
    flow, held = await in_flight(nursery)
    flow.registration.rotate_secret("acme", "default", NEW_SECRET)
    held.release(503)
    await at(10)
    assert signatures(flow) == [1, 2]
    (event,) = flow.events()
    assert standing(event) == (Status.DELIVERED, None, 2)


async def test_secret_rotated_just_before_a_drain_signs_what_the_drain_still_sends(autojump_clock, nursery) -> None:
    """A retry that is due before the drain's deadline."""
    flow, held = await in_flight(nursery)
    flow.registration.rotate_secret("acme", "default", NEW_SECRET)
    held.release(503)
    await now()
    assert 5 <= await flow.drain() < 5.1
    assert signatures(flow) == [1, 2]
    assert flow.balanced()


async def test_url_changed_under_an_attempt_is_the_retrys_and_that_of_the_report(autojump_clock) -> None:
    """A drain that cuts the retry at the new URL names that one: there the client may have it."""
    async with trio.open_nursery() as nursery:
        flow, held = await in_flight(nursery)
        flow.put("acme", endpoint(url=NEW_URL))
        assert only(flow.events()[0]).url == URL
        flow.sender.script(NEW_URL, Held())
        held.release(503)
        await at(6)
        assert [sent.request.url for sent in flow.sender.transcript] == [URL, NEW_URL]
        assert await flow.drain(timeout_seconds=1.0) == pytest.approx(1.0)
        nursery.cancel_scope.cancel()
    (event,) = flow.events()
    assert (only(event).url, only(event).attempt_count) == (NEW_URL, 2)
    assert class_of(only(event)) == "outcome_unknown"
    assert flow.balanced()


@pytest.mark.parametrize("is_put_again", [False, True])
async def test_endpoint_removed_under_an_attempt_that_a_drain_cuts(autojump_clock, is_put_again: bool) -> None:
    """The attempt had until the deadline; then nobody knows what it came to, and that is what the report says."""
    async with trio.open_nursery() as nursery:
        flow, _ = await in_flight(nursery)
        waiting = flow.admit(event_id="e2")
        flow.registration.remove("acme", end_unsettled=True)
        if is_put_again:
            flow.put("acme", endpoint(url=NEW_URL))
        assert await flow.drain(timeout_seconds=1.0) == pytest.approx(1.0)
        nursery.cancel_scope.cancel()
    event = next(one for one in flow.events() if one.id == "e1")
    assert standing(event) == (Status.PENDING, None, 1)
    assert class_of(only(event)) == "outcome_unknown"
    assert standing(waiting) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 0)
    assert len(flow.sender.transcript) == 1
    assert flow.balanced()


@pytest.mark.parametrize(
    ("status_code", "expected"),
    [(200, (Status.DELIVERED, None, 1)), (503, (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 1))],
)
async def test_endpoint_removed_under_an_attempt_that_ends_in_the_drain(
    autojump_clock, nursery, status_code: int, expected: object
) -> None:
    """It runs out as it would have without the drain, which ends with it."""
    flow, held = await in_flight(nursery)
    flow.registration.remove("acme", end_unsettled=True)
    nursery.start_soon(_release_later, held, status_code)
    assert await flow.drain() == pytest.approx(3.0)
    assert standing(flow.events()[0]) == expected
    assert len(flow.sender.transcript) == 1
    assert flow.balanced()


async def _release_later(held: Held, status_code: int) -> None:
    await trio.sleep(3)
    held.release(status_code)
