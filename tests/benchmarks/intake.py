"""What intake costs: `python -m tests.benchmarks intake [--quick]`.

(a) `POST /v1/events`, one event each, against an empty Quart-Trio route on the same server: by turns, medians of the
rounds, their ratio. (b) batches of 100 into the ledger. (c) the p99 of single posts while deliveries run.
The daemon is a child process, the load comes from here over kept connections, receivers are a third process.
In (a) and (b) the one endpoint is paused, so that the figure is intake's alone. Each figure is given by the clock and
by the daemon's CPU time: on a machine that others use, only the second one holds.
Bars: (a) at least 85 %; (b) at least 10,000 events a second; (c) is printed.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.benchmarks.processes import TICKS, Child, Keeper, daemon, running

ROUNDS = 7
POSTS = 150
CONNECTIONS = 4
BATCHES = 40
BATCH = 100
DELIVERIES_PER_SECOND = 5000
DELIVERY_SECONDS = 5.0
LAG_EVERY_SECONDS = 0.02
PAYLOAD = {"invoice": "in_1", "amount": 1999, "currency": "EUR"}
EVENT = {"client_id": "acme", "type": "invoice.paid", "payload": PAYLOAD}


class Cost(NamedTuple):
    per_second: float  # by the clock
    cpu_microseconds: float  # of the server's process, each


def main(*, quick: bool = False) -> None:
    """Quick: a few of each, whether it runs."""
    with tempfile.TemporaryDirectory() as directory:
        single(directory, rounds=1 if quick else ROUNDS, posts=10 if quick else POSTS)
        batches(directory, count=2 if quick else BATCHES)
        beside_deliveries(directory, for_seconds=0.5 if quick else DELIVERY_SECONDS)


# (a)


def single(directory: str, *, rounds: int, posts: int) -> None:
    with child("empty") as empty, daemon(directory) as hookd, Keeper(hookd.port) as api:
        register(api, "http://127.0.0.1:9/hook", paused=True)
        bodies = {empty.port: b"{}", hookd.port: json.dumps(EVENT).encode()}
        for one in (empty, hookd):
            post_all(one, bodies[hookd.port], posts)
        body = bodies[hookd.port]
        seen = [(post_all(empty, body, posts), post_all(hookd, body, posts)) for _ in range(rounds)]
    clock = statistics.median(ours.per_second / base.per_second for base, ours in seen)
    cpu = statistics.median(base.cpu_microseconds / ours.cpu_microseconds for base, ours in seen)
    for name, costs in zip(("an empty route", "POST /v1/events"), zip(*seen, strict=True), strict=True):
        print(f"{name:>16}: {shown(costs)}")
    print(f"(a) POST /v1/events / an empty route = {clock:.0%} by the clock, {cpu:.0%} by CPU time; bar 85%")


def post_all(server: "Child", body: bytes, posts: int) -> Cost:
    """So many over each of some kept connections, at once."""
    before, begin = server.cpu_seconds(), time.perf_counter()
    threads = [threading.Thread(target=post_many, args=(server.port, body, posts)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, count = time.perf_counter() - begin, posts * CONNECTIONS
    return Cost(count / seconds, max(server.cpu_seconds() - before, 1 / TICKS) / count * 1e6)


def post_many(port: int, body: bytes, posts: int) -> None:
    with Keeper(port) as api:
        for _ in range(posts):
            status, _ = api.ask("POST", "/v1/events", body)
            assert status == 202, status


# (b)


def batches(directory: str, *, count: int) -> None:
    body = json.dumps([EVENT] * BATCH).encode()
    costs = []
    for _ in range(3):
        with daemon(directory) as hookd, Keeper(hookd.port) as api:
            register(api, "http://127.0.0.1:9/hook", paused=True)
            api.ask("POST", "/v1/events/batch", body)
            before, begin = hookd.cpu_seconds(), time.perf_counter()
            for _ in range(count):
                assert api.ask("POST", "/v1/events/batch", body)[0] == 202
            seconds, events = time.perf_counter() - begin, count * BATCH
            cpu_microseconds = max(hookd.cpu_seconds() - before, 1 / TICKS) / events * 1e6
            costs.append(Cost(events / seconds, cpu_microseconds))
            assert json.loads(api.ask("GET", "/v1/status")[1])["events"]["accepted"] == events + BATCH
    cpu = 1e6 / statistics.median(cost.cpu_microseconds for cost in costs)
    print(f"(b) batches of {BATCH}: {shown(costs)}: {cpu:,.0f} events per second of CPU; bar 10,000")


# (c)


def beside_deliveries(directory: str, *, for_seconds: float) -> None:
    with child("receiver") as receiver, daemon(directory) as hookd, Keeper(hookd.port) as api:
        for number in range(20):
            register(api, f"http://127.0.0.1:{receiver.port}/{number}", client_id=f"c{number}", concurrency=100)
        register(api, f"http://127.0.0.1:{receiver.port}/acme")
        ending = threading.Event()
        load = threading.Thread(target=offer, args=(hookd.port, ending))
        load.start()
        first, lags = delivered(api), []
        before, begin = hookd.cpu_seconds(), time.perf_counter()
        while time.perf_counter() < begin + for_seconds:
            posted = time.perf_counter()
            assert api.ask("POST", "/v1/events", json.dumps(EVENT).encode())[0] == 202
            lags.append(time.perf_counter() - posted)
            time.sleep(max(0.0, posted + LAG_EVERY_SECONDS - time.perf_counter()))
        seconds, count = time.perf_counter() - begin, delivered(api) - first
        rate, cpu = count / seconds, (hookd.cpu_seconds() - before) / count * 1e6
        ending.set()
        load.join()
    lags.sort()
    p50, p99 = (lags[int(len(lags) * share)] * 1000 for share in (0.5, 0.99))
    print(f"(c) single posts beside {rate:,.0f} deliveries a second: p50 {p50:.1f} ms, p99 {p99:.1f} ms", end="")
    print(f" (asked for {DELIVERIES_PER_SECOND:,} a second); {cpu:.0f} µs of CPU a delivery, intake and all")


def offer(port: int, ending: threading.Event) -> None:
    """DELIVERIES_PER_SECOND in batches of 100; what is refused is not posted again."""
    with Keeper(port) as api:
        next_at, number = time.perf_counter(), 0
        while not ending.is_set():
            events = [{**EVENT, "client_id": f"c{(number + index) % 20}"} for index in range(BATCH)]
            api.ask("POST", "/v1/events/batch?partial=true", json.dumps(events).encode())
            number += BATCH
            next_at += BATCH / DELIVERIES_PER_SECOND
            time.sleep(max(0.0, next_at - time.perf_counter()))


def delivered(api: "Keeper") -> int:
    return int(json.loads(api.ask("GET", "/v1/status")[1])["deliveries"]["delivered"])


def register(api: "Keeper", url: str, *, client_id: str = "acme", paused: bool = False, concurrency: int = 8) -> None:
    definition = {"endpoints": [{"url": url, "concurrency": concurrency}]}
    assert api.ask("PUT", f"/v1/clients/{client_id}", json.dumps(definition).encode())[0] == 201
    if paused:
        assert api.ask("POST", f"/v1/clients/{client_id}/endpoints/default/pause")[0] == 200


def shown(costs: "list[Cost] | tuple[Cost, ...]") -> str:
    per_second = statistics.median(cost.per_second for cost in costs)
    cpu = statistics.median(cost.cpu_microseconds for cost in costs)
    return f"{per_second:8,.0f}/s by the clock, {cpu:6.1f} µs of CPU each"


# Processes


@contextmanager
def child(part: str) -> Iterator[Child]:
    with running([sys.executable, "-m", "tests.benchmarks.intake", part], os.environ) as found:
        yield found


def empty() -> None:
    """An application with one route that does nothing, on the server that the daemon runs on."""
    import trio
    from hookd.edge.server import Server, bound_sockets
    from quart import Response
    from quart_trio import QuartTrio

    app = QuartTrio("empty", static_folder=None)

    @app.post("/v1/events")
    async def post_event() -> Response:
        return Response(b"{}", 202, content_type="application/json")

    async def serve() -> None:
        server = Server(app, bound_sockets(["127.0.0.1:0"]), log=lambda *_, **__: None)
        print(server.urls[0], flush=True)
        await server.serve()

    trio.run(serve)


def receiver() -> None:
    """Answers 200 to whatever comes, over kept connections."""
    import trio

    async def answer(stream: trio.SocketStream) -> None:
        seen = b""
        async for data in stream:
            seen += data
            while (end := seen.find(b"\r\n\r\n")) >= 0:
                length = int(seen[:end].lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                if len(seen) < end + 4 + length:
                    break
                seen = seen[end + 4 + length :]
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def serve() -> None:
        (listener, *_) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)
        await trio.serve_listeners(answer, [listener])

    trio.run(serve)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["empty"]:
            empty()
        case ["receiver"]:
            receiver()
        case given:
            main(quick=given == ["--quick"])
