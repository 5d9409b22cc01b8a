"""Operational events over real sockets: signed and verified at a receiver, retried, and told after a crash."""

import signal
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from tests.acceptance.harness import HANG, NO_RETRY_SOON, Daemon, Received, Receiver, read_report, wait_until

SETTINGS = {"operations.client": "ops", "retry.schedule": ["100ms"] * 20, "drain.timeout": "1s"}


def failing_first(received: Received) -> int:
    return 500 if received.number == 1 else 200


def test_notices_arrive_signed_and_are_retried_like_any_event(tmp_path: Path) -> None:
    """What the feed lists is what a receiver verifies; each failed once and came again under its id."""
    with (
        Receiver(failing_first) as operators,
        Receiver(410) as gone,
        Daemon(tmp_path, settings=SETTINGS) as daemon,
        daemon.api as api,
    ):
        secret = api.put_client("ops", {"id": "default", "url": operators.url})["default"]
        api.put_client("acme", {"id": "default", "url": gone.url})
        assert api.post("acme", "e1").status == 202
        page = api.get("/v1/notices?wait_seconds=20")
        assert [one["type"] for one in page["notices"]] == ["hookd.endpoint.disabled"]
        assert api.ask("POST", "/v1/clients/acme/endpoints/default/resume").status == 200
        page = api.get("/v1/notices")
        assert [one["type"] for one in page["notices"]] == ["hookd.endpoint.disabled", "hookd.endpoint.recovered"]
        wait_until(lambda: len(operators.log) == 4, what="each notice came twice")
        for received in operators.log:
            Webhook(secret).verify(received.body, received.header)
        verified = {one.event_id: Webhook(secret).verify(one.body, one.header) for one in operators.log}
        assert verified == {one["id"]: one for one in page["notices"]}
        assert {one.header["hookd-event-type"] for one in operators.log} == {one["type"] for one in page["notices"]}
        wait_until(lambda: api.status()["operations"]["delivered"] == 2, what="both are delivered")
        assert api.status()["events"]["accepted"] == 1
        assert daemon.stop() == 0


def test_run_that_was_killed_is_told_of_by_the_next(tmp_path: Path) -> None:
    """How many deliveries it left, once the operators' client is registered."""
    with Receiver(HANG) as hangs, Receiver() as operators:
        with Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
            api.put_client("acme", {"id": "default", "url": hangs.url})
            for number in range(3):
                assert api.post("acme", f"e{number}").status == 202
            daemon.kill()
        with Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
            (told,) = api.get("/v1/notices")["notices"]
            assert (told["type"], told["state"], told["counts"]) == (
                "hookd.run.undelivered",
                "crash",
                {"undelivered": 3, "recovered": 0},
            )
            secret = api.put_client("ops", {"id": "default", "url": operators.url})["default"]
            wait_until(lambda: operators.log, what="it came")
            assert Webhook(secret).verify(operators.log[0].body, operators.log[0].header) == told


def test_undelivered_notices_are_no_loss_of_the_platforms(tmp_path: Path) -> None:
    """The exit code, the report's totals and its lines are of the platform's events; the notices are counted apart."""
    with (
        Receiver(HANG) as operators,
        Receiver(410) as gone,
        Daemon(tmp_path, settings={**SETTINGS, **NO_RETRY_SOON}) as daemon,
        daemon.api as api,
    ):
        api.put_client("ops", {"id": "default", "url": operators.url})
        api.put_client("acme", {"id": "default", "url": gone.url})
        assert api.post("acme", "e1").status == 202
        wait_until(lambda: operators.log, what="the notice is in flight")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(20) == 0
        summary, lines = read_report(daemon.report())
        assert summary["operations"] == counts(accepted=1, undelivered=1)
        assert summary["events"] == counts(accepted=1, exhausted=1)
        assert summary["balanced"] is True
        assert {line["client_id"] for line in lines} == {"acme"}
        assert "Nothing was left undelivered." in daemon.stderr


def counts(**given: int) -> dict[str, Any]:
    return {name: given.get(name, 0) for name in ("accepted", "recovered", "delivered", "exhausted", "undelivered")}
