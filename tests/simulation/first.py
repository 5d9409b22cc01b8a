"""python -m tests.simulation.first [NAME ...] [--seeds 400]: at which seed each seeded bug is caught first.

For whoever changed what seeds draw. A mutant that its own seeds no longer catch gets the seed shown here as `first`.
"""

import sys

import click

from tests.simulation.mutants import MUTANTS, Mutant, applied
from tests.simulation.run import run_seed


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seeds", default=400, show_default=True, help="How many, from 0, where its own do not catch it.")
def main(names: tuple[str, ...], seeds: int) -> None:
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        raise click.UsageError(f"no mutant is called {', '.join(sorted(unknown))}")
    survived = False
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        own = range(mutant.first, mutant.first + mutant.seeds)
        seed = _caught_by(mutant, own)
        if seed is not None:
            click.echo(f"{mutant.name} is caught by seed {seed}, one of its own")
            continue
        seed = _caught_by(mutant, range(seeds))
        survived = survived or seed is None
        click.echo(f"{mutant.name} " + (f"survived {seeds} seeds" if seed is None else f"wants first={seed}"))
    sys.exit(1 if survived else 0)


def _caught_by(mutant: Mutant, seeds: range) -> int | None:
    """A seed that fails without it says nothing of it."""
    for seed in seeds:
        with applied(mutant):
            is_caught = run_seed(seed).violation is not None
        if is_caught and run_seed(seed).violation is None:
            return seed
    return None


if __name__ == "__main__":
    main()
