"""Owns what ends the demo before its time: Ctrl-C, SIGTERM, SIGHUP, and Enter in the middle of an act.

Each is raised where the acts are. Rules: the first one ends the acts, and from then on Enter ends nothing: it may come
while the daemon drains. While a process is started they are held: a daemon that nobody knows of would run on for ever.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENTER_SIGNAL = signal.SIGUSR1  # of the thread that hears the keys, to the one of the acts


class Stopped(KeyboardInterrupt):
    """A signal to the demo; SIGTERM and SIGHUP are the same way out as Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Entered(BaseException):
    """Enter was pressed in the middle of an act."""


class Interruptions:
    """For the main thread. `heeds_enter`: what is played ends by itself on Enter; anything else is cut."""

    def __init__(self) -> None:
        self.heeds_enter = False
        self._is_holding = False
        self._held: list[int] = []

    @contextmanager
    def raised(self) -> Iterator[None]:
        numbers = [signal.SIGTERM, signal.SIGHUP, ENTER_SIGNAL]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell starts what is in its background
            numbers.append(signal.SIGINT)
        handlers = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raised at its end; what it encloses is to be short."""
        self._is_holding = True
        try:
            yield
        finally:
            self._is_holding = False
            held, self._held = self._held, []
            for number in held:
                signal.raise_signal(number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_holding:
            self._held.append(number)
        elif number != ENTER_SIGNAL:
            self.heeds_enter = True
            raise Stopped(number)
        elif not self.heeds_enter:
            self.heeds_enter = True
            raise Entered
