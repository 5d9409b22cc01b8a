"""How commands end that a signal or a closed pipe meets: at once, by it, without a traceback."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.acceptance.harness import ROOT, Api, environment, hookd, wait_until

# Ctrl-C comes as the commands are being imported.
INTERRUPTED_IMPORT = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "hookd.cli.command_line":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["hookd", "status"]
from hookd.__main__ import main
main()
"""


def command(*arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "hookd", *arguments],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def unread_bytes(fd: int) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(count)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_receiver_ends_whose_output_nobody_reads(number: signal.Signals) -> None:
    """Before: its summary waited for the line that waited for a reader."""
    unread, written = os.pipe()
    holds = fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, 4096)
    with command("receive", "--port", "0", "--json", stdout=written) as receiving:
        try:
            os.close(written)
            assert receiving.stderr is not None
            port = int(receiving.stderr.readline().partition("/hook")[0].rpartition(":")[2])
            with Api(port) as api:
                body = json.dumps("x" * 2 * holds).encode()
                api._connection.request("POST", "/hook", body, {"webhook-id": "a"})
                wait_until(lambda: unread_bytes(unread) == holds, what="as much of its line as there is room for")
                receiving.send_signal(number)
                assert receiving.wait(10) == 0
            assert "\n1 request with 1 webhook-id; 0 came again, " in receiving.stderr.read()
        finally:
            receiving.kill()
            os.close(unread)


def test_command_ends_by_ctrl_c(tmp_path: Path) -> None:
    """Not with 1, which is the code of a bug. It waits for its token here."""
    fifo = tmp_path / "token"
    os.mkfifo(fifo)

    def writer() -> int | None:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None  # nobody reads there yet

    with command("status", "--token-file", str(fifo)) as asking:
        try:
            fd = wait_until(writer, what="it opens the file")
            assert fd is not None
            asking.send_signal(signal.SIGINT)
            assert asking.wait(10) == -signal.SIGINT
            os.close(fd)
            assert asking.stderr is not None
            assert asking.stderr.read() == ""
        finally:
            asking.kill()


def test_ctrl_c_before_a_command_has_begun_says_nothing() -> None:
    """Before: a traceback of its imports."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_pipe_that_nobody_reads_any_more_ends_a_command() -> None:
    """`hookd print hookd.toml | head -1`: not with 1, which is the code of a bug."""
    unread, written = os.pipe()
    os.close(unread)
    with command("print", "hookd.toml", stdout=written) as printing:
        os.close(written)
        assert printing.wait(30) == -signal.SIGPIPE
        assert printing.stderr is not None
        assert printing.stderr.read() == ""


@pytest.mark.parametrize(("option", "code"), [("--token-file", 66), ("--clients", 78)])
def test_relay_waits_for_no_pipe(tmp_path: Path, option: str, code: int) -> None:
    """It holds its signals: before, nothing but a kill ended it."""
    pytest.importorskip("coredis")
    os.mkfifo(tmp_path / "fifo")
    given = ("relay", "--redis", "redis://127.0.0.1:1", "--stream", "s", "--group", "g")
    done = hookd(*given, option, str(tmp_path / "fifo"))
    assert done.returncode == code, done
