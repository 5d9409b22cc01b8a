"""Owns what a start makes of the runs before it: how the last one ended, and whether they crash in a row.

Rules: runs of one report directory follow one another, so the time of their start orders them. A run that ended
without a complete report crashed: it was killed, or it could not write one. Wall time only, since nothing else
outlives a process.
Pure: what is known of the runs comes in as values; reading it off files is edge/reports'.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

# So many crashes in a row, the first of them no longer ago than this: a start recovers nothing, since what it would
# recover may be what makes it crash.
CRASHES_IN_A_ROW = 3
CRASHES_WITHIN_SECONDS = 600.0

Ended = Literal["clean", "reported", "crash"]


class PastRun(msgspec.Struct, frozen=True):
    """A run before this one. Times are wall."""

    run_id: str
    started_at: float
    ended_at: float  # of a crash: when it was last heard of
    crashed: bool
    undelivered: int | None  # deliveries; None where it left no list

    @property
    def ended(self) -> Ended:
        if self.crashed:
            return "crash"
        return "reported" if self.undelivered else "clean"


class PreviousRun(msgspec.Struct, frozen=True):
    """The last run before this one, and how many of its deliveries this one took back."""

    run_id: Annotated[str, Meta(examples=["9f0c"])]
    ended: Annotated[Ended, Meta(description="clean: nothing undelivered; crash: without a report of its own")]
    undelivered: Annotated[int, Meta(ge=0, description="Null where it left no list")] | None
    recovered: Annotated[int, Meta(ge=0, description="Deliveries of it that this run took back at its start")]


def previous_run(runs: Sequence[PastRun], recovered: dict[str, int]) -> PreviousRun | None:
    """`recovered` deliveries by run; None where there was no run."""
    if not runs:
        return None
    last = max(runs, key=_order)
    return PreviousRun(last.run_id, last.ended, last.undelivered, recovered.get(last.run_id, 0))


def is_crashing_in_a_row(runs: Sequence[PastRun], *, now: float) -> bool:
    """Crashes that are still to come tell nothing: the clock was set back, and cannot say how long ago they were."""
    last = sorted(runs, key=_order)[-CRASHES_IN_A_ROW:]
    return (
        len(last) == CRASHES_IN_A_ROW
        and all(run.crashed for run in last)
        and 0 <= now - last[0].ended_at <= CRASHES_WITHIN_SECONDS
    )


def _order(run: PastRun) -> tuple[float, float]:
    return run.started_at, run.ended_at
