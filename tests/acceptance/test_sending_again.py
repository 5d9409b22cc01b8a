"""Redeliver and the wider replay as a platform uses them: over real sockets, by the commands, and across a kill."""

import json
import os
import pty
import shlex
from pathlib import Path
from typing import Any

from tests.acceptance.harness import HANG, NO_RETRY_SOON, Daemon, Receiver, always, environment, read_report, wait_until
from tests.acceptance.test_commands import READER, read_terminal, started, token_table
from tests.acceptance.test_operator_commands import ask, said

RECOVERING = NO_RETRY_SOON | {"recovery.enabled": True, "recorder.payloads": True}
REDELIVER = "/v1/clients/acme/events/e1/redeliver"


def test_redelivered_event_arrives_under_the_same_id_and_signed_anew(tmp_path: Path) -> None:
    """The same bytes, attempts counted on; an endpoint that came later gets its first."""
    with Receiver() as receiver, Receiver() as late, Daemon(tmp_path) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        api.post("acme", "e1", payload=b'{"amount":  1}')
        wait_until(lambda: receiver.ids()["e1"] == 1, what="the first delivery")
        wait_until(lambda: api.deliveries()["delivered"] == 1, what="it to settle")
        endpoints = [{"id": "default", "url": receiver.url}, {"id": "late", "url": late.url}]
        assert api.ask("PUT", "/v1/clients/acme", {"endpoints": endpoints}).status == 200
        assert api.ask("POST", REDELIVER).status == 202
        wait_until(lambda: api.deliveries()["delivered"] == 2, what="both deliveries")
        assert (receiver.ids()["e1"], late.ids()["e1"]) == (2, 1)
        assert {one.body for one in (*receiver.log, *late.log)} == {b'{"amount":  1}'}
        assert [one.header["hookd-attempt"] for one in receiver.log] == ["1", "2"]
        assert receiver.log[1].header["webhook-signature"].startswith("v1,")
        feed = api.get("/v1/settlements")["settlements"]
        assert [(row["event_id"], row["status"]) for row in feed] == [("e1", "delivered")] * 2
        status = api.status()
        assert (status["events"]["accepted"], status["events"]["delivered"]) == (1, 1)
        assert (status["deliveries"]["opened"], status["memory"]["unsettled_events"]) == (2, 0)


def test_event_is_redelivered_by_its_name(tmp_path: Path) -> None:
    """A table of its deliveries, JSON on demand; what is not there, or cannot be meant, ends with 2."""
    with Receiver() as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            api.post("acme", "e1")
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="it to settle")
            rows = said(ask(daemon, tmp_path, "redeliver", "acme", "e1")).splitlines()
            assert rows[0] == "e1: pending"
            assert rows[1].split() == ["ENDPOINT", "STATUS", "ATTEMPTS", "URL"]
            assert rows[2].split() == ["default", "pending", "1", "of", "4", receiver.url]
            wait_until(lambda: receiver.ids()["e1"] == 2, what="the second")
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="it to settle again")
            shown = json.loads(said(ask(daemon, tmp_path, "redeliver", "acme/e1", "--endpoint", "default", "--json")))
            assert (shown["status"], shown["deliveries"][0]["attempt_count"]) == ("pending", 2)
            wait_until(lambda: receiver.ids()["e1"] == 3, what="the third")
            receiver.behaviour = always(HANG)
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="it to settle once more")
            said(ask(daemon, tmp_path, "redeliver", "acme/e1"))
            wait_until(lambda: api.deliveries()["in_flight"] == 1, what="it to be in flight")
            owed = ask(daemon, tmp_path, "redeliver", "acme", "e1")
            assert "e1: nothing to do" in said(owed)
            retry = f"hookd retry --url {daemon.url} acme e1"
            assert owed.stderr == f"hookd: it is still owed; for an attempt now: {retry}\n"
            explained = said(ask(daemon, tmp_path, "explain", "acme/e1"))
            assert "It was delivered before, and is sent once more." in explained
        for arguments, words in (
            (("acme", "nothing"), "unknown-event"),
            (("nobody", "e1"), "unknown-client"),
            (("acme/e1", "--endpoint", "nowhere"), "not-found"),
            (("acme/e1", "--endpoint", "a b"), "invalid-query"),
            (("e1",), "CLIENT EVENT"),
            (("acme", "e1", "e2"), "CLIENT EVENT"),
            ((), "Missing argument"),
        ):
            refused = ask(daemon, tmp_path, "redeliver", *arguments)
            said(refused, 2)
            assert words in refused.stderr, (arguments, refused.stderr)
        receiver.release()


