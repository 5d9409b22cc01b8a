"""Owns `/livez` and `/readyz`, and the lines that each shows with `?verbose`, in Kubernetes' form.

Rules: alive means that the daemon answers, and nothing else. A receiver that is down, a full budget or a lagging loop
is no reason to restart a daemon that holds everything in memory. Ready means that it takes events: `accepting` alone
decides. The other lines are for people. Taking a full daemon out of service would cure nothing.
"""

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.budget import cost_bytes
from hookd.core.refusal import Draining
from hookd.edge.api.operations import operation
from hookd.edge.api.problem_docs import TEXT
from hookd.edge.api.queries import query
from hookd.edge.api.services import Services

# A producer notices more than this; every benchmark stays well below.
LOOP_LAG_SECONDS_MAX = 0.25


ALIVE = b"ok\n"
# What is always answered so. The server says it itself to a plain probe (edge/server/probes.py).
PLAIN_ANSWERS = {"/livez": ALIVE}


class VerboseQuery(msgspec.Struct):
    verbose: Annotated[str, Meta(description="Whatever its value: a line for each check")] | None = None


class Check(NamedTuple):
    name: str
    problem: str | None  # None: it is as it should be


def check_routes(services: Services) -> Blueprint:
    routes = Blueprint("checks", __name__)

    @routes.get("/livez")
    @operation("Whether the process answers", scope=None, query=VerboseQuery, answers={200: TEXT})
    async def get_livez() -> Response:
        if query(VerboseQuery).verbose is None:
            return Response(ALIVE, content_type=TEXT)
        return _verbose("livez", [Check("ping", None), _loop_lag(services)], fails=False)

    @routes.get("/readyz")
    @operation(
        "Whether it takes events",
        scope=None,
        query=VerboseQuery,
        answers={200: TEXT, 503: TEXT},
        problems=("draining",),
    )
    async def get_readyz() -> Response:
        try:
            services.intake.refuse_if_draining()
        except Draining as draining:
            if query(VerboseQuery).verbose is None:
                raise
            response = _verbose("readyz", _readiness(services), fails=True)
            response.headers["retry-after"] = str(draining.retry_after_seconds)
            return response
        if query(VerboseQuery).verbose is None:
            return Response("ok\n", content_type=TEXT)
        return _verbose("readyz", _readiness(services), fails=False)

    return routes


def _readiness(services: Services) -> list[Check]:
    return [
        Check("accepting", "draining; post to its successor" if services.intake.is_draining else None),
        _budget(services),
        Check("report-directory", services.reports_problem()),
        Check("recorder", services.ledger.recorder.failure),
        _loop_lag(services),
    ]


def _budget(services: Services) -> Check:
    """It is full where there is no room for an empty event to one endpoint."""
    intake, totals = services.effective.settings.intake, services.ledger.totals()
    problem = None
    if totals.unsettled_events >= intake.unsettled_events_max:
        problem = f"{totals.unsettled_events:,} of {intake.unsettled_events_max:,} unsettled events"
    elif totals.unsettled_bytes + cost_bytes(0, 1) > intake.unsettled_bytes_max:
        problem = f"{totals.unsettled_bytes:,} of {intake.unsettled_bytes_max:,} unsettled bytes"
    return Check("budget", problem)


def _loop_lag(services: Services) -> Check:
    lag_seconds = services.housekeeping.loop_lag_seconds
    is_late = lag_seconds > LOOP_LAG_SECONDS_MAX
    return Check(
        "loop-lag", f"{lag_seconds:.3f} s in the last ten; {LOOP_LAG_SECONDS_MAX:g} s is much" if is_late else None
    )


def _verbose(name: str, checks: Iterable[Check], *, fails: bool) -> Response:
    lines = [
        f"[+]{check.name} ok" if check.problem is None else f"[-]{check.name} failed: {check.problem}"
        for check in checks
    ]
    text = "\n".join([*lines, f"{name} check {'failed' if fails else 'passed'}\n"])
    return Response(text, 503 if fails else 200, content_type=TEXT)
