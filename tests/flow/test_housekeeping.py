"""What happens by the clock alone."""

import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.retry import Reason
from hookd.core.settings import DeliverySettings, RetentionSettings, RetrySettings, Settings
from hookd.core.timestamps import Moment

from tests.flow.harness import URL, Flow, Hang, Slow, VirtualClock, at, endpoint, now, standing, statuses

OTHER = "https://other.example/hook"


async def test_delivery_waiting_behind_a_hung_endpoint_expires(autojump_clock, nursery) -> None:
    """It needs no attempt to grow old; what flies when its age is over is left to run out."""
    settings = Settings(delivery=DeliverySettings(timeout_seconds=90.0), retry=RetrySettings(age_seconds_max=60.0))
    flow = Flow(settings)
    await flow.start(nursery)
    flow.put("acme", endpoint("hung", URL, concurrency=1), endpoint("fine", OTHER))
    flow.sender.script(URL, Hang())
    flying, waiting = flow.admit_many(2)
    await at(30)
    younger = flow.admit()
    await at(59)
    assert waiting.deliveries[0].status is Status.PENDING
    await at(61)
    expired = waiting.deliveries[0]
    assert (expired.status, expired.reason, expired.attempt_count) == (Status.EXHAUSTED, Reason.EXPIRED, 0)
    assert waiting.deliveries[1].status is Status.DELIVERED
    assert flying.deliveries[0].in_flight
    assert younger.deliveries[0].status is Status.PENDING
    [line] = flow.log.of("delivery.exhausted")
    assert (line["event_id"], line["endpoint_id"], line["attempts"]) == (waiting.id, "hung", 0)
    await at(91)
    assert flying.deliveries[0].reason is Reason.EXPIRED
    assert younger.deliveries[0].reason is Reason.EXPIRED
    assert len(flow.sender.to(URL)) == 1
    assert flow.balanced()


async def test_delivery_expires_while_its_retry_is_far_off(autojump_clock, nursery) -> None:
    """At its age, not at its next attempt; and an attempt that falls due later is none."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(600.0,), age_seconds_max=60.0)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await at(61)
    assert standing(event) == (Status.EXHAUSTED, Reason.EXPIRED, 1)
    await at(1000)
    assert len(flow.sender.transcript) == 1


async def test_attempt_due_past_the_age_does_not_begin(autojump_clock, nursery) -> None:
    """Also between two ticks: too old is too old when it would begin."""
    flow = Flow(Settings(retry=RetrySettings(schedule_seconds=(10.7,), age_seconds_max=10.5)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 503)
    event = flow.admit()
    await at(10.8)
    assert standing(event) == (Status.EXHAUSTED, Reason.EXPIRED, 1)
    assert len(flow.sender.transcript) == 1


async def test_attempt_failing_past_the_age_is_the_last(autojump_clock, nursery) -> None:
    """In flight over its age: a failure then is `expired`, not one more retry."""
    flow = Flow(Settings(retry=RetrySettings(age_seconds_max=10.0)))
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Slow(12.0, 503))
    event = flow.admit()
    await at(12)
    assert standing(event) == (Status.EXHAUSTED, Reason.EXPIRED, 1)


async def test_many_deliveries_expiring_at_once_all_do(autojump_clock, nursery) -> None:
    """More than one go takes: every one of them within its tick."""
    flow = Flow(Settings(retry=RetrySettings(age_seconds_max=60.0)))
    await flow.start(nursery)
    flow.put("acme", endpoint(concurrency=1, timeout_seconds=3600.0))
    flow.sender.script(URL, Hang())
    events = flow.admit_many(2500)
    await at(61)
    assert statuses(events) == {Status.EXHAUSTED: 2499, Status.PENDING: 1}
    assert flow.balanced()


async def test_settled_events_are_forgotten_at_their_age_and_unsettled_never(autojump_clock, nursery) -> None:
    """Delivered and exhausted, counted from settling; an exhausted one is told of by its id; totals stay."""
    settings = Settings(
        retention=RetentionSettings(age_seconds_max=100.0),
        retry=RetrySettings(schedule_seconds=(), age_seconds_max=3600.0),
    )
    flow = Flow(settings)
    await flow.start(nursery)
    flow.put("acme", endpoint(timeout_seconds=300.0))
    flow.sender.script(URL, 200, 503, Slow(50.0, 200), Hang())
    for event_id in ("one", "two", "slow", "hung"):
        flow.admit(event_id=event_id)
        await now()
    await at(99)
    assert len(flow.events()) == 4
    await at(101)
    assert {event.id for event in flow.events()} == {"slow", "hung"}
    assert flow.forgotten == ["two"]
    await at(152)
    assert {event.id for event in flow.events()} == {"hung"}
    totals = flow.ledger.totals()
    assert (totals.accepted, totals.events[Status.DELIVERED], totals.events[Status.EXHAUSTED]) == (4, 2, 1)
    assert (totals.exhausted_held, totals.exhausted_forgotten) == (0, 1)
    assert totals.is_balanced


async def test_counts_line_is_logged_once_a_minute(autojump_clock, nursery) -> None:
    """At 60 s, 120 s and 180 s, with totals that balance."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, 200, 503)
    flow.admit_many(2)
    await at(181)
    lines = flow.log.of("counts")
    assert [line["at"] for line in lines] == pytest.approx([60, 120, 180])
    assert (lines[0]["accepted"], lines[0]["attempts"]) == (2, 4)
    for line in lines:
        assert line["accepted"] == sum(line["events"].values()) == 2
        assert line["opened"] == sum(line["deliveries"].values()) == 2
        held = flow.ledger.totals().unsettled_bytes
        assert (line["in_flight"], line["unsettled_events"], line["unsettled_bytes"]) == (0, 1, held)
        assert line["loop_lag_seconds"] == 0.0


