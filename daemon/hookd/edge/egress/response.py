"""The body of a response as httpx wants it, bounded, and what becomes of the connection after it.

Rules:
 * At most `body_bytes_max` are read; the stream then ends as if the body did, and the connection is closed.
 * Read to its end, the connection goes back to the pool by itself if it is clean; whatever else happens closes it.
 * After a 2xx to a request that is still being written, the end of the body waits until that is done: a receiver may
   answer first and read after. After any other status, or on close, the rest is not written.
 * `body` is what came so far, also after a cut, a failure or a cancel; with a small answer that came in one piece it is
   the whole body before anyone read.

Does not decode: a body is the bytes as sent, without the transfer coding. Read it by `read` or httpx's `aiter_raw`;
httpx's `aread` would decode what `content-encoding` says, bombs included.
"""

from collections.abc import AsyncIterator, Callable, Hashable

import httpx

from hookd.edge.egress.connection import Connection
from hookd.edge.egress.wire import ResponseReader


class ResponseStream(httpx.AsyncByteStream):
    """Holds the connection until the body was read to its end, or `close`."""

    __slots__ = ("_connection", "_give_back", "_is_settled", "_offset", "_response")

    def __init__(
        self, connection: Connection, response: ResponseReader, give_back: Callable[[Connection], None]
    ) -> None:
        self._connection = connection
        self._response = response
        self._give_back = give_back
        self._is_settled = False
        self._offset = 0
        self._settle()

    @property
    def key(self) -> Hashable:
        """Whose connection it is."""
        return self._connection.key

    @property
    def is_settled(self) -> bool:
        """The connection is given back or closed: there is nothing more to come."""
        return self._is_settled

    @property
    def is_sending(self) -> bool:
        """The request is still being written."""
        return self._connection.is_sending

    @property
    def body(self) -> bytes:
        return bytes(self._response.body)

    @property
    def is_cut(self) -> bool:
        """There was more than was read."""
        return self._response.is_cut

    async def read(self) -> bytes:
        """The body, to its end or its budget. Raises httpx.TransportError where it breaks off; `body` has the rest."""
        while not self._is_settled:
            await self._read_on()
        return self.body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self  # not a generator: one that is left half-way would wait for gc to be closed

    async def __anext__(self) -> bytes:
        while self._offset == len(self._response.body):
            if self._is_settled:
                raise StopAsyncIteration
            await self._read_on()
        piece = bytes(self._response.body[self._offset :])
        self._offset += len(piece)
        return piece

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Without a checkpoint. An answer that was not read to its end costs its connection."""
        if not self._is_settled:
            self._end()
            self._connection.close()

    async def _read_on(self) -> None:
        """One step towards the end: what broke is raised, what is missing is read, what is unwritten waited for."""
        response = self._response
        try:
            if response.failure is not None:
                raise response.failure
            if response.is_complete or response.is_cut:
                await self._connection.wait_written()
            else:
                await self._connection.receive(response)
        except BaseException:
            self._end()
            await self._connection.abandon()
            raise
        self._settle()

    def _end(self) -> None:
        self._is_settled = True
        if self._response.has_place:
            self._response.let_go()

    def _settle(self) -> None:
        response, connection = self._response, self._connection
        if connection.is_reusable_after(response):
            self._end()
            self._give_back(connection)
        elif response.is_complete or response.is_cut:
            is_success = 200 <= response.status_code <= 299
            if not (is_success and connection.is_sending):
                self.close()
