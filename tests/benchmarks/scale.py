"""Whether an event costs the same with many clients and beside a backlog: `python -m tests.benchmarks scale`.

A daemon for each case, all at once, measured by turns: 1 to 10,000 clients without a backlog, and a hundred beside 0
to 1,000,000 events that wait for a paused endpoint; and a hundred with payloads of 0 to 64 KiB more, each
of which has to be read, signed and sent. Events are posted by batches of a hundred and delivered to haproxy.
Of many clients CLIENTS_ACTIVE get events: as many endpoints as the pool keeps connections to (1,024). Beyond that each
event opens a connection, which costs what a connection costs, however many clients there are: a row of its own has it.
Beside them `/livez` is asked every ten milliseconds, over a connection of its own. What an answer takes is how long the
loop was held, and whoever else had the processor. What is the daemon's own doing is the CPU time of its loop's longest
turn, and of the turn that only one of a thousand exceeds.
"""

import base64
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from tests.benchmarks.end_to_end import DAEMON_CORE, LOAD_CORE, PAYLOAD, SETTLE_SECONDS, wait_for
from tests.benchmarks.processes import Child, Keeper, NotInstalled, daemon, sink
from tests.benchmarks.turns import Figures, by_turns, finish, progress, show
from tests.benchmarks.watched_daemon import SECONDS_MIN, TURN

CLIENTS = (1, 10, 100, 1_000, 10_000)
CLIENTS_ACTIVE = 1_000
CLIENTS_BESIDE_BACKLOG = 100
BACKLOGS = (0, 10_000, 100_000, 1_000_000)
EVENTS = 5_000
BATCH = 100
FILL_BATCH = 1_000
PAYLOADS_KIB = (0, 1, 16, 64)
PROBE_EVERY_SECONDS = 0.01


class Asked(NamedTuple):
    """Of a daemon. Of its clients, `active` get events."""

    clients: int
    active: int
    backlog: int = 0
    payload_kib: int = 0


