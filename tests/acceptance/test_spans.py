"""Spans end to end: hookd exports them over OTLP to a collector that the environment names, and waits for none."""

import gzip
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Daemon, Receiver, event_body, wait_until

OTLP = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
ExportTraceServiceRequest = pytest.importorskip(OTLP, reason="hookd[otel] is not installed").ExportTraceServiceRequest

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"traceparent": TRACEPARENT}


class Collector(ThreadingHTTPServer):
    """What an OTLP exporter sends to, over http/protobuf; keeps its bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def __enter__(self) -> "Collector":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def spans(self) -> dict[str, Any]:
        """By name."""
        found = {}
        for body in list(self.bodies):
            request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            for resource in request.resource_spans:
                names = {one.key: one.value.string_value for one in resource.resource.attributes}
                assert names["service.name"] == "hookd"
                found |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
        return found


@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped"])
def test_spans_reach_a_collector_that_the_environment_names(tmp_path: Path, is_stopped: bool) -> None:
    """Of the trace that the producer began; the endpoint is sent the attempt's. A stop exports what is left."""
    with Collector() as collector, Receiver() as receiver:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "600000" if is_stopped else "100",
        }
        with Daemon(tmp_path, env=env) as daemon:
            with daemon.api as api:
                api.put_client("acme", {"id": "default", "url": receiver.url, "trace_context": True})
                assert api.ask("POST", "/v1/events", event_body("acme", "e1"), headers=TRACE).status == 202
                wait_until(lambda: bool(receiver.log), seconds=20, what="the event to arrive")
                if not is_stopped:
                    wait_until(lambda: len(collector.spans()) == 2, seconds=20, what="both spans")
            assert daemon.stop() == 0
        spans = collector.spans()
    admission, attempt = spans["hookd.admission"], spans["hookd.attempt"]
    assert f"00-{admission.trace_id.hex()}-{admission.parent_span_id.hex()}-01" == TRACEPARENT
    assert (attempt.trace_id, attempt.parent_span_id) == (admission.trace_id, admission.span_id)
    own = f"00-{attempt.trace_id.hex()}-{attempt.span_id.hex()}-01"
    assert receiver.log[0].header["traceparent"] == own


def test_collector_that_hangs_holds_up_neither_events_nor_the_exit(tmp_path: Path) -> None:
    """It takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent, Receiver() as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with Daemon(tmp_path, env=env | {"OTEL_BSP_SCHEDULE_DELAY": "100"}) as daemon:
            with daemon.api as api:
                api.put_client("acme", {"url": receiver.url})
                assert api.ask("POST", "/v1/events", event_body("acme", "e1")).status == 202
                wait_until(lambda: bool(receiver.log), seconds=20, what="the event to arrive")
            assert daemon.stop(seconds=10) == 0
