"""Owns what is asked of the flight recorder before an event is taken in: whether its row fits, and whose rows stand.

It is the budget's port; the recorder keeps the room.
"""

from collections.abc import Sequence
from typing import Protocol


class RecorderRoom(Protocol):
    """What is asked before an event is taken in."""

    def row_bytes(self, payload_bytes: int, urls: Sequence[str]) -> int:
        """At most what an event of these deliveries takes; raises Full where it is more than fits at all."""
        ...

    def refuse_if_full(self, row_bytes: int) -> None:
        """Raises Full unless rows of so many bytes fit besides what is unsettled now."""
        ...

    def client_room(self, client_id: str, *, share: float) -> tuple[int, int]:
        """How many bytes the client's rows take now, and how many they may, of such a share of the room."""
        ...

    def fill(self) -> tuple[int, int]:
        """How many bytes all rows take now, and how many they may; none of either where nothing is recorded."""
        ...
