"""Overload: what is refused says when to come again, and one client's overload is nobody else's."""

from statistics import quantiles

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.event import Submission
from hookd.core.listing import Wanted
from hookd.core.refusal import ClientFull, Draining, Full, Refused
from hookd.core.settings import DrainSettings, IntakeSettings, RetrySettings, Settings
from hookd.flow.intake import Admitted

from tests.flow.harness import URL, Flow, Hang, Later, Slow, at, endpoint, now, only, statuses, submission

OTHER = "https://other.example/hook"


def wait_of(flow: Flow, client_id: str = "acme") -> int:
    """What Retry-After says to one more event."""
    with pytest.raises(Refused) as refused:
        flow.admit(client_id)
    assert isinstance(refused.value, ClientFull | Full | Draining)
    assert refused.value.retry_after_seconds is not None
    return refused.value.retry_after_seconds


# Retry-After


@pytest.mark.parametrize(
    "limits",
    [{"client_events_max": 600}, {"unsettled_events_max": 600}, {"client_bytes_max": 600 * 1037}],
    ids=["client's events", "whole", "client's bytes"],
)
async def test_wait_is_by_the_rate_at_which_events_settled_lately(autojump_clock, nursery, limits) -> None:
    """8 in flight of 2 s each are 4 a second: room for one in a second, for a batch of 100 in 25."""
    flow = Flow(Settings(intake=IntakeSettings(**limits)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Slow(2.0, 200))
    flow.admit_many(600)
    await trio.sleep_until(60.5)
    settled = 600 - flow.ledger.totals().unsettled_events
    flow.admit_many(settled)
    assert wait_of(flow) == 1
    with pytest.raises((ClientFull, Full)) as refused:
        flow.intake.admit_whole([submission() for _ in range(100)])
    assert refused.value.retry_after_seconds == pytest.approx(25, abs=3)
    await trio.sleep(refused.value.retry_after_seconds)
    assert len(flow.intake.admit_whole([submission() for _ in range(95)])) == 95


async def test_wait_for_a_client_of_which_nothing_settles_is_its_next_attempt(autojump_clock, nursery) -> None:
    """Its retry, its Retry-After or its probe; never more than a minute, and a minute where none is known."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=1), retry=RetrySettings(schedule_seconds=(30.0,) * 9)))
    await flow.start(nursery)
    for client_id, step in (
        ("retry", 503),
        ("throttled", Later(429, "45")),
        ("hung", Hang()),
        ("long", Later(503, "900")),
    ):
        url = f"https://{client_id}.example/"
        flow.put(client_id, endpoint(url=url))
        flow.sender.script(url, step)
        flow.admit(client_id)
    flow.put("paused")
    flow.registration.pause("paused", "default")
    flow.admit("paused")
    await at(10)
    assert wait_of(flow, "retry") == 20
    assert 35 <= wait_of(flow, "throttled") <= 45  # with jitter upward
    assert wait_of(flow, "hung") == 60
    assert wait_of(flow, "long") == 60
    assert wait_of(flow, "paused") == 60
    await at(29.9)
    assert wait_of(flow, "retry") == 1


async def test_wait_for_a_paused_client_is_its_next_probe(autojump_clock, nursery) -> None:
    """Nothing of it can settle before."""
    flow = Flow(
        Settings(intake=IntakeSettings(client_events_max=20), retry=RetrySettings(schedule_seconds=(5.0,) * 50))
    )
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    flow.admit_many(20)
    await at(100)
    health = flow.ledger.ensure_health("acme", "default")
    assert health.paused_by is not None
    assert wait_of(flow) == pytest.approx(health.next_probe_at - 100, abs=1)


async def test_wait_while_draining_is_what_is_left_of_it(autojump_clock, nursery) -> None:
    """At least a second, at most a minute, however long the drain may take."""
    flow = Flow(Settings(drain=DrainSettings(timeout_seconds=90.0)))
    await flow.start(nursery)
    flow.put()
    flow.intake.close()
    waits = []
    for seconds in (0, 40, 89.5, 100):
        await at(seconds)
        waits.append(wait_of(flow))
        flow.intake.close()  # as the report does again: it is the same drain
    assert waits == [60, 50, 1, 1]


# Must-shown 6


async def test_mixed_partial_batch_delays_nobody_elses_event(autojump_clock, nursery) -> None:
    """One full client and one unknown among fifty: the others' events begin with no delay, refused ones in place."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=10)))
    await flow.start(nursery)
    flow.put("full", endpoint(url=OTHER))
    flow.sender.script(OTHER, Hang())
    flow.admit_many(10, "full")
    others = [f"c{number}" for number in range(50)]
    for client_id in others:
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/"))
    await at(5)
    before = len(flow.sender.transcript)
    mixed: list[Submission | Refused] = []
    for client_id in others:
        mixed += [submission("full"), submission(client_id, f"{client_id}-1"), submission("nobody")]
    answers = flow.intake.admit_partial(mixed)
    await now()
    assert trio.current_time() == 5
    slugs = [answer.slug if isinstance(answer, Refused) else answer.event.client_id for answer in answers]
    assert slugs == [slug for client_id in others for slug in ("client-full", client_id, "unknown-client")]
    delivered = [answer.event for answer in answers if isinstance(answer, Admitted)]
    assert statuses(delivered) == {Status.DELIVERED: 50}
    begun = flow.sender.transcript[before:]
    assert {sent.at for sent in begun} == {5.0}
    assert sorted(sent.event_id for sent in begun) == sorted(f"{client_id}-1" for client_id in others)
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.unsettled_events) == (60, 10)
    assert flow.balanced()


