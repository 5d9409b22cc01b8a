"""Owns one request as the server brings it, and its answer: ASGI's messages, in Quart's form.

Quart-Trio runs two tasks for each request: one answers it, the other takes in its body and waits for the peer to hang
up. Here the answering task takes in the body as well. A second task runs only while an answer waits for something else
(`listening`).

Rules:
 * Everything that the server brings is taken, to the end of the body or of the request. A full channel would hold up
   the server, which could then neither end the request nor notice that its peer is gone.
 * A peer that hangs up (a reset, not the end of its sending) ends its request at the next wait, by ClientDisconnected;
   what no longer waits is done and answered.
 * An answer's time is the server's to bound: it has a deadline for each write. A long answer is a few writes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import trio
from quart import Response, request
from quart.wrappers.response import DataBody
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import Headers

from hookd.core.bind import GRANTED
from hookd.edge.api.answer_budget import AnswerBudget, CountedAnswer
from hookd.edge.api.body_budget import DISCARD_BYTES_MAX, BodyBudget, CountedBody
from hookd.edge.api.callers import Callers

T = TypeVar("T")

DISCARD_SECONDS_MAX = 1.0

# A longer answer is written in so many pieces at most: it is not copied as a whole on its way through h11 and TLS.
SENT_AT_ONCE_BYTES = 64 * 1024
# Each has the server's deadline for a write, so that even the slowest peer has its answer, or is cut, within 80 s.
PIECES_MAX = 8
_WITHOUT_BODY = ("GET", "HEAD", "DELETE", "OPTIONS")


class ClientDisconnected(Exception):
    """The peer is gone: there is nobody to answer."""


class ApiRequest(TrioRequest):
    """Quart's, with a table of its headers: werkzeug searches the list for each header that is read."""

    def __init__(self, exchange: "RequestExchange", *given: Any, first: Mapping[bytes, str], **named: Any) -> None:
        self.exchange = exchange
        self.first = first  # the first value of each header, by its name in lower case
        self.parameters: Any = None  # of the query, once they are read
        super().__init__(*given, **named)

    @property
    def content_length(self) -> int | None:
        announced = self.first.get(b"content-length")  # the server has checked it
        return None if announced is None or b"transfer-encoding" in self.first else int(announced)


def this_request() -> ApiRequest:
    return cast(ApiRequest, request._get_current_object())  # type: ignore[attr-defined]


class RequestExchange(TrioASGIHTTPConnection):
    """Quart's name for one request and its answer."""

    def __init__(
        self, body_budget: BodyBudget, answer_budget: AnswerBudget, callers: Callers, app: Any, scope: Any
    ) -> None:
        super().__init__(app, scope)
        self._callers = callers
        self.clients: frozenset[str] | None = None  # those that its token is held to; None: to none
        self.is_granted = self.may_administer = False
        self.token_name: str | None = None
        self.answer = CountedAnswer(answer_budget)
        self.body = CountedBody(body_budget, is_read=scope["method"] not in _WITHOUT_BODY)
        self._receive: Callable[[], Awaitable[Any]]

    # The arguments have hypercorn's types, which the server alone knows.
    async def __call__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        try:
            response = await self.app.handle_request(self._create_request_from_scope(send))
            if self.body.is_complete:
                await self._send_response(send, response)
            else:
                await self.listening(lambda: self._send_response(send, response))
        except ClientDisconnected:
            pass
        finally:
            self.body.drop()
            self.answer.drop()
            if self.body.caller is not None:
                self._callers.leave(self.body.caller)

    def grant(
        self, token_name: str | None, clients: frozenset[str] | None = None, *, may_administer: bool = True
    ) -> None:
        """It may be asked, with this token or without any. The server is told. Raises ClientFull."""
        self.clients, self.token_name = clients, token_name
        self.is_granted, self.may_administer = True, may_administer
        if token_name is not None:
            self.body.caller = self.answer.caller = self._callers.enter(token_name)
        note_granted = self.scope.get("state", {}).get(GRANTED)
        if note_granted is not None:
            note_granted()

    async def read_body(self) -> bytes:
        """The whole body. It still counts. Raises TooLarge, ClientFull or Full as soon as that is known."""
        while not self.body.is_decided:
            await self._take_message()
        return self.body.take()

    async def discard_body(self) -> bool:
        """Throws away the rest of the body; False where that would take too long."""
        self.body.drop()
        most = self.body.arrived_bytes + DISCARD_BYTES_MAX
        with trio.move_on_after(DISCARD_SECONDS_MAX):
            while not self.body.is_complete and self.body.arrived_bytes <= most:
                await self._take_message()
        return self.body.is_complete

    async def listening(self, work: Callable[[], Awaitable[T]]) -> T:
        """What comes of `work`, which is cancelled when the peer hangs up meanwhile: raises ClientDisconnected."""
        results: list[T] = []
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                results.append(await work())
            except Exception as error:  # raised below, as it is: a nursery would make a group of it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # it holds this frame, and would be garbage that only gc finds
        if not results:
            raise ClientDisconnected
        return results[0]

    async def _listen(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                await self._take_message()
        except ClientDisconnected:
            scope.cancel()

    async def _take_message(self) -> None:
        """The server's next, when it comes. Raises ClientDisconnected."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientDisconnected
        self.body.append(message.get("body", b""))
        if not message.get("more_body", False):
            self.body.is_complete = True

    def _create_request_from_scope(self, _send: Any) -> ApiRequest:
        scope = self.scope
        named = [(name, value.decode("latin1")) for name, value in scope["headers"]]
        headers = Headers()
        headers["Remote-Addr"] = (scope.get("client") or ["<local>"])[0]
        for name, value in named:
            headers.add(name.decode("latin1").title(), value)
        return ApiRequest(
            self,
            scope["method"],
            scope["scheme"],
            scope["path"],
            scope["query_string"],
            headers,
            scope.get("root_path", ""),
            scope["http_version"],
            first=dict(reversed(named)),
            max_content_length=None,
            send_push_promise=self._send_push_promise,
            scope=scope,
        )

    async def _send_response(self, send: Any, response: Any) -> None:
        data = data_of(response)
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        if len(data) > SENT_AT_ONCE_BYTES:
            data = await self._send_pieces(send, data)
        await send({"type": "http.response.body", "body": data, "more_body": False})

    async def _send_pieces(self, send: Any, data: bytes) -> bytes:
        """Sends all but the last piece, which it returns."""
        piece_bytes = max(SENT_AT_ONCE_BYTES, -(-len(data) // PIECES_MAX))
        last = (len(data) - 1) // piece_bytes * piece_bytes
        for at in range(0, last, piece_bytes):
            await send({"type": "http.response.body", "body": data[at : at + piece_bytes], "more_body": True})
        return data[last:]


def data_of(response: Any) -> bytes:
    assert isinstance(response, Response)
    assert isinstance(response.response, DataBody), "whatever a route answers is in memory"
    return response.response.data


def length_of(response: Response) -> int:
    return len(data_of(response))
