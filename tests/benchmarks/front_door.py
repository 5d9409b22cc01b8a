"""What peers of the API can do to the daemon: its memory, and how long `/livez` takes, beside each kind of them.

One daemon as a child process, with 200,000 settled events of one client and a hundred unsettled. Each route is met in
four shapes (front_door_shapes), by peers in a second child. Meanwhile a probe asks `/livez`, on a connection of its own
each time, and the daemon's resident memory is read. Before and behind each the same without peers.

The machine has its say. So of each probe it is also taken how much CPU time the daemon used meanwhile: that is the
daemon's own doing, whatever else the machine had to do. Beside it stands how late a plain timer of the probe was.

Bar: p99 below 100 ms beside each, always 200, and in all at most as much more memory as `hookd check` says for what is
filled here (FILLED); else exit 1. On a machine that is not quiet (a timer's p99 is over TIMER_SECONDS_MAX in the calm)
the p99 of the CPU time counts in place of the time.

    python -m tests.benchmarks.front_door [--seconds N] [PART OF A NAME]...
"""

import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import trio
from hookd.core.settings import Settings
from hookd.core.sizing import worst_case_bytes

from tests.benchmarks.front_door_shapes import CLIENT, JSON, MIB, Attack, connections, request, routes_of, shapes_of
from tests.benchmarks.watched_daemon import TURN

SETTLED = 200_000
UNSETTLED = 100
SECONDS = 2.0
CALM_SECONDS = 0.3
PROBE_EVERY_SECONDS = 0.01
P99_SECONDS_MAX = 0.1
FILLED = ("bodies being received", "answers not yet taken", "connections of the API")
NICE_PEERS = 5  # the probe comes first; the daemon has a core
LIVEZ = request("GET", "/livez")
WATCHED = [sys.executable, "-m", "tests.benchmarks.watched_daemon"]
TIMER_SECONDS_MAX = 0.005
COLUMNS = (
    "| beside | MiB | more | calm p50 | p99 | `/livez` p50 | p99 | longest | CPU p99 | not 200 | timer p99 | turn |"
)


class Probes(NamedTuple):
    """Of some time: how long each probe took, what the daemon worked meanwhile, how late each timer was."""

    began: float
    ended: float
    seconds: list[float]
    cpu_seconds: list[float]
    late_seconds: list[float]
    unanswered: int  # had no 200
    memory_mib: float  # the most


class Cell(NamedTuple):
    name: str
    calm: Probes  # before and after
    beside: Probes
    turn_seconds: float  # of CPU time: the loop's longest

    @property
    def is_quiet(self) -> bool:
        return p99(self.calm.late_seconds) <= TIMER_SECONDS_MAX

    @property
    def is_over(self) -> bool:
        counts = self.beside.seconds if self.is_quiet else self.beside.cpu_seconds
        return p99(counts) >= P99_SECONDS_MAX or self.beside.unanswered > 0

    def row(self) -> str:
        calm, beside = self.calm, self.beside
        figures = [f"{calm.memory_mib:.0f}", f"{beside.memory_mib - calm.memory_mib:+.0f}"]
        times = [statistics.median(calm.seconds), p99(calm.seconds), statistics.median(beside.seconds)]
        times += [p99(beside.seconds), max(beside.seconds), p99(beside.cpu_seconds)]
        figures += [milliseconds(one) for one in times]
        figures += [f"{beside.unanswered}", milliseconds(p99(beside.late_seconds)), milliseconds(self.turn_seconds)]
        return f"| {self.name} | {' | '.join(figures)} |"


def p99(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99)] if found else 0.0


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="beside each kind of peers")
    parser.add_argument("--settled", type=int, default=SETTLED, help="events that the daemon holds")
    parser.add_argument("parts", nargs="*", help="only what has one of these in its name")
    given = parser.parse_args()
    print(f"times in ms; beside each for {given.seconds:g} s\n\n{COLUMNS}\n{'|---' * 12}|", flush=True)
    with tempfile.TemporaryDirectory() as directory, daemon(directory) as door, deaf() as deaf_port:
        fill(door.port, deaf_port, given.settled)
        first_mib = memory_mib(door.pid)
        cells: list[Cell] = []
        calm = probe(door, CALM_SECONDS)
        for name, attack in attacks(door.port):
            if any(part in name for part in given.parts) or not given.parts:
                cell, calm = measure(door, name, attack(), calm, given.seconds)
                cells.append(cell)
                print(cell.row(), flush=True)
        sys.exit(say_results(cells, first_mib))


