"""A rate: attempts of an endpoint begin no faster, whatever waits, fails or is hurried."""

from collections import Counter

import pytest
import trio
from hookd.core.client import Endpoint
from hookd.core.outcome import Unreachable
from hookd.core.rate import Rate

from tests.flow.harness import URL, Flow, at, endpoint, now


async def flow_with(nursery, one: Endpoint) -> Flow:
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", one)
    return flow


def begun(flow: Flow) -> list[float]:
    return [round(sent.at, 6) for sent in flow.sender.transcript]


def most_in(times: list[float], window_seconds: float) -> int:
    return max(sum(1 for other in times if time - window_seconds + 1e-6 < other <= time) for time in times)


async def test_backlog_goes_out_at_the_rate(autojump_clock, nursery) -> None:
    """One second's worth at once, then as many each second."""
    flow = await flow_with(nursery, endpoint(rate=Rate.of("10/s"), concurrency=8))
    flow.admit_many(35)
    await at(10)
    assert begun(flow) == [float(number // 10) for number in range(35)]


async def test_rate_below_one_a_second_spaces_attempts(autojump_clock, nursery) -> None:
    flow = await flow_with(nursery, endpoint(rate=Rate.of("20/m")))
    flow.admit_many(4)
    await at(60)
    assert begun(flow) == [0, 3, 6, 9]


async def test_idle_endpoint_has_no_fresh_burst_too_early(autojump_clock, nursery) -> None:
    """Its lane and its courier are gone in between; what began lately is not."""
    flow = await flow_with(nursery, endpoint(rate=Rate.of("2/s")))
    flow.admit_many(2)
    await at(0.5)
    flow.admit_many(3)
    await at(5)
    assert begun(flow) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("order", ["any", "strict"])
async def test_retries_probes_and_hurried_ones_keep_to_it(autojump_clock, nursery, order) -> None:
    flow = await flow_with(
        nursery, endpoint(rate=Rate.of("60/m"), order=order, schedule_seconds=(0.0,) * 30, concurrency=8)
    )
    flow.sender.script(URL, *[Unreachable("refused")] * 60, 200)
    events = flow.admit_many(10)
    for second in range(0, 100, 7):
        await at(second + 0.1)
        for event in events:
            flow.retry_now.retry(event)
    await at(3500)
    times = begun(flow)
    assert len(times) >= 70
    assert most_in(times, 1.0) == 1


async def test_rate_changes_with_the_registration(autojump_clock, nursery) -> None:
    """A PUT holds at once, for what waits too; none lifts it."""
    flow = await flow_with(nursery, endpoint(rate=Rate.of("1/h")))
    flow.admit_many(7)
    await at(10)
    assert begun(flow) == [0]
    flow.put("acme", endpoint(rate=Rate.of("2/s")))
    await at(12)
    assert begun(flow) == [0, 10, 10, 11, 11, 12, 12]
    flow.put("acme", endpoint(rate=Rate.of("1/h")))
    flow.admit_many(5)
    await at(13)
    flow.put("acme", endpoint())
    await now()
    assert begun(flow)[7:] == [13] * 5


async def test_what_waits_for_its_rate_is_not_overdue(autojump_clock, nursery) -> None:
    """Overdue is what is ours to answer for."""
    flow = await flow_with(nursery, endpoint(rate=Rate.of("1/m")))
    flow.admit_many(3)
    await at(50)
    assert min(courier.next_due(50.0) for courier in flow.dispatch.couriers()) == 60.0


async def test_what_rates_hold_back_holds_no_tasks(autojump_clock, nursery) -> None:
    """Twenty clients, each with a backlog: and the timer steps no oftener than moments come up."""
    flow = Flow()
    await flow.start(nursery)
    clients = [f"c{number}" for number in range(20)]
    for client_id in clients:
        flow.put(client_id, endpoint(url=f"https://{client_id}.example/", rate=Rate.of("2/s")))
        flow.admit_many(2, client_id)
    await at(0.5)
    before = trio.lowlevel.current_statistics().tasks_living
    for client_id in clients:
        flow.admit_many(6, client_id)
    await at(0.9)
    assert trio.lowlevel.current_statistics().tasks_living == before
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await at(3.5)
    trio.lowlevel.remove_instrument(steps)
    assert sorted(begun(flow)) == [float(second) for second in (0, 1, 2, 3) for _ in range(40)]
    assert steps.of["hookd.flow.timer.Timer.run"] <= 6  # one for each of the seconds, and as many for what is sooner


class Steps(trio.abc.Instrument):
    """How often each task had a turn."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task.name] += 1
