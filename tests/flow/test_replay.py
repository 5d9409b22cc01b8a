"""Replay: what is given up comes back in order, paced, up to the budgets, and everything is accounted for."""

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.refusal import ClientFull, Draining, Full, UnknownClient
from hookd.core.retry import Reason
from hookd.core.settings import IntakeSettings, RetentionSettings, RetrySettings, Settings
from hookd.flow.replay import LOOKED_AT_AT_ONCE, LOOKS_PER_REOPENING, Replayed, Span, Wanted

from tests.flow.harness import EPOCH, URL, Flow, Hang, Slow, at, endpoint, now, only, standing, statuses
from tests.flow.test_resend import line
from tests.turns import turns_of_another

OTHER = "https://other.example/hook"
ONE_ATTEMPT = RetrySettings(schedule_seconds=())
REOPENED_AT_ONCE = LOOKED_AT_AT_ONCE // (LOOKS_PER_REOPENING + 2)


async def outage(nursery: trio.Nursery, events: int, **settings: object) -> tuple[Flow, list[Event]]:
    """Client `acme`, whose events all ended exhausted with one attempt; its endpoint is well again."""
    flow = Flow(Settings(**{"retry": ONE_ATTEMPT} | settings))  # type: ignore[arg-type]
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 404)  # no pause
    given_up = flow.admit_many(events)
    await now()
    assert statuses(given_up) == {Status.EXHAUSTED: events}
    flow.sender.script(URL, 200)
    flow.sender.transcript.clear()
    flow.sender.peaks.clear()
    return flow, given_up


async def test_replay_reopens_what_was_given_up_in_order(autojump_clock, nursery) -> None:
    """Attempts are counted on; a delivered event stays as it is."""
    flow, given_up = await outage(nursery, 5)
    delivered = flow.admit()
    await now()
    assert await flow.replay.replay("acme", Wanted()) == Replayed(5, 5)
    assert statuses(given_up) == {Status.PENDING: 5}
    await now()
    assert statuses(given_up) == {Status.DELIVERED: 5}
    replayed = flow.sender.transcript[1:]
    assert [sent.event_id for sent in replayed] == [event.id for event in given_up]
    assert {sent.attempt_number for sent in replayed} == {2}
    assert standing(delivered) == (Status.DELIVERED, None, 1)
    assert await flow.replay.replay("acme", Wanted()) == Replayed(0, 0)
    assert flow.balanced()


async def test_dry_run_counts_and_changes_nothing(autojump_clock, nursery) -> None:
    """The same number that the replay then reopens."""
    flow, given_up = await outage(nursery, 5)
    assert await flow.replay.replay("acme", Wanted(), dry_run=True) == Replayed(5, 0)
    assert statuses(given_up) == {Status.EXHAUSTED: 5}
    await at(10)
    assert flow.sender.transcript == []
    assert not flow.log.of("client.replayed")


@pytest.mark.parametrize(
    ("span", "ids"),
    [
        (Span(), ["e0", "e10", "e20"]),
        (Span(since=EPOCH + 10), ["e10", "e20"]),
        (Span(until=EPOCH + 10), ["e0", "e10"]),
        (Span(EPOCH + 10, EPOCH + 10), ["e10"]),
        (Span(EPOCH + 10.0004, EPOCH + 10.0004), ["e10"]),  # people are shown milliseconds
        (Span(since=EPOCH + 10.001), ["e20"]),
        (Span(EPOCH + 21, EPOCH + 900), []),
    ],
)
async def test_replay_takes_those_given_up_in_the_span(autojump_clock, nursery, span, ids) -> None:
    """By the time they were given up, both ends included; when they were accepted does not matter."""
    flow = Flow(Settings(retry=ONE_ATTEMPT))
    await flow.start(nursery)
    flow.put()
    flow.registration.pause("acme", "default")
    events = {seconds: flow.admit(event_id=f"e{seconds}") for seconds in (0, 10, 20)}
    for seconds, event in events.items():  # accepted at once, given up ten seconds apart
        await at(seconds)
        flow.ledger.give_up(event, only(event), Reason.EXPIRED, now=flow.clock.now())
    replayed = await flow.replay.replay("acme", Wanted(span))
    assert replayed == Replayed(len(ids), len(ids))
    reopened = [event.id for event in flow.events() if event.status is Status.PENDING]
    assert sorted(reopened) == sorted(ids)


