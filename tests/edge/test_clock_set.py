"""The wall clock is set while the daemon runs: ages and durations do not notice."""

import pytest
from hookd.core.timestamps import WALL_MAX, rfc3339
from hookd.edge.clock import SystemClock

from tests.edge.test_api import event, started
from tests.flow.harness import EPOCH, URL, Held, at, now

BY = [-7200.0, 366 * 86400.0, -EPOCH]


@pytest.mark.parametrize("by", BY, ids=["two hours back", "a year on", "1970"])
async def test_ages_and_durations_are_monotonic(autojump_clock, nursery, by: float) -> None:
    """Uptime, the ages of what waits, in the status and of a client, an attempt's duration, and the lag's sum."""
    api = await started(nursery)
    held = Held()
    api.flow.sender.script(URL, held)
    await api.post("/v1/events", event(id="e1"))
    await at(5)
    api.flow.clock.set_by_seconds = by
    await at(12)
    status = (await api.get("/v1/status")).body
    (endpoint,) = (await api.get("/v1/clients/acme")).body["endpoints"]
    assert status["uptime_seconds"] == 12
    assert status["now"] == rfc3339(EPOCH + 12 + by)
    assert status["oldest_unsettled_seconds"] == endpoint["health"]["oldest_unsettled_seconds"] == 12
    held.release(200)
    await now()
    lag = api.flow.ledger.counters.lag_seconds
    assert (lag.sum, lag.count) == (12, 1)
    (delivery,) = (await api.get("/v1/events/e1")).body["deliveries"]
    assert delivery["attempts"][0]["duration_seconds"] == 12


@pytest.mark.parametrize(("wall", "shown"), [(-1e8, 0.0), (-0.001, 0.0), (1e9, 1e9), (1e12, WALL_MAX)])
def test_wall_clock_outside_the_years_of_our_forms_is_shown_at_their_end(wall: float, shown: float) -> None:
    """A report with a time before 1970 could not be read back."""
    assert SystemClock(lambda: wall).wall() == shown
