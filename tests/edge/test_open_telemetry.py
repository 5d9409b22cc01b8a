"""Spans, against the SDK's exporter in memory: what they are called, whose children they are, and what they say."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from hookd.core.outcome import Unreachable
from hookd.core.refusal import UnknownClient
from hookd.process.tracing import exporter_names, tracing_from

from tests.flow.harness import URL, Flow, Hang, Lines, at, endpoint, now, submission

pytest.importorskip("opentelemetry.sdk", reason="hookd[otel] is not installed")

from hookd.edge.open_telemetry import TracedSender, Tracing, UnknownExporter, exporter, provider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
ERROR = "ERROR"


class Traced:
    """A flow whose spans are kept."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = provider([self.exporter])
        tracing = Tracing(self.provider)
        tracer = self.provider.get_tracer("hookd")
        self.flow = Flow(intake=tracing.intake, around_sender=lambda sender: TracedSender(tracer, sender))

    def spans(self, name: str) -> list[ReadableSpan]:
        """In the order in which they ended."""
        assert self.provider.force_flush()
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def parent_id(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def failure(span: ReadableSpan) -> tuple[str, str | None]:
    return span.status.status_code.name, span.status.description


async def start(traced: Traced, nursery: trio.Nursery, **fields: Any) -> None:
    await traced.flow.start(nursery)
    traced.flow.put("acme", endpoint("default", URL, **fields))


async def test_admission_is_the_requests_child_and_the_attempts_parent(autojump_clock, nursery, traced) -> None:
    """And an endpoint with trace_context is sent the attempt's own."""
    await start(traced, nursery, trace_context=True)
    traced.flow.sender.script(URL, 503, 200)
    traced.flow.intake.admit(submission(event_id="e1", traceparent=TRACEPARENT))
    await at(60)
    [admission] = traced.spans("hookd.admission")
    assert (trace_id(admission), parent_id(admission)) == (TRACE_ID, PARENT_ID)
    assert said(admission) == {
        "hookd.client_id": "acme",
        "hookd.event_type": "invoice.paid",
        "hookd.event_id": "e1",
        "hookd.is_new": True,
    }
    first, second = traced.spans("hookd.attempt")
    assert {trace_id(first), trace_id(second)} == {TRACE_ID}
    assert parent_id(first) == parent_id(second) == span_id(admission)
    sent = [dict(one.request.headers)["traceparent"] for one in traced.flow.sender.transcript]
    assert sent == [f"00-{TRACE_ID}-{span_id(span)}-01" for span in (first, second)]
    assert failure(first) == (ERROR, None)
    assert said(first) == {
        "http.request.method": "POST",
        "url.full": URL,
        "hookd.client_id": "acme",
        "hookd.endpoint_id": "default",
        "hookd.event_id": "e1",
        "hookd.event_type": "invoice.paid",
        "hookd.attempt": 1,
        "http.response.status_code": 503,
        "hookd.request_sent": True,
        "error.type": "503",
    }
    assert (said(second)["hookd.attempt"], said(second)["http.response.status_code"]) == (2, 200)
    assert failure(second) == ("UNSET", None)


async def test_endpoint_without_trace_context_is_sent_none(autojump_clock, nursery, traced) -> None:
    """Its attempts have spans all the same."""
    await start(traced, nursery)
    traced.flow.intake.admit(submission(traceparent=TRACEPARENT))
    await now()
    assert len(traced.spans("hookd.attempt")) == 1
    assert "traceparent" not in dict(traced.flow.sender.transcript[0].request.headers)


async def test_request_without_traceparent_begins_a_trace(autojump_clock, nursery, traced) -> None:
    """Each its own; and whoever wants it is sent the attempt's."""
    await start(traced, nursery, trace_context=True)
    for _ in range(2):
        traced.flow.intake.admit(submission())
    await now()
    admissions, attempts = traced.spans("hookd.admission"), traced.spans("hookd.attempt")
    assert [parent_id(span) for span in admissions] == [None, None]
    assert len({trace_id(span) for span in admissions}) == 2
    assert {parent_id(span) for span in attempts} == {span_id(span) for span in admissions}


async def test_trace_that_is_not_sampled_is_not_exported_and_goes_on(autojump_clock, nursery, traced) -> None:
    """The sampler follows the parent; the endpoint is told of the same trace, not sampled."""
    await start(traced, nursery, trace_context=True)
    traced.flow.intake.admit(submission(traceparent=TRACEPARENT[:-2] + "00"))
    await now()
    assert traced.spans("hookd.admission") + traced.spans("hookd.attempt") == []
    sent = dict(traced.flow.sender.transcript[0].request.headers)["traceparent"]
    assert (sent[:36], sent[-2:]) == (TRACEPARENT[:36], "00")


async def test_refusal_is_an_error_of_its_span(autojump_clock, nursery, traced) -> None:
    await start(traced, nursery)
    with pytest.raises(UnknownClient):
        traced.flow.intake.admit(submission("nobody"))
    [admission] = traced.spans("hookd.admission")
    assert failure(admission) == (ERROR, "unknown-client")
    assert said(admission)["error.type"] == "unknown-client"


async def test_batch_is_one_admission(autojump_clock, nursery, traced) -> None:
    """Whole, and in part: its events share the span."""
    await start(traced, nursery)
    traced.flow.intake.admit_whole([submission(traceparent=TRACEPARENT)] * 3)
    refused = UnknownClient("no client")
    answers = traced.flow.intake.admit_partial([submission(traceparent=TRACEPARENT), refused])
    assert answers[1] is refused
    await now()
    whole, part = traced.spans("hookd.admission")
    assert (said(whole), parent_id(whole)) == ({"hookd.events": 3}, PARENT_ID)
    assert (said(part), parent_id(part)) == ({"hookd.events": 2, "hookd.events_refused": 1}, PARENT_ID)
    parents = [parent_id(span) for span in traced.spans("hookd.attempt")]
    assert sorted(parents) == sorted([span_id(whole)] * 3 + [span_id(part)])


async def test_attempt_without_an_answer_says_why(autojump_clock, nursery, traced) -> None:
    """In our words; an attempt that is cut has none."""
    await start(traced, nursery, timeout_seconds=5.0, schedule_seconds=(1.0,))
    traced.flow.sender.script(URL, Unreachable("cannot connect: refused"), Hang())
    traced.flow.intake.admit(submission())
    await at(60)
    unreachable, cut = traced.spans("hookd.attempt")
    assert (failure(unreachable), said(unreachable)["error.type"]) == (
        (ERROR, "cannot connect: refused"),
        "unreachable",
    )
    assert said(cut)["error.type"] == "cut"
    assert failure(cut) == (ERROR, "it was cut before an answer, by its deadline or by a stop")


async def test_query_of_an_url_is_in_no_span(autojump_clock, nursery, traced) -> None:
    """It may be a credential."""
    await traced.flow.start(nursery)
    traced.flow.put("acme", endpoint("default", f"{URL}?token=secret"))
    traced.flow.intake.admit(submission())
    await now()
    [attempt] = traced.spans("hookd.attempt")
    assert "secret" not in str(attempt.to_json())


# What the environment asks for


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "hooks"}, []),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, []),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/t"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp_proto_http"]),
    ],
)
def test_environment_decides_who_exports(environ: dict[str, str], names: list[str]) -> None:
    assert exporter_names(environ) == names


async def test_exporter_that_is_not_installed_is_told_and_no_reason_to_stop() -> None:
    log = Lines()
    assert tracing_from({"OTEL_TRACES_EXPORTER": "nonesuch"}, log) is None
    [line] = log.of("traces.off")
    assert "no exporter of traces 'nonesuch' is installed" in line["reason"]
    with pytest.raises(UnknownExporter, match="there are"):
        exporter("nonesuch")


def test_nothing_is_imported_that_the_environment_does_not_ask_for() -> None:
    """In a process of its own: this one has it already."""
    program = (
        "import sys\n"
        "from hookd.process import main, tracing\n"
        "assert tracing.tracing_from({}, None) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"
