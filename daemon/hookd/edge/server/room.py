"""Owns who makes room where as many connections are open as there may be. The first of these that there is:

 * Where one network has more than half of all as strangers (strangers.py), and another asks: its oldest stranger,
   whatever that does. Where it asks itself, the next rules hold for its strangers alone.
 * One that is answered for good and lingers.
 * The kept one that was idle the longest.
 * The oldest that has brought no whole head, after HEAD_PATIENCE_SECONDS.

Who comes first is looked up once in a turn of the event loop: that goes through all connections, and in a burst each
turn displaces several.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

import trio

from hookd.edge.server.standing import Use

if TYPE_CHECKING:
    from collections.abc import Collection

    from hookd.edge.server.gate import TurnCount
    from hookd.edge.server.standing import Standing
    from hookd.edge.server.strangers import Network, Strangers
    from hookd.edge.server.tcp_connection import TcpConnection

HEAD_PATIENCE_SECONDS = 1.0


class Room:
    """Among `connections`. No `strangers`: it makes no difference whose they are."""

    def __init__(
        self,
        connections: Collection[TcpConnection],
        strangers: Strangers[TcpConnection] | None,
        *,
        turns: TurnCount,
        connections_max: int,
        header_timeout_seconds: float,
    ) -> None:
        self._connections, self._strangers, self._turns = connections, strangers, turns
        self._strangers_max = max(1, connections_max // 2)
        self._header_timeout_seconds = header_timeout_seconds
        self._found: deque[tuple[Standing, TcpConnection]] = deque()  # who is first in line to make room
        self._found_for: tuple[int, Network | None] | None = None  # in that turn, among the strangers of that network

    def make(self, network: Network) -> bool:
        """Closes one, for one of this network; it is gone a tick later. False where none makes room."""
        over = None if self._strangers is None else self._strangers.over(self._strangers_max)
        if self._strangers is not None and over is not None and over[0] != network:
            oldest = next(iter(over[1]))
            self._strangers.discard(oldest, over[0])
            oldest.cut()
            return True
        first = self._first() if over is None else self._first(*over)
        if first is None:
            return False
        (use, due), connection = first
        if use is Use.LINGERS:
            connection.cut()
        elif use is Use.HEADLESS and trio.current_time() < due - self._header_timeout_seconds + HEAD_PATIENCE_SECONDS:
            return False
        else:
            connection.close_if_idle()
        return True

    def _first(
        self, network: Network | None = None, among: Collection[TcpConnection] | None = None
    ) -> tuple[Standing, TcpConnection] | None:
        wanted = self._turns.number, network
        if self._found_for != wanted:
            connections = self._connections if among is None else among
            found = [(standing, one) for one in connections if (standing := one.standing) is not None]
            self._found, self._found_for = deque(sorted(found, key=itemgetter(0))), wanted
        while self._found:
            standing, connection = self._found[0]
            if connection.standing == standing:
                return self._found[0]
            self._found.popleft()  # it was told to go, or is in use by now
        return None