class Case:
    """A daemon that is filled, and how many of its events are delivered."""

    def __init__(self, hookd: Child, turns: Path, asked: Asked, *, sink_port: int) -> None:
        self._hookd = hookd
        self._turns = turns
        self._active = asked.active
        self._payload = PAYLOAD | {"note": "x" * (asked.payload_kib * 1024)}
        self._posted = 0
        with Keeper(hookd.port) as api:
            for number in range(asked.clients):
                url = f"http://127.0.0.1:{sink_port}/{number}"
                api.json("PUT", f"/v1/clients/c{number}", {"endpoints": [{"url": url}]}, status=201)
            self._fill(api, asked.backlog)

    def measure(self, events: int) -> Figures:
        if self._active <= CLIENTS_ACTIVE:
            with Keeper(self._hookd.port) as api:  # what stays connected is connected to
                self._post(api, self._active)
        self._turns.write_bytes(b"")  # the daemon appends
        stalls: list[float] = []
        ending = threading.Event()
        prober = threading.Thread(target=probe, args=(self._hookd.port, ending, stalls))
        with Keeper(self._hookd.port) as api:
            cpu, begun = self._hookd.cpu_seconds(), time.perf_counter()
            prober.start()
            self._post(api, events)
            seconds, cpu = time.perf_counter() - begun, self._hookd.cpu_seconds() - cpu
        ending.set()
        prober.join()
        stalls.sort()
        turns = sorted(cpu_seconds for _, _, cpu_seconds in TURN.iter_unpack(self._turns.read_bytes()))
        return {
            "cpu_us": cpu / events * 1e6,
            "per_second": events / seconds,
            "livez_p99_ms": stalls[int(len(stalls) * 0.99)] * 1000,
            "livez_max_ms": stalls[-1] * 1000,
            # Of at least one turn an event; those below 2 ms are not written down.
            "turn_p99.9_ms": (turns[-1 - events // 1000] if len(turns) > events // 1000 else SECONDS_MIN) * 1000,
            "turn_max_ms": max(turns, default=SECONDS_MIN) * 1000,
        }

    def _post(self, api: Keeper, events: int) -> None:
        """At least so many, by whole batches; they are delivered when it returns."""
        for _ in range(0, events, BATCH):
            batch = [self._event(number) for number in range(self._posted, self._posted + BATCH)]
            self._posted += BATCH
            api.json("POST", "/v1/events/batch", batch, status=202)
            wait_for(api, self._posted - 5 * BATCH, delivered=settled)
        wait_for(api, self._posted, delivered=settled)

    def _event(self, number: int) -> dict[str, object]:
        return {"client_id": f"c{number % self._active}", "type": "invoice.paid", "payload": self._payload}

    def _fill(self, api: Keeper, backlog: int) -> None:
        if not backlog:
            return
        api.json("PUT", "/v1/clients/held", {"endpoints": [{"url": "http://127.0.0.1:9/"}]}, status=201)
        api.json("POST", "/v1/clients/held/endpoints/default/pause")
        batch = [{"client_id": "held", "type": "invoice.paid", "payload": PAYLOAD}] * FILL_BATCH
        for done in range(0, backlog, FILL_BATCH):
            progress(f"filling: {done:,} of {backlog:,}") if done % 50_000 == 0 else None
            api.json("POST", "/v1/events/batch", batch, status=202)


def settled(api: Keeper) -> int:
    """Since the start, by the feed's cursor. `/v1/status` looks at every endpoint: with 10,000 that was half a cost."""
    cursor = api.json("GET", "/v1/settlements?cursor=now&limit=1")["next_cursor"]
    return int(base64.urlsafe_b64decode(cursor + "==").rpartition(b":")[2])


def probe(port: int, ending: threading.Event, stalls: list[float]) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    with Keeper(port) as api:
        while not ending.wait(PROBE_EVERY_SECONDS) and time.monotonic() < deadline:
            asked = time.perf_counter()
            api.ask("GET", "/livez")
            stalls.append(time.perf_counter() - asked)


@contextmanager
def cases(clients: Sequence[int], backlogs: Sequence[int], payloads_kib: Sequence[int]) -> Iterator[dict[str, Case]]:
    asked = {f"{count:,} clients": Asked(count, min(count, CLIENTS_ACTIVE)) for count in clients}
    if clients and clients[-1] > CLIENTS_ACTIVE:
        asked[f"{clients[-1]:,}, each connected to"] = Asked(clients[-1], clients[-1])
    some = CLIENTS_BESIDE_BACKLOG
    asked |= {f"{backlog:,} wait": Asked(some, some, backlog=backlog) for backlog in backlogs}
    asked |= {f"{kib} KiB more": Asked(some, some, payload_kib=kib) for kib in payloads_kib}
    with ExitStack() as stack:
        port = stack.enter_context(sink(core=LOAD_CORE))
        found = {}
        for name, one in asked.items():
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            turns = Path(directory, "turns")
            hookd = stack.enter_context(daemon(directory, core=DAEMON_CORE, turns=turns))
            progress(f"making: {name}")
            found[name] = Case(hookd, turns, one, sink_port=port)
        yield found


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--clients", multiple=True, type=int, default=CLIENTS, show_default=True)
@click.option("--backlog", "backlogs", multiple=True, type=int, default=BACKLOGS, show_default=True)
@click.option("--payload-kib", "payloads_kib", multiple=True, type=int, default=PAYLOADS_KIB, show_default=True)
@click.option("--only", type=click.Choice(["clients", "wait", "more"]), help="One of the three tables.")
@click.option("--quick", is_flag=True, help="Two rounds of a few events: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(
    rounds: int,
    clients: tuple[int, ...],
    backlogs: tuple[int, ...],
    payloads_kib: tuple[int, ...],
    only: str | None,
    quick: bool,
    json_path: str | None,
) -> None:
    events = BATCH if quick else EVENTS
    if quick:
        clients, backlogs, payloads_kib = (1, 10), (0, 1_000), (0, 1)
    tables = {"clients": clients, "wait": backlogs, "more": payloads_kib}
    try:
        with cases(*(rows if only in (None, name) else () for name, rows in tables.items())) as found:
            for case in found.values():
                case.measure(BATCH)
            measures = {name: partial(case.measure, events) for name, case in found.items()}
            seen = by_turns(measures, rounds=2 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    for table in (("clients", "connected to"), ("wait",), ("more",)):
        rows = [{name: one for name, one in each.items() if name.endswith(table)} for each in seen]
        if rows[0]:
            show(rows, base=next(iter(rows[0])))
    finish("scale", seen, json_path=json_path)


if __name__ == "__main__":
    sys.exit(main())
