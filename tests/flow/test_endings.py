"""Many deliveries that end at once: in slices, with turns for others, and right at whatever moment one looks."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import trio
from hookd.core import report
from hookd.core.client import Client
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.refusal import EndpointDisabled, UnsettledDeliveries
from hookd.core.retry import Reason
from hookd.core.run import Run, Stop
from hookd.core.settings import IntakeSettings, RetrySettings, Settings
from hookd.core.timestamps import Moment
from hookd.flow.endings import FINISH_SECONDS_MAX, ROWS_AT_ONCE, SLICE_SECONDS

from tests.flow.harness import (
    EPOCH,
    URL,
    Flow,
    Held,
    VirtualClock,
    at,
    endpoint,
    now,
    only,
    standing,
    statuses,
    submission,
)

OTHER = "https://other.example/hook"
NEW = "https://acme.example/new"
ROOMY = IntakeSettings(client_events_max=20_000, client_bytes_max=2**30)
BACKLOG = 20_000


async def backlogged(
    nursery: trio.Nursery, number: int = BACKLOG, clock: VirtualClock | None = None, **fields: Any
) -> tuple[Flow, Held, list[Event]]:
    """One event in flight at acme's endpoint, and all others behind it."""
    flow, held = Flow(Settings(intake=ROOMY, **fields), clock=clock), Held()
    await flow.start(nursery)
    flow.put("acme", endpoint(concurrency=1))
    flow.put("other", endpoint(url=OTHER))
    flow.sender.script(URL, held, 200)
    events = [admitted.event for admitted in flow.intake.admit_whole([submission() for _ in range(number)])]
    await now()
    assert flow.sender.flying == 1
    return flow, held, events


def given_up(flow: Flow) -> list[dict[str, Any]]:
    return flow.log.of("delivery.exhausted")


def is_paced(flow: Flow) -> bool:
    """No slice is larger than a slice, nor sooner after the one before."""
    lines = Counter(line["at"] for line in given_up(flow))
    begun = sorted(lines)
    return max(lines.values()) <= ROWS_AT_ONCE and all(
        after - before >= SLICE_SECONDS - 1e-9 for before, after in pairwise(begun)
    )


def summary(flow: Flow) -> report.Summary:
    run = Run("run_1", "0", "host", 1, EPOCH)
    return report.summarise(flow.ledger, run, Stop(flow.clock.now().wall, "SIGTERM", False, 0.0))


def listed(flow: Flow) -> Counter[tuple[str, str | None]]:
    """What a report's lines say now: their kinds and reasons."""
    moment = flow.clock.now()
    lines = report.lines(flow.ledger, now_monotonic=moment.monotonic, now_wall=moment.wall, payloads=True)
    return Counter((line.kind, getattr(line, "reason", None) or None) for line in lines)


def end_by_410(flow: Flow, held: Held) -> None:
    held.release(410)


def end_by_removal(flow: Flow, held: Held) -> None:
    held.release(500)
    flow.registration.remove("acme", end_unsettled=True)


ENDS = [(end_by_410, Reason.GONE), (end_by_removal, Reason.ENDPOINT_REMOVED)]


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_backlog_ends_in_slices_and_others_have_their_turns(autojump_clock, nursery, end, reason) -> None:
    """A few at once, all within two seconds, each told and counted once; a neighbour's event does not wait for it."""
    flow, held, events = await backlogged(nursery)
    end(flow, held)
    neighbour = flow.admit("other")
    await now()
    assert neighbour.status is Status.DELIVERED
    assert statuses(events)[Status.EXHAUSTED] == ROWS_AT_ONCE + 1  # and the one that was in flight
    await at(BACKLOG / ROWS_AT_ONCE * SLICE_SECONDS)
    assert statuses(events) == {Status.EXHAUSTED: BACKLOG}
    assert {only(event).reason for event in events} == {reason}
    assert Counter(line["event_id"] for line in given_up(flow)) == Counter(event.id for event in events)
    assert {line["reason"] for line in given_up(flow)} == {reason.value}
    assert flow.ledger.counters.given_up[reason] == BACKLOG
    lines = Counter(line["at"] for line in given_up(flow))
    assert max(lines.values()) <= ROWS_AT_ONCE + 1
    assert len(flow.sender.to(URL)) == 1
    assert flow.endings.left == 0
    assert flow.balanced()


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_between_slices_the_totals_and_a_report_are_right(autojump_clock, nursery, end, reason) -> None:
    """What has not ended yet is undelivered, and nothing of it is lost or twice in a report."""
    all_of_it = 5 * ROWS_AT_ONCE
    flow, held, events = await backlogged(nursery, all_of_it)
    end(flow, held)
    seen = []
    for turn in range(8):
        await at(turn * SLICE_SECONDS)
        assert flow.balanced()
        told, ended = summary(flow), statuses(events)[Status.EXHAUSTED]
        assert told.balanced
        assert (told.deliveries.undelivered, told.deliveries.exhausted) == (all_of_it - ended, ended)
        assert told.undelivered.never_attempted == all_of_it - ended
        assert listed(flow) == +Counter({("undelivered", None): all_of_it - ended, ("exhausted", reason.value): ended})
        assert (await flow.gauge_collector.take()).waiting_for_client == 0
        seen.append(ended)
    assert seen[:6] == [*(turn * ROWS_AT_ONCE + 1 for turn in range(1, 5)), all_of_it, all_of_it]


