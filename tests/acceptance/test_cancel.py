"""Cancel and an event's own expiry over real sockets: by the API, by `hookd cancel`, and across a kill."""

import json
import os
import pty
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import HANG, NO_RETRY_SOON, Api, Daemon, Receiver, read_report, wait_until
from tests.acceptance.test_commands import read_terminal, started
from tests.acceptance.test_operator_commands import ask, said

RECOVERING = {"recovery.enabled": True, "recorder.payloads": True, "drain.timeout": "100ms"}


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def delivery(api: Api, event_id: str) -> dict[str, Any]:
    [found] = api.get(f"/v1/clients/acme/events/{event_id}")["deliveries"]
    return dict(found)


def post_expiring(api: Api, event_id: str, expires_at: str) -> None:
    body = {"client_id": "acme", "type": "order.paid", "payload": {}, "id": event_id, "expires_at": expires_at}
    assert api.ask("POST", "/v1/events", body).status == 202


def test_cancel_ends_what_waits_and_lets_what_flies_run_out(tmp_path: Path) -> None:
    """A range of two hundred in one request; then nothing is posted any more, and the run ends clean."""
    with Receiver(HANG) as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url, "concurrency": 2})
        batch = [{"type": "order.paid", "payload": {}, "id": f"e{number}"} for number in range(200)]
        assert api.ask("POST", "/v1/clients/acme/events", batch).status == 202
        wait_until(lambda: receiver.hanging == 2, what="two in flight")
        answer = api.ask("POST", "/v1/clients/acme/cancel", {})
        assert (answer.status, answer.json) == (200, {"matched": 200, "cancelled": 198, "in_flight": 2})
        assert delivery(api, "e199")["reason"] == "cancelled"
        assert delivery(api, "e0")["ends_as"] == "cancelled"
        receiver.release(500)
        wait_until(lambda: api.deliveries()["exhausted"] == 200, what="both to run out")
        assert receiver.ids().total() == 2
        assert daemon.stop() == 0


@pytest.mark.parametrize("stop", ["kill", "term"])
def test_cancel_in_flight_is_not_attempted_after_a_restart(tmp_path: Path, stop: str) -> None:
    """Nor is what expired meanwhile. The report lists the one, and the next start ends both; the third is delivered."""
    with Receiver(HANG) as receiver, Daemon(tmp_path, settings=RECOVERING) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        api.post("acme", "cancelled")
        post_expiring(api, "expired", soon(1.5))
        wait_until(lambda: receiver.hanging == 2, what="both in flight")
        api.post("acme", "owed")
        assert api.ask("POST", "/v1/clients/acme/events/cancelled/cancel").status == 202
        if stop == "kill":
            daemon.kill()
        else:
            assert daemon.stop() == 3
            _, lines = read_report(daemon.report())
            assert [line.get("cancelled") for line in lines if line["event_id"] == "cancelled"] == [True]
    with Receiver() as receiver, Daemon(tmp_path, settings=RECOVERING) as daemon, daemon.api as api:
        assert delivery(api, "cancelled")["reason"] == "cancelled"
        wait_until(lambda: delivery(api, "expired")["reason"] == "expired", what="it to expire")
        api.put_client("acme", {"url": receiver.url})
        wait_until(lambda: delivery(api, "owed")["status"] == "delivered", what="what was owed")
        assert receiver.ids() == {"owed": 1}
        assert daemon.stop() == 0


def test_event_is_not_attempted_past_its_expiry(tmp_path: Path) -> None:
    """It waits for a retry that is due later, and is given up before that; one that came late is never attempted."""
    with Receiver(500) as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        post_expiring(api, "e1", soon(1))
        post_expiring(api, "late", soon(-1))
        assert delivery(api, "late")["reason"] == "expired"
        wait_until(lambda: delivery(api, "e1")["reason"] == "expired", what="it to expire")
        assert receiver.ids() == {"e1": 1}
        explained = said(ask(daemon, tmp_path, "explain", "acme/e1"))
        assert "It cannot be tried again: its event expired" in explained


def test_command_cancels_one_event_or_a_range(tmp_path: Path) -> None:
    """It counts first where it is asked to; off a terminal a client wants `--yes`; who is not there ends with 2."""
    with Receiver(500) as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        for number in range(4):
            api.post("acme", f"e{number}", event_type="order.paid" if number else "order.lost")
        wait_until(lambda: api.deliveries()["failed"] == 4, what="four to fail")
        assert said(ask(daemon, tmp_path, "cancel", "acme", "e1", "--dry-run")).startswith(
            "1 match, 0 of them in flight"
        )
        refused = ask(daemon, tmp_path, "cancel", "acme")
        assert "--yes" in refused.stderr
        said(refused, 2)
        said(ask(daemon, tmp_path, "cancel", "acme/e1", "--since", "1h", "--yes"), 2)
        said(ask(daemon, tmp_path, "cancel", "acme/", "--yes"), 2)
        said(ask(daemon, tmp_path, "cancel", "acme/nobody", "--yes"), 2)
        said(ask(daemon, tmp_path, "cancel", "nobody", "--yes"), 2)
        said(ask(daemon, tmp_path, "cancel", "acme", "--endpoint", "none", "--dry-run"), 2)
        assert api.deliveries()["failed"] == 4
        assert said(ask(daemon, tmp_path, "cancel", "acme/e1")).startswith("e1: exhausted\n")
        assert said(ask(daemon, tmp_path, "cancel", "acme", "e1", "--yes")).startswith("e1: nothing to do\n")
        explained = said(ask(daemon, tmp_path, "explain", "acme/e1"))
        assert "Given up (cancelled) after 1 attempt: an operator cancelled it." in explained
        counted = said(ask(daemon, tmp_path, "cancel", "acme", "--type", "order.lost", "--dry-run", "--json"))
        assert json.loads(counted) == {"matched": 1, "cancelled": 0, "in_flight": 0}
        done = said(ask(daemon, tmp_path, "cancel", "acme", "--since", "1h", "--endpoint", "default", "--yes"))
        assert done == "3 match; 3 cancelled\n"
        assert api.deliveries()["exhausted"] == 4


@pytest.mark.parametrize(("said_to_it", "exhausted"), [("y", 1), ("n", 0)])
def test_command_asks_on_a_terminal(tmp_path: Path, said_to_it: str, exhausted: int) -> None:
    """With the number of what it would end; a no ends nothing."""
    with Receiver(500) as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        api.post("acme", "e1")
        wait_until(lambda: api.deliveries()["failed"] == 1, what="it to fail")
        main, side = pty.openpty()
        os.write(main, f"{said_to_it}\n".encode())
        with started("cancel", "acme", "--url", daemon.url, stdin=side, stdout=side, stderr=side) as asking:
            os.close(side)  # the command's own is the last: its end ends the reading
            shown = b"".join(iter(lambda: read_terminal(main), b"")).decode()
            assert asking.wait(10) == 0
        os.close(main)
        assert "acme: 1 match, 0 of them in flight. Cancel them? [y/N]" in shown
        assert api.deliveries()["exhausted"] == exhausted
