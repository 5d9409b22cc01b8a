"""`hookd run` on a terminal: what it says at its start and while it drains. Completion. `hookd print`."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import emulator
from tests.acceptance.harness import HANG, NO_RETRY_SOON, ROOT, Daemon, Receiver, environment, hookd, wait_until

CONFIG = ROOT / "config"


class Terminal:
    """What the daemon's stderr is connected to; `text` is all that came so far."""

    def __init__(self) -> None:
        self._main, self.side = pty.openpty()
        self._shown = b""

    def text(self) -> str:
        while select.select([self._main], [], [], 0)[0]:
            try:
                self._shown += os.read(self._main, 65_536)
            except OSError:  # the last that wrote there is gone
                break
        return self._shown.decode().replace("\r\n", "\n")

    def line(self, begins: str) -> str:
        """The first line that begins so, once it is whole."""

        def found() -> str | None:
            lines = self.text().split("\n")[:-1]
            return next((line for line in lines if line.strip().startswith(begins)), None)

        return wait_until(found, what=f"a line that begins with {begins!r}") or ""

    def close(self) -> None:
        os.close(self.side)
        os.close(self._main)


@pytest.fixture(name="terminal")
def _terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def pasted(line: str, label: str) -> subprocess.CompletedProcess[str]:
    """What a shell does with the command on the line."""
    command = line.strip().removeprefix(label).strip()
    return subprocess.run(["sh", "-c", f"{command} -sS"], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_start_on_a_terminal_names_the_page_a_command_to_paste_and_how_to_stop(tmp_path: Path, terminal) -> None:
    """stdout is as ever; the command posts an event that arrives."""
    with (
        Receiver() as receiver,
        Daemon(tmp_path, "--client", f"acme={receiver.url}", stderr=terminal.side) as daemon,
    ):
        assert f"page   {daemon.url}/" in terminal.line("page")
        posted = pasted(terminal.line("try"), "try")
        assert '"client_id":"acme"' in posted.stdout.replace(" ", ""), posted.stderr
        wait_until(lambda: [received.body for received in receiver.log] == [b'{"amount": 42}'], what="the delivery")
        stop = terminal.line("stop")
        assert "Ctrl-C drains for up to 20s; a second one stops at once" in stop
        assert stop.endswith(str(daemon.reports))
        assert daemon.stop() == 0
        assert not daemon.has_line() or daemon.first_line() == ""


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_start_without_clients_offers_to_register_one_and_a_token_is_asked_for(tmp_path: Path, terminal) -> None:
    """With tokens the command reads one from a file, which is all that has to be filled in."""
    token = tmp_path / "token"
    token.write_text("sixteen-letters-0\n")
    config = tmp_path / "hookd.toml"
    config.write_text('[[http.tokens]]\nname = "all"\nscope = "admin"\ntoken_file = "token"\n')
    with Daemon(tmp_path / "run", "--config", str(config), stderr=terminal.side) as daemon:
        assert "(it asks for a token of scope read)" in terminal.line("page")
        line = terminal.line("try")
        assert "unauthorized" in pasted(line.replace("TOKEN_FILE", os.devnull), "try").stdout
        done = pasted(line.replace("TOKEN_FILE", str(token)).replace("https://example.com", "https://8.8.8.8"), "try")
        assert '"whsec_' in done.stdout, done.stdout + done.stderr
        assert daemon.stop() == 0


def test_drain_on_a_terminal_tells_its_progress_and_a_second_signal_ends_it(tmp_path: Path, terminal) -> None:
    """What is left, and for how long; a log has none of it."""
    with (
        Receiver(HANG) as receiver,
        Daemon(tmp_path, "--client", f"acme={receiver.url}", settings=NO_RETRY_SOON, stderr=terminal.side) as daemon,
        daemon.api as api,
    ):
        api.post("acme", "e1")
        wait_until(lambda: receiver.hanging == 1, what="the attempt")
        daemon.signal(signal.SIGINT)
        line = terminal.line("draining: ")
        assert line.startswith("draining: 1 accepted, 1 undelivered, 1 in flight; ")
        assert line.endswith("s left, Ctrl-C again stops at once")
        daemon.signal(signal.SIGINT)
        assert daemon.wait(10) == 3
        assert "UNDELIVERED: 1 delivery\n" in terminal.text()


def test_log_has_neither_greeting_nor_progress(tmp_path: Path) -> None:
    """Off a terminal each line is JSON, of the log alone."""
    with Receiver() as receiver, Daemon(tmp_path, "--client", f"acme={receiver.url}") as daemon:
        assert daemon.stop() == 0
        assert "curl" not in daemon.stderr


def completed(words: str, url: str, *, kind: str = "plain") -> list[str]:
    """What bash is offered for the last of them."""
    environ = environment(HOOKD_URL=url, _HOOKD_COMPLETE="bash_complete", COMP_WORDS=words)
    environ["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "hookd"],
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    found = [line.partition(",") for line in done.stdout.splitlines() if line]
    assert {what for what, _, _ in found} <= {kind}
    return [value for _, _, value in found]


def test_clients_are_completed_from_the_daemon_and_nothing_is_said_where_none_answers(tmp_path: Path) -> None:
    """For each command that takes one; then the endpoints of that client, where the command takes one; files too."""
    with Receiver() as receiver, Daemon(tmp_path) as daemon:
        with daemon.api as api:
            for client_id in ("acme", "acorn", "zeta"):
                api.put_client(client_id, *({"id": one, "url": receiver.url} for one in ("audit", "billing")))
        takers = ("explain", "send", "replay", "pause", "resume", "test", "events", "retry", "redeliver", "cancel")
        for command in takers:
            assert sorted(completed(f"hookd {command} ac", daemon.url)) == ["acme", "acorn"]
        for command in ("explain", "pause", "resume", "test"):
            assert completed(f"hookd {command} acme b", daemon.url) == ["billing"]
            assert completed(f"hookd {command} nobody b", daemon.url) == []
        assert completed("hookd retry acme b", daemon.url) == []
        assert daemon.stop() == 0
        assert completed("hookd explain ac", daemon.url) == []
        assert completed("hookd pause acme b", daemon.url) == []
    for files in ("check", "report", "resend", "run --config", "status --token-file", "relay --clients"):
        assert completed(f"hookd {files} h", daemon.url, kind="file") == ["h"]
    for directories in ("run --reports", "report --reports"):
        assert completed(f"hookd {directories} h", daemon.url, kind="dir") == ["h"]
    assert completed("hookd print hookd.", daemon.url) == ["hookd.service", "hookd.socket", "hookd.toml"]


def test_print_writes_each_shipped_file_as_it_is(tmp_path: Path) -> None:
    """Without a name it lists them; an unknown one is a wrong use, which names those that there are."""
    names = sorted(path.name for path in CONFIG.iterdir())
    assert hookd("print", cwd=tmp_path).stdout.splitlines() == names
    for name in names:
        assert hookd("print", name, cwd=tmp_path).stdout == (CONFIG / name).read_text(encoding="utf-8")
    for name in ("nothing.toml", "../README.md", ""):
        done = hookd("print", name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"there are {', '.join(names)}" in done.stderr


def test_status_watched_at_80_columns_keeps_every_total_and_the_last_column(tmp_path: Path) -> None:
    """And draws itself anew, in place, where the terminal is another size."""
    with (
        Receiver(410) as receiver,
        Daemon(tmp_path, "--client", f"initech={receiver.url}") as daemon,
        daemon.api as api,
        emulator.Terminal(80, 24, "status", "--watch", "--url", daemon.url) as watched,
    ):
        api.post("initech", "e1")
        lines = watched.wait_for(f"{'initech/default':<16} disabled", "answered 410", "+ 1 exhausted")
        assert sum("exhausted" in line for line in lines) == 2
        assert next(line for line in lines if line.startswith("client/endpoint")).endswith("last failure")
        watched.resize(100, 30)
        lines = watched.wait_for(f"{'initech/default':<30} disabled", "answered 410")
        assert sum(line.startswith("client/endpoint") for line in lines) == 1
        watched.resize(100, 12)
        watched.wait_for("lines more than this terminal has")
        watched.press(b"\x03")
        assert watched.wait() == 0


def test_help_has_whole_sentences() -> None:
    """On 80 columns click cuts off what is longer than the rest of a line."""
    shown = hookd("--help")
    assert shown.returncode == 0
    assert "..." not in shown.stdout.partition("Commands:")[2]
    assert max(map(len, shown.stdout.splitlines())) <= 80