@pytest.mark.parametrize("is_forced", [False, True])
@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_stop_in_the_middle_says_of_all_why_it_ended(autojump_clock, end, reason, is_forced) -> None:
    """The report lists nothing of it as undelivered: it would be sent again to an endpoint that is gone."""
    async with trio.open_nursery() as nursery:
        flow, held, events = await backlogged(nursery, 5000)
        end(flow, held)
        await at(0.1)
        assert 0 < statuses(events)[Status.EXHAUSTED] < 5000
        forced = trio.Event()
        if is_forced:
            forced.set()
        assert await flow.drain(forced=forced) == 0
        nursery.cancel_scope.cancel()
    assert (summary(flow).deliveries.undelivered, summary(flow).balanced) == (0, True)
    assert listed(flow) == {("exhausted", reason.value): 5000}
    assert flow.balanced()


async def test_resume_in_the_middle_leaves_the_rest_alone(autojump_clock, nursery) -> None:
    """What was given up as gone stays so; what was not is delivered."""
    flow, held, events = await backlogged(nursery, 1000)
    end_by_410(flow, held)
    await at(0.03)
    flow.registration.resume("acme", "default")
    await at(10)
    assert statuses(events) == {Status.EXHAUSTED: 401, Status.DELIVERED: 599}
    assert flow.endings.left == 0
    assert flow.balanced()


async def test_another_url_in_the_middle_of_a_410_takes_the_rest(autojump_clock, nursery) -> None:
    flow, held, events = await backlogged(nursery, 1000)
    end_by_410(flow, held)
    await at(0.03)
    flow.put("acme", endpoint(url=NEW))
    await at(10)
    assert statuses(events) == {Status.EXHAUSTED: 401, Status.DELIVERED: 599}
    assert len(flow.sender.to(NEW)) == 599


async def test_second_410_in_the_middle_of_the_first_gives_up_all(autojump_clock, nursery) -> None:
    """Resumed and gone again: one list, no delivery twice."""
    flow, held, events = await backlogged(nursery, 1000)
    flow.sender.script(URL, 410)
    end_by_410(flow, held)
    await at(0.03)
    flow.registration.resume("acme", "default")
    await at(10)
    assert statuses(events) == {Status.EXHAUSTED: 1000}
    assert len(given_up(flow)) == 1000
    assert flow.endings.left == 0


async def test_retry_of_what_a_410_is_about_to_end_is_refused(autojump_clock, nursery) -> None:
    """Waiting still, and disabled: the caller is told to resume it."""
    flow, held, events = await backlogged(nursery, 1000)
    end_by_410(flow, held)
    await now()
    assert events[-1].status is Status.PENDING
    with pytest.raises(EndpointDisabled):
        flow.retry_now.retry(events[-1])


async def test_endpoint_put_again_in_the_middle_gets_nothing_of_the_old(autojump_clock, nursery) -> None:
    """What the removal ended stays ended, one in flight too; the new endpoint's own are delivered, and only they count
    where a removal of it is refused."""
    flow, held, events = await backlogged(nursery, 1000)
    flow.registration.remove("acme", end_unsettled=True)
    await at(0.03)
    flow.put("acme", endpoint(url=NEW))
    own = flow.admit()
    await now()
    assert standing(own) == (Status.DELIVERED, None, 1)
    flow.sender.script(NEW, Held())
    flow.admit()
    await now()
    with pytest.raises(UnsettledDeliveries, match=r"would end 1 unsettled"):
        flow.registration.remove("acme")
    for event in (events[0], events[-1]):  # in flight, and waiting
        assert not flow.retry_now.retry(event)
    await at(5)
    held.release(503)
    await now()
    assert {standing(event)[1] for event in events} == {Reason.ENDPOINT_REMOVED}
    assert len(flow.sender.to(NEW)) == 2
    assert flow.balanced()


async def test_endpoint_removed_again_in_the_middle_ends_both(autojump_clock, nursery) -> None:
    """The second removal's deliveries join the first's; nothing of the endpoint stays behind."""
    flow, held, events = await backlogged(nursery, 1000)
    flow.registration.remove("acme", end_unsettled=True)
    await at(0.03)
    flow.put("acme", endpoint(url=NEW, concurrency=2))
    flow.sender.script(NEW, Held())
    events += flow.admit_many(300)
    await now()
    flow.registration.remove("acme", end_unsettled=True)
    held.release(200)
    await at(16)
    assert statuses(events) == {Status.EXHAUSTED: 1299, Status.DELIVERED: 1}
    assert [line["deliveries_ended"] for line in flow.log.of("endpoint.removed")] == [999, 299]
    assert flow.ledger.health("acme", "default") is None
    assert flow.balanced()


