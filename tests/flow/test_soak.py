"""A day in virtual time: whatever comes and goes, what is held stays as large as it was half a day before."""

import gc
import os
import sys

import msgspec
import pytest
import trio
from hookd.core.outcome import TimedOut, Unreachable
from hookd.core.settings import DEFAULTS, RetentionSettings

from tests.flow.harness import Flow, Hang, Later, Slow, at, endpoint

# A week by hand: HOOKD_TEST_SOAK_HOURS=168 pytest -n 0 --timeout 0 tests/flow/test_soak.py
HOURS = int(os.environ.get("HOOKD_TEST_SOAK_HOURS", "24"))
HOUR_SECONDS = 3600.0
EVERY_SECONDS = 60.0

URLS = {name: f"https://{name}.example/hook" for name in ("well", "slow", "flaky", "hung", "down", "busy", "gone")}


class Day:
    """Clients of every kind, an event for each every minute, and an operator who changes things every hour."""

    def __init__(self) -> None:
        retention = RetentionSettings(age_seconds_max=HOUR_SECONDS, settlements_max=500, notices_max=100)
        self.flow = Flow(msgspec.structs.replace(DEFAULTS, retention=retention))
        script = self.flow.sender.script
        script(URLS["slow"], Slow(10.0, 200))
        script(URLS["flaky"], *[503, Unreachable("reset"), 200, 200] * 10_000)
        script(URLS["hung"], Hang())
        script(URLS["down"], *[Unreachable("refused"), TimedOut(15.0)] * 100_000)
        script(URLS["busy"], *[Later(429, "60"), *[200] * 20] * 10_000)
        script(URLS["gone"], *[410, 200] * 10_000)

    async def run(self, nursery: trio.Nursery) -> list[dict[str, int]]:
        """What is held each time that an eighth of it is over."""
        await self.flow.start(nursery)
        nursery.start_soon(self._produce)
        nursery.start_soon(self._operate)
        held = []
        for eighth in range(1, 9):
            await at(eighth * HOURS * HOUR_SECONDS / 8 - 1)
            held.append(self._held())
            self.flow.sender.transcript.clear()
            self.flow.log.lines.clear()
            self.flow.forgotten.clear()
        return held

    async def _produce(self) -> None:
        for name, url in URLS.items():
            self.flow.put(name, endpoint(url=url))
        while True:
            for name in URLS:
                if self.flow.registry.find(name):
                    self.flow.admit(name)
            await trio.sleep(EVERY_SECONDS)

    async def _operate(self) -> None:
        """A client comes and goes; one is paused for a while; one that answered 410 is enabled again."""
        hour = 0
        while True:
            await trio.sleep(HOUR_SECONDS / 2)
            hour += 1
            self.flow.put(f"guest-{hour}", endpoint(url=URLS["flaky"]))
            self.flow.admit(f"guest-{hour}")
            self.flow.registration.pause("slow", "default")
            await trio.sleep(HOUR_SECONDS / 4)
            self.flow.registration.resume("slow", "default")
            self.flow.registration.resume("gone", "default")
            self.flow.registration.remove(f"guest-{hour}", end_unsettled=True)
            await trio.sleep(HOUR_SECONDS / 4)

    def _held(self) -> dict[str, int]:
        gc.collect()
        flow, totals = self.flow, self.flow.ledger.totals()
        return {
            "blocks": sys.getallocatedblocks(),  # whatever it is that the interpreter holds
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "couriers": len(flow.dispatch.couriers()),
            "in flight": flow.sender.flying,
            "unsettled events": totals.unsettled_events,
            "unsettled bytes": totals.unsettled_bytes,
            "events": len(flow.events()),
            "books": len(flow.ledger._books),
            "clients": len(flow.registry),
        }


@pytest.mark.second_round
async def test_a_day_leaves_no_more_than_half_of_it_did(autojump_clock, nursery) -> None:
    """No slope: a block of memory for each event would be 2,500 more in six hours; the rest is chance."""
    day = Day()
    held = await day.run(nursery)
    for line in held:
        print(line)
    totals = day.flow.ledger.totals()
    assert totals.is_balanced
    assert totals.accepted > 400 * HOURS
    before, after = held[4:6], held[6:]
    assert min(line["blocks"] for line in after) < max(line["blocks"] for line in before) + 1000
    assert {line["tasks"] for line in before} == {line["tasks"] for line in after}
    for what in ("couriers", "books", "clients", "in flight", "unsettled events", "events"):
        assert max(line[what] for line in after) <= max(line[what] for line in before) + 5, what
    nursery.cancel_scope.cancel()
