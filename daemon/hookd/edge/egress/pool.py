"""Every connection of a transport, and which of them are idle and may be used again.

One small pool for each key: a key names an endpoint and where it is, so that no endpoint is ever handed a connection on
which another one may have planted an answer, and a shared host does not couple two clients.

Rules:
 * The last one given back is taken first: the others grow old and are closed.
 * An idle connection is closed after `idle_seconds` by one janitor, which sleeps until the next of them is due. Nothing
   polls, and nothing costs more because there are more idle ones: 1,000 idle endpoints or none, a request's cost is the
   same.
 * Nobody gets one whose address was looked up `age_seconds_max` ago, or longer: the name may have moved.
 * At most `idle_per_key_max` of one key, and `idle_max` in all; over that the oldest goes.
 * `make_room` closes the oldest idle ones where a new connection would exceed `connections_max`. It never waits and
   never refuses: how many requests are in flight is the caller's limit.
 * Before it is used again a connection is looked at: one on which something came in, an end or bytes, is closed.
 * Taking, giving back and closing are sync. Only the look into a TLS connection may wait, and whoever took it looks.

Known limits: a peer that closed its end is noticed when the connection is taken or due. An idle connection is a
descriptor and about 3 KiB, with TLS about 30 KiB. `close_idle` and `close` take 15 us a connection in one go.
"""

import math
from collections.abc import Hashable

import trio

from hookd.edge.egress.connection import Connection
from hookd.edge.egress.network_streams import NetworkStream


class Pool:
    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        idle_seconds: float,
        idle_per_key_max: int,
        idle_max: int,
        connections_max: int,
        age_seconds_max: float = math.inf,
    ) -> None:
        """Starts its janitor in the nursery."""
        self._nursery = nursery
        self._idle_seconds = idle_seconds
        self._idle_per_key_max = idle_per_key_max
        self._idle_max = idle_max
        self._connections_max = connections_max
        self.age_seconds_max = age_seconds_max
        self._now = trio.lowlevel.current_clock().current_time  # half of what `trio.current_time` costs
        self._open: dict[Connection, None] = {}  # a set in order of opening
        self._idle: dict[Hashable, list[Connection]] = {}  # the last given back is the last of its list
        self._due: dict[Connection, float] = {}  # idle ones, the first due first: all stay the same time
        self._first_due = trio.Event()
        nursery.start_soon(self._close_when_due)

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def idle_count(self) -> int:
        return len(self._due)

    def make_room(self) -> None:
        while len(self._open) >= self._connections_max and self._due:
            next(iter(self._due)).close()

    def adopt(self, network_stream: NetworkStream, key: Hashable, *, looked_up_at: float) -> Connection:
        """A link becomes a connection of ours, in use."""
        connection = Connection(
            network_stream, self._nursery, key=key, looked_up_at=looked_up_at, on_close=self._forget
        )
        self._open[connection] = None
        return connection

    def take(self, key: Hashable) -> Connection | None:
        """An idle connection on which nothing came in; whoever takes it gives it back or closes it.

        One over TLS has to be looked into before it is used: `is_quiet_within`.
        """
        while idle := self._idle.get(key):
            connection = idle.pop()
            del self._due[connection]
            if not idle:
                del self._idle[key]
            if not self._is_old(connection, self._now()) and connection.is_quiet():
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """It is clean and nobody uses it."""
        assert connection in self._open
        assert connection not in self._due
        now = self._now()
        if self._is_old(connection, now):
            connection.close()
            return
        idle = self._idle.setdefault(connection.key, [])
        idle.append(connection)
        self._due[connection] = now + self._idle_seconds
        if len(self._due) == 1:
            self._first_due.set()
        if len(idle) > self._idle_per_key_max:
            idle[0].close()
        if len(self._due) > self._idle_max:
            next(iter(self._due)).close()

    def close_idle(self) -> None:
        """For when the rules for connecting changed: what comes next connects anew. Those in use are not kept."""
        for connection in tuple(self._due):
            connection.close()
        for connection in self._open:
            connection.looked_up_at = -math.inf

    def close(self) -> None:
        """Those in use as well."""
        for connection in tuple(self._open):
            connection.close()

    def _is_old(self, connection: Connection, now: float) -> bool:
        return now - connection.looked_up_at >= self.age_seconds_max

    def _forget(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        if connection in self._due:
            self._remove_idle(connection)

    def _remove_idle(self, connection: Connection) -> None:
        del self._due[connection]
        idle = self._idle[connection.key]
        idle.remove(connection)  # at most idle_per_key_max + 1 of them
        if not idle:
            del self._idle[connection.key]

    async def _close_when_due(self) -> None:
        while True:
            if not self._due:
                self._first_due = trio.Event()
                await self._first_due.wait()
                continue
            connection, due_at = next(iter(self._due.items()))
            if due_at <= self._now():
                connection.close()
                await trio.lowlevel.checkpoint()  # a thousand may be due at once: nobody has to wait for all of them
            else:
                await trio.sleep_until(due_at)
