"""The invariants of the way that an endpoint is reached: straight, through its own proxy, or through the operator's.

S27: an attempt goes the way that its endpoint's definition and `[egress]` say, on a kept link too. A proxy gets the
     request in absolute form over http and a CONNECT over https, with its own credentials; nothing else gets those.
     Nothing follows a CONNECT before its tunnel stands. A 407 in absolute form is no answer of the endpoint.
S10 holds of proxies: a forbidden address of an endpoint's own is not dialled, and the operator's private one is used.
"""

import base64
from typing import TYPE_CHECKING, Any

from tests.simulation.model import Attempt, Exchange, ForwardProxy, Wired
from tests.simulation.plan import PROXY_PASSWORD, PROXY_USER

if TYPE_CHECKING:
    from tests.simulation.world import World

CREDENTIALS = "Basic " + base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode()


def check_dialled(world: "World", attempt: Attempt, proxy: ForwardProxy | None) -> None:
    world.count("links through a proxy", proxy is not None)
    check_way(world, attempt, proxy)


def check_way(world: "World", attempt: Attempt, proxy: ForwardProxy | None) -> None:
    """The endpoint's name is looked up, or a link is used again: it leads through that proxy, or straight."""
    went = "" if proxy is None else proxy.name
    if went != attempt.way:
        world.fail(
            "S27", f"an attempt at {attempt.host.name} went by {went or 'no proxy'}, not {attempt.way or 'none'}"
        )


def request_line(exchange: Exchange) -> str:
    """As it must be."""
    host = exchange.attempt.host.name
    return f"POST {f'http://{host}' if exchange.link.proxy is not None else ''}/hook?token=URL-CANARY HTTP/1.1"


def check_request(world: "World", exchange: Exchange) -> None:
    """Over http."""
    wanted = None if exchange.link.proxy is None else CREDENTIALS
    if exchange.head.get("proxy-authorization") != wanted:
        shown = exchange.head.get("proxy-authorization")
        world.fail("S27", f"a request to {exchange.attempt.host.name} has credentials {shown!r}, not {wanted!r}")


def check_tunnelled(world: "World", wired: Wired, data: bytes) -> None:
    """Over https, through a proxy: these bytes are sent, with those before."""
    name = wired.host.name
    if wired.is_tunnel:
        return
    head = f"CONNECT {name}:443 HTTP/1.1\r\nhost: {name}:443\r\nproxy-authorization: {CREDENTIALS}\r\n\r\n"
    if wired.end.outgoing.written or data != head.encode():
        world.fail("S27", f"{data[:200]!r} was sent to the proxy of {name} before a tunnel stood")
    world.count("tunnels asked for")


def check_shown(world: "World", attempt: Attempt, view: dict[str, Any], what: str) -> None:
    """One that the proxy refused with 407, in absolute form, on a fresh link."""
    if view["outcome"] not in (None, "unreachable") or (view["outcome"] and view["request_sent"]):
        world.fail("S27", f"attempt {view['number']} of {what} was refused by its proxy, and shows {view}")
    world.count("attempts shown that their proxy refused", bool(view["outcome"]))
