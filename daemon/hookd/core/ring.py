"""Owns what a feed's ring offers to its readers: pages by position, oldest first.

Rules: a row's position is the number of those before it in this run. Positions only grow; what was dropped never comes
back.
"""

from collections.abc import Set
from typing import Generic, NamedTuple, Protocol, TypeVar

Taken = TypeVar("Taken", contravariant=True)
Row = TypeVar("Row")


class Page(NamedTuple, Generic[Row]):
    rows: list[Row]
    next_position: int
    has_gap: bool  # some from the wanted position on are held no more


class Ring(Protocol[Taken, Row]):
    """`end` is the position that the next row will have, `oldest` that of the oldest held."""

    end: int

    @property
    def oldest(self) -> int: ...

    def append(self, taken: Taken, /) -> None: ...

    def lose(self) -> None:
        """One could not be taken, and may be missing: whoever reads on is told of a gap."""
        ...

    def page(self, position: int | None, *, limit: int, clients: Set[str] | None = None) -> Page[Row]:
        """From `position` on, or from the oldest held where it is None or dropped already; of these clients alone."""
        ...

    def trim(self) -> None:
        """Drops what is over the limit, when a reload has changed it."""
        ...
