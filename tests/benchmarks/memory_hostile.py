"""Everything at once against one daemon, in a memory cgroup of the size that `hookd check` says: nothing may be killed.

The events of twelve clients go to receivers that do not read, answer garbage, send heads and bodies that do not end,
fail with long bodies, or work. The budgets stay full: what does not fit is posted again. Clients with long headers are
registered until there is no room. Beside that the peers of tests/benchmarks/front_door.py come by turns, a few at
a time: long bodies, answers that nobody reads, connections that say nothing.

Where no cgroup can be made it says why, and compares resident memory with the number instead.
"""

import contextlib
import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException

import trio
from hookd.core.sizing import container_mib

from tests.benchmarks.front_door import attacks, is_alive
from tests.benchmarks.front_door_shapes import Attack
from tests.benchmarks.memory_daemon import (
    BATCH_PATH,
    MIB,
    Cgroup,
    Daemon,
    NoCgroup,
    Overrides,
    cgroup,
    configured,
    settings_of,
)
from tests.benchmarks.memory_daemon import daemon as started_daemon
from tests.benchmarks.memory_receivers import KINDS, receivers
from tests.benchmarks.memory_shapes import QUERY, Ports, events

TURN_SECONDS = 20.0
AT_ONCE = 2
FILLING_SECONDS_MAX = 120.0
PROBE_EVERY_SECONDS = 0.2
ASKED_SECONDS_MAX = 20.0
# Budgets that minutes fill on a machine that has other work; what peers of the API can take is as it ships.
SETTINGS: Overrides = {
    "http": {"connections_max": 1000, "sending_bytes_max": "64MiB"},
    "intake": {
        "body_bytes_max": "16MiB",
        "receiving_bytes_max": "64MiB",
        "unsettled_events_max": 10_000,
        "unsettled_bytes_max": "48MiB",
        "client_events_max": 10_000,
        "client_bytes_max": "8MiB",
    },
    "registry": {"clients_max": 2000},
    "delivery": {"connections_max": 512, "timeout": "5s", "concurrency": 8},
    "retry": {"schedule": ["10ms"] * 8 + ["30s"]},
    "retention": {
        "delivered_events_max": 5000,
        "delivered_bytes_max": "8MiB",
        "exhausted_events_max": 5000,
        "exhausted_bytes_max": "8MiB",
        "excerpts_bytes_max": "2MiB",
        "settlements_max": 50_000,
    },
    "recorder": {"directory": "auto", "bytes_max": "16MiB"},
}


def hostile(minutes: float) -> int:
    """Prints what was seen; 1 where anything was killed, or more was taken than said and a tenth."""
    with ExitStack() as stack:
        config = stack.enter_context(configured(SETTINGS))
        limit_bytes = container_mib(settings_of(config)) * MIB
        ports = stack.enter_context(receivers())
        group: Cgroup | None = None
        try:
            group = stack.enter_context(cgroup(limit_bytes))
        except NoCgroup as reason:
            print(f"no memory cgroup: {reason}; resident memory is compared instead")
        daemon = stack.enter_context(started_daemon(config, cgroup=None if group is None else group.path))
        times, unanswered = load(daemon, ports, minutes * 60)
        return say(daemon, group, limit_bytes, minutes, times, unanswered)


def say(
    daemon: Daemon, group: Cgroup | None, limit_bytes: int, minutes: float, times: list[float], unanswered: int
) -> int:
    is_dead = daemon.process.poll() is not None
    peak_bytes = 0 if is_dead else daemon.peak_bytes()
    kills = 0 if group is None else group.kills()
    times.sort()
    p99 = times[int(len(times) * 0.99)] * 1000
    print(f"{minutes:g} min; `hookd check` says {limit_bytes / MIB:.0f} MiB; resident at most {peak_bytes / MIB:.0f}")
    if group is not None:
        group_bytes = group.peak_bytes()
        shown = "not told" if group_bytes is None else f"{group_bytes / MIB:.0f} MiB at most"
        print(f"cgroup: {shown}, with shared memory and the kernel's share; killed: {kills}")
    print(f"/livez: {len(times)} asked, {unanswered} without 200, p99 {p99:.0f} ms, longest {times[-1] * 1000:.0f} ms")
    if is_dead:
        print(f"the daemon ended: {daemon.process.returncode}")
        return 1
    try:
        totals = _another(daemon).must("GET", "/v1/status")  # its own may have been closed to make room
        print(f"events {totals['events']}, deliveries {totals['deliveries']}, memory {totals['memory']}")
    except (OSError, HTTPException) as error:
        print(f"/v1/status was not answered within {ASKED_SECONDS_MAX:g} s: {error}")
    return 1 if kills or peak_bytes > limit_bytes * 1.1 else 0


