"""Forward proxies: what one may do with a request, or with a CONNECT, and which way an endpoint is reached.

Some seeds have them (plan.py): one of the configuration, at a private address, and those of endpoints, each with
credentials. Over http a proxy hands the request to the receiver, with the fault that this one has. Over https it hands
on bytes, and the handshake fails as ever.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import trio
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.outcome import Exchange, Outcome
from hookd.flow.ports import DeliveryRequest, Sender

from tests.simulation.model import ForwardProxy, Registered
from tests.simulation.plan import OPERATORS_PROXY, PROXY_FAULTS
from tests.simulation.talk import Talk

if TYPE_CHECKING:
    from tests.simulation.network import Network

# It cannot be connected to, or its name leads where an endpoint's own may not be.
BEFORE_CONNECTED = ("proxy_down", "proxy_private")
GARBAGE = (b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01\x00\x00\x00", b"200 OK\r\n\r\n", b"\r\n" * 99)
REFUSED_TUNNELS = (401, 403, 405, 501, 502, 503, 504)
TUNNELS = (
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ncontent-length: 10\r\n\r\n",
    b"HTTP/1.1 299 \r\ntransfer-encoding: chunked\r\n\r\n",
)


def way_of(endpoint: Registered, shared: EndpointEgress | None) -> str:
    """The name of the proxy that leads to it; empty: none."""
    own: str | None = endpoint.traits.get("proxy")
    if own is None:
        return OPERATORS_PROXY if shared is not None else ""
    return own.rpartition("@")[2].partition(":")[0]


class WatchedSender:
    """The daemon's, which shows the network whom a task is about to post to: a proxy's name does not tell."""

    def __init__(self, sender: Sender, network: "Network") -> None:
        self._sender = sender
        self._network = network

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        with self._network.posting_to(request.url):
            return await self._sender.send(request, exchange)


@contextmanager
def noted(targets: dict[trio.lowlevel.Task, str], name: str) -> Iterator[None]:
    task = trio.lowlevel.current_task()
    targets[task] = name
    try:
        yield
    finally:
        del targets[task]


# Over http: each returns whether the link stays open.


async def _refuses(talk: Talk) -> bool:
    """In absolute form that looks like the endpoint's answer."""
    await talk.read_body()
    await talk.answer(talk.draw.choice((401, 403, 502, 503)), body=b"no")
    return True


async def _wants_credentials(talk: Talk) -> bool:
    await talk.read_body()
    await talk.answer(407, fields="proxy-authenticate: Basic\r\n", is_proxys=True)
    return True


async def _hangs(talk: Talk) -> bool:
    await talk.read_body()
    await talk.until_closed()
    return False


async def _garbage(talk: Talk) -> bool:
    await talk.read_body()
    await talk.end.send_all(talk.draw.choice(GARBAGE) + b"\x00" * 50)
    await talk.until_closed()
    return False


async def _closes(talk: Talk) -> bool:
    await talk.read_body()
    return False


async def _aborts(talk: Talk) -> bool:
    """What cannot be connected to, on a link that is there already."""
    talk.end.abort()
    return False


PROXY_BEHAVIOURS: dict[str, Callable[[Talk], Awaitable[bool]]] = {
    "proxy_407": _wants_credentials,
    "proxy_closes": _closes,
    "proxy_garbage": _garbage,
    "proxy_hangs": _hangs,
    "proxy_refuses": _refuses,
    **dict.fromkeys(BEFORE_CONNECTED, _aborts),
}
assert {*PROXY_BEHAVIOURS} == {*PROXY_FAULTS}


async def bad_gateway(talk: Talk) -> bool:
    """The proxy could not look the endpoint up, or not connect to it."""
    await talk.read_body()
    fault = talk.exchange.attempt.fault
    if fault in ("black_hole", "dns_hangs"):
        await trio.sleep(talk.draw.uniform(1, 20))
    await talk.answer(403 if fault == "rebound" else 504 if fault in ("black_hole", "dns_hangs") else 502)
    return True


async def tunnel(talk: Talk, fault: str) -> bool:
    """Answers a CONNECT; whether bytes are handed on from here on."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await talk.end.receive_some()
        if not piece:
            return False
        head += piece
    match fault:
        case "proxy_refuses":
            await talk.end.send_all(_head(talk.draw.choice(REFUSED_TUNNELS)))
        case "proxy_407":
            await talk.end.send_all(_head(407))
        case "proxy_garbage":
            await talk.end.send_all(talk.draw.choice(GARBAGE) + b"\x00" * 50)
        case "proxy_closes":
            return False
        case "proxy_hangs":
            pass
        case _:
            talk.wired.is_tunnel = True
            await talk.end.send_all(talk.draw.choice(TUNNELS))
            return True
    await talk.until_closed()
    return False


def _head(status: int) -> bytes:
    return b"HTTP/1.1 %d \r\ncontent-length: 0\r\n\r\n" % status


def addresses_of(proxy: ForwardProxy, fault: str, draw: Random, forbidden: tuple[str, ...]) -> list[str]:
    """What its name resolves to."""
    return [draw.choice(forbidden)] if fault == "proxy_private" else list(proxy.addresses)
