"""Owns `GET /metrics`: the numbers of `/v1/status` and the ledger's counters, in Prometheus' and OpenMetrics' form.

Rules: nothing is counted here; every number is read at the scrape from where it is kept, statuses and totals in one
instant, so that they balance. The names are promises: alerts and dashboards stand on them.
Limits: at most 160 series whose labels hold no id, whatever the clients, endpoints and events are: a thousand clients
with histograms of their own cost a scrape 200 ms of the loop. Beside them stand `hookd_client_*`, of the 20 clients
with the largest backlog and of no other (flow/backlogs): two series each, which come and go, and so are gauges.
"""

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from quart import Blueprint, Response

from hookd.core.counters import Counters, Histogram
from hookd.core.delivery import Status
from hookd.core.guard import PORTS
from hookd.core.run_history import PreviousRun
from hookd.core.settings import IntakeSettings
from hookd.core.totals import Totals
from hookd.edge.api.negotiation import accepted
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.problems import PROBLEMS
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.services import Connections, Services, Standing
from hookd.edge.api.slices import OneATurn
from hookd.flow.backlogs import CLIENTS_MAX
from hookd.flow.gauges import Gauges

LAG = "From an event's admission in this run, or the delivery's own reopening, to a delivery's 2xx."
OPENMETRICS = "application/openmetrics-text"
FORMS = tuple(choose_encoder(accept)[1] for accept in ("", OPENMETRICS))  # as the library says them


def metrics_routes(services: Services) -> Blueprint:
    routes = Blueprint("metrics", __name__)
    scrapes = OneATurn()

    @routes.get("/metrics")
    @operation("The daemon's numbers for Prometheus", scope=Scope.READ, answers={200: FORMS})
    async def get_metrics() -> Response:
        encode, content_type = choose_encoder(OPENMETRICS if _wants_openmetrics() else "")
        async with scrapes.turn():
            gauges = await services.gauge_collector.take()
            return Response(
                encode(_Scrape(_read(services, gauges), services.process_metrics)), content_type=content_type
            )

    return routes


def process_metrics() -> Callable[[], Iterable[Metric]]:
    """What the system says of this process: its memory, CPU time, start and descriptors."""
    return ProcessCollector(registry=None).collect


class Reading(NamedTuple):
    """Everything that one scrape says, read without a wait."""

    version: str
    shard: str
    is_draining: bool
    totals: Totals
    counters: Counters
    budget: IntakeSettings
    gauges: Gauges
    clients: int
    connections: Connections
    loop_lag_seconds: float
    crashed_couriers: int
    log_lines_dropped: int
    reports_problem: str | None
    recorder_failure: str | None
    port_failures: Mapping[str, int]
    notices: int
    notices_untold: int
    operations: Totals
    operations_refused: int
    recorder_fill: tuple[int, int]
    previous_run: PreviousRun | None
    standing: Standing


def _read(services: Services, gauges: Gauges) -> Reading:
    return Reading(
        version=services.run.version,
        shard=services.run.shard,
        is_draining=services.intake.is_draining,
        totals=services.ledger.totals(),
        counters=services.ledger.counters,
        budget=services.effective.settings.intake,
        gauges=gauges,
        clients=len(services.registry),
        connections=services.connections(),
        loop_lag_seconds=services.housekeeping.loop_lag_seconds,
        crashed_couriers=services.dispatch.crashed_couriers,
        log_lines_dropped=services.log_lines_dropped(),
        reports_problem=services.reports_problem(),
        recorder_failure=services.ledger.recorder.failure,
        port_failures=services.ledger.port_failures,
        notices=services.notices.made,
        notices_untold=services.notices.untold,
        operations=services.ledger.operations.snapshot(),
        operations_refused=services.notices.operations.refused.total(),
        recorder_fill=services.ledger.recorder.fill(),
        previous_run=services.previous_run(),
        standing=services.standing(),
    )


def _wants_openmetrics() -> bool:
    """The first of the two in the order of preference. The library's own choice fails on a version of letters."""
    for name, quality in accepted(this_request()):
        if quality > 0 and name in (OPENMETRICS, "text/plain", "text/*", "*/*"):
            return name == OPENMETRICS
    return False


class _Scrape(Collector):
    """What the library's writers take for a registry."""

    def __init__(self, reading: Reading, process: Callable[[], Iterable[Metric]]) -> None:
        self._reading = reading
        self._process = process

    def collect(self) -> Iterator[Metric]:
        reading = self._reading
        yield InfoMetricFamily(
            "hookd_build",
            "Which hookd this is.",
            value={
                "version": reading.version,
                "python_version": platform.python_version(),
                "shard": reading.shard,
            },
        )
        yield from _events(reading.totals)
        yield from _deliveries(reading.totals, reading.counters)
        yield from _attempts(reading.totals, reading.counters)
        yield from _budget(reading.totals, reading.budget)
        yield from _ages(reading.gauges)
        yield from _registered(reading)
        yield from _notices(reading)
        yield from _daemon(reading)
        yield from _runs(reading)
        yield from _standing(reading.standing)
        yield from _backlogs(reading.gauges)
        yield from self._process()


