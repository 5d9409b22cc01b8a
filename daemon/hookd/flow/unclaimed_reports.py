"""Owns which of some reports list something undelivered, oldest first, and what the newest of them list.

Rules: a report never changes, so its summary is read once. That of 320,000 endpoints takes a quarter of a second, in
which nothing else runs, even where a thread reads it: so that is done at the start, not at each look of
edge/reports_watch. One that cannot be read is tried again.
Limits: 0.5 KiB for each report of the directory, and 5 KiB for each of the newest LOSSES_MAX that nobody claimed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hookd.core.loss import Loss, loss_of
from hookd.core.report import Summary
from hookd.flow.ports import Unclaimed

# As many as the status page lists. Who has more looks into the directory.
LOSSES_MAX = 5


class _Read(NamedTuple):
    """Of a summary."""

    order: tuple[str, str]  # when the run began and ended; of one that cannot be read: first, by its name
    run_id: str | None  # None: it cannot be read
    owes: bool  # what cannot be read may


class UnclaimedReports:
    """`summary_of` reads a report's; None where it cannot be read."""

    def __init__(self, summary_of: Callable[[Path], Summary | None]) -> None:
        self._summary_of = summary_of
        self._read: dict[Path, _Read] = {}
        self._losses: dict[Path, Loss | None] = {}

    def among(self, paths: Iterable[Path]) -> list[Unclaimed]:
        """`paths` are reports that nobody claimed."""
        self._read = {path: self._read_once(path) for path in paths}
        owing = sorted(
            (path for path, read in self._read.items() if read.owes), key=lambda path: self._read[path].order
        )
        self._losses = {path: self._loss_of(path) for path in owing[-LOSSES_MAX:]}
        return [Unclaimed(str(path), self._read[path].run_id, self._losses.get(path)) for path in owing]

    def _read_once(self, path: Path) -> _Read:
        known = self._read.get(path)
        if known is not None and known.run_id is not None:
            return known
        summary = self._summary_of(path)
        if summary is None:
            return _Read(("", path.name), None, owes=True)
        return _Read((summary.started_at, summary.stopped_at), summary.run_id, bool(summary.deliveries.undelivered))

    def _loss_of(self, path: Path) -> Loss | None:
        known = self._losses.get(path)
        if known is None and self._read[path].run_id is not None and (summary := self._summary_of(path)) is not None:
            return loss_of(summary)
        return known
