"""The page's look at every endpoint: what ails whom, who holds the most, who is listed, and what it costs."""

import pytest
from hookd.core.deadline import Cause, Deadline
from hookd.core.health import Health
from hookd.core.outcome import Responded, Unreachable
from hookd.core.settings import DeliverySettings, IntakeSettings, Settings
from hookd.core.situation import Ailment
from hookd.core.timestamps import Moment
from hookd.flow.rounds import KEPT_MAX, ROUND_SECONDS, ROWS_MAX, Rounds, Wanted, ailment_of

from tests.flow.harness import EPOCH, URL, Flow, Hang, at, endpoint

NOW = Moment(100.0, 1_800_000_100.0)
LATER = Moment(130.0, 1_800_000_130.0)


def rounds_of(flow: Flow) -> Rounds:
    return Rounds(
        effective=flow.effective, ledger=flow.ledger, registry=flow.registry, dispatch=flow.dispatch, clock=flow.clock
    )


def noted(*outcomes: object, **fields: object) -> Health:
    health = Health(**fields)  # type: ignore[arg-type]
    for outcome in outcomes:
        health.note(outcome, NOW, concurrency=8, retry_after_seconds=None, jitter_unit=0.0)  # type: ignore[arg-type]
    return health


@pytest.mark.parametrize(
    ("health", "ailment"),
    [
        (noted(), None),
        (noted(Responded(200)), None),
        (noted(Responded(404)), None),
        (noted(Responded(404), Responded(404)), Ailment.FAILING),
        (noted(Responded(404), Responded(404), Responded(200)), None),
        (noted(Unreachable("cannot connect"), Responded(500)), Ailment.FAILING),
        (noted(Responded(429)), Ailment.THROTTLED),
        (noted(held_up_by="evt_1"), Ailment.HELD_UP),
        (noted(disabled=True), Ailment.DISABLED),
    ],
)
def test_ailment_is_the_worst_that_is_so(health: Health, ailment: Ailment | None) -> None:
    """4xx only, for half a minute, is a state of its own; one failure is none."""
    assert ailment_of(health, LATER) is ailment
    if ailment is Ailment.FAILING:
        assert ailment_of(health, NOW) is None


def test_pauses_are_told_apart() -> None:
    """An operator's is not the endpoint's fault; `disabled` goes over both."""
    health = noted(Responded(503), Responded(503))
    health.pause(NOW.monotonic)
    assert ailment_of(health, NOW) is Ailment.PAUSED_BY_OPERATOR
    health.disable(NOW.monotonic)
    assert ailment_of(health, NOW) is Ailment.DISABLED


async def standing(nursery, backlogs: dict[str, int], *, client_events_max: int = 10) -> Flow:
    """Clients with one paused endpoint each, and so many deliveries that wait for it."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=client_events_max)))
    await flow.start(nursery)
    for client_id, backlog in backlogs.items():
        flow.put(client_id)
        flow.registration.pause(client_id, "default")
        if backlog:
            flow.admit_many(backlog, client_id)
    return flow


async def test_round_counts_and_names_who_holds_most(autojump_clock, nursery) -> None:
    """Of three paused endpoints the one with most of its client's budget is named; quiet ones are not listed."""
    flow = await standing(nursery, {"a": 1, "b": 9, "c": 0})
    flow.put("quiet")
    made = await rounds_of(flow).latest(Wanted())
    assert (made.endpoints, made.matched, made.full_clients) == (4, 3, 0)
    assert made.rows() == [("b", "default"), ("a", "default"), ("c", "default")]
    group = made.ailing[Ailment.PAUSED_BY_OPERATOR]
    assert (group.endpoint_count, group.worst.name, group.worst.unsettled) == (3, "b/default", 9)
    assert made.fullest == made.largest == group.worst
    assert group.worst.since == EPOCH


async def test_who_failed_last_is_named_before_it_ails_anybody(autojump_clock, nursery) -> None:
    """The one that has failed longest, and how many. A single failure is none, nor is one with a success since."""
    flow = await standing(nursery, {})
    answers = {"b": [500, 500], "a": [500, 500], "c": [500, 200], "d": [500]}
    for number, (client_id, codes) in enumerate(answers.items()):
        url = f"https://{client_id}.example/hook"
        flow.put(client_id, endpoint(url=url))
        flow.sender.script(url, *map(Responded, codes))
        await at(9 if client_id == "d" else number)
        flow.admit(client_id)
    await at(10)
    made = await rounds_of(flow).latest(Wanted())
    assert made.failed_last is not None
    assert (made.failed_last.name, made.failed_last_count) == ("b/default", 2)
    assert (made.failed_last.ailment, made.failed_last.since) == (None, EPOCH)


