"""Owns what the flight recorder needs of the place where its segments stand.

Rules: a segment that is begun is all zeros, and its room is there to stay. Each call raises OSError where the place is
not what it was; the recorder is of no more use then. Files are edge/recorder_segments's.
"""

from collections.abc import Callable
from typing import Protocol


class Store(Protocol):
    """One run's."""

    def allocate(self) -> bool:
        """One more segment to begin; False where there is no room for it now."""
        ...

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        """From here on, records go into this segment, behind its header: each by a call of what is returned."""
        ...

    def drop(self, number: int, *, keep: bool) -> None:
        """Nobody needs the segment any more; `keep`: its room is begun again, else given back."""
        ...

    def prove(self) -> None:
        """Raises OSError unless the newest segment stands where it would be looked for, in its full length."""
        ...

    def break_off(self) -> None:
        """No more records come, though the run goes on: the newest segment is marked so."""
        ...

    def discard(self) -> None:
        """Nobody needs any of it."""
        ...
