"""Owns the guard between the ledger and whatever it tells: nothing that a port raises tears one of its steps.

Rules:
 1. A port that raises is counted and said, and the step goes on. The ledger is whole, and its caller hears nothing.
 2. What is meant for the caller passes (core/guarded_recorder). So does what is no Exception: the process ends by it.
 3. Whoever is told of it may raise as well. That is passed over: it is told because something is broken already.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

OnPortFailed = Callable[[str, Exception], None]

RECORDER, FEED, LOG, NOTICES = PORTS = ("recorder", "feed", "log", "notices")


def said_of(error: Exception) -> str:
    """One line. It may not be able to say what it is."""
    return traceback.format_exception_only(error)[-1].rstrip()


class Guard:
    """`on_failed` gets the port's name, and what it raised."""

    def __init__(self, on_failed: OnPortFailed | None) -> None:
        self.failures: Counter[str] = Counter()  # by the port's name
        self._on_failed = on_failed

    def around(self, port: str, tell: Callable[..., Any]) -> Callable[..., None]:
        """The same call, which never raises."""

        def guarded(*args: Any) -> None:
            try:
                tell(*args)
            except Exception as error:
                self.note(port, error)

        return guarded

    def note(self, port: str, error: Exception) -> None:
        self.failures[port] += 1
        if self._on_failed is not None:
            with suppress(Exception):
                self._on_failed(port, error)
