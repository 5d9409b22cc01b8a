"""The relay's throughput, and healthy clients beside stuck ones: `python -m tests.benchmarks relay [--quick]`.

A real Redis (AOF), the daemon, the relay, and a receiver, each a process of its own. First backlogs of entries of 300 B
for ten clients, each from its first to its last acknowledgement: by the clock, and by the CPU time of the four. That
says what two cores carry with nothing else on the machine: half of it all each, but the dearest process has one core.
The receiver is haproxy, which costs next to nothing. The daemon has a core of its own, all else shares another. What
the four take while nothing is to do is taken off: on a busy machine a backlog lasts long, and that would be half of the
relay's. Then entries at a steady rate for nine healthy clients, by turns: alone; beside one whose endpoint hangs and
one whose budget is full, each with a backlog; and while that grows, by ten of their entries with each of the others.
Measured is the time from XADD to arrival.
Bars: 2,500 events a second on two cores; p99 beside, in either way, at most 1.5 of p99 alone.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from tests.acceptance.harness import Daemon, wait_until
from tests.benchmarks.end_to_end import DAEMON_CORE, LOAD_CORE
from tests.benchmarks.processes import HAPROXY, NotInstalled, haproxy, on_core, pinned, require
from tests.relay.harness import STREAM, Redis, RedisServer, Relay, added, cpu_seconds, definitions, dict_of

CLIENTS = [f"healthy{n}" for n in range(9)]
STUCK = ["dead", "full"]
EVENTS, QUICK_EVENTS = 10_000, 500
ROUNDS = 3
IDLE_SECONDS, QUICK_IDLE_SECONDS = 10.0, 0.5
POSTS, EVERY_SECONDS = 900, 0.01
BACKLOG, QUICK_BACKLOG = 5000, 300
GROWTH = 10  # entries of the stuck ones with each of the others
CLIENT_EVENTS_MAX = 100
WAYS = {"alone": (False, 0), "beside": (True, 0), "growing": (True, GROWTH)}
FIELDS = re.compile(rb"\r\n(content-length|webhook-id): ([^\r]+)", re.IGNORECASE)
PAYLOAD = json.dumps({"note": "x" * 300})


def main(*, quick: bool = False) -> None:
    """Quick: whether it runs."""
    try:
        require("redis-server", "haproxy")
    except NotInstalled as missing:
        print(f"skipped: {missing}")
        return
    with tempfile.TemporaryDirectory() as directory:
        arrivals = Path(directory) / "arrivals"
        command = [sys.executable, "-m", "tests.benchmarks.relay", "receiver", str(arrivals)]
        receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{int(receiver.stdout.readline())}"
            rounds, posts, backlog = (1, 50, QUICK_BACKLOG) if quick else (ROUNDS, POSTS, BACKLOG)
            throughput(Path(directory) / "throughput", rounds, quick=quick)
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


def throughput(folder: Path, rounds: int, *, quick: bool) -> None:
    folder.mkdir()
    names = [*CLIENTS, "tenth"]
    with (
        pinned(LOAD_CORE),
        haproxy(lambda fd: HAPROXY.format(fd=fd)) as sink,
        RedisServer(folder) as redis,
        Daemon(folder / "d", through=on_core(DAEMON_CORE)) as daemon,
    ):
        clients = definitions(folder, {name: f"http://127.0.0.1:{sink.port}/{name}" for name in names})
        with Relay(folder, redis.url, daemon.url, "--clients", clients) as relay:
            wait_until(relay.is_ready, seconds=60)
            assert redis.process is not None
            pids = {"redis": redis.process.pid, "hookd": daemon.process.pid, "relay": relay.process.pid}
            parts = Parts(pids | {"receiver": sink.process.pid})
            carried(redis, names, QUICK_EVENTS, 0)  # connections, and the daemon's first look at each name
            parts.idle(QUICK_IDLE_SECONDS if quick else IDLE_SECONDS)
            seen = [parts.used(redis, names, QUICK_EVENTS if quick else EVENTS, number + 1) for number in range(rounds)]
    used = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
    shown = ", ".join(f"{name} {one * 1e6:.0f}" for name, one in used.items())
    total, (dearest, most) = sum(used.values()), max(used.items(), key=lambda one: one[1])
    print(f"the median of {rounds}, us of CPU an entry: {shown}, in all {total * 1e6:.0f}")
    print(f"two cores carry {min(2 / total, 1 / most):,.0f} a second by CPU, bar 2,500;", end=" ")
    print(f"evenly shared {2 / total:,.0f}; {dearest}, which has one of them, {1 / most:,.0f}")


class Parts:
    """The processes, by name."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._idle = dict.fromkeys(pids, 0.0)

    def idle(self, seconds: float) -> None:
        """What each takes in a second of doing nothing."""
        before = self._cpu()
        time.sleep(seconds)
        self._idle = {name: (now - before[name]) / seconds for name, now in self._cpu().items()}

    def used(self, redis: RedisServer, names: Sequence[str], events: int, number: int) -> dict[str, float]:
        """CPU seconds of each for an entry of a backlog, without what it takes anyhow."""
        before = self._cpu()
        seconds = carried(redis, names, events, number)
        idle = {name: one * seconds for name, one in self._idle.items()}
        used = {name: max(now - before[name] - idle[name], 0.0) / events for name, now in self._cpu().items()}
        shown = ", ".join(f"{name} {one * 1e6:.0f}" for name, one in used.items())
        print(f"{events:,} entries: {events / seconds:,.0f} a second by the clock; us of CPU each: {shown}")
        return used

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


def carried(redis: RedisServer, names: Sequence[str], events: int, number: int) -> float:
    """Seconds from its first entry to its last acknowledgement."""
    entries = [added(names[n % len(names)], f"e{number}-{n}", PAYLOAD) for n in range(events)]
    began = time.perf_counter()
    with Redis(redis.port) as log:
        for at in range(0, events, 500):
            log.each(entries[at : at + 500])
    wait_until(lambda: is_read(redis) and redis.pending() == 0, seconds=600)
    return time.perf_counter() - began


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
