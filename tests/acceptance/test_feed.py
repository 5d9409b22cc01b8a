"""The settlement feed of a real daemon: readers that wait hold up nobody, and hanging up frees what they held."""

import json
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.harness import HANG, NO_RETRY_SOON, Daemon, Received, Receiver, wait_until

SETTINGS = {**NO_RETRY_SOON, "drain.timeout": "60s", "delivery.timeout": "60s"}
READERS = 200
AGAIN = 5


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


def wait_for_readers(daemon: Daemon, number: int) -> None:
    """Asks once more when they are all connected: by the second answer what they asked before it is being waited on."""
    wait_until(lambda: open_connections(daemon) > number, what=f"{number} readers are there")
    assert open_connections(daemon) > number


def test_stop_answers_readers_that_wait_and_is_not_held_up(tmp_path: Path) -> None:
    """When the drain begins all 200, when it ends those that asked again; a minute's wait ends long before."""
    is_over = threading.Event()

    def fail_at_the_end(_: Received) -> int:
        is_over.wait()
        return 500

    with Receiver(fail_at_the_end) as receiver, Daemon(tmp_path, settings=SETTINGS) as daemon, ExitStack() as stack:
        stack.callback(is_over.set)
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            api.post("acme", "e1")
        readers = [stack.enter_context(waiting_reader(daemon)) for _ in range(READERS)]
        wait_for_readers(daemon, READERS)
        assert not select.select(readers, [], [], 0)[0]
        daemon.signal(signal.SIGTERM)
        answers = [answer(reader) for reader in readers]
        readers = [stack.enter_context(waiting_reader(daemon, one["next_cursor"])) for one in answers[:AGAIN]]
        wait_for_readers(daemon, AGAIN)
        assert not select.select(readers, [], [], 0)[0]
        is_over.set()
        answers += [answer(reader) for reader in readers]
        assert daemon.wait(10) == 3
    assert len(answers) == READERS + AGAIN
    assert all(one["settlements"] == [] and one["next_cursor"] and one["gap"] is False for one in answers)


def test_reader_sees_what_settles_during_the_drain(tmp_path: Path) -> None:
    """Asking again after the stop began waits for the last settlement, and gets it."""
    with Receiver(HANG) as held, Daemon(tmp_path, settings=SETTINGS) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": held.url})
            api.post("acme", "e1")
        wait_until(lambda: held.hanging == 1, what="the attempt is in flight")
        with waiting_reader(daemon) as reader:
            wait_for_readers(daemon, 1)
            daemon.signal(signal.SIGTERM)
            first = answer(reader)
        with waiting_reader(daemon, first["next_cursor"]) as reader:
            wait_for_readers(daemon, 1)
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
                reader = stack.enter_context(waiting_reader(daemon))
                # A reset: a plain close looks like the end of sending alone, and is answered when the wait is over.
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_for_readers(daemon, READERS)
        wait_until(lambda: open_connections(daemon) == 1, seconds=10, what="only the asking one is left")
        assert daemon.stop(5) == 0
