"""Owns one attempt: one POST under one cancel scope, from its signature to what the ledger records of it.

Rules: the scope bounds everything, DNS included (httpx's own timeouts are per read and never end a receiver that
drips); an unexpected exception is this attempt's failure, with its traceback in the log, and no other's; being
cancelled is no outcome, but a final head that was read before it is.
"""

import traceback
from collections.abc import Sequence

import trio

from daemon.core import outcome as outcomes
from daemon.core import retry
from daemon.core.client import Endpoint, logged_url, shown_url
from daemon.core.delivery import Delivery
from daemon.core.event import Event
from daemon.core.ledger import Ledger
from daemon.core.live import Live
from daemon.core.outcome import Exchange, Invalid, Outcome, TimedOut
from daemon.core.registry import Registry
from daemon.core.retry import GiveUp, Reason, Retry, Success, Verdict
from daemon.core.signature import sign
from daemon.flow.ports import Clock, JitterUnit, Log, Request, Sender


class Attempter:
    """Makes attempts; one for the whole daemon, it holds no state of its own."""

    def __init__(
        self,
        *,
        live: Live,
        ledger: Ledger,
        registry: Registry,
        sender: Sender,
        clock: Clock,
        jitter_unit: JitterUnit,
        log: Log,
        user_agent: str,
    ) -> None:
        self._live = live
        self._ledger = ledger
        self._registry = registry
        self._sender = sender
        self._clock = clock
        self._jitter_unit = jitter_unit
        self._log = log
        self._user_agent = user_agent

    async def attempt(self, event: Event, delivery: Delivery, endpoint: Endpoint) -> Outcome | None:
        """One attempt, recorded; returns its outcome, None where there is none because it was cut."""
        exchange = Exchange()
        started = self._clock.now()
        number = self._ledger.begin_attempt(event, delivery, url=shown_url(endpoint.url), now=started)
        request = self._request(event, endpoint, attempt_number=number, timestamp=int(started.wall))
        outcome: Outcome | None = None
        try:
            outcome = await self._send(request, exchange, self._live.timeout_seconds(endpoint))
        finally:  # nothing here waits: a cancelled attempt is recorded too
            ended = self._clock.now()
            duration_seconds = ended.monotonic - started.monotonic
            outcome = outcome or exchange.answer
            if outcome is None:
                self._ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=duration_seconds)
            else:
                verdict = self._verdict(event, delivery, outcome, now=ended.monotonic)
                self._ledger.end_attempt(
                    event,
                    delivery,
                    outcome=outcome,
                    verdict=verdict,
                    exchange=exchange,
                    duration_seconds=duration_seconds,
                    now=ended,
                )
                self._log_attempt(event, delivery, endpoint, outcome, verdict, exchange, duration_seconds)
        return outcome

    async def _send(self, request: Request, exchange: Exchange, timeout_seconds: float) -> Outcome:
        with trio.move_on_after(timeout_seconds):
            try:
                return await self._sender.send(request, exchange)
            except Exception as error:  # whatever a receiver provokes ends this attempt, not the courier
                self._log(
                    "attempt.crashed",
                    level="error",
                    client_id=request.client_id,
                    endpoint_id=request.endpoint_id,
                    traceback="".join(traceback.format_exception(error)),
                )
                crashed = f"unexpected {type(error).__name__} in hookd; the log has the traceback"
                return exchange.answer or Invalid(crashed)
        return exchange.answer or TimedOut(timeout_seconds)

    def _request(self, event: Event, endpoint: Endpoint, *, attempt_number: int, timestamp: int) -> Request:
        assert event.payload is not None
        signature = sign(_secrets(endpoint), event_id=event.id, timestamp=timestamp, body=event.payload)
        headers = [
            ("content-type", "application/json"),
            ("user-agent", self._user_agent),
            ("webhook-id", event.id),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", signature),
            ("hookd-event-type", event.type),
            ("hookd-attempt", str(attempt_number)),
            *endpoint.headers,
        ]
        return Request(event.client_id, endpoint.id, endpoint.url, headers, event.payload)

    def _verdict(self, event: Event, delivery: Delivery, outcome: Outcome, *, now: float) -> Verdict:
        endpoint = self._registry.endpoint(event.client_id, delivery.endpoint_id)
        if endpoint is None:  # removed while this attempt was in flight: a 2xx still counts
            return Success() if outcomes.is_success(outcome) else GiveUp(Reason.ENDPOINT_REMOVED)
        verdict = retry.verdict(
            outcome,
            policy=self._live.policy(endpoint),
            attempt_count=delivery.attempt_count,
            attempts_before=delivery.attempts_before,
            attempts_max=delivery.attempts_max,
            age_seconds=now - delivery.opened_at,
            jitter_unit=self._jitter_unit(),
        )
        is_disabled = self._ledger.health(event.client_id, delivery.endpoint_id).disabled
        return GiveUp(Reason.GONE) if is_disabled and isinstance(verdict, Retry) else verdict

    def _log_attempt(
        self,
        event: Event,
        delivery: Delivery,
        endpoint: Endpoint,
        outcome: Outcome,
        verdict: Verdict,
        exchange: Exchange,
        duration_seconds: float,
    ) -> None:
        self._log(
            "delivery.attempted",
            event_id=event.id,
            client_id=event.client_id,
            endpoint_id=delivery.endpoint_id,
            url=logged_url(endpoint.url),
            attempt=delivery.attempt_count,
            attempts_max=delivery.attempts_max,
            outcome=outcomes.name(outcome),
            status_code=outcomes.status_code(outcome),
            error=outcomes.error(outcome),
            request_sent=exchange.request_sent,
            duration_seconds=round(duration_seconds, 6),
            status=delivery.status.value,
            reason=verdict.reason.value if isinstance(verdict, GiveUp) else None,
            retry_in_seconds=round(verdict.delay_seconds, 3) if isinstance(verdict, Retry) else None,
        )


def _secrets(endpoint: Endpoint) -> Sequence[str]:
    return (endpoint.secret,)