async def test_each_delivery_is_matched_by_itself(autojump_clock, nursery) -> None:
    """Of an event to several endpoints those given up come back, also while another is still to come."""
    flow = Flow(Settings(retry=ONE_ATTEMPT))
    await flow.start(nursery)
    flow.put("acme", endpoint("a", URL), endpoint("b", OTHER), endpoint("c", "https://c.example/"))
    flow.sender.script(URL, 404, 200)
    flow.sender.script(OTHER, Hang())
    event = flow.admit()
    await at(1)
    assert event.status is Status.PENDING
    assert await flow.replay.replay("acme", Wanted()) == Replayed(1, 1)
    await now()
    assert [delivery.status for delivery in event.deliveries] == [Status.DELIVERED, Status.PENDING, Status.DELIVERED]
    assert flow.ledger.totals().unsettled_events == 1
    assert flow.balanced()


async def test_other_clients_and_endpoints_that_take_nothing_are_left_alone(autojump_clock, nursery) -> None:
    """Not another client's, not of a removed endpoint, not of a disabled one until it is resumed: then what is gone."""
    flow = Flow(Settings(retry=ONE_ATTEMPT))
    await flow.start(nursery)
    flow.put("acme", endpoint("stays", URL), endpoint("removed", OTHER), endpoint("disabled", "https://d.example/"))
    flow.put("other", endpoint(url="https://o.example/"))
    flow.sender.script(URL, 404, 200)
    flow.sender.script(OTHER, 404)
    flow.sender.script("https://d.example/", 410, 200)
    flow.sender.script("https://o.example/", 404)
    event, others = flow.admit(), flow.admit("other")
    await now()
    flow.put("acme", endpoint("stays", URL), endpoint("disabled", "https://d.example/"))
    assert await flow.replay.replay("acme", Wanted()) == Replayed(1, 1)
    await now()
    assert [delivery.status.value for delivery in event.deliveries] == ["delivered", "exhausted", "exhausted"]
    assert others.status is Status.EXHAUSTED
    flow.registration.resume("acme", "disabled")
    assert await flow.replay.replay("acme", Wanted()) == Replayed(1, 1)
    await now()
    assert [delivery.status.value for delivery in event.deliveries] == ["delivered", "exhausted", "delivered"]
    flow.put("acme", endpoint("stays", URL), endpoint("removed", "https://back.example/"))
    assert await flow.replay.replay("acme", Wanted()) == Replayed(1, 1)  # registered again under its id
    await now()
    assert event.status is Status.DELIVERED
    assert flow.balanced()


@pytest.mark.parametrize(
    ("limits", "room"),
    [({"client_events_max": 30}, 30), ({"unsettled_events_max": 25}, 25), ({"client_bytes_max": 10 * 1037}, 10)],
)
async def test_replay_goes_as_far_as_the_budgets(autojump_clock, nursery, limits, room) -> None:
    """The oldest first; the rest stays exhausted, and comes with the next replay."""
    flow, given_up = await outage(nursery, 50)
    flow.set(intake=IntakeSettings(**limits))
    flow.sender.script(URL, Slow(1.0, 200))
    replayed = await flow.replay.replay("acme", Wanted())
    assert (replayed.matched, replayed.reopened, replayed.left) == (50, room, 50 - room)
    assert isinstance(replayed.stopped_by, ClientFull | Full)
    assert replayed.stopped_by.retry_after_seconds
    assert [event.status for event in given_up] == [Status.PENDING] * room + [Status.EXHAUSTED] * (50 - room)
    assert flow.log.of("client.replayed")[0]["reopened"] == room
    assert flow.balanced()
    reopened = room
    while reopened < 50:
        await trio.sleep(100)
        reopened += (await flow.replay.replay("acme", Wanted())).reopened
    await trio.sleep(100)
    assert statuses(given_up) == {Status.DELIVERED: 50}


