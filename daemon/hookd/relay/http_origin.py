"""Owns how the relay speaks HTTP/1.1 with one origin: kept connections, bounds, and what a failure means.

Rules: a request that was not written at all is `Unsent`, and may simply be sent again; one of which anything may have
arrived is `Unanswered`. A kept connection that has something to read before a request was sent has been closed, and is
not used. No redirect is followed and no proxy used.
Limits: ANSWER_BYTES_MAX of one answer; as many idle connections as there were requests at once, 30 KiB each with TLS.
"""

import re
import select
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import h11
import trio

ANSWER_BYTES_MAX = 16 * 2**20
READ_BYTES = 64 * 1024
CONNECT_SECONDS_MAX = 3.0
IDLE_SECONDS_MAX = 30.0  # the daemon keeps a connection for 75 s


class Unsent(Exception):
    """Nothing of the request arrived; the message says why."""


class Unanswered(Exception):
    """The request may have arrived, wholly or in part."""


class HttpAnswer(NamedTuple):
    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class _Link:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream, socket: trio.socket.SocketType) -> None:
        self.stream = stream
        self.state = h11.Connection(h11.CLIENT)
        self.idle_since = 0.0
        self._socket = socket

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has come on it since the last answer: not its end, either."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return trio.current_time() - self.idle_since < IDLE_SECONDS_MAX and not poll.poll(0)

    @property
    def is_done(self) -> bool:
        """The answer was read to its end, and nothing came behind it: that would be read as the next one's."""
        return (
            self.state.our_state is h11.DONE and self.state.their_state is h11.DONE and not self.state.trailing_data[0]
        )


def checked_origin(url: str) -> str:
    """Raises ValueError for what is no URL of an origin, with or without a path before ours."""
    if not re.fullmatch("[!-~]+", url):
        raise ValueError(f"{url!r}: write it in ASCII, as it is sent")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no URL of a daemon; write http://HOST:PORT")
    parts.port  # noqa: B018 - raises where it is no number
    parts.hostname.encode("idna")  # as it is looked up; raises where a part of it is empty or too long
    return url.rstrip("/")


class HttpOrigin:
    """Raises ValueError as `checked_origin` does."""

    def __init__(self, url: str) -> None:
        self.url = checked_origin(url)
        parts = urlsplit(self.url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._named = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[_Link] = []

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str], seconds: float
    ) -> HttpAnswer:
        """Raises Unsent or Unanswered."""
        link = await self._link()
        is_kept = False
        try:
            with trio.fail_after(seconds):
                answer = await self._exchange(link, method, path, body, headers)
            is_kept = link.is_done
        except trio.TooSlowError:
            raise Unanswered(f"no answer within {seconds:g} s") from None
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
            raise Unanswered(str(error) or type(error).__name__) from error
        finally:
            if is_kept:
                self._keep(link)
            else:
                await trio.aclose_forcefully(link.stream)
        return answer

    async def aclose(self) -> None:
        for link in self._idle:
            await trio.aclose_forcefully(link.stream)
        self._idle.clear()

    def _keep(self, link: _Link) -> None:
        link.state.start_next_cycle()
        link.idle_since = trio.current_time()
        self._idle.append(link)

    async def _link(self) -> _Link:
        while self._idle:
            link = self._idle.pop()
            if link.is_fresh:
                return link
            await trio.aclose_forcefully(link.stream)
        try:
            with trio.fail_after(CONNECT_SECONDS_MAX):
                return await self._connected()
        except trio.TooSlowError:
            raise Unsent(f"no connection to {self.url} within {CONNECT_SECONDS_MAX:g} s") from None
        except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
            raise Unsent(f"no connection to {self.url}: {error}") from error

    async def _connected(self) -> _Link:
        stream = await trio.open_tcp_stream(self._host, self._port)
        if self._tls is None:
            return _Link(stream, stream.socket)
        tls = trio.SSLStream(stream, self._tls, server_hostname=self._host, https_compatible=True)
        try:
            await tls.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return _Link(tls, stream.socket)

    async def _exchange(
        self, link: _Link, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> HttpAnswer:
        fields = [("host", self._named), ("content-length", str(len(body))), *headers.items()]
        request = h11.Request(method=method, target=self._prefix + path, headers=fields)
        state = link.state
        data = state.send(request) or b""
        if body:
            data += state.send(h11.Data(data=body)) or b""
        await link.stream.send_all(data + (state.send(h11.EndOfMessage()) or b""))
        response = await _next_event(link)
        while isinstance(response, h11.InformationalResponse):
            response = await _next_event(link)
        assert isinstance(response, h11.Response)
        parts: list[bytes] = []
        size = 0
        while isinstance(event := await _next_event(link), h11.Data):
            parts.append(bytes(event.data))
            if (size := size + len(event.data)) > ANSWER_BYTES_MAX:
                raise h11.RemoteProtocolError(f"the answer is longer than {ANSWER_BYTES_MAX:,} bytes")
        return HttpAnswer(response.status_code, dict(response.headers), b"".join(parts))


async def _next_event(link: _Link) -> h11.Event:
    while True:
        event = link.state.next_event()
        if event is h11.NEED_DATA:
            link.state.receive_data(bytes(await link.stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Event):
            return event
        else:
            raise h11.RemoteProtocolError("the connection has ended")
