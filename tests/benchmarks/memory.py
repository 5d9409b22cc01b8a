"""What events and clients take in memory: `python -m tests.benchmarks memory`.

One daemon, in steps: it is empty; so many clients are registered; as many events are delivered as it remembers; so many
more pass through, with a short backlog; as many wait for a paused endpoint; they are delivered. What counts is the
process' own memory (`RssAnon`): the recorder's index is in it, its files are not. An event is given over its payload,
which is taken off: at most 450 B. `back` is what is held then over what was held before those events came, when it
remembered as many: at most 1.10 once they have passed through. Once they have waited all at once it has no bar: what a
flood took stays with the process (docs/decisions.md).
"""

import json
import sys
import tempfile
from pathlib import Path

import click

from tests.benchmarks.end_to_end import PAYLOAD, wait_for
from tests.benchmarks.processes import ROOMY, Child, Keeper, NotInstalled, daemon, sink
from tests.benchmarks.scale import FILL_BATCH
from tests.benchmarks.turns import finish, progress

CLIENTS = 10_000
EVENTS = 1_000_000
REMEMBERED = 200_000
BACK_MAX = 1.10
UNSETTLED_BYTES_MAX = 450
THROUGH, WAITED = "back, having passed through", "back, having waited all at once"
UNSETTLED = "an unsettled event over its payload, bytes"
TYPE = "invoice.paid"


@click.command(help=__doc__)
@click.option("--events", default=EVENTS, show_default=True)
@click.option("--clients", default=CLIENTS, show_default=True)
@click.option("--remembered", default=REMEMBERED, show_default=True, help="Events and settlements.")
@click.option("--quick", is_flag=True, help="A few of each: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(events: int, clients: int, remembered: int, quick: bool, json_path: str | None) -> None:
    events, clients, remembered = (2_000, 10, 1_000) if quick else (events, clients, remembered)
    settings = ROOMY | {
        f"HOOKD_RETENTION__{key}": str(remembered) for key in ("DELIVERED_EVENTS_MAX", "SETTLEMENTS_MAX")
    }
    try:
        with tempfile.TemporaryDirectory() as directory, sink() as port, daemon(directory, settings) as hookd:
            seen = measure(hookd, port, events=events, clients=clients, remembered=remembered)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    for name, figure in seen.items():
        print(f"{name:44}{figure:14,.2f}")
    finish("memory", [{"memory": seen}], json_path=json_path)
    bars = {THROUGH: BACK_MAX, UNSETTLED: UNSETTLED_BYTES_MAX}
    if over := [f"{name} {bar}" for name, bar in bars.items() if seen[name] > bar and not quick]:
        sys.exit(f"over the bar: {'; '.join(over)}")


def measure(hookd: Child, port: int, *, events: int, clients: int, remembered: int) -> dict[str, float]:
    payload_bytes = len(json.dumps(PAYLOAD, separators=(",", ":")))
    with Keeper(hookd.port) as api:
        empty = own_bytes(hookd)
        for number in range(clients):
            definition = {"endpoints": [{"url": f"http://127.0.0.1:9/{number}"}]}
            api.json("PUT", f"/v1/clients/idle{number}", definition, status=201)
        registered = own_bytes(hookd)
        api.json("PUT", "/v1/clients/busy", {"endpoints": [{"url": f"http://127.0.0.1:{port}/"}]}, status=201)
        deliver(api, remembered)
        before = own_bytes(hookd)
        deliver(api, events, settled=remembered)
        through = own_bytes(hookd)
        api.json("POST", "/v1/clients/busy/endpoints/default/pause")
        post(api, events)
        waiting = own_bytes(hookd)
        api.json("POST", "/v1/clients/busy/endpoints/default/resume")
        wait_for(api, remembered + 2 * events)
        after = own_bytes(hookd)
    return {
        "empty, MiB": empty / 2**20,
        "an idle client, bytes": (registered - empty) / clients,
        "with all remembered that are to be, MiB": before / 2**20,
        "a remembered event, bytes": (before - registered) / remembered,
        "once they have passed through, MiB": through / 2**20,
        THROUGH: through / before,
        "with all unsettled, MiB": waiting / 2**20,
        UNSETTLED: (waiting - through) / events - payload_bytes,
        "once all are delivered, MiB": after / 2**20,
        WAITED: after / before,
    }


def deliver(api: Keeper, events: int, *, settled: int = 0) -> None:
    """None of them has to wait for many others; so many are settled already."""
    for done in range(0, events, FILL_BATCH):
        if done % 100_000 == 0:
            progress(f"delivering: {done:,} of {events:,}")
        post_batch(api)
        wait_for(api, settled + done)
    wait_for(api, settled + events)


def post(api: Keeper, events: int) -> None:
    for done in range(0, events, FILL_BATCH):
        if done % 100_000 == 0:
            progress(f"posting: {done:,} of {events:,}")
        post_batch(api)


def post_batch(api: Keeper) -> None:
    """Each event is one object of its own when it comes in by a batch, as from a producer."""
    batch = [{"client_id": "busy", "type": TYPE, "payload": PAYLOAD}] * FILL_BATCH
    api.json("POST", "/v1/events/batch", batch, status=202)


def own_bytes(hookd: Child) -> int:
    status = Path(f"/proc/{hookd.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


if __name__ == "__main__":
    sys.exit(main())
