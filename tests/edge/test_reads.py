"""No read changes what the daemon holds: every GET route, over a daemon that has much that invites a new row."""

import enum
import itertools
from collections import deque
from collections.abc import Iterator, Mapping

import msgspec
import trio
from hookd.core import report
from hookd.core.counters import Counters
from hookd.core.run import Run, Stop
from hookd.core.settings import RetentionSettings

from tests.edge.test_api import Api, started
from tests.flow.harness import EPOCH, Flow, Hang, at, endpoint

GONE, HUNG = "https://gone.example/hook", "https://hung.example/hook"
IDLE_CLIENTS = 300
# For each variable part of a route: what is there, what was there, and what never was.
PARTS = {
    "client_id": ("acme", "many", "idle-7", "removed", "unknown"),
    "event_id": ("settled", "flying", "exhausted", "twice", "unknown"),
    "endpoint_id": ("default", "never-used", "hung", "removed", "unknown"),
    "slug": ("full", "unknown"),
}
QUERIES = ("", "?limit=500", "?limit=1", "?status=exhausted", "?client_id=idle-7", "?client_id=unknown")
QUERIES += ("?wait_seconds=1", "?cursor=unknown", "?verbose=true", "?nonsense=1")


def fingerprint(*roots: object) -> list[str]:
    """Everything that can be reached from the roots: values, containers with their order, and objects' fields.

    But for the counts that /metrics shows of the answers themselves: refusals, by the slugs of a fixed table.
    """
    return list(_walk(roots, set()))


def _walk(value: object, passed: set[int]) -> Iterator[str]:
    if value is None or isinstance(value, str | bytes | int | float | enum.Enum):
        yield repr(value)
        return
    if callable(value) or id(value) in passed:
        return
    passed.add(id(value))
    if isinstance(value, Counters):
        value = {"reopened": value.reopened, "given_up": value.given_up}
    yield type(value).__name__
    for name, part in _parts(value):
        yield name
        yield from _walk(part, passed)


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in list(value.items()):
            yield repr(key), part
    elif isinstance(value, list | tuple | deque | set | frozenset):
        for number, part in enumerate(list(value)):
            yield str(number), part
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield name, getattr(value, name)
    else:
        slots = itertools.chain.from_iterable(getattr(kind, "__slots__", ()) for kind in type(value).__mro__)
        for name in (*slots, *getattr(value, "__dict__", ())):
            yield name, getattr(value, name, None)


def held(flow: Flow) -> list[str]:
    return fingerprint(flow.ledger, flow.registry, flow.feed, flow.notices)


async def busy(nursery: trio.Nursery) -> Api:
    """Idle, busy, gone and removed endpoints; settled, exhausted and flying events; a ring that a reload made short."""
    api = await started(nursery)
    flow = api.flow
    flow.sender.script(HUNG, Hang())
    flow.sender.script(GONE, 410)
    for number in range(IDLE_CLIENTS):
        flow.put(f"idle-{number}")
    flow.put("many", endpoint(), endpoint("never-used", event_types=("other",)), endpoint("hung", HUNG))
    flow.put("removed", endpoint("default", GONE), endpoint("removed", HUNG))
    for event_id in ("settled", "twice"):
        flow.admit("acme", event_id)
    for event_id in ("flying", "twice"):
        flow.admit("many", event_id)
    flow.admit("removed", "exhausted")
    await at(1)
    flow.registration.remove("removed", end_unsettled=True)
    for _ in range(5):
        flow.admit("acme")
    await at(2)
    settings = msgspec.structs.replace(flow.effective.settings, retention=RetentionSettings(settlements_max=2))
    flow.effective.settings = settings  # nothing is trimmed yet: a read must not do that either
    return api


def paths(api: Api) -> Iterator[str]:
    """Each GET route of the application, with every choice of its variable parts. A new part needs values above."""
    for rule in api.app.url_map.iter_rules():
        if "GET" in (rule.methods or ()):
            names = sorted(rule.arguments)
            for values in itertools.product(*(PARTS[name] for name in names)):
                path = rule.rule
                for name, value in zip(names, values, strict=True):
                    path = path.replace(f"<{name}>", value)
                yield path


async def test_no_get_route_changes_what_is_held(autojump_clock, nursery) -> None:
    """Ledger, registry and feed are the same afterwards, to the last field: idle, removed, unknown, any query."""
    api = await busy(nursery)
    before = held(api.flow)
    answered = set()
    for path in paths(api):
        for method, query in (*(("GET", query) for query in QUERIES), ("HEAD", "")):
            response = await api.client.open(path + query, method=method)
            answered.add(response.status_code)
        assert held(api.flow) == before, path
    assert answered == {200, 404, 409, 422}


async def test_no_report_changes_what_is_held(autojump_clock, nursery) -> None:
    """A shutdown report and the counts line are reads too."""
    api = await busy(nursery)
    flow = api.flow
    before = held(flow)
    summary = report.summarise(flow.ledger, Run("run_1", "0", "host", 1, EPOCH), Stop(EPOCH + 2, "SIGTERM", False, 0.0))
    lines = list(report.lines(flow.ledger, now_monotonic=2.0, now_wall=EPOCH + 2, payloads=True))
    assert summary.deliveries.undelivered == sum(line.kind == "undelivered" for line in lines) > 0
    assert summary.exhausted_held == sum(line.kind == "exhausted" for line in lines) > 0
    flow.housekeeping.counts()
    assert held(flow) == before


async def test_fingerprint_sees_a_row_that_a_read_would_make(autojump_clock, nursery) -> None:
    """What asking for an idle endpoint's health used to do is seen, and so is a single changed field."""
    api = await busy(nursery)
    before = held(api.flow)
    health = api.flow.ledger.ensure_health("idle-7", "default")
    made = held(api.flow)
    assert made != before
    health.window += 1
    assert held(api.flow) != made
