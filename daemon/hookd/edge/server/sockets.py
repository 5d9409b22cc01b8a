"""Owns the listening sockets: from what stands in `http.bind` to sockets that are bound, not yet listening.

Rules: all of them or none. Two may bind the same address while neither listens (SO_REUSEADDR); only `listen` finds out.

Known limit: the socket file of a `unix:` bind stays behind and is replaced by the next start.
"""

import errno
import os
import socket
import stat
from collections.abc import Sequence

# The system takes the least of this and its own (net.core.somaxconn). Beyond it a peer that connects is not heard, and
# tries again a second later.
BACKLOG = 4096


_ELSEWHERE = "name another address with --bind, HOOKD_HTTP__BIND or http.bind"
_ADVICE = {
    errno.EADDRINUSE: f"another process listens there, maybe another hookd: stop it, or {_ELSEWHERE}",
    errno.EADDRNOTAVAIL: f"this machine has no such address: {_ELSEWHERE}",
    errno.EACCES: f"this user may not listen there: {_ELSEWHERE}",
    errno.EBADF: "nobody handed over a socket of that number: start hookd by who holds it, or name an address",
}


class CannotBind(Exception):
    """The message names the bind, and says what the system answered and what to do. Who has it cannot be told."""

    def __init__(self, bind: str, error: Exception) -> None:
        number = error.errno if isinstance(error, OSError) and error.errno else 0
        answer = getattr(error, "strerror", None) or error
        super().__init__(f"{bind}: {answer}; {_ADVICE.get(number, _ELSEWHERE)}")


def bound_sockets(binds: Sequence[str]) -> list[socket.socket]:
    """Bound, not yet listening: HOST:PORT, [::1]:PORT, unix:/path or fd://N. All of them, or CannotBind and none."""
    sockets: list[socket.socket] = []
    try:
        for bind in binds:
            sockets.append(_bound_socket(bind))
    except CannotBind:
        for one in sockets:
            one.close()
        raise
    return sockets


def addresses_of(sockets: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    """(address, port) of each TCP socket among them: where nothing of ours may be sent."""
    names = (one.getsockname() for one in sockets if one.family in (socket.AF_INET, socket.AF_INET6))
    return tuple((name[0], name[1]) for name in names)


def _bound_socket(bind: str) -> socket.socket:
    try:
        if bind.startswith("fd://"):
            return _inherited_socket(int(bind.removeprefix("fd://")))
        if bind.startswith("unix:"):
            return _unix_socket(bind.removeprefix("unix:"))
        host, colon, port = bind.rpartition(":")
        if not (host and colon):
            raise ValueError("not HOST:PORT, unix:/path or fd://N")
        return _tcp_socket(host.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError) as error:
        raise CannotBind(bind, error) from error


def _tcp_socket(host: str, port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart must not wait for TIME_WAIT
    return _bind(one, (host, port))


def _unix_socket(path: str) -> socket.socket:
    if _is_stale(path):
        os.unlink(path)
    return _bind(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)


def _is_stale(path: str) -> bool:
    """A socket file that nobody listens on, left by an earlier run. Anything else in the way makes bind fail."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener whose backlog is full is alive too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
    return False


def _inherited_socket(number: int) -> socket.socket:
    one = socket.socket(fileno=number)
    if one.type != socket.SOCK_STREAM:
        one.detach()  # not ours to close
        raise ValueError("not a stream socket")
    one.setblocking(False)
    return one


def _bind(one: socket.socket, address: tuple[str, int] | str) -> socket.socket:
    try:
        one.bind(address)
    except BaseException:
        one.close()
        raise
    one.setblocking(False)
    return one


def url_of(one: socket.socket, *, is_tls: bool) -> str:
    address = one.getsockname()
    if one.family == socket.AF_UNIX:
        return f"unix:{address}"
    host = f"[{address[0]}]" if one.family == socket.AF_INET6 else address[0]
    return f"{'https' if is_tls else 'http'}://{host}:{address[1]}"