def load(daemon: Daemon, ports: Ports, seconds: float) -> tuple[list[float], int]:
    """How long each probe of /livez took, and how many were not answered."""
    is_over = threading.Event()
    workers = [
        threading.Thread(target=_keep_full, args=(_another(daemon), ports, is_over, number), daemon=True)
        for number in range(2)
    ]
    for worker in workers:
        worker.start()
    _wait_until_full(daemon)
    end = time.monotonic() + seconds
    times: list[float] = []
    unanswered = 0
    turns = itertools.cycle([attack for _, attack in attacks(daemon.port)])
    try:
        while time.monotonic() < end and daemon.process.poll() is None:
            with peers(daemon.port, [next(turns) for _ in range(AT_ONCE)]):
                turn_end = min(end, time.monotonic() + TURN_SECONDS)
                while time.monotonic() < turn_end and daemon.process.poll() is None:
                    began = time.perf_counter()
                    unanswered += not is_alive(daemon.port)
                    times.append(time.perf_counter() - began)
                    time.sleep(PROBE_EVERY_SECONDS)
    finally:
        is_over.set()
        for worker in workers:
            worker.join(ASKED_SECONDS_MAX)
    return times, unanswered


def _wait_until_full(daemon: Daemon) -> None:
    """Of what is unsettled, or for so long: then the peers of the API come."""
    end = time.monotonic() + FILLING_SECONDS_MAX
    while time.monotonic() < end and daemon.process.poll() is None:
        memory = daemon.must("GET", "/v1/status")["memory"]
        if memory["unsettled_bytes"] > 0.9 * memory["unsettled_bytes_max"]:
            return
        time.sleep(1)


def _another(daemon: Daemon) -> Daemon:
    """A connection of its own to the same daemon."""
    another = Daemon(daemon.process, daemon.port)
    another.api.timeout = ASKED_SECONDS_MAX
    return another


@contextmanager
def peers(port: int, at_once: list[Callable[[], Attack]]) -> Iterator[None]:
    processes = [
        multiprocessing.get_context("fork").Process(target=_attack, args=(attack, port), daemon=True)
        for attack in at_once
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _attack(attack: Callable[[], Attack], port: int) -> None:
    with contextlib.suppress(BaseException):
        trio.run(attack(), port)


def _keep_full(daemon: Daemon, ports: Ports, is_over: threading.Event, number: int) -> None:
    """Posts and registers, whatever is answered."""
    turns: Iterator[int] = itertools.count(number * 1_000_000)
    while not is_over.is_set() and daemon.process.poll() is None:
        turn = next(turns)
        for step in (_register, _post, _register_large):
            _say_nothing_of(daemon, step, ports, turn)


def _say_nothing_of(daemon: Daemon, step: Callable[[Daemon, Ports, int], None], ports: Ports, turn: int) -> None:
    try:
        step(daemon, ports, turn)
    except (OSError, HTTPException):  # cut off by the daemon, which may have to make room
        daemon.api.close()
        time.sleep(0.05)


def _client(turn: int) -> tuple[str, str, int]:
    """Its id, the kind of its receivers, and how many endpoints it has."""
    number = turn % (2 * len(KINDS))
    return f"client{number}", KINDS[number // 2], 16 if number % 2 else 1


def _register(daemon: Daemon, ports: Ports, turn: int) -> None:
    client_id, kind, count = _client(turn)
    if turn % 500 < 2 * len(KINDS):  # now and then anew
        endpoints = [{"id": f"e{at}", "url": f"http://127.0.0.1:{ports[kind]}/{QUERY}"} for at in range(count)]
        daemon.ask("PUT", f"/v1/clients/{client_id}", {"endpoints": endpoints})


def _post(daemon: Daemon, _: Ports, turn: int) -> None:
    client_id = _client(turn)[0]
    payload = "x" * (1, 1, 1000, 10_000, 250_000)[turn % 5]
    batch = [
        {**event, "id": f"turn{turn}-{at}"}
        for at, event in enumerate(events(client_id, 100 if len(payload) < 10_000 else 5, payload=payload))
    ]
    daemon.ask("POST", f"{BATCH_PATH}?partial=true", batch)


def _register_large(daemon: Daemon, ports: Ports, turn: int) -> None:
    if turn % 50:
        return
    fields = {f"x-header-{at}": f"{turn:010}" + "v" * 4080 for at in range(20)}
    url = f"http://127.0.0.1:{ports['ok']}/{turn}"
    endpoints = [{"id": f"e{at}", "url": url, "headers": fields} for at in range(16)]
    daemon.ask("PUT", f"/v1/clients/large{turn % 5000}", {"endpoints": endpoints})
