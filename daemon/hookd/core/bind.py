"""Owns one entry of `http.bind`: its forms, whether only this machine gets in by it, who asks there, and its URL."""

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

# How the server names to the app whoever asks through a unix socket; no IP address reads like it.
UNIX_PEER = ("unix", 0)
# In ASGI's state of a connection: what the app calls once it has granted a request there.
GRANTED = "hookd.granted"


class Bind(NamedTuple):
    """Where to listen: `host` and `port`, or a unix socket's `path`, or an inherited `descriptor`."""

    host: str = ""
    port: int = 0
    path: str = ""
    descriptor: int | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine gets in, as far as the text tells. edge/exposure asks the socket again.

        A name other than localhost may point anywhere, so it does not count. A unix socket is reached from this machine
        alone; the permissions of its file say by whom. Of an inherited socket the text tells nothing: it counts here,
        and edge/exposure judges it.
        """
        if self.path or self.descriptor is not None or self.host == "localhost":
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return address.is_loopback and getattr(address, "ipv4_mapped", None) is None  # as before Python 3.13


URL_DEFAULT = "http://127.0.0.1:8080"  # of the bind by default, and of every command
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def parse_bind(text: str) -> Bind:
    """ValueError says which forms there are."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Bind(path=text.removeprefix("unix:"))
    if found := re.fullmatch(r"fd://([0-9]{1,4})", text):
        return Bind(descriptor=int(found[1]))
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found[3]) > 65535 or (found[1] and not _is_ipv6(found[1])):
        raise ValueError(f'{text!r} is not "HOST:PORT", "[::1]:PORT", "unix:/path" or "fd://N"')
    return Bind(host=(found[1] or found[2]).lower(), port=int(found[3]))


def url_on_this_machine(binds: Iterable[str], *, is_https: bool) -> str:
    """Where a command that is typed beside the daemon reaches it.

    The default, too, where that cannot be told: a port that the system picks, a unix socket or an inherited one.
    """
    scheme, found = "https" if is_https else "http", []
    for one in map(parse_bind, binds):
        host = _ANY_HOST.get(one.host, one.host)
        if one.port:
            found.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{one.port}")
    return URL_DEFAULT if not found or URL_DEFAULT in found else found[0]


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
