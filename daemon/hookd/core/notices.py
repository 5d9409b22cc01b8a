"""Owns the notices feed's ring: what hookd told, in order, as far back as `retention.notices_max`.

Rules: as core/ring has them. Who waits for the next one is flow/feed's business, what a cursor looks like edge/api's.
Limits: `retention.notices_max` rows of NOTICE_BYTES at most: 10 MB by default. A page of 1,000 takes 0.3 ms. Where
only certain clients' are wanted, a page looks through LOOKED_AT_AT_ONCE rows at most, and may have nothing of them.
"""

from collections.abc import Set

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.notice import Notice
from hookd.core.ring import Page

NOTICE_BYTES = 2000
LOOKED_AT_AT_ONCE = 2500


class Notices:
    """`end` is the position that the next notice will have, `oldest` that of the oldest held."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._rows: dict[int, Notice] = {}  # by position
        self._oldest = 0  # of those not dropped yet
        self.end = 0

    @property
    def oldest(self) -> int:
        """Reading drops nothing: what a reload made too many is hidden here, and dropped by `trim`."""
        return max(self._oldest, self.end - self._effective.settings.retention.notices_max)

    def append(self, notice: Notice) -> None:
        self._rows[self.end] = notice
        self.end += 1
        self.trim()

    def lose(self) -> None:
        """One could not be taken, and may be missing: whoever reads on is told of a gap."""
        self._rows.clear()
        self.end += 1
        self._oldest = self.end

    def page(self, position: int | None, *, limit: int, clients: Set[str] | None = None) -> Page[Notice]:
        """From `position` on, or from the oldest held where it is None or dropped already; of these clients alone."""
        assert position is None or position <= self.end
        has_gap = position is not None and position < self.oldest
        at = self.oldest if position is None or has_gap else position
        end = min(at + LOOKED_AT_AT_ONCE, self.end)
        found: list[Notice] = []
        while at < end and len(found) < limit:
            notice = self._rows[at]
            if clients is None or notice.client_id in clients:
                found.append(notice)
            at += 1
        return Page(found, at, has_gap)

    def trim(self) -> None:
        """Drops what is over the limit: with each notice, and when a reload has changed the limit."""
        oldest = self.oldest
        for position in range(self._oldest, oldest):
            del self._rows[position]
        self._oldest = oldest
