"""Seeds of the simulation, and that a seed is the same run everywhere."""

import os
import re
import subprocess
import sys

import pytest

from tests.simulation import coverage
from tests.simulation.engine import Result
from tests.simulation.faults import FAULTS
from tests.simulation.plan import PROXY_FAULTS, STOPS, Plan
from tests.simulation.run import WEIGHTS, plan_of, run_seed, story_of
from tests.simulation.shrink import shrink
from tests.simulation.trace import Trace

# How many for whoever works on something; CI's, and any other number, by the environment.
SEEDS = int(os.environ.get("HOOKD_SIMULATION_SEEDS", "60"))
HASHED_SEEDS = int(os.environ.get("HOOKD_SIMULATION_HASHED_SEEDS", "5"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_seed_breaks_no_invariant(seed: int) -> None:
    """The whole daemon, with the faults, actions and stops that the seed draws."""
    result = run_seed(seed)
    if result.violation is not None:
        pytest.fail(story_of(result))


def test_same_seed_is_the_same_run_in_every_process() -> None:
    """Trace hashes of several processes, each with its own hash seed."""
    outputs = {_hashes(hash_seed) for hash_seed in ("0", "777")}
    assert len(outputs) == 1
    assert len(next(iter(outputs))) == HASHED_SEEDS


def _hashes(hash_seed: str) -> tuple[str, ...]:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(HASHED_SEEDS)]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=True)
    return tuple(re.findall(r"^\d+ ([0-9a-f]{32}) ", done.stdout, re.MULTILINE))


def test_what_must_be_reached_names_every_fault_and_stop() -> None:
    """A fault or a stop that is added has a row, and what it is meant to come to."""
    assert set(coverage.ATTEMPTS) == {"ok", "tls", *FAULTS, *PROXY_FAULTS}
    at_start = {"crash at start", "sigterm at start", "twice at start", "start killed"}
    assert set(coverage.ENDS) == {*STOPS, *at_start}
    reached = run_seed(12).trace.ends
    assert reached
    assert {*reached} <= {(end, recorder) for end in coverage.ENDS for recorder in coverage.RECORDERS}


def test_seeds_differ() -> None:
    """Different runs, and the hash tells them apart."""
    assert len({run_seed(seed, until=5.0).trace.hash for seed in range(4)}) == 4


def test_failure_is_cut_down_to_what_it_needs() -> None:
    """Of all the faults and actions only the one that matters is left, and most of the time is gone.

    Nothing runs: what this tests is the search.
    """
    plan = plan_of(11)
    assert len(plan.kinds) > 2

    def fails_with_batches(tried: Plan) -> Result:
        has_batch = any(action.kind == "post_batch" for action in tried.actions)
        return Result(tried.seed, Trace(keeps_lines=False), "S0 made up" if has_batch else None, tried.seconds)

    whole = fails_with_batches(plan)
    without, until, best = shrink(plan, whole, faults=FAULTS, actions=WEIGHTS, run=fails_with_batches)
    left = {action.kind for action in plan_of(11, without=without, until=until).actions}
    assert left == {"post_batch"}
    assert not set(plan.kinds) - without
    assert best.violation is not None
