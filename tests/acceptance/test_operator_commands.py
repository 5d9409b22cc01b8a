"""`hookd events`, `retry`, `replay`, `pause`, `resume` and `test`, as processes against a real daemon."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.harness import NO_RETRY_SOON, Api, Daemon, Receiver, environment, hookd, wait_until
from tests.acceptance.test_commands import READER, read_terminal, started, token_table

ROOT = "root-token-0123456789"


def ask(daemon: Daemon, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return hookd(*arguments, "--url", daemon.url, cwd=cwd)


def said(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_events_are_listed_and_filtered(tmp_path: Path) -> None:
    """A table, newest first, with what was given up and why; JSON is a line each; the limit says that there is more."""
    answers = {"good": 200, "bad": 400}
    with Receiver(lambda received: answers[received.event_id.split("-")[0]]) as receiver, Daemon(tmp_path) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url, "give_up_on": [400]})
            for number in range(3):
                api.post("acme", f"good-{number}")
            api.post("acme", "bad-0", event_type="order.lost")
            wait_until(lambda: not api.status()["memory"]["unsettled_events"], what="all to settle")
        rows = said(ask(daemon, tmp_path, "events", "acme")).splitlines()
        assert rows[0].split() == ["ACCEPTED", "STATUS", "EVENT", "CLIENT", "TYPE"]
        assert rows[1].split()[1:] == ["exhausted", "(refused)", "bad-0", "acme", "order.lost"]
        columns = [(row.index(row.split()[-3]), row.index("acme"), row.index("order.")) for row in rows[1:]]
        assert set(columns) == {tuple(rows[0].index(head) for head in ("EVENT", "CLIENT", "TYPE"))}
        assert [row.split()[2] for row in rows[2:]] == ["good-2", "good-1", "good-0"]
        lost = said(ask(daemon, tmp_path, "events", "--reason", "refused", "--since", "1h", "--json")).splitlines()
        assert [json.loads(row)["id"] for row in lost] == ["bad-0"]
        assert (
            len(said(ask(daemon, tmp_path, "events", "--status", "delivered", "--type", "order.paid")).splitlines())
            == 4
        )
        few = ask(daemon, tmp_path, "events", "--limit", "2")
        assert len(said(few).splitlines()) == 3
        assert "there are more than 2" in few.stderr
        assert said(ask(daemon, tmp_path, "events", "--until", "1h")).splitlines()[1:] == []
        said(ask(daemon, tmp_path, "events", "--since", "yesterday"), 2)
        said(ask(daemon, tmp_path, "events", "no blank"), 2)
        said(ask(daemon, tmp_path, "events", "nobody", "--json"), 2)
        said(ask(daemon, tmp_path, "events", "acme", "--endpoint", "none"), 2)
        said(ask(daemon, tmp_path, "replay", "acme", "--endpoint", "none", "--dry-run"), 2)


def test_endpoint_is_paused_tested_and_resumed(tmp_path: Path) -> None:
    """And what waited goes out; a test says what was answered; who is not there ends with 2. An endpoint may be named
    as `hookd status` names it."""
    with Receiver() as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            assert said(ask(daemon, tmp_path, "pause", "acme")) == "acme/default: paused by operator; 0 unsettled\n"
            api.post("acme", "e1")
            assert "answered 200" in said(ask(daemon, tmp_path, "test", "acme"))
            assert [received.event_id.startswith("test_") for received in receiver.log] == [True]
            assert said(ask(daemon, tmp_path, "resume", "acme")) == "acme/default: ok; 1 unsettled\n"
            wait_until(lambda: receiver.ids()["e1"] == 1, what="what waited")
        receiver.behaviour = lambda _: 500
        assert "answered 500" in said(ask(daemon, tmp_path, "test", "acme"), 3)
        assert json.loads(said(ask(daemon, tmp_path, "test", "acme", "--json"), 3))["status_code"] == 500
        assert said(ask(daemon, tmp_path, "pause", "acme/default")) == "acme/default: paused by operator; 0 unsettled\n"
        assert said(ask(daemon, tmp_path, "resume", "acme/default")) == "acme/default: ok; 0 unsettled\n"
        assert "acme/default: answered 500" in said(ask(daemon, tmp_path, "test", "acme/default"), 3)
        for command in ("pause", "resume", "test"):
            assert "CLIENT/ENDPOINT" in _refused(ask(daemon, tmp_path, command, "acme/"))
            assert "unknown-client" in _refused(ask(daemon, tmp_path, command, "nobody"))
            assert "not-found" in _refused(ask(daemon, tmp_path, command, "acme", "nothing"))
            assert "404" in _refused(ask(daemon, tmp_path, command, ".."))


def test_events_are_retried_and_replayed(tmp_path: Path) -> None:
    """One by its name; all that were given up, first counted, then reopened."""
    with Receiver(400) as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url, "give_up_on": ["4xx"]})
            for number in range(3):
                api.post("acme", f"e{number}")
            wait_until(lambda: api.deliveries()["exhausted"] == 3, what="all to be given up")
            receiver.behaviour = lambda _: 200
            assert "e0: pending" in said(ask(daemon, tmp_path, "retry", "acme/e0"))
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="the one that was retried")
            delivered = ask(daemon, tmp_path, "retry", "acme/e0")
            assert "e0: nothing to do" in said(delivered)
            assert f"hookd redeliver --url {daemon.url} acme e0" in delivered.stderr
            assert said(ask(daemon, tmp_path, "replay", "acme", "--dry-run")) == "2 match; nothing was reopened\n"
            none = ask(daemon, tmp_path, "replay", "acme", "--until", "2020-01-01T00:00:00Z")
            assert said(none).startswith("0 match")
            assert "made due now by --status failed" in none.stderr
            done = json.loads(said(ask(daemon, tmp_path, "replay", "acme", "--json")))
            assert (done["matched"], done["reopened"], done["left"]) == (2, 2, 0)
            wait_until(lambda: api.deliveries()["delivered"] == 3, what="those that were replayed")
        assert "unknown-event" in _refused(ask(daemon, tmp_path, "retry", "acme/nothing"))
        alone = _refused(ask(daemon, tmp_path, "retry", "e0"))
        assert "CLIENT/EVENT; all that waits of a client after a failure: hookd replay CLIENT --status" in alone
        assert "unknown-client" in _refused(ask(daemon, tmp_path, "replay", "nobody"))
        assert "--since is a length of time" in _refused(ask(daemon, tmp_path, "replay", "acme", "--since", "soon"))


def test_replay_without_room_for_all_is_still_owed(tmp_path: Path) -> None:
    """Exit 3, and what to do."""
    settings = NO_RETRY_SOON | {"intake.client_events_max": 2}
    with Receiver(400) as receiver, Daemon(tmp_path, settings=settings) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url, "give_up_on": ["4xx"]})
            for number in range(4):
                api.post("acme", f"e{number}")
                wait_until(lambda: not api.status()["memory"]["unsettled_events"], what="it to be given up")
            api.ask("POST", "/v1/clients/acme/endpoints/default/pause")
        done = ask(daemon, tmp_path, "replay", "acme")
        assert said(done, 3) == "4 match; 2 reopened\n"
        assert "2 had no room" in done.stderr


@pytest.mark.parametrize("command", [["pause", "acme"], ["retry", "acme/e1"], ["replay", "acme"], ["test", "acme"]])
def test_token_without_the_scope_is_77(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "reader").write_text(READER)
    (tmp_path / "reader").chmod(0o600)
    config = tmp_path / "hookd.toml"
    config.write_text(token_table("reader", "read"))
    with Daemon(tmp_path, "--config", str(config)) as daemon:
        assert "forbidden" in _refused(ask(daemon, tmp_path, *command, "--token-file", "reader"), 77)


def _refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    said(done, code)
    return done.stderr


def test_rows_are_cut_on_a_terminal_and_whole_in_a_pipe(tmp_path: Path) -> None:
    """Whatever `$COLUMNS` says; what a row is cut by is its type, not the reason."""
    event_type = "order.lost." + "x" * 60
    with Receiver(lambda _: 400) as receiver, Daemon(tmp_path) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url, "give_up_on": [400]})
            api.post("acme", "bad-0", event_type=event_type)
            wait_until(lambda: not api.status()["memory"]["unsettled_events"], what="the event to settle")
        environ = environment(COLUMNS="80")
        piped = hookd("events", "--url", daemon.url, cwd=tmp_path, env=environ)
        assert said(piped).splitlines()[1].endswith(f"acme    {event_type}")
        main, side = pty.openpty()
        with started("events", "--url", daemon.url, stdout=side, env=environ) as listing:
            os.close(side)  # the command's own is the last: its end ends the reading
            shown = b"".join(iter(lambda: read_terminal(main), b"")).decode().splitlines()[1]
            assert listing.wait(10) == 0
        os.close(main)
        assert len(shown) == 80
        assert "exhausted (refused)" in shown
        assert shown.endswith("…")


def test_token_that_is_held_to_a_client_does_for_it_all_that_its_scope_allows(tmp_path: Path) -> None:
    """No command about that client needs what speaks of the whole daemon; one about another, or about all, is 77."""
    config = tmp_path / "hookd.toml"
    config.write_text(token_table("reader") + 'clients = ["acme"]\n' + token_table("root"))
    for name, token in (("reader", READER), ("root", ROOT)):
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    headers = {"authorization": f"Bearer {ROOT}"}

    def register(api: Api) -> None:
        for client_id in ("acme", "globex"):
            assert api.ask("PUT", f"/v1/clients/{client_id}", {"url": receiver.url}, headers).status == 201

    def asked(*command: str) -> subprocess.CompletedProcess[str]:
        return ask(daemon, tmp_path, *command, "--token-file", "reader")

    with Receiver(500) as receiver:
        with Daemon(tmp_path, "--config", str(config), settings=NO_RETRY_SOON) as daemon:
            with daemon.api as api:
                register(api)
                for client_id in ("acme", "globex"):
                    event = {"type": "order.paid", "payload": 1, "id": f"of-{client_id}"}
                    assert api.ask("POST", f"/v1/clients/{client_id}/events", event, headers).status == 202
            wait_until(lambda: "1 matches" in asked("replay", "acme", "--status", "failed", "--dry-run").stdout)
            for name in ("acme", "of-acme", "acme/of-acme", "acme/default"):
                assert "acme" in said(asked("explain", name)), name
            for since in ("1h", "2026-01-01T00:00:00Z"):
                assert "of-acme" in said(asked("events", "acme", "--since", since))
                assert "1 matches" in said(asked("replay", "acme", "--status", "failed", "--dry-run", "--since", since))
                assert "1 match" in said(asked("cancel", "acme", "--dry-run", "--since", since))
            for other in (["explain", "globex"], ["explain", "of-globex"], ["events", "globex", "--since", "1h"]):
                assert "forbidden" in _refused(asked(*other), 77)
            assert "forbidden" in _refused(asked("status"), 77)
            assert daemon.stop() == 3
        (report,) = map(str, (tmp_path / "reports").glob("*.jsonl"))
        with Daemon(tmp_path, "--config", str(config), settings=NO_RETRY_SOON) as daemon:
            with daemon.api as api:
                register(api)
            assert "admitted: 1" in said(asked("resend", report, "--client", "acme"))
            assert "forbidden" in _refused(asked("resend", report), 77)
