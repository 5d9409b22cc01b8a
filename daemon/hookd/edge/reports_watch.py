"""Looks every minute whether the report could still be written, logs when that changes, and lists the unclaimed ones.

A daemon that learns at its stop that the directory is full or not writable has nowhere to put the report.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import trio

from hookd.edge.reports import CannotWriteReports
from hookd.flow.ports import Log, Unclaimed

PROVE_EVERY_SECONDS = 60.0
PROVE_SECONDS_MAX = 10.0


class Provable(Protocol):
    def prove_writable(self, room_bytes: int = 0) -> None: ...

    def unclaimed(self) -> Sequence[Unclaimed]: ...


class ReportsWatch:
    """`problem` says why a report could not be written at the last look; None: it could.

    It looks from a thread, one at most: a file system that hangs must not hold the loop, and is a problem too.
    `room_bytes` is about what a report would take now. `unclaimed` reports are found by the same look, and come in as
    they were before the first.
    """

    def __init__(
        self,
        reports: Provable,
        *,
        log: Log,
        in_thread: Callable[..., Awaitable[Any]],
        room_bytes: Callable[[], int] = lambda: 0,
        unclaimed: Sequence[Unclaimed] = (),
    ) -> None:
        self.unclaimed = unclaimed
        self.problem: str | None = None  # it was proved writable before the start
        self._reports = reports
        self._log = log
        self._in_thread = in_thread
        self._room_bytes = room_bytes
        self._is_asking = False  # as long as the thread runs, even where nobody waits for it any more

    async def run(self) -> None:
        """Until cancelled. It looks at once: recovery may have taken up reports since the start."""
        while True:
            await self.look()
            await trio.sleep(PROVE_EVERY_SECONDS)

    async def look(self) -> None:
        """Looks once, and logs a change."""
        problem: str | None = f"no answer of the file system within {PROVE_SECONDS_MAX:g} s"
        if self._is_asking:
            return
        self._is_asking = True
        with trio.move_on_after(PROVE_SECONDS_MAX):
            try:
                await self._in_thread(self._prove, self._room_bytes())
            except CannotWriteReports as error:
                problem = str(error)
            else:
                problem = None
        self._note(problem)

    def _prove(self, room_bytes: int) -> None:
        try:
            self._reports.prove_writable(room_bytes)
            with suppress(OSError):  # what can be written cannot always be read
                self.unclaimed = self._reports.unclaimed()
        finally:
            self._is_asking = False

    def _note(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            self._log("reports.writable")
        else:
            self._log("reports.not_writable", level="error", error=problem)
