"""Owns one attempt: one POST under one deadline (flow/alarm), from its signature to what the ledger records of it.

Rules:
 1. The scope bounds everything, DNS included. httpx's own timeouts are per read and never end a receiver that drips.
 2. An unexpected exception fails this attempt and no other. The log has its traceback.
 3. Being cancelled is not an outcome. A final head that was read before that is one.
"""

import traceback

from hookd.core import outcome as outcomes
from hookd.core import retry
from hookd.core.attempt_end import AttemptEnd
from hookd.core.client import Endpoint
from hookd.core.delivery import Delivery, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.history import Attempt
from hookd.core.ledger import Ledger
from hookd.core.logged_lines import DeliveryAttempted
from hookd.core.outcome import Exchange, Invalid, Outcome, Responded, TimedOut
from hookd.core.report import AttemptView, attempt_view
from hookd.core.retention import EXCERPT_BYTES_MAX
from hookd.core.retry import SUCCESS, GiveUp, Reason, Retry, Verdict
from hookd.core.retry_after import retry_after_seconds
from hookd.core.signature import sign
from hookd.core.timestamps import Moment
from hookd.core.urls import logged_url
from hookd.flow.alarm import Alarm
from hookd.flow.lane import Lane
from hookd.flow.ports import Clock, DeliveryRequest, JitterUnit, Log, Sender

# An enum's `value` is two calls of Python 3.11.
_WORDS = {status: status.value for status in Status}
TEST_TYPE = "hookd.test"
TEST_PAYLOAD = b'{"test": true}'