def test_rows_of_an_event_are_cut_on_a_terminal(tmp_path: Path) -> None:
    """Whole in a pipe."""
    with Receiver() as receiver, Daemon(tmp_path) as daemon, daemon.api as api:
        url = receiver.url + "x" * 100
        api.put_client("acme", {"url": url})
        api.post("acme", "e1")
        wait_until(lambda: api.deliveries()["delivered"] == 1, what="it to settle")
        assert said(ask(daemon, tmp_path, "retry", "acme", "e1")).splitlines()[2].endswith(url)
        main, side = pty.openpty()
        environ = environment(COLUMNS="80")
        with started("redeliver", "acme", "e1", "--url", daemon.url, stdout=side, env=environ) as command:
            os.close(side)
            rows = b"".join(iter(lambda: read_terminal(main), b"")).decode().splitlines()
            assert command.wait(10) == 0
        os.close(main)
        assert len(rows[2]) == 80
        assert rows[2].endswith("…")


def test_replay_sends_delivered_events_again_and_goes_on_with_what_is_left(tmp_path: Path) -> None:
    """As far as there is room, exit 3; the command that it names sends the rest, and no event a third time."""
    with (
        Receiver() as receiver,
        Daemon(tmp_path, settings={"intake.client_events_max": 3}) as daemon,
        daemon.api as api,
    ):
        api.put_client("acme", {"url": receiver.url})
        for number in range(5):
            api.post("acme", f"e{number}", event_type="order.paid" if number else "user.created")
            wait_until(lambda number=number: api.deliveries()["delivered"] == number + 1, what="it to settle")
        only = ("--status", "delivered", "--type", "order.*")
        assert said(ask(daemon, tmp_path, "replay", "acme", *only, "--dry-run")) == "4 match; nothing was reopened\n"
        api.ask("POST", "/v1/clients/acme/endpoints/default/pause")
        done = ask(daemon, tmp_path, "replay", "acme", *only, "--since", "1h")
        assert said(done, 3) == "4 match; 3 reopened\n"
        assert "1 had no room (client-full)" in done.stderr
        command = shlex.split(done.stderr.splitlines()[-1].removeprefix("hookd:"))
        assert command[:3] == ["hookd", "replay", "acme"]
        api.ask("POST", "/v1/clients/acme/endpoints/default/resume")
        wait_until(lambda: sum(receiver.ids().values()) == 8, what="those three")
        wait_until(lambda: not api.status()["memory"]["unsettled_events"], what="all to settle")
        assert said(ask(daemon, tmp_path, *command[1:])) == "1 matches; 1 reopened\n"
        wait_until(lambda: sum(receiver.ids().values()) == 9, what="the last")
        assert receiver.ids() == {"e0": 1, "e1": 2, "e2": 2, "e3": 2, "e4": 2}


def test_replay_makes_due_what_waits_after_an_outage(tmp_path: Path) -> None:
    """Of one endpoint alone; a replay says in JSON what it did."""
    with (
        Receiver(404) as receiver,
        Receiver(404) as other,
        Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon,
        daemon.api as api,
    ):
        api.put_client("acme", {"id": "a", "url": receiver.url}, {"id": "b", "url": other.url})
        for number in range(3):
            api.post("acme", f"e{number}")
        wait_until(lambda: api.deliveries()["failed"] == 6, what="all to fail")
        receiver.behaviour = other.behaviour = always(200)
        arguments = ("replay", "acme", "--status", "failed", "--endpoint", "a", "--json")
        done = json.loads(said(ask(daemon, tmp_path, *arguments)))
        assert (done["matched"], done["reopened"], done["left"]) == (3, 3, 0)
        wait_until(lambda: api.deliveries()["delivered"] == 3, what="those of one endpoint")
        assert api.deliveries()["failed"] == 3
        assert "nowhere" in ask(daemon, tmp_path, "replay", "acme", "--endpoint", "nowhere").stderr


