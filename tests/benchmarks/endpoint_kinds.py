"""What an event of a strict or a rated endpoint costs: `python -m tests.benchmarks endpoint_kinds`.

As `end_to_end` by batches, with fifty clients of one kind at a time, each kind once in each round. As fast as it goes:

  plain    what the next two are compared with
  strict   in the order of acceptance, one at a time
  rated    a rate of more than is posted: what it costs to count the attempts

At one pace, by the same posts at the same moments and over the same seconds:

  paced    plain, what the next is compared with
  waiting  a rate of just that pace, and a second's worth posted ahead: each event waits for its turn

What counts is the daemon's CPU time. The bar: 1.3 of the plain endpoint's beside it, for each kind; else exit 1.
"""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import click

from tests.benchmarks.end_to_end import BATCH, CLIENTS, event, measure, post_batches, wait_for
from tests.benchmarks.processes import ROOT, Child, Keeper, NotInstalled
from tests.benchmarks.turns import by_turns, finish, ratio, show

EVENTS = 4_000
QUICK_EVENTS = 200
RATIO_MAX = 1.3
# Of each client's, and of all: a fifth of what a daemon carries. The first second's worth goes to the warm-up.
PACE = 10
PER_SECOND = CLIENTS * PACE
# After the last post: what waits a second, and what drifts by some milliseconds each second.
REST_SECONDS = 2.0


def post_paced(hookd: Child, settled: int, *, events: int) -> None:
    """A second's worth at once, then evenly. It takes as long whether they wait or not; only the end is asked for."""
    begun = time.monotonic()
    with Keeper(hookd.port) as api:
        for begin in range(0, events, BATCH):
            sleep_until(begun + max(0, begin + BATCH - PER_SECOND) / PER_SECOND)
            batch = [event(number) for number in range(begin, min(begin + BATCH, events))]
            api.json("POST", "/v1/events/batch", batch, status=202)
        sleep_until(begun + events / PER_SECOND + REST_SECONDS)
        wait_for(api, settled)  # at once, unless the machine does not keep the pace


def sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.monotonic()))


class Kind(NamedTuple):
    beside: str
    post: Callable[..., None]
    fields: Mapping[str, object]


KINDS = {
    "plain": Kind("plain", post_batches, {}),
    "strict": Kind("plain", post_batches, {"order": "strict"}),
    "rated": Kind("plain", post_batches, {"rate": "1000/s"}),
    "paced": Kind("paced", post_paced, {}),
    "waiting": Kind("paced", post_paced, {"rate": f"{PACE}/s"}),
}


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="And what it is beside; else all.")
@click.option("--quick", is_flag=True, help="Two rounds of a few events, without the bar: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, kinds: tuple[str, ...], quick: bool, json_path: str | None) -> None:
    count = QUICK_EVENTS if quick else EVENTS
    wanted = {name for kind in kinds or KINDS for name in (kind, KINDS[kind].beside)}
    asked = {name: kind for name, kind in KINDS.items() if name in wanted}
    measures = {
        name: partial(measure, ROOT, partial(kind.post, events=count), count, kind.fields)
        for name, kind in asked.items()
    }
    try:
        seen = by_turns(measures, rounds=2 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    for base in dict.fromkeys(kind.beside for kind in asked.values()):
        names = [name for name, kind in asked.items() if kind.beside == base]
        show([{name: each[name] for name in names} for each in seen], base=base)
    finish("endpoint_kinds", seen, json_path=json_path)
    dear = [name for name, kind in asked.items() if ratio(seen, name, kind.beside, "cpu_us") > RATIO_MAX]
    if dear and not quick:
        click.echo(f"over the bar of {RATIO_MAX}: {', '.join(dear)}")
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
