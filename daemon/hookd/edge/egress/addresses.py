"""Which addresses a request may go to: our own deny table, and the policy that reads it.

The names that clients register resolve to whatever their owners like, our own network included. So what is judged is
the address that came out of the resolver, as a number, right before the connect, and the literal that was judged is
what gets connected to. A URL's text is never judged: `127.1`, `0x7f.1` and `2130706433` are names to a URL parser and
loopback to glibc.

Rules:
 * Denied if any address of a name is denied: a name that mixes public and private ones is an attack or a mistake.
 * IPv4-mapped IPv6 is judged as the IPv4 address that it is. Every other form with an IPv4 address inside (NAT64, 6to4,
   Teredo, compatible, translated) is denied whatever is inside.
 * IPv6 outside 2000::/3 is denied whole: nothing else is assigned as global unicast.
 * `allow_networks` exempts from the table; of an address with an IPv4 address in its last 32 bits the inner one must
   pass as well, so that allowing a NAT64 prefix opens the public internet behind it and not loopback.
 * `allow_private` (development) exempts loopback, RFC 1918 and ULA. Link-local, where clouds keep their credentials,
   and shared space (Alibaba's metadata service is 100.100.100.200) stay denied.
 * Ports of `egress.deny_ports` are denied at any address.
 * Our own listening sockets are denied always, whatever is allowed: a client must not deliver to our API. With a
   wildcard bind that is its port on any address of this machine.

Does not resolve or connect. `ipaddress.is_global` is not used: on CPython 3.11.7 it lets NAT64, 6to4, multicast,
::/96, fec0::/10 and more through, and on CPython's main branch still some of them.

Known limits: what is denied is what the public registries say; an address that is public and yet inside your network
is for the network to protect. 15 us an address, once a connect.
"""

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
OwnSockets = Callable[[], Collection[tuple[str, int]]]


class Denied(NamedTuple):
    network: str
    source: str
    is_private: bool = False  # what `allow_private` exempts


# IANA's special-purpose address registries (IPv4 and IPv6, as of 2026), and what is in none of them.
DENIED = (
    Denied("0.0.0.0/8", "RFC 791: this network; Linux connects 0.0.0.0 to loopback"),
    Denied("10.0.0.0/8", "RFC 1918: private", is_private=True),
    Denied("100.64.0.0/10", "RFC 6598: shared address space of carriers; Alibaba's metadata service"),
    Denied("127.0.0.0/8", "RFC 1122: loopback", is_private=True),
    Denied("168.63.129.16/32", "Azure WireServer: a public address that is a service of the host"),
    Denied("169.254.0.0/16", "RFC 3927: link-local; metadata services of AWS, Azure, Google"),
    Denied("172.16.0.0/12", "RFC 1918: private", is_private=True),
    Denied("192.0.0.0/24", "RFC 6890: IETF protocol assignments; Oracle's metadata service is 192.0.0.192"),
    Denied("192.0.2.0/24", "RFC 5737: documentation"),
    Denied("192.31.196.0/24", "RFC 7535: AS112"),
    Denied("192.52.193.0/24", "RFC 7450: automatic multicast tunneling"),
    Denied("192.88.99.0/24", "RFC 7526: 6to4 relay anycast, deprecated"),
    Denied("192.168.0.0/16", "RFC 1918: private", is_private=True),
    Denied("192.175.48.0/24", "RFC 7534: AS112, direct delegation"),
    Denied("198.18.0.0/15", "RFC 2544: benchmarking"),
    Denied("198.51.100.0/24", "RFC 5737: documentation"),
    Denied("203.0.113.0/24", "RFC 5737: documentation"),
    Denied("224.0.0.0/4", "RFC 5771: multicast"),
    Denied("240.0.0.0/4", "RFC 1112: class E, reserved; with 255.255.255.255, RFC 919: broadcast"),
    Denied("::1/128", "RFC 4291: loopback", is_private=True),
    Denied("::/96", "RFC 4291 2.5.5.1: IPv4-compatible, deprecated; with ::, unspecified"),
    Denied("::ffff:0:0:0/96", "RFC 2765: IPv4-translated"),
    Denied("64:ff9b::/96", "RFC 6052: NAT64"),
    Denied("64:ff9b:1::/48", "RFC 8215: NAT64, local use"),
    Denied("100::/64", "RFC 6666: discard only"),
    Denied("100:0:0:1::/64", "RFC 9780: dummy prefix"),
    Denied("2001::/23", "RFC 2928: IETF protocol assignments, with 2001::/32, RFC 4380: Teredo"),
    Denied("2001:db8::/32", "RFC 3849: documentation"),
    Denied("2002::/16", "RFC 3056: 6to4"),
    Denied("2620:4f:8000::/48", "RFC 7534: AS112, direct delegation"),
    Denied("3fff::/20", "RFC 9637: documentation"),
    Denied("5f00::/16", "RFC 9602: segment routing"),
    Denied("fc00::/7", "RFC 4193: unique local; fd00:ec2::254 is AWS' metadata service", is_private=True),
    Denied("fe80::/10", "RFC 4291: link-local"),
    Denied("fec0::/10", "RFC 3879: site-local, deprecated"),
    Denied("ff00::/8", "RFC 4291: multicast"),
    Denied("::/3", "RFC 4291 2.4: not global unicast"),
    Denied("4000::/2", "RFC 4291 2.4: not global unicast"),
    Denied("8000::/1", "RFC 4291 2.4: not global unicast"),
)

