"""The terminal while the demo plays: a thread that asks the daemon, draws the picture, and hears Enter.

It draws on the terminal's other screen, so that what stood there before comes back. Each picture is as wide as the
terminal is at that moment, so a resize needs no signal. Ctrl-C stays a signal; Ctrl-Z would leave the other screen
behind, and does nothing.

Rules: only this thread draws. Where it fails, or the terminal goes away, it ends the acts as Enter does.
"""

import os
import select
import signal
import sys
import termios
import threading
import time
from typing import Any

from rich.console import Console

from hookd.cli.api_client import Refusal, Remote, Unreachable
from hookd.demo.board import Board
from hookd.demo.interruptions import ENTER_SIGNAL
from hookd.demo.picture import Reading, picture
from hookd.demo.rows import rows_of

DRAW_EVERY_SECONDS = 0.25
ASK_SECONDS_MAX = 1.0
CLIENTS_MAX = 50  # the demo has ten
COLUMNS_DEFAULT, LINES_DEFAULT = 80, 24  # of a terminal that does not say
_LOCAL_FLAGS, _CHARACTERS = 3, 6  # where termios has them


class Screen:
    """Opened once and closed once. Closing raises what drawing raised."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._console = Console(highlight=False)
        self._alternate = self._console.screen()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._failure: Exception | None = None
        self._began = time.monotonic()
        self._last = Reading({}, [], False)
        self._modes = termios.tcgetattr(sys.stdin)
        self._keys = select.poll()
        self._keys.register(sys.stdin, select.POLLIN)

    def open(self) -> None:
        self._alternate.__enter__()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet(self._modes))
        self._thread.start()

    def close(self) -> None:
        """Raises what drawing raised, unless it is that the terminal went away."""
        self._over.set()
        try:
            self._thread.join()
        finally:
            self._restore()
        if self._failure is not None:
            raise self._failure

    def _restore(self) -> None:
        try:
            self._alternate.__exit__(None, None, None)
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, self._modes)  # what was typed meanwhile is no command
        except (OSError, termios.error):
            pass  # the terminal went away

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._draw()
                if self._heard_enter():
                    self._end_acts()
        except OSError:
            self._end_acts()
        except Exception as error:
            self._failure = error
            self._end_acts()

    def _draw(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        self._console.size = (size.columns or COLUMNS_DEFAULT, size.lines or LINES_DEFAULT)
        self._last = self._read()
        seconds = time.monotonic() - self._began
        columns, lines = self._console.size
        self._console.update_screen(picture(self._board, self._last, seconds, columns=columns, lines=lines))

    def _read(self) -> Reading:
        shown = self._board.clients
        try:
            remote = Remote(self._board.url, timeout_seconds=ASK_SECONDS_MAX)
            status = remote.get("/v1/status").taken("now", "events")
            clients = remote.get(f"/v1/clients?limit={CLIENTS_MAX}").taken("clients")["clients"]
        except (Unreachable, Refusal):
            return Reading(self._last.status, [row for row in self._last.rows if row.client_id in shown], False)
        return Reading(status, rows_of(clients, shown, status["now"]), True)

    def _heard_enter(self) -> bool:
        """Waits for it until the next picture is due."""
        for _, came in self._keys.poll(DRAW_EVERY_SECONDS * 1000):
            if came & ~select.POLLIN:
                raise OSError("the terminal went away")
            return b"\n" in os.read(sys.stdin.fileno(), 1024)
        return False

    def _end_acts(self) -> None:
        if not self._board.enter.is_set():
            self._board.enter.set()
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, ENTER_SIGNAL)


def quiet(modes: list[Any]) -> list[Any]:
    """Keys come at once and are not shown; Ctrl-C is still a signal, Ctrl-Z is none.

    Reading waits for no key (VMIN 0): Ctrl-C throws away what was typed before it, and the one who had just been told
    that something is there would wait for the next.
    """
    changed = list(modes)
    changed[_LOCAL_FLAGS] &= ~(termios.ECHO | termios.ICANON)
    changed[_CHARACTERS] = list(modes[_CHARACTERS])
    changed[_CHARACTERS][termios.VSUSP] = b"\0"
    changed[_CHARACTERS][termios.VMIN] = changed[_CHARACTERS][termios.VTIME] = 0
    return changed
