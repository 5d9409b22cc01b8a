"""Owns the list of what the routes call on: the flow's objects, handed in by the supervisor."""

from collections.abc import Callable
from typing import NamedTuple

from daemon.core.ledger import Ledger
from daemon.core.live import Live
from daemon.core.past import PreviousRun
from daemon.core.registry import Registry
from daemon.core.report import Run
from daemon.flow.attempt import Attempter
from daemon.flow.dispatch import Dispatch
from daemon.flow.feed import Feed
from daemon.flow.intake import Intake
from daemon.flow.ports import Clock, Log
from daemon.flow.registration import Registration
from daemon.flow.replay import Replay
from daemon.flow.resend import Resend
from daemon.flow.retrying import Retrying
from daemon.flow.survey import Survey
from daemon.flow.upkeep import Upkeep


class Connections(NamedTuple):
    open: int
    max: int
    refused: int  # since the start, because `max` were open


class Services(NamedTuple):
    run: Run
    live: Live
    clock: Clock
    log: Log
    ledger: Ledger
    feed: Feed
    registry: Registry
    intake: Intake
    dispatch: Dispatch
    attempter: Attempter
    registration: Registration
    retrying: Retrying
    replay: Replay
    resend: Resend
    upkeep: Upkeep
    survey: Survey
    previous_run: Callable[[], PreviousRun | None]
    new_secret: Callable[[], str]
    connections: Callable[[], Connections]
    log_lines_dropped: Callable[[], int]
    reports_problem: Callable[[], str | None]
    dev: bool
