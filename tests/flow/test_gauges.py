"""What is shown of the present: endpoints by state, the oldest of each kind, and what waits for its client."""

from hookd.core.health import State
from hookd.core.settings import DeliverySettings, Settings

from tests.flow.harness import URL, Flow, Hang, at, endpoint, now
from tests.flow.test_recovery import Shelf, Start
from tests.flow.test_resend import written as line


async def test_what_waits_for_its_client_is_the_sum_over_all_of_them(autojump_clock, nursery) -> None:
    """Until it is registered; then its endpoint is counted instead."""
    counts = {"a": 1, "b": 2, "c": 4}
    lines = [line(f"e{number}", client_id=one) for one, count in counts.items() for number in range(count)]
    start = Start(Shelf(one=lines))
    await start.recover(nursery)
    start.flow.begin(nursery)
    gauges = await start.flow.gauge_collector.take()
    assert (gauges.waiting_for_client, gauges.waiting_for_client_events, gauges.endpoints.total()) == (7, 7, 0)
    start.flow.put("b", endpoint("default"))
    gauges = await start.flow.gauge_collector.take()
    assert (gauges.waiting_for_client, gauges.waiting_for_client_events, gauges.endpoints.total()) == (5, 5, 1)


async def test_endpoints_are_counted_by_state_and_those_without_any_are_ok(autojump_clock, nursery) -> None:
    """Each registered one once, whether anything was ever sent to it or not."""
    flow = Flow()
    await flow.start(nursery)
    flow.sender.script(URL, 410)
    flow.put("a", endpoint("gone", URL), endpoint("well", "https://well.example/"))
    flow.put("b")
    flow.admit("a")
    await now()
    gauges = await flow.gauge_collector.take()
    assert {state: count for state, count in gauges.endpoints.items() if count} == {State.DISABLED: 1, State.OK: 2}
    assert set(gauges.endpoints) == set(State)


async def test_oldest_are_told_in_seconds_or_not_at_all(autojump_clock, nursery) -> None:
    """What is in flight is unsettled and not overdue; what waits for room behind it is both."""
    flow = Flow(Settings(delivery=DeliverySettings(concurrency=1, timeout_seconds=60.0)))
    await flow.start(nursery)
    flow.put()
    gauges = await flow.gauge_collector.take()
    assert (gauges.oldest_unsettled_seconds, gauges.oldest_overdue_seconds) == (None, None)
    flow.sender.script(URL, Hang())
    flow.admit()
    await at(5)
    gauges = await flow.gauge_collector.take()
    assert (gauges.oldest_unsettled_seconds, gauges.oldest_overdue_seconds) == (5.0, None)
    flow.admit()
    await at(12)
    gauges = await flow.gauge_collector.take()
    assert (gauges.oldest_unsettled_seconds, gauges.oldest_overdue_seconds) == (12.0, 7.0)