def _events(totals: Totals) -> Iterator[Metric]:
    yield _counter("hookd_events_accepted", "Events taken in since the start.", totals.accepted)
    yield _counter("hookd_events_recovered", "Those of them that came from a report.", totals.recovered)
    events = _gauge_by("hookd_events", "Events by status, forgotten ones included; sums to those accepted.", "status")
    for status, count in totals.events.items():
        events.add_metric([status.value], count)
    yield events
    # A gauge: an event that a report brings an endpoint to leaves it again.
    yield _gauge("hookd_events_unrouted", "Delivered events that no endpoint wanted.", totals.unrouted)


def _deliveries(totals: Totals, counters: Counters) -> Iterator[Metric]:
    yield _counter("hookd_deliveries_opened", "Deliveries begun since the start.", totals.opened)
    deliveries = _gauge_by("hookd_deliveries", "Deliveries by status; sums to those opened.", "status")
    for status, count in totals.deliveries.items():
        deliveries.add_metric([status.value], count)
    yield deliveries
    given_up = CounterMetricFamily(
        "hookd_deliveries_exhausted", "Deliveries given up, by reason; a reopened one may be again.", labels=["reason"]
    )
    for reason, count in counters.given_up.items():
        given_up.add_metric([reason.value], count)
    yield given_up
    exhausted, delivered = counters.reopened[Status.EXHAUSTED], counters.reopened[Status.DELIVERED]
    yield _counter("hookd_deliveries_reopened", "Exhausted deliveries that were reopened.", exhausted)
    yield _counter("hookd_deliveries_redelivered", "Delivered deliveries that were to be sent once more.", delivered)
    yield _counter(
        "hookd_deliveries_exhausted_forgotten",
        "Exhausted deliveries that are remembered no more.",
        totals.exhausted_forgotten,
    )
    yield _histogram("hookd_delivery_lag_seconds", LAG, counters.lag_seconds)


def _attempts(totals: Totals, counters: Counters) -> Iterator[Metric]:
    yield _counter(
        "hookd_reconnects", "Attempts that posted twice, since a kept connection was stale.", counters.reconnects
    )
    yield _counter("hookd_attempts_begun", "Attempts begun: those that ended and those in flight.", totals.attempts)
    yield _gauge("hookd_attempts_in_flight", "Attempts whose outcome is not known yet.", totals.in_flight)
    ended = CounterMetricFamily(
        "hookd_attempts",
        "Attempts that ended; cut: by a stop or a crash, without an outcome.",
        labels=["outcome", "status_class"],
    )
    for (outcome, status_class), count in counters.attempts.items():
        ended.add_metric([outcome, status_class], count)
    yield ended
    yield _histogram(
        "hookd_attempt_duration_seconds", "How long attempts with an outcome took.", counters.attempt_seconds
    )


def _budget(totals: Totals, budget: IntakeSettings) -> Iterator[Metric]:
    yield _gauge("hookd_unsettled_events", "Events that take budget.", totals.unsettled_events)
    yield _gauge("hookd_unsettled_events_max", "intake.unsettled_events_max.", budget.unsettled_events_max)
    yield _gauge("hookd_unsettled_bytes", "The budget that they take.", totals.unsettled_bytes)
    yield _gauge("hookd_unsettled_bytes_max", "intake.unsettled_bytes_max.", budget.unsettled_bytes_max)


def _ages(gauges: Gauges) -> Iterator[Metric]:
    yield _gauge(
        "hookd_oldest_unsettled_seconds", "Age of the oldest unsettled event.", gauges.oldest_unsettled_seconds or 0.0
    )
    yield _gauge(
        "hookd_oldest_overdue_seconds",
        "The longest that a delivery is due and not begun, its endpoint neither paused nor throttled.",
        gauges.oldest_overdue_seconds or 0.0,
    )
    yield _gauge(
        "hookd_longest_ready_seconds",
        "The longest that an endpoint that does well has room for a due delivery, and it is not begun.",
        gauges.longest_ready_seconds or 0.0,
    )


def _registered(reading: Reading) -> Iterator[Metric]:
    yield _gauge("hookd_clients", "Registered clients.", reading.clients)
    endpoints = _gauge_by("hookd_endpoints", "Registered endpoints by state.", "state")
    for state, count in reading.gauges.endpoints.items():
        endpoints.add_metric([state.value], count)
    yield endpoints
    paused = _gauge_by("hookd_endpoints_paused", "The paused ones, by whom.", "paused_by")
    for paused_by, count in reading.gauges.paused_by.items():
        paused.add_metric([paused_by.value], count)
    yield paused
    yield _gauge(
        "hookd_endpoints_failing",
        "Endpoints whose attempts all failed for 30 s or longer, 4xx too, of whatever state.",
        reading.gauges.failing,
    )


