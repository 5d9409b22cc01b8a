"""The checks themselves: every seeded bug is caught within the seeds that its row states."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, applied
from tests.simulation.run import run_seed


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_caught(mutant: Mutant) -> None:
    """By some check, within its seeds; a survivor is a hole in the checks."""
    with applied(mutant):
        seeds = range(mutant.first, mutant.first + mutant.seeds)
        caught = next((seed for seed in seeds if run_seed(seed).violation is not None), None)
    assert caught is not None, f"{mutant.name} survived {mutant.seeds} seeds"
    print(f"{mutant.name} caught by seed {caught}")


def test_mutants_are_enough_and_differ() -> None:
    """At least 15, each with a name of its own."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 15