def say_results(cells: list[Cell], first_mib: float) -> int:
    times = [seconds for cell in cells for seconds in cell.beside.seconds]
    peak_mib = max(cell.beside.memory_mib for cell in cells)
    found = f"p50 {milliseconds(statistics.median(times))}, p99 {milliseconds(p99(times))} ms"
    print(f"\n`/livez` throughout, {len(times):,} probes: {found}")
    promised_mib = sum(worst_case_bytes(Settings())[part] for part in FILLED) / MIB
    print(f"memory: {first_mib:.0f} MiB, at most {peak_mib:.0f}; {promised_mib:.0f} more are promised")
    print(f"quiet beside {sum(cell.is_quiet for cell in cells)} of {len(cells)}")
    over = [cell.name for cell in cells if cell.is_over]
    print(f"over the bar: {', '.join(over) or 'none'}")
    return 1 if over or peak_mib - first_mib > promised_mib else 0


class Door(NamedTuple):
    pid: int
    port: int
    turns: Path


def attacks(port: int) -> Iterator[tuple[str, Callable[[], Attack]]]:
    for name, attack in connections():
        yield f"connections: {name}", attack
    api = HTTPConnection("127.0.0.1", port)
    api.request("GET", "/openapi.json")
    description: dict[str, Any] = json.loads(api.getresponse().read())
    api.close()
    for route in routes_of(description):
        for shape, attack in shapes_of(route):
            yield f"{route.name}, {shape}", attack


def measure(door: Door, name: str, attack: Attack, before: Probes, seconds: float) -> tuple[Cell, Probes]:
    peers = multiprocessing.get_context("fork").Process(target=attacking, args=(attack, door.port))
    peers.start()
    try:
        beside = probe(door, seconds)
    finally:
        peers.kill()
        peers.join()
    turn_seconds = longest_turn_seconds(door.turns, beside)
    probe(door, 0.2)  # what the peers left behind is thrown away
    after = probe(door, CALM_SECONDS)
    calm = after._replace(
        seconds=before.seconds + after.seconds,
        late_seconds=before.late_seconds + after.late_seconds,
        memory_mib=before.memory_mib,
    )
    return Cell(name, calm, beside, turn_seconds), after


def attacking(attack: Attack, port: int) -> None:
    os.nice(NICE_PEERS)
    trio.run(attack, port)


def probe(door: Door, seconds: float) -> Probes:
    """Also where one probe takes longer than that, ten."""
    times: list[float] = []
    late: list[float] = []
    cpu: list[float] = []
    unanswered, peak, clock = 0, 0.0, cpu_clock(door.pid)
    began = time.monotonic()
    while time.monotonic() < began + seconds or len(times) < 10:
        asleep = time.perf_counter()
        time.sleep(PROBE_EVERY_SECONDS)
        woken, worked = time.perf_counter(), time.clock_gettime(clock)
        unanswered += not is_alive(door.port)
        times.append(time.perf_counter() - woken)
        cpu.append(time.clock_gettime(clock) - worked)
        late.append(woken - asleep - PROBE_EVERY_SECONDS)
        peak = max(peak, memory_mib(door.pid))
    return Probes(began, time.monotonic(), times, cpu, late, unanswered, peak)


def cpu_clock(pid: int) -> int:
    """Of another process, all its threads: clock_getcpuclockid(3), which Python does not have."""
    return (~pid << 3) | 2


def longest_turn_seconds(turns: Path, during: Probes) -> float:
    """Of CPU time."""
    read = turns.read_bytes()
    turns.write_bytes(b"")  # the daemon appends
    found = TURN.iter_unpack(read[: len(read) // TURN.size * TURN.size])
    return max((cpu for ended, _, cpu in found if during.began <= ended <= during.ended), default=0.0)


def is_alive(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as asked:
            asked.sendall(LIVEZ)
            return asked.recv(1000).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def fill(port: int, deaf_port: int, settled_events: int) -> None:
    """What settles at once (its endpoint wants another type), and what hangs."""
    api = HTTPConnection("127.0.0.1", port)
    endpoint = {"url": f"http://127.0.0.1:{deaf_port}/", "event_types": ["wanted"]}
    ask(api, "PUT", f"/v1/clients/{CLIENT}", {"endpoints": [endpoint]})
    settled = [{"client_id": CLIENT, "type": "none", "payload": {"n": number}} for number in range(1000)]
    for _ in range(settled_events // 1000):
        ask(api, "POST", "/v1/events/batch", settled)
    ask(
        api,
        "POST",
        "/v1/events/batch",
        [one | {"type": "wanted", "id": f"e{n}"} for n, one in enumerate(settled[:UNSETTLED])],
    )
    api.close()


def ask(api: HTTPConnection, method: str, path: str, body: object) -> None:
    api.request(method, path, json.dumps(body), {"content-type": JSON})
    response = api.getresponse()
    answer = response.read()
    assert response.status in (200, 201, 202), answer


@contextmanager
def daemon(directory: str) -> Iterator[Door]:
    turns = Path(directory) / "turns"
    started = subprocess.Popen(
        [*WATCHED, str(turns), "run", "--dev", "--bind", "127.0.0.1:0", "--reports", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"HOOKD_DRAIN__TIMEOUT": "0s"},
    )
    try:
        assert started.stdout is not None
        yield Door(started.pid, int(started.stdout.readline().rpartition(":")[2]), turns)
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
