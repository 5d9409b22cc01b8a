"""How long a stop takes that has much to report: `python -m tests.benchmarks stop`.

From SIGTERM to the end of the process, with so many events that wait and a drain of no seconds. The report is written
with payloads and without, and its lines are counted.
"""

import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import click

from tests.benchmarks.processes import ROOMY, Keeper, daemon
from tests.benchmarks.scale import FILL_BATCH
from tests.benchmarks.turns import Figures, by_turns, finish, progress, show

EVENTS = (100_000, 1_000_000)
PAYLOAD = {"invoice": "in_1", "amount": 1999, "currency": "EUR"}
STOP_SECONDS_MAX = 120.0
WITHOUT_PAYLOADS = {"HOOKD_DRAIN__REPORT_PAYLOADS": "false"}


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True)
@click.option("--quick", is_flag=True, help="One round of a few events: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, quick: bool, json_path: str | None) -> None:
    measures = {
        f"{count:,}{name}": partial(measure, count, settings)
        for count in ((1_000,) if quick else EVENTS)
        for name, settings in ((" with payloads", {}), (" without", WITHOUT_PAYLOADS))
    }
    seen = by_turns(measures, rounds=1 if quick else rounds)
    show(seen)
    finish("stop", seen, json_path=json_path)


def measure(count: int, settings: dict[str, str]) -> Figures:
    with tempfile.TemporaryDirectory() as directory, daemon(directory, ROOMY | settings) as hookd:
        with Keeper(hookd.port) as api:
            api.json("PUT", "/v1/clients/held", {"endpoints": [{"url": "http://127.0.0.1:9/"}]}, status=201)
            api.json("POST", "/v1/clients/held/endpoints/default/pause")
            batch = [{"client_id": "held", "type": "invoice.paid", "payload": PAYLOAD}] * FILL_BATCH
            for done in range(0, count, FILL_BATCH):
                if done % 100_000 == 0:
                    progress(f"filling: {done:,} of {count:,}")
                api.json("POST", "/v1/events/batch", batch, status=202)
        begun = time.perf_counter()
        hookd.process.send_signal(signal.SIGTERM)
        code = hookd.process.wait(STOP_SECONDS_MAX)
        seconds = time.perf_counter() - begun
        (report,) = Path(directory).glob("shutdown-*.jsonl")
        with report.open("rb") as file:
            lines = sum(1 for _ in file) - 1
        assert (code, lines) == (3, count), (code, lines)
        return {"seconds": seconds, "report_mib": report.stat().st_size / 2**20, "us_a_line": seconds / count * 1e6}


if __name__ == "__main__":
    sys.exit(main())
