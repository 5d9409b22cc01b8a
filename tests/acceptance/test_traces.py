"""Traces end to end: from a producer's request to an endpoint, over real sockets, and over a kill."""

from pathlib import Path

from tests.acceptance.harness import Daemon, Received, Receiver, event_body, wait_until

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "user=alice"}
NAMES = ("traceparent", "tracestate", "baggage")


def trace_fields(received: Received) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in received.headers if name.lower() in NAMES]


def test_traceparent_reaches_who_wants_it_and_survives_a_kill(tmp_path: Path) -> None:
    """Each attempt has it, also those of the next run; tracestate and baggage go nowhere."""
    settings = {"recovery.enabled": True, "recorder.payloads": True, "retry.schedule": ["50ms", "50ms", "10s"]}
    up = False
    with Receiver(lambda _: 200 if up else 503) as wanting, Receiver() as plain:
        endpoints = (
            {"id": "wanting", "url": wanting.url, "trace_context": True, "schedule": ["50ms", "50ms", "1s"]},
            {"id": "plain", "url": plain.url},
        )
        with Daemon(tmp_path, settings=settings) as daemon:
            with daemon.api as api:
                api.put_client("acme", *endpoints)
                body = event_body("acme", "e1")
                assert api.ask("POST", "/v1/events", body, headers=TRACE).status == 202
                wait_until(lambda: len(wanting.log) >= 2 and plain.log, seconds=20, what="two attempts")
            daemon.kill()
        up = True
        with Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
            api.put_client("acme", *endpoints)
            wait_until(lambda: wanting.log[-1].status == 200, seconds=20, what="the recovered event to arrive")
        assert [trace_fields(received) for received in wanting.log] == [[("traceparent", TRACEPARENT)]] * len(
            wanting.log
        )
        assert [trace_fields(received) for received in plain.log] == [[]] * len(plain.log)
