"""Owns what the overview shows: what is wrong, the worst first, the run before, endpoints, numbers, what was given up.

Limits: rows of `flow/rounds.ROWS_MAX` endpoints and `GIVEN_UP_MAX` events. What costs more than a count is in the
round, which all who look share.
"""

import shlex
from collections.abc import Container, Sequence
from itertools import islice
from typing import Any, NamedTuple

import trio

from hookd.core.event import Event
from hookd.core.first_steps import first_step
from hookd.core.loss import Loss
from hookd.core.retry import Reason
from hookd.core.troubles import Ailment, Situation, troubles, well
from hookd.edge.api.page.charts import charts
from hookd.edge.api.rendering import event_view, health_view
from hookd.edge.api.schemas import HealthView
from hookd.edge.api.services import Services
from hookd.flow.quarter_hour import ENDED_BY_PERSONS
from hookd.flow.rounds import Round, Rounds, Wanted, ailment_of

GIVEN_UP_MAX = 10


class Row(NamedTuple):
    client_id: str
    endpoint_id: str
    health: HealthView
    ailment: Ailment | None


class Left(NamedTuple):
    """A report that nobody took up, as far as it can be read. Of the endpoints that it names: who is registered now."""

    path: str
    run_id: str | None
    loss: Loss
    known: Container[tuple[str, str]]
    missing: Sequence[str]


class Overview:
    def __init__(self, services: Services, rounds: Rounds) -> None:
        self._services = services
        self._rounds = rounds

    async def look(self, wanted: Wanted) -> dict[str, Any]:
        """What the template names."""
        services, made = self._services, await self._rounds.latest(wanted)
        totals = services.ledger.totals()
        situation = self.situation(made)
        found = troubles(situation)
        return {
            "well": "" if found else well(situation),
            "troubles": [(one, first_step(one, situation)) for one in found],
            "situation": situation,
            "run": services.run,
            "uptime_seconds": services.clock.now().monotonic - services.ledger.started.monotonic,
            "totals": totals,
            "events": {status.value: count for status, count in totals.events.items()},
            "rates": services.housekeeping.rates(),
            "connections": services.connections(),
            "clients": len(services.registry),
            "report_directory": services.report_directory,
            "left": self._left(),
            "round": made,
            "rows": await self._rows(made),
            "ailments": Ailment,
            "given_up": self._given_up(),
            "charts": charts(services.housekeeping.quarter_hour.samples()),
        }

    def situation(self, made: Round) -> Situation:
        services, totals = self._services, self._services.ledger.totals()
        now, intake = services.clock.now(), services.effective.settings.intake
        quarter_hour, fullest, last = services.housekeeping.quarter_hour, made.fullest, self._given_up_last()
        refusals = quarter_hour.refusals
        run, unclaimed = services.previous_run(), services.standing().unclaimed_reports
        return Situation(
            now=now.wall,
            is_draining=services.intake.is_draining,
            endpoints=made.endpoints,
            in_flight=totals.in_flight,
            unsettled=totals.undelivered,
            unsettled_events=totals.unsettled_events,
            unsettled_events_max=intake.unsettled_events_max,
            unsettled_bytes=totals.unsettled_bytes,
            unsettled_bytes_max=intake.unsettled_bytes_max,
            refused=refusals.full(now.monotonic),
            refused_client=refusals.last_client_full(now.monotonic),
            given_up=quarter_hour.given_up(),
            given_up_last=last and last[0],
            given_up_why=last and last[1],
            ailing=made.ailing,
            largest=made.largest,
            full_clients=made.full_clients,
            fullest=fullest,
            fullest_refused=fullest and refusals.client_full(fullest.client_id, now.monotonic),
            crashed_couriers=services.dispatch.crashed_couriers,
            recorder_failure=services.ledger.recorder.failure,
            reports_problem=services.reports_problem(),
            loop_lag_seconds=services.housekeeping.loop_lag_seconds,
            previous_run=run,
            run_before_lost=next((one.loss for one in unclaimed if run is not None and one.run_id == run.run_id), None),
            is_run_before_taken_up=run is not None and all(one.run_id != run.run_id for one in unclaimed),
            unclaimed_reports=len(unclaimed),
            overdue_seconds=made.overdue_seconds,
            ready_seconds=made.ready_seconds,
            slowest=made.slowest,
            slowest_seconds=made.slowest_seconds,
            waiting_for_client=made.waiting_for_client,
        )

    async def _rows(self, made: Round) -> list[Row]:
        """As they are now; what was removed since the round is left out."""
        services, now = self._services, self._services.clock.now()
        rows: list[Row] = []
        for client_id, endpoint_id in made.rows():
            endpoint = services.registry.endpoint(client_id, endpoint_id)
            if endpoint is None:
                continue
            health = services.ledger.health(client_id, endpoint_id)
            oldest = services.ledger.oldest_unsettled(client_id).get(endpoint_id)
            ailment = None if health is None else ailment_of(health, now)
            rows.append(Row(client_id, endpoint_id, health_view(services, client_id, endpoint, oldest), ailment))
            await trio.lowlevel.checkpoint()  # to find the oldest can take 20 ms
        return rows

    def _left(self) -> list[Left]:
        """The newest first, as many as flow/unclaimed_reports has read."""
        registry, found = self._services.registry, []
        for one in reversed(self._services.standing().unclaimed_reports):
            if one.loss is not None:
                owed = [(line.client_id, line.endpoint_id) for line in one.loss.largest]
                known = {names for names in owed if registry.endpoint(*names) is not None}
                missing = ["/".join(names) for names in owed if names not in known]
                found.append(Left(shlex.quote(one.path), one.run_id, one.loss, known, missing))
        return found

    def _given_up(self) -> list[Any]:
        """Those given up last."""
        return [event_view(self._services, event) for event in self._newest_exhausted()]

    def _given_up_last(self) -> tuple[str, Reason] | None:
        """For whom and why; what a person ended is left out, as it is from the count."""
        for event in self._newest_exhausted():
            for one in event.deliveries:
                if one.reason is not None and one.reason not in ENDED_BY_PERSONS:
                    return f"{event.client_id}/{one.endpoint_id}", one.reason
        return None

    def _newest_exhausted(self) -> list[Event]:
        return list(islice(reversed(self._services.ledger.exhausted()), GIVEN_UP_MAX))
