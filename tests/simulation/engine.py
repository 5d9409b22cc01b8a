"""One run of a plan, and what came of it: virtual time, the scheduler's chance from the seed, no garbage in between.

`run` is the way in; it raises nothing for a violation. Two names of trio are private ones: there is no public way to
seed its scheduler (python-trio/trio#2675).
"""

import contextlib
import gc
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import trio
import trio.testing
from trio._core import _run as trio_run
from werkzeug.routing import Rule

from tests.simulation.plan import Plan
from tests.simulation.trace import Trace
from tests.simulation.world import World


@dataclass
class Result:
    seed: int
    trace: Trace
    violation: str | None
    virtual_seconds: float


def run(plan: Plan, *, keeps_lines: bool = False) -> Result:
    trace = Trace(keeps_lines=keeps_lines)
    world: World | None = None
    ended_at = 0.0

    async def main() -> None:
        nonlocal world, ended_at
        world = World(plan, trace)
        try:
            await world.main()
        finally:
            ended_at = trio.current_time()

    crash = ""
    with _seeded_scheduler(plan.seed), _routes_compiled_once():
        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except Exception as error:
            crash = "".join(traceback.format_exception(error))
    violation = world.violation if world is not None else None
    if violation is None and crash:
        violation = f"bug: {crash}"
    if violation is not None and crash:
        violation += f"\nand {crash[-3000:]}" if not violation.startswith("bug") else ""
    return Result(plan.seed, trace, violation, ended_at)


_compile_builder = Rule._compile_builder
_builders: dict[tuple[str, bool], Callable[..., tuple[str, str]]] = {}


def _builder(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
    """Each run has routes of its own. What builds their URLs is a function of the rule alone, and takes a while."""
    key = (rule.rule, append_unknown)
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


@contextlib.contextmanager
def _routes_compiled_once() -> Iterator[None]:
    Rule._compile_builder = _builder  # type: ignore[method-assign]
    try:
        yield
    finally:
        Rule._compile_builder = _compile_builder  # type: ignore[method-assign]


@contextlib.contextmanager
def _seeded_scheduler(seed: int) -> Iterator[None]:
    was_allowed, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    gc.disable()  # finalizers at chance moments
    try:
        yield
    finally:
        gc.enable()
        trio_run._r.setstate(state)
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was_allowed  # type: ignore[misc]