def _notices(reading: Reading) -> Iterator[Metric]:
    yield _counter("hookd_notices", "What hookd told of endpoints, budgets and itself.", reading.notices)
    yield _counter("hookd_notices_untold", "Changes that there was no room to watch.", reading.notices_untold)
    events = _gauge_by(
        "hookd_operational_events", "Notices as events for operations.client, by status; in no other number.", "status"
    )
    for status, count in reading.operations.events.items():
        events.add_metric([status.value], count)
    yield events
    yield _counter(
        "hookd_operational_events_refused", "Notices that were not admitted as events.", reading.operations_refused
    )


def _daemon(reading: Reading) -> Iterator[Metric]:
    yield _gauge("hookd_draining", "1 while it is stopping.", reading.is_draining)
    yield _gauge("hookd_loop_lag_seconds", "The latest that a tick came in the last ten.", reading.loop_lag_seconds)
    yield _gauge("hookd_connections_open", "The API's connections.", reading.connections.open)
    yield _gauge("hookd_connections_max", "http.connections_max.", reading.connections.max)
    yield _counter("hookd_connections_refused", "Closed at once, with the most open.", reading.connections.refused)
    yield _counter(
        "hookd_connections_displaced", "Closed to make room, with the most open.", reading.connections.displaced
    )
    problems = CounterMetricFamily(
        "hookd_problems",
        "Requests answered with a problem, and refused items of partial batches, by the problem's name.",
        labels=["problem"],
    )
    for slug in PROBLEMS:
        problems.add_metric([slug], reading.counters.refused[slug])
    yield problems
    yield _counter("hookd_couriers_crashed", "Bugs contained in a courier.", reading.crashed_couriers)
    yield _counter(
        "hookd_log_lines_dropped", "Log lines that found the buffer full, or the disk.", reading.log_lines_dropped
    )
    yield _gauge("hookd_report_directory_writable", "1 if the last look found it so.", reading.reports_problem is None)
    yield _gauge(
        "hookd_recorder_failed", "1 once it has: a kill would leave no list.", reading.recorder_failure is not None
    )
    failures = CounterMetricFamily(
        "hookd_port_failures", "What the ledger told raised, by who was told; its steps went on.", labels=["port"]
    )
    for port in PORTS:
        failures.add_metric([port], reading.port_failures.get(port, 0))
    yield failures


def _runs(reading: Reading) -> Iterator[Metric]:
    """What the runs before this one left."""
    run = reading.previous_run
    yield _gauge(
        "hookd_previous_run_undelivered",
        "Deliveries that the run before left undelivered, as far as it left a list.",
        0 if run is None else run.undelivered or 0,
    )
    yield _gauge(
        "hookd_previous_run_recovered",
        "Those of them that this run took back at its start.",
        0 if run is None else run.recovered,
    )
    yield _gauge(
        "hookd_previous_run_unlisted",
        "1 if the run before ended without any list of what it left.",
        run is not None and run.undelivered is None,
    )
    yield _gauge(
        "hookd_unclaimed_reports",
        "Reports that list something undelivered, and that nobody took up; counted each minute.",
        len(reading.standing.unclaimed_reports),
    )
    yield _gauge(
        "hookd_waiting_for_client_events",
        "Recovered events whose client is not registered.",
        reading.gauges.waiting_for_client_events,
    )
    rows_bytes, room_bytes = reading.recorder_fill
    yield _gauge("hookd_recorder_bytes", "What unsettled events take of the flight recorder.", rows_bytes)
    yield _gauge("hookd_recorder_bytes_max", "What they may take; 0 where nothing is recorded.", room_bytes)


def _standing(standing: Standing) -> Iterator[Metric]:
    reloads = standing.reloads
    yield _gauge("hookd_config_last_reload_successful", "1 if the last was taken.", reloads.is_successful)
    yield _gauge(
        "hookd_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read: the start, or a reload.",
        reloads.succeeded_at,
    )
    expiry = _gauge_by(
        "hookd_certificate_expiry_timestamp_seconds",
        "When a certificate of ours expires: the API's, and the one of [egress] for endpoints.",
        "certificate",
    )
    for whose, expires_at in standing.certificates_expire_at.items():
        expiry.add_metric([whose], expires_at)
    yield expiry


def _backlogs(gauges: Gauges) -> Iterator[Metric]:
    """The only series with a client's id."""
    text = f"of the {CLIENTS_MAX} clients with the most unsettled events."
    events = _gauge_by("hookd_client_unsettled_events", f"Events that take budget, {text}", "client_id")
    taken = _gauge_by("hookd_client_unsettled_bytes", f"The budget that they take, {text}", "client_id")
    for backlog in gauges.backlogs:
        events.add_metric([backlog.client_id], backlog.events)
        taken.add_metric([backlog.client_id], backlog.bytes)
    yield from (events, taken)


def _counter(name: str, text: str, value: float) -> Metric:
    """`name` as OpenMetrics has it; `_total` is added to the sample."""
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _gauge_by(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=[label])


def _histogram(name: str, text: str, distribution: Histogram) -> Metric:
    buckets = [("+Inf" if bound == math.inf else str(bound), count) for bound, count in distribution.cumulative()]
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=distribution.sum)
