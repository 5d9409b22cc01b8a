"""What an event of a strict or a rated endpoint costs: `python -m tests.benchmarks endpoint_kinds`.

As `end_to_end` by batches, with fifty clients of one kind at a time, each kind once in each round. The rates:

  rated    more than is posted: what it costs to count the attempts
  waiting  a fifth of what a daemon carries: every event waits for its turn, and the lane for the next second

What counts is the daemon's CPU time. The bar: 1.3 of a plain endpoint's, for each kind; else exit 1.
"""

import sys
from functools import partial

import click

from tests.benchmarks.end_to_end import measure, post_batches
from tests.benchmarks.processes import ROOT, NotInstalled
from tests.benchmarks.turns import by_turns, finish, ratio, show

EVENTS = 4_000
QUICK_EVENTS = 200
RATIO_MAX = 1.3
PLAIN = "plain"
KINDS: dict[str, dict[str, object]] = {
    PLAIN: {},
    "strict": {"order": "strict"},
    "rated": {"rate": "1000/s"},
    "waiting": {"rate": "10/s"},
}


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Beside a plain one; all without.")
@click.option("--quick", is_flag=True, help="Two rounds of a few events, without the bar: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, kinds: tuple[str, ...], quick: bool, json_path: str | None) -> None:
    count = QUICK_EVENTS if quick else EVENTS
    post = partial(post_batches, events=count)
    asked = [PLAIN, *(kind for kind in kinds or KINDS if kind != PLAIN)]
    measures = {kind: partial(measure, ROOT, post, count, KINDS[kind]) for kind in asked}
    try:
        seen = by_turns(measures, rounds=2 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    show(seen, base=PLAIN)
    finish("endpoint_kinds", seen, json_path=json_path)
    dear = [kind for kind in asked if ratio(seen, kind, PLAIN, "cpu_us") > RATIO_MAX]
    if dear and not quick:
        click.echo(f"over the bar of {RATIO_MAX}: {', '.join(dear)}")
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
