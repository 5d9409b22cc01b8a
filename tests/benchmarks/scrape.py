"""What reading `/metrics`, `/v1/status` or the status page costs the event loop with 100,000 unsettled events.

Of each: the whole, and its longest step. The page's readings share a round, so the median is of a refresh without one.

A step is what runs between two waits: for so long nobody else has a turn. Every attempt is in flight and hangs, so
that nothing else runs meanwhile. Each client has one endpoint. All times are the thread's CPU time: others on the
machine are not ours to count. Also the cost of the tally, an attempt.

    python -m tests.benchmarks scrape [--quick]
"""

import gc
import statistics
import sys
import time
from typing import Any

import trio
import trio.testing
from hookd.core.counters import Counters
from hookd.core.outcome import Responded
from hookd.core.settings import DeliverySettings, IntakeSettings, Settings
from hookd.edge.api import create_app
from hookd.edge.garbage import Garbage

from tests.flow.harness import Flow, Hang, endpoint

EVENTS = 100_000
SCRAPES = 50
STEP_SECONDS_MAX = 0.005


class Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began: float | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began is not None:
            self.seconds.append(time.thread_time() - self._began)


async def measure(clients: int, path: str, events: int, scrapes: int) -> tuple[float, float, float]:
    """Seconds of the whole at the median; of the longest step of a scrape, at the median and at its worst."""
    hangs = DeliverySettings(timeout_seconds=3600.0)  # else attempts end meanwhile, and others begin
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=events), delivery=hangs))
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        for number in range(clients):
            url = f"https://c{number}.example/"
            flow.sender.script(url, Hang())
            flow.put(f"c{number}", endpoint(url=url))
        for number in range(events):
            flow.admit(f"c{number % clients}")
        await trio.testing.wait_all_tasks_blocked(0.01)
        api = create_app(flow.services()).test_client()
        gc.collect()
        Garbage().take_over()  # without it CPython walks through the old in a scrape: 80 to 180 ms
        seen = [await _scrape(api, path) for _ in range(scrapes)]
        nursery.cancel_scope.cancel()
    whole, longest = zip(*seen, strict=True)
    return statistics.median(whole), statistics.median(longest), max(longest)


async def _scrape(api: Any, path: str) -> tuple[float, float]:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    began = time.thread_time()
    answer = await api.get(path)
    whole = time.thread_time() - began
    trio.lowlevel.remove_instrument(steps)
    assert answer.status_code == 200
    return whole, max(steps.seconds)


def tally_seconds() -> float:
    """Of one attempt that ended in a 2xx."""
    counters, outcome, times = Counters(), Responded(200), 200_000
    began = time.perf_counter()
    for _ in range(times):
        counters.observe_attempt(outcome, 0.02)
        counters.observe_delivered(0.03)
    return (time.perf_counter() - began) / times


def main(*, quick: bool = False) -> None:
    """Quick: a few of each, whether it runs."""
    events, scrapes = (1_000, 2) if quick else (EVENTS, SCRAPES)
    print(f"{events:,} unsettled events; milliseconds; bar: a step of {STEP_SECONDS_MAX * 1000:g}")
    print("clients  path        whole  longest step: median  worst")
    for clients in (100,) if quick else (100, 1_000, 10_000):
        for path in ("/metrics", "/v1/status", "/"):
            whole, median, worst = (1000 * seconds for seconds in trio.run(measure, clients, path, events, scrapes))
            print(f"{clients:7,}  {path:10}  {whole:5.1f}  {median:20.1f}  {worst:5.1f}")
    print(f"tally: {tally_seconds() * 1e6:.2f} us an attempt")


if __name__ == "__main__":
    main(quick=sys.argv[1:] == ["--quick"])
