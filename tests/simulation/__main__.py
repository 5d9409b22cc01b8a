"""python -m tests.simulation --seeds 1000 --from 0 [--minutes M] [--trace]: runs seeds; exit 0 only if all pass."""

import sys
import time
from collections import Counter

import click

from tests.simulation import coverage
from tests.simulation.engine import Result
from tests.simulation.run import run_seed, story_of


@click.command()
@click.option("--seeds", default=100, show_default=True, help="How many.")
@click.option("--from", "first", default=0, show_default=True, help="The first.")
@click.option("--minutes", type=float, default=None, help="Stop after so many minutes of real time.")
@click.option("--trace", is_flag=True, help="Print what happened, line by line.")
@click.option("--without", default="", help="Kinds of faults, actions and stops to leave out, with commas.")
@click.option("--until", type=float, default=None, help="Cut the safety phase after so many virtual seconds.")
def main(seeds: int, first: int, minutes: float | None, trace: bool, without: str, until: float | None) -> None:
    left_out = frozenset(filter(None, without.split(",")))
    began, deadline = time.monotonic(), None if minutes is None else time.monotonic() + 60 * minutes
    total = Total()
    for seed in range(first, first + seeds):
        result = run_seed(seed, without=left_out, until=until, keeps_lines=trace)
        if trace:
            click.echo("\n".join(result.trace.lines))
        click.echo(
            f"{seed} {result.trace.hash} {result.virtual_seconds:.0f} s {'ok' if not result.violation else 'FAILED'}"
        )
        total.add(result)
        if result.violation is not None:
            click.echo(result.violation if left_out or until else story_of(result))
        if seed % 100 == 99:
            click.echo(total.progress(time.monotonic() - began), err=True)
        if deadline is not None and time.monotonic() > deadline:
            break
    click.echo(total.coverage_table())
    click.echo(total.progress(time.monotonic() - began))
    sys.exit(1 if total.failed else 0)


class Total:
    def __init__(self) -> None:
        self.seeds = 0
        self.failed: list[int] = []
        self.virtual_seconds = 0.0
        self.counts: Counter[str] = Counter()
        self.coverage: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[tuple[str, str]] = Counter()
        self.ports: Counter[tuple[str, str]] = Counter()

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.virtual_seconds += result.virtual_seconds
        self.counts += result.trace.counts
        self.coverage += result.trace.coverage
        self.ends += result.trace.ends
        self.ports += result.trace.ports
        if result.violation is not None:
            self.failed.append(result.seed)

    def progress(self, seconds: float) -> str:
        hours = self.virtual_seconds / 3600
        return (
            f"{self.seeds} seeds, {len(self.failed)} failed {self.failed[:10] or ''}; {hours:.1f} simulated hours in "
            f"{seconds / 60:.1f} min ({self.virtual_seconds / seconds:.0f} x); {self.counts['attempts']} attempts of "
            f"{self.counts['event.accepted']} events in {self.counts['runs']} runs; {self.counts['crashes']} crashes, "
            f"{self.counts['deliveries recovered']} deliveries recovered"
        )

    def coverage_table(self) -> str:
        """The tables, everything else that was counted, and what is meant to happen and did not."""
        rows = [coverage.tables(self.coverage, self.ends, self.ports)]
        rows += [f"{count:>9}  {what}" for what, count in sorted(self.counts.items())]
        rows.append(f"unreached: {'; '.join(coverage.unreached(self.coverage, self.ends, self.ports)) or 'nothing'}")
        return "\n".join(rows)


if __name__ == "__main__":
    main()
