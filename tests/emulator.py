"""A terminal for a command: a pseudo-terminal, and an emulator that tells what stands on its screen.

The command gets it as its controlling terminal, so that Ctrl-C typed there is a signal, as for a person.
"""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

from tests.acceptance.harness import environment, wait_until

ROOT = Path(__file__).parent.parent
PIECE_BYTES = 1024  # less than one picture of it: what stands there for a moment is seen
# The child takes the terminal that is its stdin, and becomes the command.
_TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """`hookd` with these arguments on a terminal of that size. Leaving ends what is left of it."""

    def __init__(self, columns: int, lines: int, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._main, side = os.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._awaited: tuple[str, ...] = ()
        self._found: list[str] = []  # the screen on which those stood
        self.written = b""
        self.resize(columns, lines)
        command = [sys.executable, "-c", _TAKE, sys.executable, "-m", "hookd", *arguments]
        # COLUMNS and LINES would say another size than the terminal's.
        ours = {**environment(), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(env or {})}
        ours = {name: value for name, value in ours.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, start_new_session=True, env=ours, cwd=ROOT
        )
        os.close(side)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
        self._reader.join(20)
        os.close(self._main)

    def resize(self, columns: int, lines: int) -> None:
        with self._lock:
            self._screen.resize(lines, columns)
            self._screen.reset()
            fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key: bytes) -> None:
        os.write(self._main, key)

    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    def wait_for(self, *words: str, seconds: float = 60.0) -> list[str]:
        """The screen, once all of these stood on it together, however soon after it had changed."""
        with self._lock:
            self._awaited, self._found = words, []
            self._look()
        try:
            found = wait_until(lambda: self._found, seconds=seconds, what=f"{words} on the screen")
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.lines()])) from None
        lines = self.lines()  # the picture as a whole, if they stand there still
        return lines if _hold(lines, words) else found

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code, with all read that was written."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the last that wrote there is gone
            while select.select([self._main], [], [])[0]:
                written = os.read(self._main, 65_536)
                if not written:
                    return
                with self._lock:
                    self.written += written
                    for at in range(0, len(written), PIECE_BYTES):
                        self._stream.feed(written[at : at + PIECE_BYTES])
                        self._look()

    def _look(self) -> None:
        if self._awaited and not self._found:
            lines = [line.rstrip() for line in self._screen.display]
            if _hold(lines, self._awaited):
                self._found = lines


def _hold(lines: Sequence[str], words: Sequence[str]) -> bool:
    return all(any(word in line for line in lines) for word in words)