# A flood, a return after hours, a full budget


async def dwell_of_others(nursery: trio.Nursery, *, noisy: bool) -> tuple[list[float], int, int]:
    """How long the events of 20 steady clients waited for their attempt; how many were refused, noisy and others."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=200)))
    await flow.start(nursery)
    steady = [f"c{number}" for number in range(20)]
    for client_id in [*steady, "noisy"]:
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/"))
        flow.sender.script(f"https://{client_id}.example/", Slow(0.5 if client_id == "noisy" else 0.05, 200))
    refused = {"noisy": 0, "steady": 0}
    accepted: dict[str, float] = {}
    for tick in range(100):
        for client_id in steady if tick % 10 == 0 else []:
            try:
                accepted[flow.admit(client_id).id] = trio.current_time()
            except Refused:
                refused["steady"] += 1
        for _ in range(10 if noisy else 0):
            try:
                flow.admit("noisy")
            except ClientFull:
                refused["noisy"] += 1
        await trio.sleep(0.1 / 10 if tick % 2 else 0.1)
    await trio.sleep(60)
    begun = {sent.event_id: sent.at for sent in flow.sender.transcript}
    assert flow.balanced()
    return [begun[one] - at for one, at in accepted.items()], refused["noisy"], refused["steady"]


async def test_a_hundred_times_the_traffic_of_one_client_is_its_own_affair(autojump_clock) -> None:
    """429 for the noisy one alone; the others' wait for their attempt is what it is without it."""
    waits = {}
    for noisy in (False, True):
        async with trio.open_nursery() as nursery:
            waited, noisy_refused, others_refused = await dwell_of_others(nursery, noisy=noisy)
            nursery.cancel_scope.cancel()
        waits[noisy] = quantiles(waited, n=100)[98]
        assert (noisy_refused > 0) == noisy
        assert others_refused == 0
    assert waits[True] <= waits[False] * 1.2 + 1e-9


async def test_client_down_for_hours_comes_back_without_a_stampede(autojump_clock, nursery) -> None:
    """Probed all the while, expired events exhausted and listed; then the window grows from one."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    expired = flow.admit_many(200)
    await at(2 * 3600.0)
    assert statuses(expired) == {Status.EXHAUSTED: 200}
    fresh = flow.admit_many(200)
    await trio.sleep(120)
    attempts = len(flow.sender.transcript)
    assert attempts < 2 * 200 + 2 * 60 + 10  # two each until the pause, then about one a minute
    flow.sender.script(URL, Slow(0.5, 200))
    flow.sender.peaks.clear()
    peaks = []
    for _ in range(300):  # a minute at most until the next probe
        await trio.sleep(0.5)
        peaks.append(flow.sender.peaks[URL])
    assert statuses(fresh) == {Status.DELIVERED: 200}
    assert peaks == sorted(peaks)
    assert set(peaks) >= set(range(1, 9))
    assert max(peaks) == 8
    assert flow.balanced()
    listed, _ = flow.ledger.page(client_id="acme", wanted=Wanted(Status.EXHAUSTED), before=None, limit=1000)
    assert len(listed) == 200


@pytest.mark.parametrize("limits", [{"unsettled_events_max": 300}, {"unsettled_bytes_max": 300 * 1037}])
async def test_whole_budget_reached_is_503_before_the_202_and_recovers(autojump_clock, nursery, limits) -> None:
    """Every client is refused alike and told when; held events are all delivered, and room is there by then."""
    flow = Flow(Settings(intake=IntakeSettings(**limits)))
    await flow.start(nursery)
    admitted = []
    for number in range(3):
        flow.put(f"c{number}", endpoint(url=f"https://c{number}.example/"))
        flow.sender.script(f"https://c{number}.example/", Slow(1.0, 200))
        admitted += flow.admit_many(100, f"c{number}")
    for number in range(3):
        assert wait_of(flow, f"c{number}") == 60  # nothing has settled yet
    waits = []
    for _ in range(100):
        await trio.sleep(0.5)
        for number in range(3):
            try:
                for _ in range(50):
                    admitted.append(flow.admit(f"c{number}"))
            except Full as full:
                waits.append(full.retry_after_seconds)
        totals = flow.ledger.totals()
        assert totals.unsettled_events <= 300
        assert totals.unsettled_bytes <= 300 * 1037
    assert len(waits) > 50
    assert all(wait == 1 for wait in waits[-20:])  # settling by then at a rate that is known
    await trio.sleep(120)
    assert statuses(admitted) == {Status.DELIVERED: len(admitted)}
    assert only(flow.admit("c0")).status is Status.PENDING
    assert flow.balanced()
