"""What peers of the API can do to the daemon: its memory, and how long `/livez` takes, beside each kind of them.

The real daemon as a child process, with 200,000 settled events of one client and a hundred unsettled. The peers are a
second child. Some send long bodies, some do not read, some hold connections, some only ask for much. Meanwhile a
probe asks `/livez` on a connection of its own each time, and the daemon's resident memory is read.
Bar: p99 below 100 ms beside each, on a machine with little else to do; memory at most MEMORY_MIB_MAX more than before.

    python -m tests.benchmarks.front_door [NAME]...
"""

import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import trio

SETTLED = 200_000
UNSETTLED = 100
SECONDS = 10.0  # as far back as the loop's lag is said
PROBE_EVERY_SECONDS = 0.02
P99_SECONDS_MAX = 0.1
# Bodies being received, one of them being read, and answers that nobody takes.
MEMORY_MIB_MAX = 64 + 3 * 16 + 64
MIB = 2**20
BODY_BYTES = 16 * MIB - 100
BATCH, PARTIAL, CLIENT = "/v1/events/batch", "/v1/events/batch?partial=true", "/v1/clients/many"
JSON, NDJSON = "application/json", "application/x-ndjson"

Attack = Callable[[int], Awaitable[None]]


def request(method: str, path: str, body: bytes = b"", kind: str = JSON, length: int | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def filled(before: bytes, repeated: bytes, behind: bytes, length: int = BODY_BYTES) -> bytes:
    return before + repeated * ((length - len(before) - len(behind)) // len(repeated)) + behind


def asking(method: str, path: str, body: bytes = b"", kind: str = JSON, peers: int = 4) -> Attack:
    """So many peers that ask the same again and again, and read the answer."""

    async def peer(port: int) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(request(method, path, body, kind))
                    await read_answer(stream)
            except trio.BrokenResourceError:
                pass

    return many(peer, peers)


async def read_answer(stream: trio.SocketStream) -> None:
    """Head and body; the daemon may close the connection behind it, or leave it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(MIB)
        if not more:
            return
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0") - len(body)
    while left > 0 and (more := await stream.receive_some(MIB)):
        left -= len(more)


def holding(sent: bytes, peers: int, *, reads: bool = False) -> Attack:
    """So many peers that send this, do not read (or read one answer) and stay. One that is cut off comes again."""

    async def peer(port: int) -> None:
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                async with stream:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    await stream.send_all(sent)
                    if reads:
                        await read_answer(stream)
                        await stream.receive_some(1)
                        await trio.sleep(1)
                    else:
                        await trio.sleep(SECONDS)
            except (trio.BrokenResourceError, OSError):
                await trio.sleep(0.1)

    return many(peer, peers)


def many(peer: Callable[[int], Awaitable[None]], peers: int) -> Attack:
    async def attack(port: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(peers):
                nursery.start_soon(peer, port)

    return attack


async def nothing(_: int) -> None:
    await trio.sleep_forever()


GOOD_BATCH = json.dumps([{"client_id": "many", "type": "none", "payload": "x" * 15_000} for _ in range(1000)]).encode()
DEEP = b"[" * 990 + b"[]," * 1000 + b"0" + b"]" * 990
DEEP_EVENT = b',{"client_id":"many","type":"t","payload":%s}' % DEEP
LIVEZ = request("GET", "/livez")
PAGE = "/v1/events?limit=1000"

ATTACKS: dict[str, Callable[[], Attack]] = {
    "nothing": lambda: nothing,
    # Long bodies, one after the other on each of four connections
    "batch of numbers": lambda: asking("POST", BATCH, filled(b"[0", b",0", b"]")),
    "batch of empty arrays": lambda: asking("POST", BATCH, filled(b"[[]", b",[]", b"]")),
    "batch of one array": lambda: asking("POST", BATCH, filled(b"[[0", b",0", b"]]")),
    "batch in part, all wrong": lambda: asking("POST", PARTIAL, filled(b'[{"a":0}', b',{"a":0}', b"]", 8000)),
    "batch of good events": lambda: asking("POST", BATCH, GOOD_BATCH),
    "deep payloads": lambda: asking("POST", PARTIAL, filled(b"[0", DEEP_EVENT, b"]", 2 * MIB)),
    "lines": lambda: asking("POST", BATCH, filled(b"", b"0\n", b""), NDJSON),
    "blank lines": lambda: asking("POST", BATCH, filled(b"", b"\n", b""), NDJSON),
    "one event": lambda: asking("POST", "/v1/events", filled(b'{"payload":[0', b",0", b"]}")),
    "definition": lambda: asking("PUT", CLIENT, filled(b'{"endpoints":[{}', b",{}", b"]}", 8 * MIB)),
    "report lines": lambda: asking("POST", "/v1/resend", filled(b"", b'{"kind":"summary"}\n', b""), NDJSON),
    # Peers that are slow, or hold connections
    "300 pages not read": lambda: holding(request("GET", PAGE), 300),
    "300 answers to batches not read": lambda: holding(request("POST", PARTIAL, filled(b"[0", b",0", b"]", 1990)), 300),
    "1,100 idle connections": lambda: holding(LIVEZ, 1100, reads=True),
    "1,100 heads that do not end": lambda: holding(b"GET /v1/", 1100),
    "900 bodies that do not end": lambda: holding(request("POST", BATCH, b"[" + b" " * 100_000, length=MIB), 900),
    # Much that is asked for
    "pages": lambda: asking("GET", PAGE),
    "pages of one client": lambda: asking("GET", f"{PAGE}&client_id=many"),
    "pages that find nothing": lambda: asking("GET", f"{PAGE}&status=failed"),
    "pages of clients": lambda: asking("GET", "/v1/clients?limit=1000"),
    "one client": lambda: asking("GET", CLIENT),
    "status": lambda: asking("GET", "/v1/status"),
    "metrics": lambda: asking("GET", "/metrics"),
    "settlements": lambda: asking("GET", "/v1/settlements?limit=1000"),
    "description": lambda: asking("GET", "/openapi.json"),
    "replays": lambda: asking("POST", f"{CLIENT}/replay", b'{"dry_run":true}'),
}


class Figures(NamedTuple):
    memory_mib_before: float
    memory_mib: float
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float
    unanswered: int
    lag_seconds: float


def main() -> None:
    names = sys.argv[1:] or list(ATTACKS)
    print("| beside | memory before, MiB | at most | `/livez` p50, ms | p99 | longest | without 200 | loop lag |")
    print("|---|---|---|---|---|---|---|---|")
    over = [name for name in names if not is_within(name, measure(ATTACKS[name]()))]
    print(f"\nover the bar: {', '.join(over) or 'none'}")


def is_within(name: str, found: Figures) -> bool:
    times = " | ".join(
        f"{seconds * 1000:.0f}" for seconds in (found.p50_seconds, found.p99_seconds, found.longest_seconds)
    )
    memory = f"{found.memory_mib_before:.0f} | {found.memory_mib:.0f}"
    print(f"| {name} | {memory} | {times} | {found.unanswered} | {found.lag_seconds * 1000:.0f} |", flush=True)
    is_small = found.memory_mib - found.memory_mib_before <= MEMORY_MIB_MAX
    return is_small and found.p99_seconds < P99_SECONDS_MAX and not found.unanswered


def measure(attack: Attack) -> Figures:
    with tempfile.TemporaryDirectory() as directory, daemon(directory) as (pid, port), deaf() as deaf_port:
        fill(port, deaf_port)
        before = memory_mib(pid)
        peers = multiprocessing.get_context("fork").Process(target=trio.run, args=(attack, port))
        peers.start()
        try:
            peak, times, unanswered = watch(pid, port)
            lag = loop_lag(port)
        finally:
            peers.kill()
            peers.join()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    return Figures(before, peak, statistics.median(times), p99, times[-1], unanswered, lag)


def watch(pid: int, port: int) -> tuple[float, list[float], int]:
    """The most memory, how long each probe took, and how many were not answered with 200."""
    times: list[float] = []
    peak, unanswered = 0.0, 0
    is_over = threading.Event()

    def read_memory() -> None:
        nonlocal peak
        while not is_over.wait(0.02):
            peak = max(peak, memory_mib(pid))

    reader = threading.Thread(target=read_memory)
    reader.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        began = time.perf_counter()
        unanswered += not is_alive(port)
        times.append(time.perf_counter() - began)
        time.sleep(PROBE_EVERY_SECONDS)
    is_over.set()
    reader.join()
    return peak, times, unanswered


def is_alive(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as probe:
            probe.sendall(LIVEZ)
            return probe.recv(1000).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def loop_lag(port: int) -> float:
    """NaN where the peers hold every connection but the probes'."""
    try:
        api = HTTPConnection("127.0.0.1", port, timeout=30)
        api.request("GET", "/v1/status")
        return float(json.loads(api.getresponse().read())["loop_lag_seconds"])
    except (OSError, ValueError):
        return float("nan")


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def fill(port: int, deaf_port: int) -> None:
    """What settles at once (its endpoint wants another type), and what hangs."""
    api = HTTPConnection("127.0.0.1", port)
    endpoint = {"url": f"http://127.0.0.1:{deaf_port}/", "event_types": ["wanted"]}
    ask(api, "PUT", CLIENT, {"endpoints": [endpoint]})
    settled = [{"client_id": "many", "type": "none", "payload": {"n": number}} for number in range(1000)]
    for _ in range(SETTLED // 1000):
        ask(api, "POST", BATCH, settled)
    ask(api, "POST", BATCH, [one | {"type": "wanted"} for one in settled[:UNSETTLED]])


def ask(api: HTTPConnection, method: str, path: str, body: object) -> None:
    api.request(method, path, json.dumps(body), {"content-type": JSON})
    response = api.getresponse()
    answer = response.read()
    assert response.status in (200, 201, 202), answer


@contextmanager
def daemon(directory: str) -> Iterator[tuple[int, int]]:
    """Its process id and its port."""
    started = subprocess.Popen(
        [sys.executable, "-m", "hookd", "run", "--dev", "--bind", "127.0.0.1:0", "--reports", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"HOOKD_DRAIN__TIMEOUT": "0s"},
    )
    try:
        assert started.stdout is not None
        yield started.pid, int(started.stdout.readline().rpartition(":")[2])
    finally:
        started.kill()
        started.wait()


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


if __name__ == "__main__":
    main()
