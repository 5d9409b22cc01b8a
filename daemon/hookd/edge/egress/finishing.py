"""Reads the rest of answers that were decided by their head, so that their connections can be used again.

A 2xx settles its delivery when its head is complete. What still comes on the connection then holds up nobody: it is
read here, in a task of its own, or the connection is closed.

Rules:
 * A body gets BODY_SECONDS_MAX, and its `body_bytes_max` (response.py). A request that is still being written gets
   WRITING_SECONDS_MAX in place of that: a receiver may well answer first and read after.
 * At most FINISHING_MAX connections at a time, FINISHING_PER_KEY_MAX of one endpoint. Over that they are closed at
   once: it costs whoever answers like that its kept connections, and nobody else anything.
 * `close_oldest` makes room for a connection that is wanted now.

Worst-case memory: FINISHING_MAX times `response_bytes_max`, 8 MiB by default, out of what `connections_max` allows for.
"""

from collections import Counter
from collections.abc import Hashable

import httpx
import trio

from hookd.edge.egress.response import ResponseStream

BODY_SECONDS_MAX = 1.0
WRITING_SECONDS_MAX = 10.0
FINISHING_MAX = 512
FINISHING_PER_KEY_MAX = 16


class Finisher:
    """`nursery` is where the tasks live; cancelling it closes the connections."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._streams: dict[ResponseStream, None] = {}  # a set, the oldest first
        self._of_key: Counter[Hashable] = Counter()

    @property
    def count(self) -> int:
        return len(self._streams)

    def finish(self, stream: ResponseStream) -> None:
        """Returns at once; the stream is no more the caller's."""
        if stream.is_settled:
            return
        if len(self._streams) >= FINISHING_MAX or self._of_key[stream.key] >= FINISHING_PER_KEY_MAX:
            stream.close()
            return
        self._streams[stream] = None
        self._of_key[stream.key] += 1
        self._nursery.start_soon(self._read_rest, stream)

    def close_oldest(self) -> bool:
        """False if there is none."""
        for stream in self._streams:
            self._forget(stream)
            stream.close()
            return True
        return False

    async def _read_rest(self, stream: ResponseStream) -> None:
        try:
            with trio.move_on_after(WRITING_SECONDS_MAX if stream.is_sending else BODY_SECONDS_MAX):
                await stream.read()
        except httpx.TransportError:
            pass  # the head has decided
        finally:
            stream.close()
            self._forget(stream)

    def _forget(self, stream: ResponseStream) -> None:
        if stream not in self._streams:
            return
        del self._streams[stream]
        self._of_key[stream.key] -= 1
        if not self._of_key[stream.key]:
            del self._of_key[stream.key]