class Attempter:
    """Makes attempts; one for the whole daemon, it holds no state of its own."""

    def __init__(
        self,
        *,
        effective: EffectiveSettings,
        ledger: Ledger,
        sender: Sender,
        clock: Clock,
        jitter_unit: JitterUnit,
        log: Log,
        user_agent: str,
    ) -> None:
        self._effective = effective
        self._ledger = ledger
        self._sender = sender
        self._clock = clock
        self._jitter_unit = jitter_unit
        self._log = log
        self._headers = (("content-type", "application/json"), ("user-agent", user_agent))

    async def attempt(
        self, lane: Lane, event: Event, delivery: Delivery, started: Moment, alarm: Alarm, *, is_probe: bool
    ) -> Outcome | None:
        """One attempt, recorded. Returns its outcome; None where it has none because it was cut.

        It goes to the endpoint as that is registered when it begins. What is registered when it ends may be another.
        """
        endpoint = lane.endpoint
        assert endpoint is not None
        exchange = Exchange()
        number = self._ledger.begin_attempt(event, delivery, url=endpoint.shown_url, now=started, is_probe=is_probe)
        request = self._request(event, endpoint, attempt_number=number, now=started)
        outcome: Outcome | None = None
        try:
            outcome = await self._send(request, exchange, self._effective.timeout_seconds(endpoint), alarm)
        finally:  # nothing here waits: a cancelled attempt is recorded too
            ended = self._clock.now()
            duration_seconds = ended.monotonic - started.monotonic
            outcome = outcome or exchange.answer
            if outcome is None:
                self._ledger.cut_attempt(event, delivery, exchange=exchange, duration_seconds=duration_seconds)
            else:
                verdict = self._verdict(lane, event, delivery, outcome, self._jitter_unit(), now=ended.monotonic)
                end = AttemptEnd(
                    outcome=outcome,
                    verdict=verdict,
                    exchange=exchange,
                    duration_seconds=duration_seconds,
                    now=ended,
                    concurrency=self._effective.concurrency(endpoint),
                    retry_after_seconds=retry_after_seconds(exchange.retry_after, now_wall=ended.wall),
                    jitter_unit=self._jitter_unit(),
                    judged=_is_of_what_is_registered(lane, endpoint),
                )
                self._ledger.end_attempt(event, delivery, end)
                self._log_attempt(event, delivery, endpoint, outcome, verdict, exchange, duration_seconds)
        return outcome

    async def test(self, client_id: str, endpoint: Endpoint) -> AttemptView:
        """One POST of type `hookd.test` outside all accounts: nothing is kept of it, and the endpoint's health is not
        judged by it. It goes the same way as any other, policy and deadline included."""
        exchange = Exchange()
        started = self._clock.now()
        event_id = f"test_{int(started.wall * 1000)}"
        request = self._post(client_id, endpoint, event_id, TEST_TYPE, TEST_PAYLOAD, attempt_number=1, now=started)
        with Alarm() as alarm:
            outcome = await self._send(request, exchange, self._effective.timeout_seconds(endpoint), alarm)
        duration_seconds = self._clock.now().monotonic - started.monotonic
        attempt = Attempt(
            1, started.wall, duration_seconds, outcome, exchange.request_sent, reconnected=exchange.reconnected
        )
        return attempt_view(attempt, exchange.excerpt[:EXCERPT_BYTES_MAX].decode("utf-8", "replace") or None)

    async def _send(
        self, request: DeliveryRequest, exchange: Exchange, timeout_seconds: float, alarm: Alarm
    ) -> Outcome:
        with alarm.within(timeout_seconds):
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

    def _request(self, event: Event, endpoint: Endpoint, *, attempt_number: int, now: Moment) -> DeliveryRequest:
        assert event.payload is not None
        return self._post(
            event.client_id,
            endpoint,
            event.id,
            event.type,
            event.payload,
            attempt_number=attempt_number,
            now=now,
            traceparent=event.traceparent,
        )

    def _post(
        self,
        client_id: str,
        endpoint: Endpoint,
        event_id: str,
        event_type: str,
        payload: bytes,
        *,
        attempt_number: int,
        now: Moment,
        traceparent: str | None = None,
    ) -> DeliveryRequest:
        timestamp = int(now.wall)
        signature = sign(endpoint.secrets(now.monotonic), event_id=event_id, timestamp=timestamp, body=payload)
        headers = [
            ("webhook-id", event_id),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", signature),
            ("hookd-event-type", event_type),
            ("hookd-attempt", str(attempt_number)),
        ]
        if endpoint.trace_context and traceparent is not None:
            headers.append(("traceparent", traceparent))
        of_endpoint = (*self._headers, *endpoint.headers)
        egress = self._effective.egress(endpoint)
        return DeliveryRequest(
            client_id,
            endpoint.id,
            endpoint.url,
            headers,
            payload,
            of_endpoint,
            egress,
            traceparent,
            endpoint.trace_context,
        )

    def _verdict(
        self, lane: Lane, event: Event, delivery: Delivery, outcome: Outcome, jitter_unit: float, *, now: float
    ) -> Verdict:
        """By the policy of the endpoint as it is registered now. A probe is one attempt more than the schedule has.

        The unit is drawn whatever the outcome is: the chance of another attempt does not depend on this one.
        """
        if outcomes.is_success(outcome):  # any 2xx counts, also where it was cancelled meanwhile
            return SUCCESS
        abandoned_as = delivery.particulars.abandoned_as
        if lane.endpoint is None or abandoned_as is not None:
            return GiveUp(abandoned_as or Reason.ENDPOINT_REMOVED)
        verdict = retry.verdict(
            outcome,
            policy=self._effective.policy(lane.endpoint),
            failures=delivery.failures,
            is_last=not delivery.particulars.is_probing and self._ledger.terms.is_used_up(event, delivery),
            age_seconds=self._ledger.terms.age_seconds(event, delivery, now=now),
            jitter_unit=jitter_unit,
            is_refusal=isinstance(outcome, Responded) and lane.endpoint.gives_up_on(outcome.status_code),
            has_lapsed=self._ledger.terms.has_lapsed(event, delivery, now=now),
        )
        return GiveUp(Reason.GONE) if lane.health.disabled and isinstance(verdict, Retry) else verdict

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
        status_code = outcomes.status_code(outcome)
        is_answer = status_code is not None
        self._log.made(
            DeliveryAttempted(
                event.id,
                event.client_id,
                delivery.endpoint_id,
                logged_url(endpoint.url),
                delivery.attempt_count,
                self._ledger.terms.attempts_max(event, delivery),
                "responded" if is_answer else outcomes.name(outcome),
                status_code,
                None if is_answer else outcomes.error(outcome),
                exchange.request_sent,
                exchange.reconnected,
                round(duration_seconds, 6),
                _WORDS[delivery.status],
                verdict.reason.value if isinstance(verdict, GiveUp) else None,
                round(verdict.delay_seconds, 3) if isinstance(verdict, Retry) else None,
            )
        )


def _is_of_what_is_registered(lane: Lane, endpoint: Endpoint) -> bool:
    """False where another URL is registered by now, or none: an answer of the old one says nothing of it."""
    return lane.endpoint is not None and lane.endpoint.url == endpoint.url
