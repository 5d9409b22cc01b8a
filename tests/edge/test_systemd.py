"""What is sent to the service manager, and that nothing of it can stop the daemon."""

import os
import socket
from pathlib import Path

import pytest
from hookd.edge.systemd import DESCRIPTORS_MAX, Systemd, handed_over


def bound(address: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind(address)
    one.setblocking(False)
    return one


@pytest.mark.parametrize("is_abstract", [False, True])
def test_messages_reach_the_socket_named_in_the_environment(tmp_path: Path, is_abstract: bool) -> None:
    """By path, and by abstract name."""
    name = f"@hookd-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with bound(name.replace("@", "\0")) as manager:
        systemd = Systemd({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
        systemd.ready()
        systemd.status("running: 1 accepted")
        systemd.alive()
        systemd.stopping(52.5)
        heard = [manager.recv(4096).decode() for _ in range(4)]
    assert heard == ["READY=1", "STATUS=running: 1 accepted", "WATCHDOG=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=53000000"]


def test_without_a_socket_nothing_listens_and_nothing_happens() -> None:
    systemd = Systemd({})
    systemd.ready()
    assert (systemd.listens, systemd.watchdog_seconds) == (False, None)


def test_manager_that_is_gone_or_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    """No file, and a queue that is full: both are passed over."""
    path = str(tmp_path / "notify")
    Systemd({"NOTIFY_SOCKET": path}).ready()
    with bound(path):
        for _ in range(10_000):
            Systemd({"NOTIFY_SOCKET": path}).ready()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", "own", 30.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        ("", None, None),
    ],
)
def test_watchdog_is_ours_only_if_it_names_this_process(usec: str, pid: str | None, seconds: float | None) -> None:
    environ = {"WATCHDOG_USEC": usec} | ({} if pid is None else {"WATCHDOG_PID": pid.replace("own", str(os.getpid()))})
    assert Systemd(environ).watchdog_seconds == seconds


@pytest.mark.parametrize(
    ("fds", "pid", "descriptors"),
    [
        ("1", "own", (3,)),
        ("2", "own", (3, 4)),
        ("1", "1", ()),
        ("1", None, ()),
        ("0", "own", ()),
        ("-1", "own", ()),
        ("many", "own", ()),
        (None, "own", ()),
        ("9" * 5000, "own", ()),
        ("1000000", "own", tuple(range(3, 3 + DESCRIPTORS_MAX))),
    ],
)
def test_sockets_are_handed_over_only_if_it_names_this_process(
    fds: str | None, pid: str | None, descriptors: tuple[int, ...]
) -> None:
    environ = {"LISTEN_FDS": fds, "LISTEN_PID": str(os.getpid()) if pid == "own" else pid}
    assert handed_over({name: value for name, value in environ.items() if value is not None}) == descriptors
