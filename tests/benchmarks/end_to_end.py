"""What an event costs from its post to its settled delivery: `python -m tests.benchmarks end_to_end`.

Fifty clients with an endpoint each, posted to by batches of a hundred over one connection, or singly over four. The
receiver is haproxy, which answers 200 and costs next to nothing. The daemon has a core of its own; the load and the
receiver share another. What counts is the daemon's CPU time: intake, signature, delivery, record, log, account.
`--beside DIRECTORY` measures another checkout by turns: what a change costs or saves. `--python COMMAND` measures the
daemon on another interpreter by turns, which needs what requirements.lock has; given again, on several.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import click

from tests.benchmarks.processes import ROOT, Child, Keeper, NotInstalled, daemon, sink
from tests.benchmarks.turns import Figures, by_turns, finish, show

CLIENTS = 50
BATCH = 100
BATCH_EVENTS = 10_000
SINGLE_EVENTS = 2_000
CONNECTIONS = 4
WARM_UP_EVENTS = 500
# What may be unsettled while more is posted: the backlog is not what is measured.
UNSETTLED_MAX = 1_000
SETTLE_SECONDS = 120.0
ASK_EVERY_SECONDS = 0.05
PAYLOAD = {"invoice": "in_1", "amount": 1999, "currency": "EUR"}
DAEMON_CORE, LOAD_CORE = 0, 1


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--beside", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--python", "others", multiple=True, help="Another interpreter, for the daemon alone.")
@click.option("--quick", is_flag=True, help="Two rounds of a few events: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, beside: Path | None, others: tuple[str, ...], quick: bool, json_path: str | None) -> None:
    share = 20 if quick else 1
    ways: dict[str, Callable[[Child, int], None]] = {
        "batches": partial(post_batches, events=BATCH_EVENTS // share),
        "singly": partial(post_singly, events=SINGLE_EVENTS // share),
    }
    counts = {"batches": BATCH_EVENTS // share, "singly": SINGLE_EVENTS // share}
    base = " beside" if beside else "" if others else None
    daemons = {"": partial(measure, ROOT)} | ({" beside": partial(measure, beside)} if beside else {})
    for python in others:
        name = f" {version(python)}"
        daemons[name if name not in daemons else f"{name} {python}"] = partial(measure, ROOT, python=python)
    measures = {
        f"{way}{name}": partial(run, post, counts[way]) for way, post in ways.items() for name, run in daemons.items()
    }
    try:
        seen = by_turns(measures, rounds=2 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    for way in ways:
        rows = [{name: figures for name, figures in each.items() if name.startswith(way)} for each in seen]
        show(rows, base=None if base is None else f"{way}{base}")
    finish("end_to_end", seen, json_path=json_path)


def version(python: str) -> str:
    """With its compiler: two builds of one release are not the same."""
    command = [python, "-c", "import platform; print(platform.python_version(), platform.python_compiler())"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=SETTLE_SECONDS).stdout.strip()


def measure(
    source: Path,
    post: Callable[[Child, int], None],
    count: int,
    fields: Mapping[str, object] = MappingProxyType({}),
    *,
    python: str = sys.executable,
) -> Figures:
    """`fields` are of each endpoint, beside its URL."""
    with (
        tempfile.TemporaryDirectory() as directory,
        sink(core=LOAD_CORE) as port,
        daemon(directory, source=source, python=python, core=DAEMON_CORE) as hookd,
        Keeper(hookd.port) as api,
    ):
        for number in range(CLIENTS):
            url = f"http://127.0.0.1:{port}/{number}"
            api.json("PUT", f"/v1/clients/c{number}", {"endpoints": [{"url": url, **fields}]}, status=201)
        post_batches(hookd, WARM_UP_EVENTS, events=WARM_UP_EVENTS)
        cpu, begun = hookd.cpu_seconds(), time.perf_counter()
        post(hookd, WARM_UP_EVENTS + count)
        seconds, cpu = time.perf_counter() - begun, hookd.cpu_seconds() - cpu
    return {"cpu_us": cpu / count * 1e6, "per_second": count / seconds}


def post_batches(hookd: Child, settled: int, *, events: int) -> None:
    """Returns when so many are settled, counted from the daemon's start."""
    with Keeper(hookd.port) as api:
        for begin in range(0, events, BATCH):
            batch = [event(number) for number in range(begin, min(begin + BATCH, events))]
            api.json("POST", "/v1/events/batch", batch, status=202)
            if begin // BATCH % (UNSETTLED_MAX // BATCH) == UNSETTLED_MAX // BATCH - 1:
                wait_for(api, settled - events + begin + BATCH - UNSETTLED_MAX // 2)
        wait_for(api, settled)


def post_singly(hookd: Child, settled: int, *, events: int) -> None:
    def post(first: int) -> None:
        with Keeper(hookd.port) as api:
            for number in range(first, events, CONNECTIONS):
                status, content = api.ask("POST", "/v1/events", json.dumps(event(number)).encode())
                assert status == 202, content

    threads = [threading.Thread(target=post, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Keeper(hookd.port) as api:
        wait_for(api, settled)


def event(number: int) -> dict[str, object]:
    return {"client_id": f"c{number % CLIENTS}", "type": "invoice.paid", "payload": PAYLOAD}


def delivered_by_status(api: Keeper) -> int:
    found: int = api.json("GET", "/v1/status")["deliveries"]["delivered"]
    return found


def wait_for(api: Keeper, wanted: int, *, delivered: Callable[[Keeper], int] = delivered_by_status) -> None:
    """However long it takes, as long as it goes on."""
    last, deadline = -1, 0.0
    while (seen := delivered(api)) < wanted:
        if seen > last:
            last, deadline = seen, time.monotonic() + SETTLE_SECONDS
        assert time.monotonic() < deadline, f"{seen} of {wanted} are delivered"
        time.sleep(ASK_EVERY_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
