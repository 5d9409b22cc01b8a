"""Ids for events that come without one: 96 random bits of the system's.

They are drawn for 256 events at a time: one by one the call to the system takes longer than all else about an id.
"""

import os
from collections.abc import Callable

from hookd.core.shard import event_id_prefix

AT_ONCE = 256
RANDOM_BYTES = 12


class EventIds:
    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom, *, shard: str = "") -> None:
        self._random_bytes = random_bytes
        self._prefix = event_id_prefix(shard)
        self._drawn: list[str] = []  # at most AT_ONCE, 94 B each

    def new(self) -> str:
        """Each id once."""
        if not self._drawn:
            digits = self._random_bytes(AT_ONCE * RANDOM_BYTES).hex()
            width = 2 * RANDOM_BYTES
            self._drawn = [f"{self._prefix}{digits[at : at + width]}" for at in range(0, len(digits), width)]
        return self._drawn.pop()
