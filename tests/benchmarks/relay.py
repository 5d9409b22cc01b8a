"""The relay's throughput, and healthy clients beside stuck ones: `python -m tests.benchmarks relay [--quick]`.

A real Redis (AOF), the daemon, the relay, and a receiver that costs little, each a process of its own. First a backlog
of entries of 300 B for ten clients, from the first to the last acknowledgement: by the clock, and by the CPU time of
the four, which says what two cores carry with nothing else on the machine. Then entries at a steady rate for nine
healthy clients, by turns: alone; beside one whose endpoint hangs and one whose budget is full, each with a backlog; and
while that grows, by ten of their entries with each of the others. Measured is the time from XADD to arrival.
Bars: 2,500 events a second on two cores; p99 beside, in either way, at most 1.5 of p99 alone.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.acceptance.harness import Daemon, wait_until
from tests.relay.harness import REDIS, STREAM, Redis, RedisServer, Relay, added, cpu_seconds, definitions, dict_of

CLIENTS = [f"healthy{n}" for n in range(9)]
STUCK = ["dead", "full"]
EVENTS, QUICK_EVENTS = 20_000, 500
ROUNDS = 3
POSTS, EVERY_SECONDS = 900, 0.01
BACKLOG, QUICK_BACKLOG = 5000, 300
GROWTH = 10  # entries of the stuck ones with each of the others
CLIENT_EVENTS_MAX = 100
WAYS = {"alone": (False, 0), "beside": (True, 0), "growing": (True, GROWTH)}
FIELDS = re.compile(rb"\r\n(content-length|webhook-id): ([^\r]+)", re.IGNORECASE)
PAYLOAD = json.dumps({"note": "x" * 300})


def main(*, quick: bool = False) -> None:
    """Quick: whether it runs."""
    if REDIS is None:
        print("skipped: no redis-server here")
        return
    with tempfile.TemporaryDirectory() as directory:
        arrivals = Path(directory) / "arrivals"
        command = [sys.executable, "-m", "tests.benchmarks.relay", "receiver", str(arrivals)]
        receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{int(receiver.stdout.readline())}"
            throughput(Path(directory) / "throughput", url, receiver.pid, QUICK_EVENTS if quick else EVENTS)
            rounds, posts, backlog = (1, 50, QUICK_BACKLOG) if quick else (ROUNDS, POSTS, BACKLOG)
            seen: dict[str, list[float]] = {name: [] for name in WAYS}
            for number in range(rounds):
                for name, (has_backlog, growth) in WAYS.items():
                    folder = Path(directory) / f"{number}{name}"
                    seen[name].append(lag(folder, url, arrivals, posts, backlog * has_backlog, growth))
        finally:
            receiver.kill()
            receiver.wait()
    for name in ("beside", "growing"):
        ratio = statistics.median(one / alone for one, alone in zip(seen[name], seen["alone"], strict=True))
        print(f"p99 {name} of p99 alone: {ratio:.2f}, bar 1.5")


def throughput(folder: Path, url: str, receiver: int, events: int) -> None:
    folder.mkdir()
    names = [*CLIENTS, "tenth"]
    with RedisServer(folder) as redis, Daemon(folder / "hookd") as daemon:
        clients = definitions(folder, {name: f"{url}/{name}" for name in names})
        with Relay(folder, redis.url, daemon.url, "--clients", clients) as relay:
            wait_until(relay.is_ready, seconds=60)
            assert redis.process is not None
            pids = {"redis": redis.process.pid, "hookd": daemon.process.pid, "relay": relay.process.pid}
            pids["receiver"] = receiver
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            with Redis(redis.port) as log:
                entries = [added(names[n % 10], f"e{n}", PAYLOAD) for n in range(events)]
                for at in range(0, events, 500):
                    log.each(entries[at : at + 500])
                began = time.perf_counter()
                wait_until(lambda: is_read(redis) and redis.pending() == 0, seconds=600)
            seconds = time.perf_counter() - began
            used = {name: (cpu_seconds(pid) - before[name]) / events for name, pid in pids.items()}
    shown = ", ".join(f"{name} {one * 1e6:.0f}" for name, one in used.items())
    total = sum(used.values())
    print(f"{events:,} entries: {events / seconds:,.0f} a second by the clock; us of CPU each: {shown}")
    print(f"two cores carry {2 / total:,.0f} a second by CPU, bar 2,500", end="; ")
    print(f"the relay's own limit is {1 / used['relay']:,.0f}")


def is_read(redis: RedisServer) -> bool:
    """By Redis' own count, which is right as long as it lives: to count the entries would cost it most of its time."""
    [group] = redis.ask("XINFO", "GROUPS", STREAM)
    return bool(dict_of(group)["lag"] == 0)


