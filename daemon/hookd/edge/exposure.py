"""Owns the question whether other machines can reach a socket, asked of the socket and not of the text it came by.

A name may resolve to any address, and of an inherited socket (`fd://`) there is no text at all. A unix socket is as
close as loopback: who may connect to it is a matter of its file's permissions.
"""

import ipaddress
import socket
from collections.abc import Iterable


def exposed(sockets: Iterable[socket.socket]) -> tuple[str, ...]:
    """The addresses among them that other machines may reach; of an unknown family it is assumed."""
    return tuple(str(one.getsockname()) for one in sockets if not _is_local(one))


def _is_local(one: socket.socket) -> bool:
    if one.family == socket.AF_UNIX:
        return True
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host: str = one.getsockname()[0]
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
