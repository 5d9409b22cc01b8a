"""Owns what the overview shows: what is wrong, the worst first, the run before, endpoints, numbers, what was given up.

Limits: rows of `flow/rounds.ROWS_MAX` endpoints and `GIVEN_UP_MAX` events. What costs more than a count is in the
round, which all who look share.
"""

import shlex
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import trio

from hookd.core.event import Event
from hookd.core.first_steps import first_step, owed_step
from hookd.core.loss import Loss
from hookd.core.retry import Reason
from hookd.core.situation import AilingEndpoint, Ailment, Group, Situation
from hookd.core.time_text import moment, span
from hookd.core.timestamps import rfc3339
from hookd.core.troubles import Trouble, owed, troubles, well
from hookd.core.units import approximate_size
from hookd.edge.api.page.charts import charts
from hookd.edge.api.rendering import event_view, health_view
from hookd.edge.api.schemas import HealthView
from hookd.edge.api.services import Services
from hookd.flow.ports import Unclaimed
from hookd.flow.quarter_hour import ENDED_BY_PERSONS
from hookd.flow.rounds import Round, Rounds, Wanted, ailment_of

GIVEN_UP_MAX = 10


class Row(NamedTuple):
    client_id: str
    endpoint_id: str
    health: HealthView
    ailment: Ailment | None
    is_slow: bool


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
        unclaimed = services.standing().unclaimed_reports
        left = self._left(unclaimed)
        situation = self._situation(made, unclaimed, left)
        found = troubles(situation)
        return {
            "well": "" if found else well(situation),
            "troubles": _told(found, situation),
            "situation": situation,
            "run": services.run,
            "uptime_seconds": services.clock.now().monotonic - services.ledger.started.monotonic,
            "totals": totals,
            "events": {status.value: count for status, count in totals.events.items()},
            "rates": services.housekeeping.rates(),
            "connections": services.connections(),
            "clients": len(services.registry),
            "report_directory": services.report_directory,
            "left": left,
            "round": made,
            "rows": await self._rows(made),
            "ailments": Ailment,
            "given_up": self._given_up(),
            "charts": charts(services.housekeeping.quarter_hour.samples(), services.ledger.started.monotonic),
        }

    def _situation(self, made: Round, unclaimed: Sequence[Unclaimed], left: Sequence[Left]) -> Situation:
        services, totals = self._services, self._services.ledger.totals()
        now, intake = services.clock.now(), services.effective.settings.intake
        refusals, as_now = services.housekeeping.quarter_hour.refusals, self._rounds.as_now
        fullest = made.fullest and as_now(made.fullest)
        found = Situation(
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
            ailing={ailment: one._replace(worst=as_now(one.worst)) for ailment, one in made.ailing.items()},
            client_limit=self._client_limit(fullest),
            started_at=services.ledger.started.wall,
            largest=made.largest and as_now(made.largest),
            full_clients=made.full_clients,
            fullest=fullest,
            fullest_refused=fullest and refusals.client_full(fullest.client_id, now.monotonic),
            crashed_couriers=services.dispatch.crashed_couriers,
            recorder_failure=services.ledger.recorder.failure,
            reports_problem=services.reports_problem(),
            loop_lag_seconds=services.housekeeping.loop_lag_seconds,
            overdue_seconds=made.overdue_seconds,
            ready_seconds=made.ready_seconds,
            slowest=made.slowest and as_now(made.slowest),
            slowest_seconds=made.slowest_seconds,
            failed_last=made.failed_last,
            failed_last_count=made.failed_last_count,
            waiting_for_client=made.waiting_for_client,
        )
        return self._with_losses(found, unclaimed, left)

    def _with_losses(self, found: Situation, unclaimed: Sequence[Unclaimed], left: Sequence[Left]) -> Situation:
        """Of this run and of those before."""
        services, last = self._services, self._given_up_last()
        run = services.previous_run()
        return found._replace(
            given_up=services.housekeeping.quarter_hour.given_up(),
            given_up_last=last and f"{last[0].client_id}/{last[1]}",
            given_up_why=last and last[2],
            given_up_kept=f"these, unless someone presses replay on the endpoint's page {self._given_up_kept()}.",
            given_up_endpoint=self._given_up_endpoint(last),
            previous_run=run,
            run_before_lost=next((one.loss for one in unclaimed if run is not None and one.run_id == run.run_id), None),
            run_before_missing=tuple(
                name for one in left if run is not None and one.run_id == run.run_id for name in one.missing
            ),
            is_run_before_taken_up=run is not None and all(one.run_id != run.run_id for one in unclaimed),
            unclaimed_reports=len(unclaimed),
        )

    def _given_up_endpoint(self, last: tuple[Event, str, Reason] | None) -> AilingEndpoint | None:
        """That of the newest, unless it is registered no more."""
        if last is None or self._services.registry.endpoint(last[0].client_id, last[1]) is None:
            return None
        return self._rounds.look_at(last[0].client_id, last[1], self._services.clock.now())

    def _client_limit(self, fullest: AilingEndpoint | None) -> str:
        """The setting that a full client has reached, with its value."""
        intake = self._services.effective.settings.intake
        held = None if fullest is None else self._services.ledger.held(fullest.client_id)
        if held is not None and held.bytes / intake.client_bytes_max > held.events / intake.client_events_max:
            return f"intake.client_bytes_max (now {approximate_size(intake.client_bytes_max)})"
        return f"intake.client_events_max (now {intake.client_events_max:,})"

    async def of_one(self, client_id: str, endpoint_id: str, *, sees_all: bool) -> list[tuple[Trouble, str]]:
        """What is wrong with one endpoint and for its client, in the overview's words, with the same first steps.

        Who may not see all clients is told nothing of the whole budget: who fills it is another client.
        """
        services, made = self._services, await self._rounds.latest(Wanted())
        unclaimed = services.standing().unclaimed_reports
        left = self._left(unclaimed)
        whole, now = self._situation(made, unclaimed, left), services.clock.now()
        seen = self._rounds.look_at(client_id, endpoint_id, now)
        held, intake = services.ledger.held(client_id), services.effective.settings.intake
        is_full = held.events >= intake.client_events_max or held.bytes >= intake.client_bytes_max
        is_largest = whole.largest is not None and whole.largest.name == seen.name
        spell = services.housekeeping.quarter_hour.refusals.client_full(client_id, now.monotonic)
        overdue_seconds = now.monotonic - services.dispatch.next_attempt_to(client_id, endpoint_id)
        found = (_budget_of(whole) if sees_all else Situation(now.wall))._replace(
            started_at=whole.started_at,
            client_limit=self._client_limit(seen),
            refused_client=None if spell is None else (client_id, spell),
            ailing={} if seen.ailment is None else {seen.ailment: Group(1, seen)},
            largest=seen if is_largest else whole.largest if sees_all else None,
            full_clients=int(is_full),
            fullest=seen,
            fullest_refused=spell,
            slowest=None if seen.pace is None else seen,
            slowest_seconds=0.0 if seen.pace is None else overdue_seconds,
        )
        told = [one for one in troubles(found) if is_largest or one.kind != "filling"]
        refusing = [one for one in told if one.kind in ("full", "client-full")]
        rest = [one for one in told if one not in refusing]
        return [*_told(refusing, found), *_owed(seen, left), *_told(rest, found)]

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
            is_slow = self._rounds.pace_of(client_id, endpoint_id, now) is not None
            view = health_view(services, client_id, endpoint, oldest)
            rows.append(Row(client_id, endpoint_id, view, ailment, is_slow))
            await trio.lowlevel.checkpoint()  # to find the oldest can take 20 ms
        return rows

    def _left(self, unclaimed: Sequence[Unclaimed]) -> list[Left]:
        """The newest first, as many as flow/unclaimed_reports has read."""
        registry, found = self._services.registry, []
        for one in reversed(unclaimed):
            if one.loss is not None:
                owed = [(line.client_id, line.endpoint_id) for line in one.loss.largest]
                known = {names for names in owed if registry.endpoint(*names) is not None}
                missing = ["/".join(names) for names in owed if names not in known]
                found.append(Left(shlex.quote(one.path), one.run_id, one.loss, known, missing))
        return found

    def _given_up(self) -> list[Any]:
        """Those given up last."""
        return [event_view(self._services, event) for event in self._newest_exhausted()]

    def _given_up_kept(self) -> str:
        """How long what was given up lately is held, and until when the first of it is."""
        services, now = self._services, self._services.clock.now()
        quarter_hour = services.housekeeping.quarter_hour
        held_seconds = services.effective.settings.retention.age_seconds_max
        ago_seconds = min(now.monotonic - quarter_hour.given_up_from(), held_seconds)  # what is older is forgotten
        until = moment(rfc3339(now.wall - ago_seconds + held_seconds), now.wall)
        return f"within {span(held_seconds)}, {'the first ' if quarter_hour.given_up() > 1 else ''}by {until}"

    def _given_up_last(self) -> tuple[Event, str, Reason] | None:
        """For which endpoint and why; what a person ended is left out, as it is from the count."""
        for event in self._newest_exhausted():
            for one in event.deliveries:
                if one.reason is not None and one.reason not in ENDED_BY_PERSONS:
                    return event, one.endpoint_id, one.reason
        return None

    def _newest_exhausted(self) -> list[Event]:
        return list(islice(reversed(self._services.ledger.exhausted()), GIVEN_UP_MAX))


def _owed(seen: AilingEndpoint, left: Sequence[Left]) -> Iterator[tuple[Trouble, str]]:
    """What earlier runs left of it, by each report that nobody took up."""
    for one in left:
        for line in one.loss.largest:
            if (line.client_id, line.endpoint_id) == (seen.client_id, seen.endpoint_id):
                yield owed(seen.name, line.undelivered, one.loss), owed_step(one.loss)


def _told(found: Sequence[Trouble], situation: Situation) -> list[tuple[Trouble, str]]:
    """Each with what to do first."""
    return [(one, first_step(one, situation)) for one in found]


def _budget_of(whole: Situation) -> Situation:
    """The whole budget alone."""
    return Situation(
        now=whole.now,
        unsettled_events=whole.unsettled_events,
        unsettled_events_max=whole.unsettled_events_max,
        unsettled_bytes=whole.unsettled_bytes,
        unsettled_bytes_max=whole.unsettled_bytes_max,
        refused=whole.refused,
    )