async def test_full_clients_are_counted(autojump_clock, nursery) -> None:
    """Those whose next event would be refused."""
    flow = await standing(nursery, {"a": 10, "b": 9, "c": 10})
    made = await rounds_of(flow).latest(Wanted())
    assert made.full_clients == 2
    assert made.fullest is not None
    assert made.fullest.budget_used == 1.0


async def test_listing_is_of_what_is_wanted_and_no_longer_than_its_limit(autojump_clock, nursery) -> None:
    """A text finds quiet endpoints too; beyond the limit the fullest stay."""
    flow = await standing(nursery, {f"c{number:03}": number % 7 for number in range(ROWS_MAX + 20)})
    flow.put("quiet")
    rounds = rounds_of(flow)
    everything = await rounds.latest(Wanted())
    assert (everything.matched, len(everything.rows())) == (ROWS_MAX + 20, ROWS_MAX)
    held = [flow.ledger.held(client_id).events for client_id, _ in everything.rows()]
    assert held == sorted(held, reverse=True)
    assert min(held) >= 1  # 10 of the 70 hold nothing, 20 are left out
    assert (await rounds.latest(Wanted(text="quiet/def"))).rows() == [("quiet", "default")]
    assert (await rounds.latest(Wanted(text="c01"))).matched == 10
    assert (await rounds.latest(Wanted(Ailment.DISABLED))).rows() == []
    assert (await rounds.latest(Wanted(Ailment.PAUSED_BY_OPERATOR, "c001"))).rows() == [("c001", "default")]


async def test_round_serves_all_who_ask_for_five_seconds(autojump_clock, nursery) -> None:
    """The same one; then a new one. Of what else was asked for the latest few are kept."""
    rounds = rounds_of(await standing(nursery, {"a": 1}))
    first = await rounds.latest(Wanted())
    await at(ROUND_SECONDS - 0.1)
    assert await rounds.latest(Wanted()) is first
    for number in range(KEPT_MAX - 1):
        await rounds.latest(Wanted(text=str(number)))
    assert await rounds.latest(Wanted()) is first
    await at(ROUND_SECONDS)
    second = await rounds.latest(Wanted())
    assert second is not first
    for number in range(KEPT_MAX):
        await rounds.latest(Wanted(text=str(number)))
    assert await rounds.latest(Wanted()) is not second


async def test_round_tells_what_is_overdue(autojump_clock, nursery) -> None:
    """Due, held back by nothing, and still waiting: with the pacer not begun everything is."""
    flow = Flow()
    await flow.stand_by(nursery)
    flow.put()
    flow.admit()
    await at(40)
    made = await rounds_of(flow).latest(Wanted())
    assert (made.overdue_seconds, made.ready_seconds) == (40.0, 40.0)


async def test_round_tells_whose_endpoint_takes_less_than_what_comes(autojump_clock, nursery) -> None:
    """What waits behind its own attempts in flight is due, and waits for nobody but it."""
    flow = Flow(Settings(delivery=DeliverySettings(concurrency=1, timeout_seconds=60.0)))
    await flow.start(nursery)
    flow.put("quick", endpoint(url="https://quick.example/"))
    flow.admit("quick")
    flow.put("slow", endpoint(url=URL))
    flow.sender.script(URL, Hang())
    flow.admit_many(3, "slow")
    await at(40)
    made = await rounds_of(flow).latest(Wanted())
    assert (made.overdue_seconds, made.ready_seconds, made.slowest_seconds) == (40.0, 0.0, 40.0)
    assert made.slowest is not None
    assert (made.slowest.name, made.slowest.unsettled) == ("slow/default", 3)


async def test_named_endpoints_have_the_deadline_of_their_oldest(autojump_clock, nursery) -> None:
    """The latest at which it is given up; none while an operator holds it, since nothing expires then."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("down")
    flow.sender.script(URL, *[Unreachable("cannot connect")] * 100)
    for seconds in range(40):
        flow.admit("down", f"evt_{seconds}")
        await at(seconds + 1)
    rounds = rounds_of(flow)
    made = await rounds.latest(Wanted())
    worst = made.ailing[Ailment.PAUSED].worst
    assert made.largest == made.fullest == worst
    assert worst.deadline == Deadline(EPOCH + flow.effective.settings.retry.age_seconds_max, Cause.AGE)
    flow.registration.pause("down", "default")
    await at(40 + ROUND_SECONDS)
    made = await rounds.latest(Wanted())
    assert made.ailing[Ailment.PAUSED_BY_OPERATOR].worst.deadline is None
