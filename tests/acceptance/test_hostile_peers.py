"""Peers of the API who send nonsense, cut the line or do not read: it lives, others do not wait, and it stops."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.acceptance.harness import (
    BUSY_SECONDS,
    HANG,
    NO_RETRY_SOON,
    ROOT,
    Api,
    Daemon,
    Receiver,
    event_body,
    read_report,
    wait_until,
)
from tests.edge.server.probes import FAMOUS, PROBES

TIMES = 200
LATENCY_SECONDS_MAX = 0.05
# Of a process that has served thousands of connections: its allocator keeps pages for the next ones.
RSS_GROWTH_BYTES_MAX = 16 * 2**20
DRAIN_SECONDS = 1.0


@pytest.mark.second_round
def test_malformed_requests_neither_end_it_nor_delay_others(tmp_path: Path) -> None:
    """Each famous probe 200 times beside 500 slow peers: others' p99 below 50 ms, and what it took is given back.

    Counted is the time that the daemon worked between a post and its answer: on a quiet machine that is the time that
    the post took, and on a busy one it leaves out the time that others had the processor.
    """
    with Receiver() as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        assert api.post("acme", "known").status == 202
        flood(daemon, 5, 1)  # what is loaded and allocated once
        wait_until(lambda: api.status()["connections"]["open"] == 1, what="the flood's connections closed")
        before = resources(daemon)
        waits = waits_during_flood(daemon, api)
        wait_until(lambda: api.status()["connections"]["open"] == 1, what="the flood's connections closed")
        wait_until(lambda: resources(daemon).descriptors <= before.descriptors, what="as few descriptors as before")
        after = resources(daemon)
        worked, took = [p99(list(each)) for each in zip(*waits, strict=True)]
        print(f"p99 of {len(waits):,} posts: {1000 * worked:.1f} ms of the daemon's work, {1000 * took:.1f} ms in all")
        print(f"before {before}, after {after}")
        assert worked < LATENCY_SECONDS_MAX
        assert after.resident_bytes <= before.resident_bytes + RSS_GROWTH_BYTES_MAX
        assert api.status()["events"]["accepted"] == 1
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.stderr
    assert "request.failed" not in daemon.stderr


def flood(daemon: Daemon, times: int, rarely: int) -> None:
    """Runs it to its end, and holds what it saw against what is allowed."""
    command = [sys.executable, "-m", "tests.acceptance.flood", str(daemon.port), str(times), str(rarely)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=True)
    seen = json.loads(done.stdout)
    for name, probe in PROBES.items():
        assert sum(seen[name].values()) == (times if name in FAMOUS else rarely), name
        # A reset may overtake the answer where a peer sends on and on.
        assert {int(status) for status in seen[name]} <= {*probe.statuses, 0}, (name, seen[name])


def waits_during_flood(daemon: Daemon, api: Api) -> list[tuple[float, float]]:
    """Of a producer that posts a known event again and again: the daemon's time on a processor, and the time."""
    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, daemon, TIMES, TIMES // 10)
        waits = []
        while not flooding.done():
            began, worked = time.perf_counter(), processor_seconds(daemon)
            assert api.post("acme", "known").status == 200
            waits.append((processor_seconds(daemon) - worked, time.perf_counter() - began))
        flooding.result()
    return waits


def p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def processor_seconds(daemon: Daemon) -> float:
    """What its main thread, which is the event loop, has had."""
    return int(Path(f"/proc/{daemon.process.pid}/schedstat").read_text().split()[0]) / 1e9


class Resources(NamedTuple):
    descriptors: int
    resident_bytes: int


