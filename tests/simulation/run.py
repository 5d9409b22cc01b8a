"""The way in for the command line and the tests: a seed, whole or cut down, and what came of it."""

import shlex

from tests.simulation.engine import Result, run
from tests.simulation.faults import FAULTS
from tests.simulation.plan import Plan, make_plan
from tests.simulation.shrink import shrink
from tests.simulation.workload import ACTIONS

WEIGHTS = {kind: weight for kind, (weight, _) in ACTIONS.items()}


def plan_of(seed: int, *, without: frozenset[str] = frozenset(), until: float | None = None) -> Plan:
    return make_plan(seed, faults=FAULTS, actions=WEIGHTS, without=without, until=until)


def run_seed(
    seed: int, *, without: frozenset[str] = frozenset(), until: float | None = None, keeps_lines: bool = False
) -> Result:
    return run(plan_of(seed, without=without, until=until), keeps_lines=keeps_lines)


def story_of(result: Result) -> str:
    """A failure for people: the knobs, the shortest trace that was found, and how to see it again."""
    plan = plan_of(result.seed)
    without, until, shortest = shrink(plan, result, faults=FAULTS, actions=WEIGHTS, run=run)
    left_out = f" --without {shlex.quote(','.join(sorted(without)))}" if without else ""
    command = f"python -m tests.simulation --seeds 1 --from {result.seed} --until {until:.6f}{left_out}"
    again = run_seed(result.seed, without=without, until=until, keeps_lines=True)
    if again.violation is None:  # to be seen, rounded as it is
        command = f"python -m tests.simulation --seeds 1 --from {result.seed}"
        again = run_seed(result.seed, keeps_lines=True)
    lines = [line[:240] for line in again.trace.lines[-60:]]
    return "\n".join(
        [
            f"seed {result.seed} FAILED: {result.violation}",
            "the knobs:",
            plan.knobs(),
            f"the shortest trace found ({len(again.trace.lines)} lines, {shortest.virtual_seconds:.3f} s), its end:",
            *lines,
            f"shortest violation: {again.violation}",
            "to replay it:",
            f"  {command} --trace",
        ]
    )
