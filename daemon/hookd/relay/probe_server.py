"""Owns the relay's own HTTP server: GET /livez, /readyz and /metrics, one request a connection.

Limits: CONNECTIONS_MAX at once; more are closed. A head of HEAD_BYTES_MAX within REQUEST_SECONDS_MAX.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import h11
import trio

CONNECTIONS_MAX = 50
REQUEST_SECONDS_MAX = 5.0
HEAD_BYTES_MAX = 8192
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Shown(NamedTuple):
    status: int
    content_type: str
    text: str


Pages = Mapping[str, Callable[[], Shown]]


async def serve_probes(listeners: Sequence[trio.SocketListener], pages: Pages) -> None:
    """For ever."""
    limiter = trio.CapacityLimiter(CONNECTIONS_MAX)
    await trio.serve_listeners(partial(_serve, limiter=limiter, pages=pages), list(listeners))


async def _serve(stream: trio.SocketStream, *, limiter: trio.CapacityLimiter, pages: Pages) -> None:
    try:
        limiter.acquire_on_behalf_of_nowait(stream)
    except trio.WouldBlock:
        await trio.aclose_forcefully(stream)
        return
    try:
        with trio.move_on_after(REQUEST_SECONDS_MAX):
            await _answer(stream, pages)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        pass  # whoever asked is gone, or spoke no HTTP
    finally:
        limiter.release_on_behalf_of(stream)
        await trio.aclose_forcefully(stream)


async def _answer(stream: trio.SocketStream, pages: Pages) -> None:
    state = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    while (event := state.next_event()) is h11.NEED_DATA:
        state.receive_data(await stream.receive_some(HEAD_BYTES_MAX))
    if not isinstance(event, h11.Request):
        return
    shown = _shown(event, pages)
    body = shown.text.encode()
    headers = [("content-type", shown.content_type), ("content-length", str(len(body))), ("connection", "close")]
    data = state.send(h11.Response(status_code=shown.status, headers=headers)) or b""
    if event.method != b"HEAD":
        data += state.send(h11.Data(data=body)) or b""
    await stream.send_all(data)
    await stream.send_eof()


def _shown(request: h11.Request, pages: Pages) -> Shown:
    page = pages.get(request.target.partition(b"?")[0].decode("ascii", errors="replace"))
    if page is None:
        return Shown(404, TEXT, f"there are {', '.join(pages)}\n")
    if request.method not in (b"GET", b"HEAD"):
        return Shown(405, TEXT, "GET\n")
    return page()
