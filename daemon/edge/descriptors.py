"""Owns the process's descriptor limit: raised to what the system allows, and what that leaves for connections."""

import resource

# Listening sockets, logs, the report, look-ups and what the interpreter keeps open.
RESERVED = 64


def raise_limit() -> int:
    """Raises the soft limit to the hard one; returns how many descriptors the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def left_for_deliveries(limit: int, *, api_connections_max: int) -> int:
    """How many attempts may be in flight: what the API leaves when it has all of its connections.

    At least half, and one: with a limit of 1,024 the API's thousand would leave none. When both are full then, a
    connect fails as unreachable, and says why.
    """
    connections = limit - RESERVED
    return max(1, connections // 2, connections - api_connections_max)
