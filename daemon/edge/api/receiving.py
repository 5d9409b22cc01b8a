"""Owns the bytes of request bodies that are held, over all connections: counts them, bounds them, lets them go.

Quart takes whatever the server reads into memory, read by a route or not. So each body counts what it holds from the
first byte to the end of its request, and holds nothing more once it is refused:

 * Over `intake.body_bytes_max`: TooLarge. Over `intake.receiving_bytes_max` with all others: Full, before anything of
   it is admitted; what it held is free at once, so that the others can end.
 * Of a GET, HEAD, DELETE or OPTIONS, which no route reads: no more than DISCARD_BYTES_MAX.

Counted is what has come, not what a head announces: else four heads would fill the budget.
Worst case: `receiving_bytes_max`, and one body more while its request turns it into events, which never waits.
"""

from typing import TYPE_CHECKING, Any

import trio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody

from daemon.core.live import Live
from daemon.core.refusal import Full, Refused, TooLarge
from daemon.core.units import format_size

if TYPE_CHECKING:
    from quart.wrappers import Request
    from quart_trio import QuartTrio

# Of a body that no route reads: more costs more than another connection.
DISCARD_BYTES_MAX = 64 * 1024
# Bodies come and go in moments.
RETRY_AFTER_SECONDS = 1

_WITHOUT_BODY = ("GET", "HEAD", "DELETE", "OPTIONS")


class Receiving:
    """One for the daemon."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.held_bytes = 0

    def take(self, count: int, *, held_bytes: int) -> Refused | None:
        """Counts what has come for a body that holds so much already, or says why it is not taken."""
        intake = self._live.settings.intake
        if held_bytes + count > intake.body_bytes_max:
            return too_large(intake.body_bytes_max)
        if self.held_bytes + count > intake.receiving_bytes_max:
            bytes_max = format_size(intake.receiving_bytes_max)
            detail = f"all bodies being received are at intake.receiving_bytes_max, {bytes_max}"
            return Full(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
        self.held_bytes += count
        return None

    def free(self, count: int) -> None:
        self.held_bytes -= count


class CountedBody(TrioBody):
    """One request's body. What the server brings goes in by `append` and `set_complete`, which are Quart's names."""

    def __init__(self, receiving: Receiving, *, is_read: bool) -> None:
        super().__init__(None, None)
        self._receiving = receiving
        self._is_read = is_read
        self._held_bytes = 0
        self._arrived_bytes = 0
        self._arrived_bytes_max = 0
        self._refusal: Refused | None = None
        self._is_dropping = False
        self._decided = trio.Event()
        self.is_complete = False

    async def read(self) -> bytes:
        """The whole body. Raises TooLarge or Full as soon as it is known. What is returned still counts."""
        await self._decided.wait()
        if self._refusal is not None:
            raise self._refusal
        data = bytes(self._data)
        self._data.clear()
        return data

    async def wait_end(self, bytes_max: int) -> bool:
        """Drops what there is and what comes, to the end of the body; False if that takes more than `bytes_max`."""
        self.drop()
        self._arrived_bytes_max = self._arrived_bytes + bytes_max
        self._decided = trio.Event()
        if not self.is_complete:
            await self._decided.wait()
        return self.is_complete

    def drop(self) -> None:
        """Holds nothing any more, now or later."""
        self._is_dropping = True
        self._data.clear()
        self._receiving.free(self._held_bytes)
        self._held_bytes = 0

    @property
    def arrived_bytes(self) -> int:
        return self._arrived_bytes

    def append(self, data: bytes) -> None:
        self._arrived_bytes += len(data)
        if self._is_dropping:
            if self._arrived_bytes > self._arrived_bytes_max:
                self._decided.set()
        elif not self._is_read and self._arrived_bytes > DISCARD_BYTES_MAX:
            self.drop()
        else:
            self._hold(data)

    def _hold(self, data: bytes) -> None:
        self._refusal = self._receiving.take(len(data), held_bytes=self._held_bytes)
        if self._refusal is not None:
            self.drop()
            self._decided.set()
        else:
            self._held_bytes += len(data)
            self._data += data

    def set_complete(self) -> None:
        super().set_complete()
        self.is_complete = True
        self._decided.set()


def counting_connection(receiving: Receiving) -> type[TrioASGIHTTPConnection]:
    """Quart's connection of one request, whose body counts until the request's end, however that comes."""

    class Connection(TrioASGIHTTPConnection):
        def __init__(self, app: "QuartTrio", scope: Any) -> None:
            super().__init__(app, scope)
            self.body = CountedBody(receiving, is_read=scope["method"] not in _WITHOUT_BODY)

        # The arguments have hypercorn's types, which the server alone knows.
        async def __call__(self, receive: Any, send: Any) -> None:
            try:
                await super().__call__(receive, send)
            finally:
                self.body.drop()

        def _create_request_from_scope(self, send: Any) -> "Request":
            request = super()._create_request_from_scope(send)
            request.body = self.body
            return request

    return Connection


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"the body is larger than intake.body_bytes_max, {format_size(bytes_max)}")
