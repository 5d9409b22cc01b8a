"""The settlement feed of a real daemon: readers that wait hold up nobody, and hanging up frees what they held."""

import json
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.harness import HANG, NO_RETRY_SOON, Daemon, Receiver, wait_until

DRAIN_SECONDS = 2.0
SETTINGS = {**NO_RETRY_SOON, "drain.timeout": f"{DRAIN_SECONDS:g}s", "delivery.timeout": "60s"}
READERS = 200


@contextmanager
def waiting_reader(daemon: Daemon, cursor: str = "") -> Iterator[socket.socket]:
    """Has asked, and waits for up to a minute."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as reader:
        path = f"/v1/settlements?wait_seconds=60{cursor and '&cursor='}{cursor}"
        reader.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
        yield reader


def answer(reader: socket.socket) -> Any:
    """The whole answer, to the end of the connection."""
    received = b""
    while data := reader.recv(65536):
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received
    return json.loads(body)


def open_connections(daemon: Daemon) -> int:
    with daemon.api as api:
        return int(api.status()["connections"]["open"])


def test_stop_answers_readers_that_wait_and_ends_in_time(tmp_path: Path) -> None:
    """200 of them, each with a cursor to go on from; exit within drain.timeout + 2 s, since an event hangs."""
    with Receiver(HANG) as hung, Daemon(tmp_path, settings=SETTINGS) as daemon, ExitStack() as stack:
        with daemon.api as api:
            api.put_client("acme", {"url": hung.url})
            api.post("acme", "e1")
        readers = [stack.enter_context(waiting_reader(daemon)) for _ in range(READERS)]
        wait_until(lambda: open_connections(daemon) > READERS, what="all readers are there")
        assert not select.select(readers, [], [], 0)[0]
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        answers = [answer(reader) for reader in readers]
        assert time.monotonic() - began < DRAIN_SECONDS, "they were answered at the end only"
        assert daemon.wait(DRAIN_SECONDS + 2) == 3
    assert all(one["settlements"] == [] and one["next_cursor"] and one["gap"] is False for one in answers)


def test_reader_sees_what_settles_during_the_drain(tmp_path: Path) -> None:
    """Asking again after the stop began waits for the last settlement, and gets it."""
    with Receiver(HANG) as held, Daemon(tmp_path, settings={**SETTINGS, "drain.timeout": "30s"}) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": held.url})
            api.post("acme", "e1")
        wait_until(lambda: held.hanging == 1, what="the attempt is in flight")
        with waiting_reader(daemon) as reader:
            wait_until(lambda: open_connections(daemon) > 1, what="the reader is there")
            daemon.signal(signal.SIGTERM)
            first = answer(reader)
        with waiting_reader(daemon, first["next_cursor"]) as reader:
            wait_until(lambda: open_connections(daemon) > 1, what="the reader is back")
            held.release()
            second = answer(reader)
        assert daemon.wait(5) == 0
    assert (first["settlements"], first["run_id"]) == ([], second["run_id"])
    assert [(one["event_id"], one["status"]) for one in second["settlements"]] == [("e1", "delivered")]


def test_readers_that_hang_up_free_their_connections(tmp_path: Path) -> None:
    """Long before their minute is over."""
    with Daemon(tmp_path, settings=SETTINGS) as daemon:
        with ExitStack() as stack:
            for _ in range(READERS):
                stack.enter_context(waiting_reader(daemon))
            wait_until(lambda: open_connections(daemon) > READERS, what="all readers are there")
        wait_until(lambda: open_connections(daemon) == 1, seconds=10, what="only the asking one is left")
        assert daemon.stop(5) == 0
