"""What the service manager hears from us: that the loop turns in time, and what the daemon holds.

Rules: a watchdog that is set hears of us four times in its interval. A turn that comes late does not say that we are
alive: the loop was held up for so long.

Does not: know the protocol (edge/systemd.py).
"""

import math
from collections.abc import Callable
from typing import Protocol

import trio

PERIOD_SECONDS_MAX = 5.0


class ServiceManager(Protocol):
    """It may not be there."""

    @property
    def listens(self) -> bool: ...

    @property
    def watchdog_seconds(self) -> float | None: ...

    def ready(self) -> None: ...

    def stopping(self, seconds: float) -> None: ...

    def alive(self) -> None: ...

    def status(self, line: str) -> None: ...


async def keep_telling(manager: ServiceManager, status_line: Callable[[], str]) -> None:
    """Until cancelled."""
    if not manager.listens:
        return
    period_seconds = min(PERIOD_SECONDS_MAX, (manager.watchdog_seconds or math.inf) / 4)
    due = trio.current_time()
    while True:
        manager.status(status_line())
        if trio.current_time() - due < period_seconds:
            manager.alive()
        due = trio.current_time() + period_seconds
        await trio.sleep_until(due)
