"""Where HAProxy sends each client, as `hash-type consistent sdbm avalanche` does: worked out, without HAProxy.

A server has 16 places in the ring for each point of its weight. A client goes to the place that is nearest to its hash.
test_fleet.py holds this against the real one.
"""

from bisect import bisect_left
from collections.abc import Iterable

_MASK = 0xFFFFFFFF
PLACES_A_WEIGHT = 16
_PLACES_RANGE = 256 * PLACES_A_WEIGHT


class Ring:
    """`servers` are the ids of the server lines; those that are gone take no part."""

    def __init__(self, servers: Iterable[int], *, weight: int = 100) -> None:
        places = sorted(
            (_avalanche(server * _PLACES_RANGE + number), server)
            for server in servers
            for number in range(weight * PLACES_A_WEIGHT)
        )
        self._at = [at for at, _ in places]
        self._servers = [server for _, server in places]

    def server_of(self, client_id: str, gone: frozenset[int] = frozenset()) -> int:
        at = _hash(client_id)
        found = bisect_left(self._at, at)
        after, before = found, found - 1
        while self._servers[after % len(self._at)] in gone:
            after += 1
        while self._servers[before % len(self._at)] in gone:
            before -= 1
        to_next = (self._at[after % len(self._at)] - at) & _MASK
        to_last = (at - self._at[before % len(self._at)]) & _MASK
        return self._servers[(before if to_last <= to_next else after) % len(self._at)]


def _hash(text: str) -> int:
    number = 0
    for byte in text.encode():
        number = (byte + (number << 6) + (number << 16) - number) & _MASK
    return _avalanche(number)


def _avalanche(number: int) -> int:
    """Bob Jenkins' integer hash, and a factor of HAProxy's."""
    a = number
    a = ((a + 0x7ED55D16) + (a << 12)) & _MASK
    a = (a ^ 0xC761C23C) ^ (a >> 19)
    a = ((a + 0x165667B1) + (a << 5)) & _MASK
    a = ((a + 0xD3A2646C) ^ (a << 9)) & _MASK
    a = ((a + 0xFD7046C5) + (a << 3)) & _MASK
    a = (a ^ 0xB55A4F09) ^ (a >> 16)
    return (a * 3221225473) & _MASK
