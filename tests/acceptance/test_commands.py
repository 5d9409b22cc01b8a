"""Tokens, and the commands that read a running daemon, as real processes."""

import errno
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    ROOT,
    Daemon,
    Receiver,
    environment,
    hookd,
    hookd_each,
    refusing_url,
    wait_until,
)

OLD, NEW, READER = "old-token-0123456789", "new-token-0123456789", "reader-token-0123456789"

# It redraws each second; the rest is for a machine that has other things to do.
REDRAW_SECONDS_MAX = 30.0


def token_table(name: str, scope: str = "admin") -> str:
    return f'[[http.tokens]]\nname = "{name}"\nscope = "{scope}"\ntoken_file = "{name}"\n'


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for name, token in (("old", OLD), ("new", NEW), ("reader", READER)):
        (tmp_path / name).write_text(f"{token}\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def status_with(daemon: Daemon, token: str | None) -> int:
    with daemon.api as api:
        return api.ask("GET", "/v1/status", headers={"authorization": f"Bearer {token}"} if token else {}).status


def test_tokens_rotate_by_sighup(folder: Path) -> None:
    """Old, then both, then new alone, on one process; a file without any is refused as a whole on an open bind."""
    config = folder / "hookd.toml"
    config.write_text(token_table("old"))
    with Daemon(folder, "--config", str(config)) as daemon:

        def in_force() -> tuple[int, ...]:
            return tuple(status_with(daemon, token) for token in (None, OLD, NEW))

        assert in_force() == (401, 200, 401)
        config.write_text(token_table("old") + token_table("new"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: in_force() == (401, 200, 200), what="both")
        config.write_text(token_table("new"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: in_force() == (401, 401, 200), what="the new one alone")
        config.write_text("[http]\ntokens = 5\n")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "config.refused" in daemon.stderr, what="the mistake in the log")
        assert in_force() == (401, 401, 200)
        assert '"restart_needed_for":[]' in daemon.stderr
        assert '"event":"request.refused"' in daemon.stderr
        assert not [token for token in (OLD, NEW) if token in daemon.stderr]


def test_open_bind_takes_tokens_and_never_loses_the_last(folder: Path) -> None:
    """Refused without; with one it starts. A reload that would leave none is refused, even if it binds elsewhere."""
    config = folder / "hookd.toml"
    config.write_text("")
    bind = "0.0.0.0:0"
    refused = hookd("run", "--config", str(config), "--bind", bind, cwd=folder)
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "no [[http.tokens]] are configured" in refused.stderr
    config.write_text('[http]\nbind = ["0.0.0.0:0"]\n' + token_table("old"))
    checked = hookd("check", str(config))
    assert checked.returncode == 0
    assert "access: tokens old (admin)" in checked.stdout
    assert "0.0.0.0:0 is plain http: tokens and payloads cross the network as clear text" in checked.stdout
    command = [sys.executable, "-m", "hookd", "run", "--config", str(config), "--reports", str(folder / "reports")]
    log = (folder / "log").open("w+b")
    with log, subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=log) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"listening on http://0.0.0.0:")
            config.write_text('[http]\nbind = ["127.0.0.1:0"]\n')
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: "config.refused" in (folder / "log").read_text(), what="the refusal")
            assert "http.tokens: none are left, and other machines can reach" in (folder / "log").read_text()
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_inherited_socket_is_judged_by_its_address(folder: Path) -> None:
    """What a service manager bound to all interfaces takes a token as well."""
    with socket.socket() as others, socket.socket() as own:
        others.bind(("0.0.0.0", 0))
        own.bind(("127.0.0.1", 0))
        for inherited, code in ((others, 78), (own, 0)):
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "hookd",
                    "run",
                    "--bind",
                    f"fd://{inherited.fileno()}",
                    "--reports",
                    str(folder),
                ],
                cwd=ROOT,
                env=environment(),
                pass_fds=[inherited.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                assert process.stdout is not None
                assert process.stderr is not None
                if process.stdout.readline():
                    process.terminate()
                error = process.stderr.read().decode()
                assert process.wait(20) == code, error
                assert ("other machines can reach ('0.0.0.0'" in error) == (code == 78)


def test_commands_say_how_to_pass_a_token_and_take_it(folder: Path) -> None:
    """401 and 403 explained; the token by flag or environment; the commands to paste read it from its file."""
    config = folder / "hookd.toml"
    config.write_text(token_table("old") + token_table("reader", "read"))
    with Receiver(500) as receiver:
        client = ["--client", f"acme={receiver.url}"]
        with Daemon(folder, "--config", str(config), *client, settings=NO_RETRY_SOON) as daemon:
            for command in (["status"], ["status", "--watch"], ["explain", "acme"], ["send", "acme", "a"]):
                done = hookd(*command, "--url", daemon.url)
                assert (done.returncode, done.stdout) == (77, ""), done
                assert "401 unauthorized" in done.stderr
                assert "; give one with --token-file FILE or HOOKD_TOKEN_FILE" in done.stderr
            (folder / "wrong").write_text("x" * 40)
            refused = hookd("status", "--url", daemon.url, "--token-file", str(folder / "wrong"))
            assert (refused.returncode, refused.stdout) == (77, "")
            assert "; the token was refused: give another with --token-file FILE" in refused.stderr
            reader = environment(None, HOOKD_URL=daemon.url, HOOKD_TOKEN_FILE=str(folder / "reader"))
            forbidden = hookd("send", "acme", "a", env=reader)
            assert forbidden.returncode == 77
            assert "403 forbidden: this takes a token of scope produce; 'reader' has scope read" in forbidden.stderr
            assert hookd("status", env=reader).returncode == 0
            with daemon.api as api:
                body = {"client_id": "acme", "id": "e1", "type": "a", "payload": 1}
                assert api.ask("POST", "/v1/events", body, {"authorization": f"Bearer {OLD}"}).status == 202
            wait_until(lambda: receiver.log, what="the attempt")
            told = hookd("explain", "e1", "--url", daemon.url, "--token-file", str(folder / "old"))
            assert told.returncode == 0
            (command,) = re.findall(r"hookd retry .*", told.stdout)
            assert OLD not in command
            retried = hookd(*shlex.split(command)[1:], "--json")
            assert json.loads(retried.stdout)["id"] == "e1", retried
    missing = hookd("status", "--token-file", str(folder / "none"))
    assert missing.returncode == 66
    assert "cannot read the token file" in missing.stderr


@pytest.fixture(scope="module", name="daemon")
def _daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """`acme` hangs, `down` refuses, and both have an event `both`, which is the name of a client too."""
    with Receiver(HANG) as hung, refusing_url() as refusing:
        clients = [f"acme={hung.url}", f"down={refusing}", f"both={refusing}"]
        flags = [word for client in clients for word in ("--client", client)]
        with Daemon(
            tmp_path_factory.mktemp("commands"), *flags, settings=NO_RETRY_SOON | {"delivery.timeout": "60s"}
        ) as daemon:
            with daemon.api as api:
                for client_id, event_id in (("acme", "e1"), ("acme", "twin"), ("down", "twin"), ("down", "both")):
                    assert api.post(client_id, event_id).status == 202
                wait_until(lambda: api.deliveries()["failed"] == 2, what="both refused")
            yield daemon


def test_status_shows_the_screen_and_json(daemon: Daemon) -> None:
    """At most 100 columns on stdout; --json is the status with what needs someone."""
    shown = hookd("status", "--url", daemon.url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(len(line) <= 100 for line in shown.stdout.splitlines())
    assert (
        f"hookd {json.loads(hookd('status', '--url', daemon.url, '--json').stdout)['version']} running" in shown.stdout
    )
    assert "down/default                   ok, 2 failed" in shown.stdout
    status = json.loads(hookd("status", "--url", daemon.url, "--json").stdout)
    assert status["events"]["accepted"] == 4
    assert [one["client_id"] for one in status["needs_attention"]] == ["down"]


def test_status_without_a_daemon_is_69() -> None:
    """And so is what is no URL; a program that is no hookd is an error, not a traceback."""
    with refusing_url() as url:
        for given in (url.removesuffix("/hook"), "localhost:8080", "http://[", "http://"):
            done = hookd("status", "--url", given)
            assert (done.returncode, done.stdout) == (69, ""), done
            assert "Traceback" not in done.stderr
            assert "Errno" not in done.stderr
    with Receiver() as receiver:
        done = hookd("status", "--url", receiver.url)
        assert (done.returncode, done.stdout) == (69, "")
        assert "what answers there is no hookd" in done.stderr
        assert f"; asked was {receiver.url}\n" in done.stderr
        assert "<html" not in done.stderr.lower()  # its page is not shown


def test_https_where_http_is_spoken_and_a_full_disk_are_69_in_words(daemon: Daemon) -> None:
    """Neither OpenSSL's constants nor a traceback."""
    done = hookd("status", "--url", daemon.url.replace("http:", "https:"))
    assert (done.returncode, done.stdout) == (69, "")
    assert "it speaks plain http there; write http://" in done.stderr
    assert "WRONG_VERSION" not in done.stderr
    for command in ("status", "status --json", "explain acme"):
        line = [sys.executable, "-m", "hookd", *command.split(), "--url", daemon.url]
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(line, cwd=ROOT, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False)
        assert ended.returncode == 69, ended
        assert b"Traceback" not in ended.stderr
        assert b"No space left on device" in ended.stderr


def test_missing_files_are_66(tmp_path: Path) -> None:
    """A report that was named and is not there, or is none; a configuration that is not there."""
    (tmp_path / "other").write_text("[]\n")
    for command in ("report", "resend"):
        for name, words in (("none", "No such file or directory"), ("other", "is no report")):
            done = hookd(command, str(tmp_path / name))
            assert (done.returncode, done.stdout) == (66, ""), done
            assert words in done.stderr
    none = str(tmp_path / "none")
    commands = {"check": ["check", none], "run": ["run", "--config", none], "report": ["report", "--config", none]}
    for command, done in hookd_each(commands, tmp_path).items():
        assert (done.returncode, done.stdout, done.stderr) == (
            66,
            "",
            f"{none}: cannot be read: No such file or directory\n",
        ), command


def test_explain_names_events_clients_and_both(daemon: Daemon) -> None:
    """A client, an event, one that is both, one that several clients have, one of a client, and none."""

    def told(*names: str, code: int = 0) -> str:
        done = hookd("explain", *names, "--url", daemon.url)
        assert done.returncode == code, done
        assert (done.stdout if code else done.stderr) == ""
        return done.stderr if code else done.stdout

    assert "Attempt 1 of 3 is in flight since " in told("e1")
    assert told("down").startswith("client down, registered through the configuration or --client: 2 unsettled deliver")
    both = told("both")
    assert both.startswith("client both, ")
    assert "\nevent both of client down, " in both
    each = f"  hookd explain --url {daemon.url}"
    assert f"{each} acme/twin\n{each} down/twin\n" in told("twin")
    assert "event twin of client down, " in told("down/twin")
    nothing = told("nope", code=2)
    assert "no client 'nope' is registered" in nothing
    assert "no event 'nope' is held" in nothing
    assert "404" in told("acme/nope", code=2)
    assert "name a CLIENT, an EVENT, CLIENT/EVENT or CLIENT/ENDPOINT" in told("../v1", code=2)
    assert "event twin of client down, " in told("down", "twin")
    assert "name a CLIENT, an EVENT" in told("a", "b", "c", code=2)
    of_endpoint = told("down", "default")
    assert of_endpoint.startswith("client down, registered through the configuration or --client: ")
    assert "\n  default -> " in of_endpoint
    unknown = hookd("send", "nope", "order.paid", "--url", daemon.url)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "404 unknown-client" in unknown.stderr
    found = json.loads(hookd("explain", "both", "--url", daemon.url, "--json").stdout)
    assert (found["client"]["id"], found["events"][0]["client_id"]) == ("both", "down")


@contextmanager
def started(*arguments: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-u", "-m", "hookd", *arguments]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()} | more
    with subprocess.Popen(command, cwd=ROOT, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_watch_goes_on_while_the_daemon_is_away_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    """Blocks on a pipe, the daemon's end said, exit 0 and no traceback."""
    with Daemon(tmp_path) as daemon, started("status", "--watch", "--url", daemon.url) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline().startswith("hookd ")
        assert daemon.stop() == 0
        for line in watching.stdout:
            if line.startswith("no hookd answers at"):
                break
        else:
            pytest.fail("it ended with the daemon")
        assert "no hookd answers at" in watching.stdout.readline() + watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
        assert watching.stderr.read() == ""


def read_terminal(main: int) -> bytes:
    """What the command has written; empty once it has ended, which Linux tells as an error."""
    try:
        return os.read(main, 65536)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def test_watch_redraws_on_a_terminal(tmp_path: Path) -> None:
    """From the top left, each line cleared; no colour."""
    main, side = pty.openpty()
    with Daemon(tmp_path) as daemon, started("status", "--watch", "--url", daemon.url, stdout=side) as watching:
        os.close(side)  # the command's own is the last: its end ends the reading
        shown = b""
        while shown.count(b"\x1b[H") < 2:
            ready, _, _ = select.select([main], [], [], REDRAW_SECONDS_MAX)
            assert ready, f"nothing more within {REDRAW_SECONDS_MAX:g} s after {shown!r}"
            more = read_terminal(main)
            assert more, f"it ended after {shown!r}: {watching.communicate()[1]}"
            shown += more
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    os.close(main)
    assert shown.startswith(b"\x1b[2J\x1b[Hhookd ")
    assert b"running" in shown
    assert not re.search(rb"\x1b\[[0-9;]*m", shown)


def test_receive_is_delivered_to_and_says_what_came(tmp_path: Path) -> None:
    """Its first line starts a daemon; two failures, then verified by the secret that the daemon made; a summary."""
    secret = "whsec_" + "Y2FuYXJ5LXNlY3JldC1vZi10aGUtY29uZmlnLWZpbGU="
    with started("receive", "--port", "0", "--secret", secret, "--fail", "503", "--first", "2") as receiving:
        assert receiving.stdout is not None
        assert receiving.stderr is not None
        first = receiving.stderr.readline()
        found = re.fullmatch(r"receiving on (\S+); try: hookd run --dev --client acme=(\S+)\n", first)
        assert found is not None, first
        assert found[1] == found[2]
        with Daemon(tmp_path, settings={"retry.schedule": ["20ms", "20ms"]}) as daemon, daemon.api as api:
            api.ask("PUT", "/v1/clients/acme", {"url": found[1], "secret": secret})
            assert api.post("acme", "e1", b'{"text": "\xc2\x9b31m"}').status == 202
            lines = [receiving.stdout.readline() for _ in range(3)]
            wait_until(lambda: api.deliveries()["delivered"] == 1, what="the third attempt")
        assert ["-> 503" in line for line in lines] == [True, True, False]
        assert all("  e1  order.paid  attempt " in line and "  verified  " in line for line in lines)
        assert "attempt 3  " in lines[2]
        assert all(line.rstrip("\n").isprintable() for line in lines)
        receiving.send_signal(signal.SIGINT)
        assert receiving.wait(10) == 0
        assert receiving.stderr.read() == (
            "3 requests with 1 webhook-id; 2 came again, 0 of them duplicates (answered 2xx before); 0 not verified\n"
        )


def test_receive_used_wrongly_says_so() -> None:
    """2 for the flags, 69 for the port; the secret is not repeated."""
    for arguments in (["--first", "3"], ["--fail", "99"], ["--delay", "2"], ["--secret", "whsec_not-base64"]):
        done = hookd("receive", "--port", "0", *arguments)
        assert done.returncode == 2, done
        assert "not-base64" not in done.stderr
    with Receiver() as taken:
        done = hookd("receive", "--port", taken.url.rpartition(":")[2].removesuffix("/hook"))
    assert done.returncode == 69
    assert "cannot bind" in done.stderr


@contextmanager
def endless_server() -> Iterator[str]:
    """A server whose answers do not end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
                try:
                    while True:
                        peer.sendall(b" " * 1_000_000)
                except OSError:
                    pass

        answering = threading.Thread(target=answer)
        answering.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        answering.join(10)


def test_answer_without_an_end_ends_a_command() -> None:
    """Before: it took all memory."""
    with endless_server() as url:
        done = hookd("status", "--url", url)
    assert done.returncode == 69
    assert "its answer is longer than 67,108,864 bytes" in done.stderr


def test_token_file_without_an_end_ends_a_command() -> None:
    """Before: it took all memory."""
    done = hookd("status", "--url", "http://127.0.0.1:1", "--token-file", "/dev/zero")
    assert done.returncode == 66
    assert "holds no token" in done.stderr


def test_name_that_stdout_has_no_letters_for_is_escaped(tmp_path: Path) -> None:
    """Before: a traceback, and exit code 1, which is a bug."""
    (tmp_path / "€.toml").write_text("")
    done = hookd("check", str(tmp_path / "€.toml"), env=environment() | {"PYTHONIOENCODING": "latin-1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u20ac.toml: valid" in done.stdout
