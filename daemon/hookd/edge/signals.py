"""Owns the process's signals from the first line of main on.

A handler of Python's own notes each signal; once the daemon runs, it is told of those that came before it did and of
each new one, and how long ago it came: a busy loop hears of two that came together one after the other. Nothing is
lost in between, and Ctrl-C never becomes a KeyboardInterrupt in the middle of the ledger.
Identical signals that are pending together coalesce: that is the kernel's doing.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType

import trio

OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Install it in the main thread; `early` are the signals that came before it could be."""

    def __init__(self, early: list[str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._early = early
        self._monotonic = monotonic
        self._deliver: Callable[[str, float], None] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        for number in OBEYED:
            signal.signal(number, self._handle)

    def attach(self, deliver: Callable[[str, float], None]) -> None:
        """From inside the running loop: `deliver` is called in it with "SIGTERM", … and the seconds since it came.

        Those that came before are first, together, as of now.
        """
        self._token = trio.lowlevel.current_trio_token()
        self._deliver = deliver
        early, self._early = self._early, []
        for name in early:
            deliver(name, 0.0)

    def detach(self) -> None:
        self._deliver = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._deliver is None or self._token is None:
            self._early.append(name)
            return
        try:
            self._token.run_sync_soon(self._deliver_now, name, self._monotonic())
        except trio.RunFinishedError:
            pass  # the report is written and the loop has ended: there is nothing left to stop

    def _deliver_now(self, name: str, came_at: float) -> None:
        if self._deliver is not None:
            self._deliver(name, self._monotonic() - came_at)
