"""Owns the process's descriptor limit: raised to what the system allows, and how connections share it."""

import resource
from typing import NamedTuple

# Listening sockets, logs, the report, look-ups, the API's spare connections and what the interpreter keeps open; half
# of a very small limit.
RESERVED = 64


class Shares(NamedTuple):
    """How many connections either side may have: together no more than leaves the report its descriptor."""

    deliveries: int
    api: int


def raise_limit() -> int:
    """Raises the soft limit to the hard one; returns how many descriptors the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def shares(limit: int, *, deliveries_max: int, api_max: int) -> Shares:
    """Deliveries get what the API leaves when it has all of its connections, and at least half; the API the rest.

    With a limit of 1,024 the API's thousand would leave none; and an API that took more than the rest would have
    attempts fail that never reached their endpoint.
    """
    connections = limit - min(RESERVED, limit // 2)
    deliveries = max(1, min(deliveries_max, max(connections // 2, connections - api_max)))
    return Shares(deliveries, max(1, min(api_max, connections - deliveries)))
