"""The shortest failing form of a plan that a greedy search finds: fewer kinds of faults and actions, less time."""

from collections.abc import Callable, Iterator

from tests.simulation.engine import Result
from tests.simulation.plan import Plan, make_plan
from tests.simulation.ports import PORT_CALLS

TRIES_MAX = 80


def shrink(
    plan: Plan, result: Result, *, faults: tuple[str, ...], actions: dict[str, int], run: Callable[[Plan], Result]
) -> tuple[frozenset[str], float, Result]:
    """What can be left out, how long it must run, and what came of that."""
    without: frozenset[str] = frozenset()
    until = min(plan.seconds, result.virtual_seconds + 0.001)
    best = result
    tries = 0

    def fails(more: frozenset[str], sooner: float) -> bool:
        nonlocal best, tries
        tries += 1
        found = run(make_plan(plan.seed, faults=faults, actions=actions, without=more, until=sooner))
        if found.violation is not None and _rule(found) == _rule(result):
            best = found
            return True
        return False

    if not fails(without, until):
        until = plan.seconds
    for kinds in _parts(plan):
        if tries < TRIES_MAX and fails(without | kinds, until):
            without |= kinds
    while tries < TRIES_MAX and until > 0.5 and fails(without, until / 2):
        until /= 2
    return without, until, best


def _rule(result: Result) -> str:
    return (result.violation or "").partition(" ")[0]


def _parts(plan: Plan) -> Iterator[frozenset[str]]:
    """All at once, then one by one."""
    stops = tuple(sorted({stop.kind for stop in plan.stops}))
    kinds = tuple(sorted({action.kind for action in plan.actions}))
    ports = tuple(f"port {port}" for port in PORT_CALLS) if plan.port_faults else ()
    proxied = tuple(kind for kind, _ in plan.proxy_faults if kind != "ok")
    apart = ("start killed", "recovery ends", "full", "slow files", "overtaken", "full again")
    for group in (stops, apart, ports, proxied, plan.kinds, kinds):
        if group:
            yield frozenset(group)
        for kind in group:
            yield frozenset((kind,))
