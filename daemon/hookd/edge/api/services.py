"""Owns the list of what the routes call: the flow's objects, handed in by the supervisor."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.mistakes import Mistake
from hookd.core.registry import Registry
from hookd.core.run import Run
from hookd.core.run_history import PreviousRun
from hookd.core.settlements import Settlement
from hookd.flow.attempt import Attempter
from hookd.flow.cancel import Cancel
from hookd.flow.declaration import Declaration
from hookd.flow.dispatch import Dispatch
from hookd.flow.feed import Feed
from hookd.flow.gauges import GaugeCollector
from hookd.flow.housekeeping import Housekeeping
from hookd.flow.intake import Intake
from hookd.flow.notice_watch import NoticeWatch
from hookd.flow.ports import Clock, Log, Unclaimed
from hookd.flow.redelivery import Redelivery
from hookd.flow.registration import Registration
from hookd.flow.replay import Replay
from hookd.flow.resend import Resend
from hookd.flow.retry_now import RetryNow


class Connections(NamedTuple):
    open: int
    max: int
    refused: int  # since the start, because `max` were open
    displaced: int  # since the start: they made room for others


class Reloads(Protocol):
    """How the last reload at SIGHUP ended; the start counts as one."""

    is_successful: bool
    succeeded_at: float  # wall: the last that was taken


class Standing(NamedTuple):
    """What only the process knows."""

    unclaimed_reports: Sequence[Unclaimed]  # as the last look had it
    reloads: Reloads
    certificates_expire_at: Mapping[str, float]  # wall, by whose: "api" and "egress", where each has one


class Services(NamedTuple):
    run: Run
    effective: EffectiveSettings
    clock: Clock
    log: Log
    ledger: Ledger
    feed: Feed[Event, Settlement]
    notices: NoticeWatch
    registry: Registry
    intake: Intake
    dispatch: Dispatch
    attempter: Attempter
    registration: Registration
    declaration: Declaration
    retry_now: RetryNow
    redelivery: Redelivery
    replay: Replay
    cancel: Cancel
    resend: Resend
    housekeeping: Housekeeping
    gauge_collector: GaugeCollector
    previous_run: Callable[[], PreviousRun | None]
    new_secret: Callable[[], str]
    prove_tls: Callable[[EndpointEgress], Awaitable[Sequence[Mistake]]]  # takes 3 to 30 ms, in a thread
    connections: Callable[[], Connections]
    log_lines_dropped: Callable[[], int]
    report_directory: str  # where this run's report will be; absolute
    reports_problem: Callable[[], str | None]
    standing: Callable[[], Standing]
    process_metrics: Callable[[], Iterable[Any]]  # the metrics of the library that api/metrics.py knows
