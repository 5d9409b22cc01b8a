"""Whether an event costs the same with many clients and beside a backlog: `python -m tests.benchmarks scale`.

A daemon for each case, all at once, measured by turns: 1 to 10,000 clients without a backlog, and one client beside 0
to 1,000,000 events that wait for a paused endpoint. Events are posted by batches of a hundred and delivered to haproxy.
Beside them `/livez` is asked every ten milliseconds, over a connection of its own. What an answer takes is how long the
loop was held, and whoever else had the processor: the percentile stands beside the same of the first case.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import click

from tests.benchmarks.end_to_end import DAEMON_CORE, LOAD_CORE, PAYLOAD, SETTLE_SECONDS, wait_for
from tests.benchmarks.processes import Child, Keeper, NotInstalled, daemon, sink
from tests.benchmarks.turns import Figures, by_turns, finish, progress, show

CLIENTS = (1, 10, 100, 1_000, 10_000)
BACKLOGS = (0, 10_000, 100_000, 1_000_000)
EVENTS = 5_000
BATCH = 100
FILL_BATCH = 1_000
PROBE_EVERY_SECONDS = 0.01


class Case:
    """A daemon that is filled, and how many of its events are delivered."""

    def __init__(self, hookd: Child, *, clients: int, backlog: int, sink_port: int) -> None:
        self._hookd = hookd
        self._clients = clients
        self._delivered = 0
        with Keeper(hookd.port) as api:
            for number in range(clients):
                url = f"http://127.0.0.1:{sink_port}/{number}"
                api.json("PUT", f"/v1/clients/c{number}", {"endpoints": [{"url": url}]}, status=201)
            self._fill(api, backlog)

    def measure(self, events: int) -> Figures:
        stalls: list[float] = []
        ending = threading.Event()
        prober = threading.Thread(target=probe, args=(self._hookd.port, ending, stalls))
        with Keeper(self._hookd.port) as api:
            cpu, begun = self._hookd.cpu_seconds(), time.perf_counter()
            prober.start()
            for begin in range(0, events, BATCH):
                batch = [self._event(number) for number in range(begin, begin + BATCH)]
                api.json("POST", "/v1/events/batch", batch, status=202)
                self._delivered += BATCH
                wait_for(api, self._delivered - 5 * BATCH)
            wait_for(api, self._delivered)
            seconds, cpu = time.perf_counter() - begun, self._hookd.cpu_seconds() - cpu
        ending.set()
        prober.join()
        stalls.sort()
        return {
            "cpu_us": cpu / events * 1e6,
            "per_second": events / seconds,
            "stall_p99.9_ms": stalls[int(len(stalls) * 0.999)] * 1000,
            "stall_max_ms": stalls[-1] * 1000,
        }

    def _event(self, number: int) -> dict[str, object]:
        return {"client_id": f"c{number % self._clients}", "type": "invoice.paid", "payload": PAYLOAD}

    def _fill(self, api: Keeper, backlog: int) -> None:
        if not backlog:
            return
        api.json("PUT", "/v1/clients/held", {"endpoints": [{"url": "http://127.0.0.1:9/"}]}, status=201)
        api.json("POST", "/v1/clients/held/endpoints/default/pause")
        batch = [{"client_id": "held", "type": "invoice.paid", "payload": PAYLOAD}] * FILL_BATCH
        for done in range(0, backlog, FILL_BATCH):
            progress(f"filling: {done:,} of {backlog:,}") if done % 50_000 == 0 else None
            api.json("POST", "/v1/events/batch", batch, status=202)


def probe(port: int, ending: threading.Event, stalls: list[float]) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    with Keeper(port) as api:
        while not ending.wait(PROBE_EVERY_SECONDS) and time.monotonic() < deadline:
            asked = time.perf_counter()
            api.ask("GET", "/livez")
            stalls.append(time.perf_counter() - asked)


@contextmanager
def cases(clients: tuple[int, ...], backlogs: tuple[int, ...]) -> Iterator[dict[str, Case]]:
    with ExitStack() as stack:
        port = stack.enter_context(sink(core=LOAD_CORE))
        found = {}
        for count, backlog in [(count, 0) for count in clients] + [(1, backlog) for backlog in backlogs if backlog]:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            hookd = stack.enter_context(daemon(directory, core=DAEMON_CORE))
            name = f"{count:,} clients" if not backlog else f"{backlog:,} wait"
            found[name] = Case(hookd, clients=count, backlog=backlog, sink_port=port)
        yield found


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--quick", is_flag=True, help="Two rounds of a few events: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, quick: bool, json_path: str | None) -> None:
    events = BATCH if quick else EVENTS
    try:
        with cases((1, 10) if quick else CLIENTS, (0, 1_000) if quick else BACKLOGS) as found:
            for case in found.values():
                case.measure(BATCH)
            measures = {name: partial(case.measure, events) for name, case in found.items()}
            seen = by_turns(measures, rounds=2 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    show(seen, base="1 clients")
    finish("scale", seen, json_path=json_path)


if __name__ == "__main__":
    sys.exit(main())