def test_forgotten_payload_ends_the_command_with_2(tmp_path: Path) -> None:
    """And a replay says how many it could not send."""
    with Receiver() as receiver, Daemon(tmp_path, settings={"retention.delivered_bytes_max": "1B"}) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            api.post("acme", "e1")
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="it to settle")
        refused = ask(daemon, tmp_path, "redeliver", "acme", "e1")
        said(refused, 2)
        assert "no-payload" in refused.stderr
        done = ask(daemon, tmp_path, "replay", "acme", "--status", "delivered")
        assert said(done) == "0 match; 0 reopened\n"
        assert "1 were delivered then and cannot be sent again" in done.stderr


def test_reader_may_not_redeliver(tmp_path: Path) -> None:
    (tmp_path / "reader").write_text(READER)
    (tmp_path / "reader").chmod(0o600)
    config = tmp_path / "hookd.toml"
    config.write_text(token_table("reader", "read"))
    with Daemon(tmp_path, "--config", str(config)) as daemon:
        refused = ask(daemon, tmp_path, "redeliver", "acme", "e1", "--token-file", "reader")
        said(refused, 77)
        assert "forbidden" in refused.stderr


def redelivered_and_hanging(api: Any, receiver: Receiver) -> None:
    api.put_client("acme", {"url": receiver.url})
    for event_id in ("e0", "e1"):
        api.post("acme", event_id)
    wait_until(lambda: api.deliveries()["delivered"] == 2, what="both to settle")
    receiver.behaviour = always(HANG)
    assert api.ask("POST", REDELIVER).status == 202
    wait_until(lambda: receiver.hanging == 1, what="it to be in flight")


def test_redelivered_event_that_is_killed_is_taken_back(tmp_path: Path) -> None:
    """It counts as unsettled from the moment that it was asked for; what had settled does not come back."""
    with Receiver() as receiver:
        with Daemon(tmp_path, settings=RECOVERING) as daemon, daemon.api as api:
            redelivered_and_hanging(api, receiver)
            daemon.kill()
        receiver.release()
        receiver.behaviour = always(200)
        with Daemon(tmp_path, settings=RECOVERING) as daemon, daemon.api as api:
            [report] = tmp_path.glob("reports/crash-*.jsonl")
            summary, lines = read_report(report)
            assert [(line["event_id"], line["class"], line["attempt_count"]) for line in lines] == [
                ("e1", "outcome_unknown", 2)
            ]
            assert summary["balanced"]
            assert summary["events"] == {
                "accepted": 2,
                "recovered": 0,
                "delivered": 1,
                "exhausted": 0,
                "undelivered": 1,
            }
            assert summary["deliveries"] == {"opened": 2, "delivered": 1, "exhausted": 0, "undelivered": 1}
            api.put_client("acme", {"url": receiver.url})
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="what was taken back")
            assert receiver.ids() == {"e0": 1, "e1": 3}
            [attempt] = api.get("/v1/events/e1")["deliveries"][0]["attempts"]
            assert attempt["number"] == 3


def test_redelivered_event_stands_in_the_report_of_a_stop(tmp_path: Path) -> None:
    """And a drain refuses another."""
    settings = NO_RETRY_SOON | {"drain.timeout": "500ms"}
    with Receiver() as receiver:
        with Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
            redelivered_and_hanging(api, receiver)
            assert daemon.stop() == 3
            summary, lines = read_report(daemon.report())
        assert [(line["event_id"], line["class"]) for line in lines] == [("e1", "outcome_unknown")]
        assert summary["balanced"]
        assert summary["deliveries"] == {"opened": 2, "delivered": 1, "exhausted": 0, "undelivered": 1}
        receiver.release()
