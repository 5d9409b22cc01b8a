"""`[log]` end to end: what stderr holds of a run that was told to say little."""

import json
from pathlib import Path

from tests.acceptance.harness import NO_RETRY_SOON, Daemon, Receiver, event_body, wait_until


def test_log_says_what_was_chosen_and_its_report_all_the_same(tmp_path: Path) -> None:
    """No line for what was accepted or arrived; the failed attempt, the states and the report stay."""
    settings = {**NO_RETRY_SOON, "log.events": False, "log.attempts": "failed", "drain.timeout": "100ms"}
    with Receiver() as good, Receiver(lambda _: 500) as bad, Daemon(tmp_path, settings=settings) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"id": "good", "url": good.url}, {"id": "bad", "url": bad.url})
            assert api.ask("POST", "/v1/events", event_body("acme", "e1")).status == 202
            wait_until(
                lambda: api.ask("GET", "/v1/status").json["deliveries"]["failed"] == 1, what="the failed attempt"
            )
            wait_until(lambda: good.log, what="the other attempt")
        assert daemon.stop() == 3
        lines = [json.loads(line) for line in daemon.stderr.splitlines()]
    events = [line["event"] for line in lines]
    assert "event.accepted" not in events
    assert [line["endpoint_id"] for line in lines if line["event"] == "delivery.attempted"] == ["bad"]
    assert {"daemon.started", "client.registered", "report", "report.text", "report.written"} <= set(events)
