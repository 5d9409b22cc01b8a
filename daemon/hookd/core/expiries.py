"""Owns which unsettled events have an expiry of their own, by the second in which it passes.

Rules:
 1. An event stands here once, as long as it is unsettled. One whose second has come stays as lapsed until it settles:
    it may be in flight, or an operator may hold its endpoint.
 2. To come in and to go takes the same time however many there are.
It ends nothing: flow/housekeeping asks once a second.
Limits: about 100 B for each such event; 400 B where each has a second of its own.
"""

import math

from hookd.core.expiring_event import ExpiringEvent

# So far the clock may have gone on since the last look, with a turn for each second.
SECONDS_AT_ONCE = 10_000


class Expiries:
    def __init__(self) -> None:
        self._by_second: dict[int, dict[int, ExpiringEvent]] = {}  # then by sequence; none is empty
        self._lapsed: dict[int, ExpiringEvent] = {}  # by sequence
        self._looked_at: int | None = None  # the last second whose events are among the lapsed

    def __len__(self) -> int:
        return sum(map(len, self._by_second.values())) + len(self._lapsed)

    def add(self, event: ExpiringEvent) -> None:
        """It is unsettled from here on."""
        second = math.floor(event.expires_monotonic)
        if self._looked_at is not None and second <= self._looked_at:
            self._lapsed[event.sequence] = event
        else:
            self._by_second.setdefault(second, {})[event.sequence] = event

    def remove(self, event: ExpiringEvent) -> None:
        """It has settled. Raises KeyError where it is not here."""
        if self._lapsed.pop(event.sequence, None) is not None:
            return
        second = math.floor(event.expires_monotonic)
        of_second = self._by_second[second]
        del of_second[event.sequence]
        if not of_second:
            del self._by_second[second]

    def lapsed(self, now: float) -> list[ExpiringEvent]:
        """Those whose second has come by now (monotonic), the longest lapsed first."""
        second = math.floor(now)
        for each in self._seconds_until(second):
            self._lapsed |= self._by_second.pop(each, {})
        self._looked_at = second
        return list(self._lapsed.values())

    def _seconds_until(self, second: int) -> list[int] | range:
        """Those to be looked at: one after the other, or after a long sleep of the machine all that there are."""
        since = self._looked_at
        if since is None or second - since > SECONDS_AT_ONCE:
            return sorted(each for each in self._by_second if each <= second)
        return range(since + 1, second + 1)
