"""Owns what the service manager is told: ready, stopping, alive, and a line for `systemctl status` (sd_notify(3)). And
which listening sockets it hands over (sd_listen_fds(3)).

Rules: datagrams to $NOTIFY_SOCKET that never block; one that cannot be sent is dropped, since no delivery depends on
it. Without a socket in the environment nothing is sent.
Does not do: the descriptor store, RELOADING=1, and who says what when: that is the supervisor's.
"""

import math
import os
import socket
from collections.abc import Mapping

FIRST_DESCRIPTOR = 3
# More than anybody hands over; each is tried at the start.
DESCRIPTORS_MAX = 50


def handed_over(environ: Mapping[str, str]) -> tuple[int, ...]:
    """The descriptors of sockets that the service manager holds for us; none where they are another process's."""
    count = _number(environ.get("LISTEN_FDS", ""))
    is_ours = environ.get("LISTEN_PID", "") == str(os.getpid())
    return tuple(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + min(count, DESCRIPTORS_MAX))) if is_ours else ()


class Systemd:
    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path  # "@" stands for an abstract name
        self.watchdog_seconds = _watchdog_seconds(environ)

    @property
    def listens(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self, seconds: float) -> None:
        """The stop takes up to so long, over the unit's own TimeoutStopSec if need be."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={math.ceil(seconds) * 1_000_000}")

    def alive(self) -> None:
        """Only to be said while the event loop keeps its times."""
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def status(self, line: str) -> None:
        self._send(f"STATUS={line}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.setblocking(False)
                one.sendto(message.encode(), self._address)
        except OSError:
            pass  # the manager is gone or does not read: that must not stop a delivery


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """None where no watchdog is asked for, or one of another process."""
    usec = _number(environ.get("WATCHDOG_USEC", ""))
    return usec / 1e6 if usec and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()) else None


def _number(text: str) -> int:
    """0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