async def test_reload_that_removes_many_clients_is_paced_as_a_whole(autojump_clock, nursery) -> None:
    """A hundred for each of 50 clients: not a slice for each."""
    flow = Flow()
    await flow.start(nursery)
    clients = [
        Client(id=f"c{number}", endpoints=(endpoint(concurrency=1),), managed_by_config=True) for number in range(50)
    ]
    flow.sender.script(URL, Held())
    flow.registration.take_config(clients)
    events = [event for client in clients for event in flow.admit_many(100, client.id)]
    await now()
    flow.registration.take_config([])
    assert statuses(events)[Status.EXHAUSTED] == ROWS_AT_ONCE
    await at(5)
    assert statuses(events) == {Status.EXHAUSTED: 4950, Status.PENDING: 50}
    assert is_paced(flow)
    assert {line["deliveries_ended"] for line in flow.log.of("endpoint.removed")} == {99}


async def test_many_that_expire_at_once_do_so_in_slices(autojump_clock, nursery) -> None:
    """In order of age, at the same pace as all other endings."""
    retry = RetrySettings(age_seconds_max=5.0)
    flow, _, events = await backlogged(nursery, 3000, retry=retry)
    await at(5.1)
    assert 0 < statuses(events)[Status.EXHAUSTED] < 3000
    await at(5.5)
    assert statuses(events) == {Status.EXHAUSTED: 2999, Status.PENDING: 1}
    assert is_paced(flow)
    assert [line["event_id"] for line in given_up(flow)] == [event.id for event in events[1:]]


async def test_resume_in_the_middle_of_an_expiry_and_a_longer_age_keep_the_rest(autojump_clock, nursery) -> None:
    """Each is looked at when its turn comes: by a reload the others are young again."""
    flow, held, events = await backlogged(nursery, 3000, retry=RetrySettings(age_seconds_max=5.0))
    await at(5.1)
    ended = statuses(events)[Status.EXHAUSTED]
    flow.set(retry=RetrySettings(age_seconds_max=50.0))
    held.release(200)
    await at(10)
    assert statuses(events) == {Status.EXHAUSTED: ended, Status.DELIVERED: 3000 - ended}


# What a removed endpoint granted


@pytest.mark.parametrize("entries", [0, 1, 9])
@pytest.mark.parametrize("by", ["put", "delete", "config"])
async def test_what_ended_by_removal_shows_the_endpoints_own_schedule(autojump_clock, nursery, entries, by) -> None:
    """Not the daemon's: of what waits, of what is in flight, and of what ends in a later slice."""
    flow = Flow(Settings(intake=ROOMY))
    await flow.start(nursery)
    old = endpoint("old", schedule_seconds=(1000.0,) * entries, concurrency=1)
    client = Client(id="acme", endpoints=(old,), managed_by_config=by == "config")
    if by == "config":
        flow.registration.take_config([client])
    else:
        flow.registration.put(client)
    held = Held()
    flow.sender.script(URL, 500, held)
    events = [admitted.event for admitted in flow.intake.admit_whole([submission() for _ in range(500)])]
    await now()
    if by == "config":
        flow.registration.take_config([])
    elif by == "delete":
        flow.registration.remove("acme", end_unsettled=True)
    else:
        flow.put("acme", endpoint("new", OTHER), end_unsettled=True)
    held.release(500)
    await at(10)
    assert statuses(events) == {Status.EXHAUSTED: 500}
    assert {flow.attempts_max(event) for event in events} == {1 + entries}
    flow.set(retry=RetrySettings(schedule_seconds=(1.0,) * 20))
    assert {flow.attempts_max(event) for event in events} == {1 + entries}


class SlowClock(VirtualClock):
    """Once it is slow, each reading comes a quarter of the time later in which a stop may give up: a slow machine."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self._readings = 0

    def now(self) -> Moment:
        self._readings += self.is_slow
        moment = super().now()
        return Moment(moment.monotonic + self._readings * FINISH_SECONDS_MAX / 4, moment.wall)


async def test_stop_gives_up_for_its_time_and_lists_the_rest(autojump_clock, nursery) -> None:
    """A stop ends in time, however much there is to give up: what is left is undelivered, and balances."""
    clock = SlowClock()
    flow, _, events = await backlogged(nursery, clock=clock)
    flow.registration.remove("acme", end_unsettled=True)
    clock.is_slow = True
    await flow.endings.finish()
    found = statuses(events)
    assert ROWS_AT_ONCE < found[Status.EXHAUSTED] < BACKLOG / 2
    assert flow.endings.left
    kinds = listed(flow)
    assert sum(kinds.values()) == BACKLOG
    assert flow.balanced()
