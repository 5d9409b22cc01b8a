"""Owns the spans: one for each request that admits, and one for each attempt, by OpenTelemetry.

Rules:
 1. It is imported where the environment names an exporter, and only then: process/tracing decides. Nothing else of
    hookd knows of it: it stands in the place of the intake and around the sender.
 2. An admission's span has the request's traceparent for its parent. Its own is the event's from then on, and the
    parent of each attempt. An endpoint with `trace_context` is sent the attempt's.
 3. A span says what the log says: ids and URLs without their query, no payload and no secret.
 4. What cannot be exported is dropped (OTEL_BSP_MAX_QUEUE_SIZE, 2,048 spans). No event waits for it.
Exporting is the SDK's: in a thread of its own, by its own variables. It logs its failures, and edge/logs has those.
"""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib.metadata import entry_points
from typing import Any

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from hookd import __version__
from hookd.core import outcome as outcomes
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Submission
from hookd.core.outcome import Exchange, Outcome
from hookd.core.refusal import Refused
from hookd.core.urls import logged_url
from hookd.flow.intake import Admitted, Intake
from hookd.flow.ports import DeliveryRequest, Sender

CUT = "it was cut before an answer, by its deadline or by a stop"
# Of the environment's groups of plug-ins: those that OTEL_TRACES_EXPORTER names.
EXPORTERS = "opentelemetry_traces_exporter"

OpenSender = Callable[[EffectiveSettings], AbstractAsyncContextManager[Sender]]


class UnknownExporter(Exception):
    """The environment names an exporter that is not installed."""


def exporter(name: str) -> SpanExporter:
    """The one that is installed under this name, with the environment's settings. Raises UnknownExporter."""
    for found in entry_points(group=EXPORTERS, name=name):
        made: SpanExporter = found.load()()
        return made
    installed = ", ".join(sorted(found.name for found in entry_points(group=EXPORTERS)))
    raise UnknownExporter(f"no exporter of traces {name!r} is installed; there are {installed or 'none'}")


def provider(exporters: Sequence[SpanExporter]) -> TracerProvider:
    """Sampler, limits and resource are the environment's; the service is called hookd unless that names it."""
    resource = Resource.create({SERVICE_VERSION: __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "hookd"}))
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    for one in exporters:
        made.add_span_processor(BatchSpanProcessor(one))
    return made


class Tracing:
    """What makes spans in one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("hookd", __version__)

    def intake(self, *parts: Any, **named: Any) -> Intake:
        return TracedIntake(self._tracer, *parts, **named)

    def open_sender(self, open_sender: OpenSender) -> OpenSender:
        @asynccontextmanager
        async def opened(effective: EffectiveSettings) -> AsyncIterator[Sender]:
            async with open_sender(effective) as sender:
                yield TracedSender(self._tracer, sender)

        return opened

    def close(self, *, timeout_seconds: float) -> None:
        """Exports what is left, for so long at most: an exporter that hangs must not hold the exit."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        closing.start()
        closing.join(timeout_seconds)


class TracedIntake(Intake):
    def __init__(self, tracer: Tracer, *parts: Any, **named: Any) -> None:
        super().__init__(*parts, **named)
        self._tracer = tracer

    def admit(self, submission: Submission) -> Admitted:
        given = {"hookd.client_id": submission.client_id, "hookd.event_type": submission.type}
        with self._admission(submission.traceparent, given) as span:
            admitted = super().admit(_with(submission, span))
            span.set_attributes({"hookd.event_id": admitted.event.id, "hookd.is_new": admitted.is_new})
            return admitted

    def admit_whole(self, submissions: Sequence[Submission | Refused]) -> list[Admitted]:
        with self._admission(_parent_of(submissions), {"hookd.events": len(submissions)}) as span:
            return super().admit_whole([_with(one, span) for one in submissions])

    def admit_partial(self, submissions: Sequence[Submission | Refused]) -> list[Admitted | Refused]:
        with self._admission(_parent_of(submissions), {"hookd.events": len(submissions)}) as span:
            answers = super().admit_partial([_with(one, span) for one in submissions])
            span.set_attribute("hookd.events_refused", sum(isinstance(one, Refused) for one in answers))
            return answers

    @contextmanager
    def _admission(self, parent: str | None, attributes: Mapping[str, str | int]) -> Iterator[Span]:
        context = _context(parent)
        span = self._tracer.start_span("hookd.admission", context, SpanKind.SERVER, attributes)
        try:
            yield span
        except Refused as refused:
            span.set_attribute("error.type", refused.slug)
            span.set_status(Status(StatusCode.ERROR, refused.slug))
            raise
        finally:
            span.end()


class TracedSender:
    def __init__(self, tracer: Tracer, sender: Sender) -> None:
        self._tracer = tracer
        self._sender = sender

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        context, attributes = _context(request.traceparent), _attributes(request)
        span = self._tracer.start_span("hookd.attempt", context, SpanKind.CLIENT, attributes)
        outcome: Outcome | None = None
        try:
            outcome = await self._sender.send(_traced(request, span), exchange)
            return outcome
        finally:  # also when it is cut: then the head that was read, if any, is what it came to
            _tell(span, outcome or exchange.answer, exchange)
            span.end()


def _parent_of(submissions: Sequence[Submission | Refused]) -> str | None:
    """All of a request have the same."""
    return next((one.traceparent for one in submissions if isinstance(one, Submission)), None)


def _with(submission: Any, span: Span) -> Any:
    """The submission, of the span's trace; what was refused already stays as it is."""
    if isinstance(submission, Refused):
        return submission
    return msgspec.structs.replace(submission, traceparent=_traceparent(span))


def _traced(request: DeliveryRequest, span: Span) -> DeliveryRequest:
    if not request.trace_context:
        return request
    others = [field for field in request.headers if field[0] != "traceparent"]
    return msgspec.structs.replace(request, headers=[*others, ("traceparent", _traceparent(span))])


def _attributes(request: DeliveryRequest) -> dict[str, str | int]:
    named = dict(request.headers)
    return {
        "http.request.method": "POST",
        "url.full": logged_url(request.url),
        "hookd.client_id": request.client_id,
        "hookd.endpoint_id": request.endpoint_id,
        "hookd.event_id": named["webhook-id"],
        "hookd.event_type": named["hookd-event-type"],
        "hookd.attempt": int(named["hookd-attempt"]),
    }


def _tell(span: Span, outcome: Outcome | None, exchange: Exchange) -> None:
    """What the attempt came to, in words of ours: an endpoint's own are not repeated."""
    code = outcomes.status_code(outcome)
    if code is not None:
        span.set_attribute("http.response.status_code", code)
    span.set_attribute("hookd.request_sent", exchange.request_sent)
    if outcome is None:
        span.set_attribute("error.type", "cut")
        span.set_status(Status(StatusCode.ERROR, CUT))
    elif not outcomes.is_success(outcome):
        span.set_attribute("error.type", outcomes.name(outcome) if code is None else str(code))
        span.set_status(Status(StatusCode.ERROR, outcomes.error(outcome)))


def _context(traceparent: str | None) -> Context:
    """Of a traceparent that is valid; without one, that of no trace: what else the process traces is no parent."""
    if traceparent is None:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