async def test_rates_are_of_the_last_ten_seconds(autojump_clock, nursery) -> None:
    """Events accepted, attempts begun and deliveries delivered, a second."""
    flow = Flow()
    await flow.start(nursery)
    flow.put()
    assert flow.housekeeping.rates() == (0, 0, 0)
    await at(100.5)
    flow.admit_many(30)
    flow.sender.script(URL, 503)
    flow.admit_many(10)
    await at(101)
    rates = flow.housekeeping.rates()
    assert rates.accepted == pytest.approx(4, rel=0.1)
    assert rates.attempts == pytest.approx(4, rel=0.1)
    assert rates.delivered == pytest.approx(0, abs=0.1)
    flow.sender.script(URL, 200)
    await at(106)
    assert flow.housekeeping.rates().delivered == pytest.approx(4, rel=0.1)
    await at(130)
    assert flow.housekeeping.rates() == (0, 0, 0)


async def test_loop_that_is_kept_shows_as_lag(mock_clock, nursery) -> None:
    """A tick that comes late says by how much, for ten ticks; time here is turned by hand."""
    flow = Flow()
    await flow.start(nursery)
    await now()
    mock_clock.jump(1.75)
    await now()
    assert flow.housekeeping.loop_lag_seconds == pytest.approx(0.75)
    mock_clock.jump(0.25)
    await now()
    for _ in range(9):
        assert flow.housekeeping.loop_lag_seconds == pytest.approx(0.75)
        mock_clock.jump(1)
        await now()
    assert flow.housekeeping.loop_lag_seconds == 0


async def test_housekeeping_is_idle_between_ticks(autojump_clock, nursery) -> None:
    """A day of nothing is a tick a second and not a spin: it costs no more than a few real seconds."""
    flow = Flow()
    await flow.start(nursery)
    steps = 0

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    counting = Counting()
    trio.lowlevel.add_instrument(counting)
    await trio.sleep(100)
    trio.lowlevel.remove_instrument(counting)
    assert steps < 1000


class CostlyClock(VirtualClock):
    """Each reading takes half a millisecond of its own time: as if whoever reads it worked so long."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0

    def now(self) -> Moment:
        self.readings += 1
        moment = super().now()
        return Moment(moment.monotonic + self.readings * 0.0005, moment.wall)


async def test_looks_at_what_a_pause_holds_take_a_tenth_of_the_time(autojump_clock, nursery) -> None:
    """2,000 that are old and stay: once a second would be a reading for each of them, each second."""
    clock = CostlyClock()
    flow = Flow(Settings(retry=RetrySettings(age_seconds_max=60.0)), clock=clock)
    await flow.start(nursery)
    flow.put()
    flow.ledger.ensure_health("acme", "default").pause(clock.now().monotonic)
    events = flow.admit_many(2000)
    await at(100)
    before = clock.readings
    await at(300)
    assert 10_000 < clock.readings - before < 200 * 2000 / 5
    assert statuses(events) == {Status.PENDING: 2000}
