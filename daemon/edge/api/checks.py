"""Owns `/livez` and `/readyz`, and the lines that each says with `?verbose`, in Kubernetes' form.

Rules: alive means that it answers, and nothing else: a receiver that is down, a full budget or a lagging loop is no
reason to restart a daemon that holds everything in memory. Ready means that it takes events: only `accepting` decides;
the other lines are for who looks, and an orchestrator that took a full daemon out of service would cure nothing.
"""

from collections.abc import Iterable
from typing import NamedTuple

from quart import Blueprint, Response, request

from daemon.core.ledger import RETRY_AFTER_SECONDS, cost_bytes
from daemon.edge.api.operations import operation
from daemon.edge.api.services import Services

# Above it a producer notices; every benchmark holds the loop well below.
LOOP_LAG_SECONDS_MAX = 0.25

TEXT = "text/plain; charset=utf-8"


class Check(NamedTuple):
    name: str
    problem: str | None  # None: it is as it should be


def check_routes(services: Services) -> Blueprint:
    routes = Blueprint("checks", __name__)

    @routes.get("/livez")
    @operation("Whether the process answers", scope=None, answers={200: "text/plain"})
    async def get_livez() -> Response:
        if "verbose" not in request.args:
            return Response("ok\n", content_type=TEXT)
        return _verbose("livez", [Check("ping", None), _loop_lag(services)], fails=False)

    @routes.get("/readyz")
    @operation(
        "Whether it takes events",
        scope=None,
        answers={200: "text/plain", 503: "text/plain"},
        problems=("draining",),
    )
    async def get_readyz() -> Response:
        is_draining = services.intake.is_draining
        if "verbose" in request.args:
            return _verbose("readyz", _readiness(services), fails=is_draining)
        services.intake.refuse_if_draining()
        return Response("ok\n", content_type=TEXT)

    return routes


def _readiness(services: Services) -> list[Check]:
    return [
        Check("accepting", "draining; post to its successor" if services.intake.is_draining else None),
        _budget(services),
        Check("report-directory", services.reports_problem()),
        _loop_lag(services),
    ]


def _budget(services: Services) -> Check:
    """Full: there is no room for even an empty event to one endpoint."""
    intake, totals = services.live.settings.intake, services.ledger.totals()
    problem = None
    if totals.unsettled_events >= intake.unsettled_events_max:
        problem = f"{totals.unsettled_events:,} of {intake.unsettled_events_max:,} unsettled events"
    elif totals.unsettled_bytes + cost_bytes(0, 1) > intake.unsettled_bytes_max:
        problem = f"{totals.unsettled_bytes:,} of {intake.unsettled_bytes_max:,} unsettled bytes"
    return Check("budget", problem)


def _loop_lag(services: Services) -> Check:
    lag_seconds = services.upkeep.loop_lag_seconds
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
    response = Response(text, 503 if fails else 200, content_type=TEXT)
    if fails:
        response.headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    return response