def resources(daemon: Daemon) -> Resources:
    process = f"/proc/{daemon.process.pid}"
    pages = int(Path(f"{process}/statm").read_text().split()[1])
    return Resources(len(os.listdir(f"{process}/fd")), pages * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def connection(port: int) -> Iterator[socket.socket]:
    """Reset, not closed, at the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        yield peer
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_cut_at_every_byte_leaves_an_event_whole_or_not_there(tmp_path: Path, is_reset: bool) -> None:
    """Of request and response: a repeat under the same id answers the same event, and each is delivered once."""
    with Receiver() as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        response_bytes = len(ask(daemon.port, request("cut-0000"), None, is_reset=is_reset))
        ids, outcomes = ["cut-0000"], []
        for cut in range(len(request("cut-0000"))):
            ids.append(f"cut-{len(ids):04}")
            ask(daemon.port, request(ids[-1])[:cut], 0, is_reset=is_reset)
            outcomes.append(repeat(api, ids[-1]))
        assert outcomes == [202] * len(outcomes)  # no part of a request admits anything
        for cut in range(response_bytes):
            ids.append(f"cut-{len(ids):04}")
            ask(daemon.port, request(ids[-1]), cut, is_reset=is_reset)
            outcomes.append(repeat(api, ids[-1]))
        assert set(outcomes[-response_bytes + 1 :]) == {200}  # whoever saw a byte of the answer has its event
        wait_until(lambda: api.deliveries()["delivered"] == len(ids), what="each delivered")
        assert api.status()["events"]["accepted"] == len(ids)
        assert daemon.stop() == 0
        assert read_report(daemon.report())[0]["balanced"] is True
        assert receiver.ids() == dict.fromkeys(ids, 1)
    assert "Traceback" not in daemon.stderr


def request(event_id: str) -> bytes:
    body = event_body("acme", event_id, b'{"n": 1}')
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\nConnection: close\r\n\r\n" + body


def ask(port: int, sent: bytes, read_bytes: int | None, *, is_reset: bool) -> bytes:
    """Sends, reads so many bytes (None: all), and cuts the line."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(sent)
        while read_bytes is None or len(received) < read_bytes:
            data = peer.recv(65536 if read_bytes is None else read_bytes - len(received))
            if not data:
                break
            received += data
        if is_reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return received


def repeat(api: Api, event_id: str) -> int:
    """The same again: 202 where it was not there, 200 where it was; then 200, always with the same event."""
    first, second = [api.post("acme", event_id, b'{"n": 1}') for _ in range(2)]
    assert first.status in (200, 202)
    assert second.status == 200
    assert [one.json["id"] for one in (first, second)] == [event_id] * 2
    assert first.json["accepted_at"] == second.json["accepted_at"]
    return first.status


def test_peers_cannot_hold_the_stop(tmp_path: Path) -> None:
    """One that never reads, one that reads a byte a second, one with half a request, 200 idle: drain.timeout + 2 s."""
    settings = {**NO_RETRY_SOON, "drain.timeout": f"{DRAIN_SECONDS:g}s"}
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver(HANG))
        daemon = stack.enter_context(Daemon(tmp_path, settings=settings))
        api = stack.enter_context(daemon.api)
        api.put_client("acme", {"url": receiver.url})
        bodies = b",".join(event_body("acme", f"e{n}") for n in range(200))
        assert api.ask("POST", "/v1/events/batch", b"[" + bodies + b"]").status == 202
        half = stack.enter_context(connection(daemon.port))
        half.sendall(request("half")[:-1])
        for _ in range(200):
            idle = stack.enter_context(connection(daemon.port))
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        deaf, slow = [stack.enter_context(flooded(daemon.port)) for _ in range(2)]
        stack.enter_context(reading_slowly(slow))
        wait_until(lambda: receiver.hanging, what="a hung delivery, so that the drain lasts its whole time")
        assert api.status()["connections"]["open"] == 204
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(DRAIN_SECONDS + 2 + BUSY_SECONDS) == 3
        took = time.monotonic() - began
        print(f"exit after {took:.2f} s with a drain of {DRAIN_SECONDS:g} s")
        assert took <= DRAIN_SECONDS + 2 + BUSY_SECONDS
        assert deaf.fileno() > 0  # it was there to the end
        summary, lines = read_report(daemon.report())
    assert (summary["balanced"], len(lines)) == (True, 200)


@contextmanager
def flooded(port: int) -> Iterator[socket.socket]:
    """A peer that has asked for more than fits between it and the daemon, and reads a byte of it."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", port))
        peer.sendall(b"GET /v1/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        assert peer.recv(1)
        yield peer


@contextmanager
def reading_slowly(peer: socket.socket) -> Iterator[None]:
    """A byte a second, until the end."""
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(1.0):
            try:
                peer.recv(1)
            except OSError:
                return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