def lag(folder: Path, url: str, arrivals: Path, posts: int, backlog: int, growth: int) -> float:
    """The p99 of the healthy ones, beside two that are stuck with such a backlog, which may grow, or alone."""
    folder.mkdir()
    environ = {"HOOKD_INTAKE__CLIENT_EVENTS_MAX": str(CLIENT_EVENTS_MAX), "HOOKD_DELIVERY__TIMEOUT": "10m"}
    with RedisServer(folder) as redis, Daemon(folder / "hookd", env=environ) as daemon:
        clients = definitions(folder, {name: f"{url}/{name}" for name in (*CLIENTS, *STUCK)})
        with Relay(folder, redis.url, daemon.url, "--clients", clients) as relay:
            for name in CLIENTS:
                redis.add(name, [f"warm-{name}"])
            wait_until(redis.is_done, seconds=60)
            if backlog:
                for name in STUCK:
                    redis.add(name, [f"{name}{n}" for n in range(backlog)])
                wait_until(lambda: redis.pending() == 2 * backlog, seconds=300)
                wait_until(lambda: is_parked(relay, backlog), seconds=300)
            before = cpu_seconds(relay.process.pid)
            lags = sorted(post_all(redis, arrivals, posts, growth, folder.name))
            used = (cpu_seconds(relay.process.pid) - before) / posts
    p50, p99 = statistics.median(lags), lags[int(len(lags) * 0.99)]
    figures = " ".join(f"{each * 1000:7.1f} ms" for each in (p50, p99, lags[-1]))
    print(f"{folder.name.lstrip('0123456789'):>8} p50, p99, max {figures}; us of the relay's CPU each {used * 1e6:.0f}")
    return p99


def is_parked(relay: Relay, backlog: int) -> bool:
    """Both have all that their budgets take, and the rest has found its place."""
    shown = relay.metrics()
    return shown["parked"] + shown["parked_beyond"] == 2 * (backlog - CLIENT_EVENTS_MAX)


def post_all(redis: RedisServer, arrivals: Path, posts: int, growth: int, run: str) -> list[float]:
    """At a steady rate; the receiver writes down when each arrived, on the same machine's clock."""
    posted = {}
    begin = time.perf_counter()
    with Redis(redis.port) as log:
        for number in range(posts):
            time.sleep(max(begin + number * EVERY_SECONDS - time.perf_counter(), 0))
            event_id = f"{run}-{number}"
            posted[event_id] = time.monotonic()
            more = [added(STUCK[n % 2], f"{event_id}-{n}", PAYLOAD) for n in range(growth)]
            log.each([*more, added(CLIENTS[number % len(CLIENTS)], event_id, PAYLOAD)])
    seen: dict[str, float] = {}

    def all_arrived() -> bool:
        lines = [line.split() for line in arrivals.read_text().splitlines()]
        seen.update({line[0]: float(line[1]) for line in lines if len(line) == 2 and line[0] in posted})
        return len(seen) == len(posted)

    wait_until(all_arrived, seconds=120)
    return [seen[event_id] - at for event_id, at in posted.items()]


async def serve_receiver(path: str) -> None:
    with open(path, "w", buffering=1) as arrivals:  # noqa: ASYNC230 - once, before anything is served

        async def serve(stream: trio.SocketStream) -> None:
            buffer = b""
            try:
                while data := await stream.receive_some(65536):
                    buffer += data
                    while b"\r\n\r\n" in buffer:
                        head, _, rest = buffer.partition(b"\r\n\r\n")
                        fields = {name.lower(): value for name, value in FIELDS.findall(head)}
                        length = int(fields[b"content-length"])
                        if len(rest) < length:
                            break
                        buffer = rest[length:]
                        arrivals.write(f"{fields[b'webhook-id'].decode()} {time.monotonic()}\n")
                        if head.startswith((b"POST /dead", b"POST /full")):
                            await trio.sleep_forever()
                        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            except trio.BrokenResourceError:
                pass
            await stream.aclose()

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        print(listeners[0].socket.getsockname()[1], flush=True)
        await trio.serve_listeners(serve, listeners)


if __name__ == "__main__":
    if sys.argv[1:2] == ["receiver"]:
        trio.run(serve_receiver, sys.argv[2])
    else:
        main(quick=sys.argv[1:] == ["--quick"])