async def test_unknown_client_and_draining_refuse_with_nothing_changed(autojump_clock, nursery) -> None:
    """A dry run too: what it counts would not be reopened."""
    flow, given_up = await outage(nursery, 3)
    with pytest.raises(UnknownClient):
        await flow.replay.replay("nobody", Wanted())
    flow.intake.close()
    for dry_run in (True, False):
        with pytest.raises(Draining):
            await flow.replay.replay("acme", Wanted(), dry_run=dry_run)
    assert statuses(given_up) == {Status.EXHAUSTED: 3}


async def test_great_replay_gives_others_turns_and_never_exceeds_the_window(autojump_clock, nursery) -> None:
    """2,000 at once: a turn for others every few hundred, and never more in flight than the endpoint's window."""
    settings = {"intake": IntakeSettings(unsettled_events_max=50_000, client_events_max=50_000)}
    flow, given_up = await outage(nursery, 2_000, **settings)
    flow.put("other", endpoint(url=OTHER))
    flow.sender.script(URL, Slow(0.01, 200))
    async with turns_of_another() as turns:
        replayed = await flow.replay.replay("acme", Wanted())
    assert replayed == Replayed(2_000, 2_000)
    assert turns.count >= 2_000 // REOPENED_AT_ONCE
    neighbour = flow.admit("other")
    await now()
    assert neighbour.status is Status.DELIVERED
    await trio.sleep(60)
    assert statuses(given_up) == {Status.DELIVERED: 2_000}
    assert flow.sender.peaks[URL] == 8  # the endpoint's concurrency, reached from its window of before
    assert flow.balanced()


