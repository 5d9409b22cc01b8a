"""Owns how many answers may have a long head at once: thousands of receivers that send 64 KiB each fill the memory.

Rules: a head up to LONG_HEAD_BYTES needs nothing. A longer one takes a place, until its answer is read or cut. Without
a place the answer is over its budget, as one of more than 64 KiB is.
Limits: LONG_HEADS_MAX places, LONG_HEADS_PER_ENDPOINT_MAX of one endpoint: half of all for a client with 16. Each is
the head and, once it is read, its fields: at most LONG_HEAD_HELD_BYTES.
"""

from collections import Counter
from collections.abc import Hashable

LONG_HEAD_BYTES = 8 * 1024
LONG_HEADS_MAX, LONG_HEADS_PER_ENDPOINT_MAX = 256, 8
LONG_HEAD_HELD_BYTES = 160 * 1024


class LongHeads:
    def __init__(self) -> None:
        self._taken: Counter[Hashable] = Counter()
        self.count = 0

    def take(self, endpoint: Hashable) -> bool:
        """A place; False where there is none."""
        if self.count >= LONG_HEADS_MAX or self._taken.get(endpoint, 0) >= LONG_HEADS_PER_ENDPOINT_MAX:
            return False
        self._taken[endpoint] += 1
        self.count += 1
        return True

    def give_back(self, endpoint: Hashable) -> None:
        self.count -= 1
        self._taken[endpoint] -= 1
        if not self._taken[endpoint]:
            del self._taken[endpoint]
