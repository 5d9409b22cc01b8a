"""Owns how the three ways of sending again are put together: they share what may be reopened, and the step itself."""

from typing import NamedTuple

from hookd.core.ledger import Ledger
from hookd.core.registry import Registry
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log
from hookd.flow.redelivery import Redelivery
from hookd.flow.reopening import Reopening
from hookd.flow.replay import Replay
from hookd.flow.retry_now import RetryNow


class SendingAgain(NamedTuple):
    retry_now: RetryNow
    redelivery: Redelivery
    replay: Replay


def sending_again(
    *, ledger: Ledger, registry: Registry, dispatch: Dispatch, intake: Intake, clock: Clock, log: Log
) -> SendingAgain:
    reopening = Reopening(ledger=ledger, registry=registry, intake=intake, dispatch=dispatch, clock=clock)
    retry_now = RetryNow(
        ledger=ledger, registry=registry, dispatch=dispatch, intake=intake, reopening=reopening, clock=clock
    )
    redelivery = Redelivery(ledger=ledger, registry=registry, intake=intake, reopening=reopening, clock=clock, log=log)
    replay = Replay(
        ledger=ledger,
        registry=registry,
        intake=intake,
        reopening=reopening,
        retry_now=retry_now,
        clock=clock,
        log=log,
    )
    return SendingAgain(retry_now, redelivery, replay)