async def test_replay_to_an_endpoint_still_down_is_one_probe_at_a_time(autojump_clock, nursery) -> None:
    """The pause holds: nothing is expedited over it, and the backlog uses up no attempts."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(10.0, 10.0, 10.0), age_seconds_max=240.0)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    given_up = flow.admit_many(100)
    await at(300)
    assert statuses(given_up) == {Status.EXHAUSTED: 100}
    assert flow.ledger.ensure_health("acme", "default").paused_by is not None
    flow.sender.transcript.clear()
    flow.sender.peaks.clear()
    assert await flow.replay.replay("acme", Wanted()) == Replayed(100, 100)
    await at(360)
    assert flow.sender.peaks[URL] <= 1
    assert len(flow.sender.transcript) <= 60 / 5
    flow.sender.script(URL, 200)
    await at(430)
    assert statuses(given_up) == {Status.DELIVERED: 100}


async def test_caller_hanging_up_half_way_leaves_everything_accounted_for(autojump_clock, nursery) -> None:
    """What was reopened is delivered, the rest stays exhausted; the log has the count."""
    count = 5 * REOPENED_AT_ONCE
    flow, given_up = await outage(nursery, count)
    flow.sender.script(URL, Slow(1.0, 200))
    with trio.CancelScope() as caller:
        async with trio.open_nursery() as replaying:
            replaying.start_soon(flow.replay.replay, "acme", Wanted())
            while flow.ledger.totals().unsettled_events == 0:
                await trio.lowlevel.checkpoint()
            caller.cancel()
    reopened = flow.ledger.totals().unsettled_events
    assert 0 < reopened < count
    [line] = flow.log.of("client.replayed")
    assert (line["matched"], line["reopened"]) == (reopened, reopened)
    assert flow.balanced()
    await trio.sleep(1000)
    assert statuses(given_up) == {Status.DELIVERED: reopened, Status.EXHAUSTED: count - reopened}
    assert await flow.replay.replay("acme", Wanted()) == Replayed(count - reopened, count - reopened)


async def test_what_changes_between_two_slices_is_seen(autojump_clock, nursery) -> None:
    """Forgotten events, a retry by hand and a drain in the middle: nothing is reopened twice, or out of nothing."""
    count = 4 * REOPENED_AT_ONCE
    flow, given_up = await outage(nursery, count)
    flow.sender.script(URL, Hang())

    async def interfere() -> None:
        while flow.ledger.totals().unsettled_events == 0:
            await trio.lowlevel.checkpoint()
        assert flow.retry_now.retry(given_up[-1])
        flow.set(retention=RetentionSettings(exhausted_events_max=count // 4))
        waiting = given_up[REOPENED_AT_ONCE // 2]
        flow.ledger.give_up(waiting, only(waiting), Reason.EXPIRED, now=flow.clock.now())

    async with trio.open_nursery() as interfering:
        interfering.start_soon(interfere)
        replayed = await flow.replay.replay("acme", Wanted())
    assert replayed.matched == replayed.reopened < count - 1
    unsettled = flow.ledger.totals().unsettled_events
    assert unsettled == len(flow.ledger.unsettled)
    assert flow.ledger.totals().is_balanced
    assert len(flow.forgotten) + len(flow.events()) == count


async def test_drain_in_the_middle_ends_a_replay(autojump_clock, nursery) -> None:
    """From then on nothing is reopened; the answer has what was."""
    count = 4 * REOPENED_AT_ONCE
    flow, given_up = await outage(nursery, count)
    flow.sender.script(URL, Hang())

    async def close() -> None:
        while flow.ledger.totals().unsettled_events == 0:
            await trio.lowlevel.checkpoint()
        flow.intake.close()

    async with trio.open_nursery() as closing:
        closing.start_soon(close)
        replayed = await flow.replay.replay("acme", Wanted())
    assert isinstance(replayed.stopped_by, Draining)
    assert replayed.matched == count == replayed.reopened + replayed.left
    assert 0 < replayed.reopened < count
    assert statuses(given_up)[Status.EXHAUSTED] == count - replayed.reopened
    assert flow.balanced()


async def test_two_replays_at_once_reopen_each_delivery_once(autojump_clock, nursery) -> None:
    """The second waits for the first and finds nothing left."""
    flow, given_up = await outage(nursery, 2 * REOPENED_AT_ONCE)
    flow.sender.script(URL, Slow(1.0, 200))
    answers: list[Replayed] = []

    async def replay() -> None:
        answers.append(await flow.replay.replay("acme", Wanted()))

    async with trio.open_nursery() as both:
        both.start_soon(replay)
        both.start_soon(replay)
    assert sorted(answers) == [Replayed(0, 0), Replayed(len(given_up), len(given_up))]
    await trio.sleep(1000)
    assert len(flow.sender.transcript) == len(given_up)


async def test_lag_of_a_reopened_delivery_runs_from_its_own_reopening(autojump_clock, nursery) -> None:
    """Not from its event's, of which another is unsettled all the time. One that a report adds counts from then."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(500.0,), jitter=0.0)))
    await flow.start(nursery)
    flow.put("acme", endpoint("a", schedule_seconds=()), endpoint("b", f"{URL}/b"), endpoint("c", f"{URL}/c"))
    flow.sender.script(URL, 404, Slow(3, 200))
    flow.sender.script(f"{URL}/b", 404, 200)
    flow.sender.script(f"{URL}/c", Slow(2, 200))
    lag = flow.ledger.counters.lag_seconds
    flow.resend.resend([line("e1", endpoint_id="a"), line("e1", endpoint_id="b")])
    await at(100)
    assert await flow.replay.replay("acme", Wanted()) == Replayed(1, 1)
    await at(104)
    assert lag.sum == pytest.approx(3)
    await at(200)
    flow.resend.resend([line("e1", endpoint_id="c")])
    await at(203)
    assert lag.sum == pytest.approx(3 + 2)
    await at(501)
    assert lag.sum == pytest.approx(3 + 2 + 500)
