"""Owns which connections have not been granted a request yet, by the network that they come from.

A stranger is a connection of which nobody knows whether it may ask: no head has come, or none that the app granted.
Rule: one network may have half of all connections without that. While there is room it may have more: a proxy that
connects a thousand times before it asks has its reasons. Where there is none, what is more makes room for others.
Limits: an entry for each connection, and one for each network with a stranger.
"""

import ipaddress
from collections.abc import Collection
from typing import Generic, TypeVar

C = TypeVar("C")

# Who has one IPv6 address has this many bits of others.
IPV6_NETWORK_BITS = 64

Network = str


def network_of(address: tuple[str, int] | None) -> Network:
    """An IPv4 address, an IPv6 network, `unix`, or "" for a stream in memory."""
    if address is None:
        return ""
    host = address[0].partition("%")[0]
    if ":" not in host:
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.IPv6Network((host, IPV6_NETWORK_BITS), strict=False))


class Strangers(Generic[C]):
    def __init__(self) -> None:
        self._by_network: dict[Network, dict[C, None]] = {}  # sets in order of arrival

    def add(self, connection: C, network: Network) -> None:
        self._by_network.setdefault(network, {})[connection] = None

    def discard(self, connection: C, network: Network) -> None:
        """It was granted a request, or is closed; both may be said."""
        found = self._by_network.get(network, {})
        found.pop(connection, None)
        if not found:
            self._by_network.pop(network, None)

    def over(self, most: int) -> tuple[Network, Collection[C]] | None:
        """A network that has more than `most` (half of all), and those that it has, the oldest first."""
        for network, found in self._by_network.items():
            if len(found) > most:
                return network, found
        return None