_EMBEDDING = tuple(ipaddress.IPv6Network(each) for each in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))


class AddressPolicy:
    """Judges what a name resolved to. Frozen: a reload makes a new one."""

    def __init__(
        self,
        *,
        allow_networks: Iterable[str] = (),
        own_sockets: OwnSockets = tuple,
        allow_private: bool = False,
        deny_ports: Iterable[int] = (),
    ) -> None:
        """`own_sockets` is asked at each connect: (address, port) of each listening socket. Raises ValueError."""
        self._allowed = tuple(ipaddress.ip_network(each) for each in allow_networks)
        self._own_sockets = own_sockets
        self._deny_ports = frozenset(deny_ports)
        ranges = [(ipaddress.ip_network(each.network), each.is_private) for each in DENIED]
        self._denied = tuple(network for network, is_private in ranges if not (is_private and allow_private))
        # Exempt by name, since what is private lies in a wider denied range too (::1 in ::/96 and ::/3).
        self._private = tuple(network for network, is_private in ranges if is_private and allow_private)

    def judge(self, addresses: Iterable[str], port: int) -> str | None:
        """The first denied address, None if there is none. What is no IP address is denied; so is a zone id."""
        for address in addresses:
            if not self._is_allowed(address, port):
                return address
        return None

    def denies_port(self, port: int) -> bool:
        """Whatever the address is, and whoever connects to it for us."""
        return port in self._deny_ports

    def own_among(self, addresses: Iterable[str], port: int) -> str | None:
        """The first address at which we listen ourselves: all that is judged of an operator's own proxy."""
        for text in addresses:
            address = canonical(text)
            if address is None or self._is_own_socket(address, port):
                return text
        return None

    def _is_allowed(self, text: str, port: int) -> bool:
        address = canonical(text)
        if address is None or self._is_own_socket(address, port):
            return False
        if any(address in network for network in self._allowed):
            inner = _inner(address)
            return inner is None or self._is_allowed(str(inner), port)
        if any(address in network for network in self._private):
            return True
        return not any(address in network for network in self._denied)

    def _is_own_socket(self, address: Address, port: int) -> bool:
        for own_text, own_port in self._own_sockets():
            if own_port != port:
                continue
            own = canonical(own_text)
            # To connect to 0.0.0.0 is to connect to loopback, where everything of ours may listen.
            if own is None or own == address or address.is_unspecified:
                return True
            if own.is_unspecified and is_this_machine(str(address)):
                return True
        return False


@lru_cache(maxsize=1024)
def canonical(text: str) -> Address | None:
    """The address that packets would go to: IPv4 where IPv6 only wraps it; None for zone ids and for no address."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_this_machine(address: str) -> bool:
    """Whether a packet to the address would stay here: then its route's source is the address itself. Sends nothing."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # of UDP this only looks up the route
            return bool(canonical(probe.getsockname()[0]) == canonical(address))
        except OSError:  # no route: nothing will be sent there either
            return False


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    if any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
