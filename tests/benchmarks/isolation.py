"""A healthy endpoint's lag, alone and beside bad ones: `python -m tests.benchmarks isolation [--quick]`.

The real daemon as a child process. The healthy receiver is a second child, and the bad ones a third: a hundred each
that hang, refuse, fail now and then, and drip. In one process with them the healthy one would be late by what they
cost it. Each bad one has a backlog of a thousand events. The lag is from the moment before the POST to the arrival at
the healthy receiver, over connections that both keep. Alone and beside each kind by turns.
Bar: p99 beside each kind at most 10 ms over p99 alone, in each round.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import trio

OTHERS = 100
BACKLOG = 1000
ROUNDS = 5
POSTS = 400
EVERY_SECONDS = 0.01
HEALTHY, REFUSING = "healthy", "refusing"
KINDS = ("hung", REFUSING, "flaky", "dripping")
HEAD = b"HTTP/1.1 %d x\r\ncontent-length: 2\r\n\r\nok"


def main(*, quick: bool = False) -> None:
    """Quick: one round of a few, whether it runs."""
    others, posts, count = (3, 20, 1) if quick else (OTHERS, POSTS, ROUNDS)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        arrivals = Path(directory) / "arrivals"
        ports = stack.enter_context(receivers(arrivals, HEALTHY)) | stack.enter_context(receivers(arrivals, *KINDS))
        print(f"{'beside':>10} {'p50':>8} {'p99':>8} {'max':>8}   loop lag")
        rounds = [
            {kind: measure(directory, ports, arrivals, kind, others, posts) for kind in (None, *KINDS)}
            for _ in range(count)
        ]
    for kind in KINDS:
        more = sorted((each[kind] - each[None]) * 1000 for each in rounds)
        print(f"{kind:>10}: p99 - alone, median {statistics.median(more):+.1f} ms, at most {more[-1]:+.1f} ms, bar +10")


@contextmanager
def receivers(arrivals: Path, *kinds: str) -> Iterator[dict[str, int]]:
    """Their ports, by kind; those of these kinds have a process of their own."""
    command = [sys.executable, "-m", "tests.benchmarks.isolation", "receivers", str(arrivals), *kinds]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def measure(directory: str, ports: dict[str, int], arrivals: Path, kind: str | None, others: int, posts: int) -> float:
    environ = os.environ | {"HOOKD_INTAKE__UNSETTLED_EVENTS_MAX": "200000", "HOOKD_INTAKE__UNSETTLED_BYTES_MAX": "1GiB"}
    daemon = subprocess.Popen(
        [sys.executable, "-m", "hookd", "run", "--dev", "--bind", "127.0.0.1:0", "--reports", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ | {"HOOKD_DRAIN__TIMEOUT": "0s"},
    )
    try:
        assert daemon.stdout is not None
        host, port = daemon.stdout.readline().split("//")[1].strip().split(":")
        api = HTTPConnection(host, int(port))
        ask(api, "PUT", "/v1/clients/healthy", {"url": f"http://127.0.0.1:{ports[HEALTHY]}/"})
        if kind is not None:
            load(api, kind, ports[kind], others)
        lags = sorted(post_all(api, arrivals, posts))
        lag = ask(api, "GET", "/v1/status", None)["loop_lag_seconds"]
    finally:
        daemon.terminate()
        daemon.wait()
    p50, p99 = statistics.median(lags), lags[int(len(lags) * 0.99)]
    figures = " ".join(f"{each * 1000:6.1f}ms" for each in (p50, p99, lags[-1]))
    print(f"{kind or 'alone':>10} {figures}   {lag * 1000:.1f}ms")
    return p99


def load(api: HTTPConnection, kind: str, port: int, others: int) -> None:
    events = [{"type": "a", "payload": {"n": number}} for number in range(BACKLOG)]
    for other in range(others):
        ask(api, "PUT", f"/v1/clients/{kind}{other}", {"url": f"http://127.0.0.1:{port}/{other}"})
        ask(api, "POST", f"/v1/clients/{kind}{other}/events", events)


def post_all(api: HTTPConnection, arrivals: Path, posts: int) -> list[float]:
    """Posts at a steady rate; the receivers write down when each arrived, on the same machine's clock."""
    posted = {}
    begin = time.perf_counter()
    for number in range(posts):
        while time.perf_counter() < begin + number * EVERY_SECONDS:
            time.sleep(0.0005)
        event_id = f"E{time.monotonic_ns()}".lower()
        posted[event_id] = time.monotonic()
        ask(api, "POST", "/v1/events", {"client_id": "healthy", "type": "a", "payload": 1, "id": event_id})
    deadline = time.monotonic() + 30
    seen: dict[str, float] = {}
    while len(seen) < len(posted) and time.monotonic() < deadline:
        lines = [line.split() for line in arrivals.read_text().splitlines()]
        seen = {
            event_id: float(at) for event_id, at in (line for line in lines if len(line) == 2) if event_id in posted
        }
        time.sleep(0.05)
    assert len(seen) == len(posted), f"{len(posted) - len(seen)} did not arrive in 30 s"
    return [seen[event_id] - at for event_id, at in posted.items()]


def ask(api: HTTPConnection, method: str, path: str, body: object) -> dict[str, float]:
    api.request(method, path, json.dumps(body), {"content-type": "application/json"})
    response = api.getresponse()
    answer = response.read()
    assert response.status in (200, 201, 202), answer
    parsed: dict[str, float] = json.loads(answer)
    return parsed


async def serve_receivers(path: str, kinds: Sequence[str]) -> None:
    with open(path, "a", buffering=1) as arrivals:  # noqa: ASYNC230 — once, before anything is served
        async with trio.open_nursery() as nursery:
            ports = {}
            for kind in kinds:
                if kind == REFUSING:
                    ports[kind] = closed_port()
                    continue
                serve = partial(serve_connection, kind, lambda line: arrivals.write(line))
                listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1", backlog=1024))
                ports[kind] = listeners[0].socket.getsockname()[1]
            print(json.dumps(ports), flush=True)


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def serve_connection(kind: str, note: Callable[[str], object], stream: trio.SocketStream) -> None:
    buffer = b""
    count = 0
    try:
        while data := await stream.receive_some(65536):
            buffer += data
            while b"\r\n\r\n" in buffer:
                head, _, rest = buffer.partition(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
                length = int(fields[b"content-length"])
                if len(rest) < length:
                    break
                buffer = rest[length:]
                count += 1
                if kind == HEALTHY:
                    note(f"{fields[b'webhook-id'].decode()} {time.monotonic()}\n")
                await answer(kind, count, stream)
    except trio.BrokenResourceError:
        pass
    await stream.aclose()


async def answer(kind: str, count: int, stream: trio.SocketStream) -> None:
    if kind == "hung":
        await trio.sleep_forever()
    elif kind == "dripping":
        for byte in HEAD % 200:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.3)
    else:
        await stream.send_all(HEAD % (503 if kind == "flaky" and count % 2 else 200))


if __name__ == "__main__":
    if sys.argv[1:2] == ["receivers"]:
        trio.run(serve_receivers, sys.argv[2], sys.argv[3:])
    else:
        main(quick=sys.argv[1:] == ["--quick"])
