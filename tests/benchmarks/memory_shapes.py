"""The shapes that fill the memory budgets, each with the settings that leave room for it alone.

A shape names what it fills, as `hookd check` names it, and ends when it is full. `scale` 1.0 makes each some tens of
MiB, so that what the interpreter takes is small beside it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tests.benchmarks.memory_daemon import MIB, Daemon, Overrides

LONG_ID, LONG_TYPE = "i" * 52, "t" * 128
QUERY = "?" + "&".join(f"name{number}=" for number in range(228))  # 2 KB of names; a URL is shown with them
Ports = Mapping[str, int]


class Shape(NamedTuple):
    fills: tuple[str, ...]
    settings: Callable[[float], Overrides]
    fill: Callable[[Daemon, Ports, float], None]


def register(
    daemon: Daemon, client_id: str, port: int, *, endpoints: int = 1, path: str = "/", **fields: object
) -> None:
    definition = [
        {"id": f"e{number}", "url": f"http://127.0.0.1:{port}{path}", **fields} for number in range(endpoints)
    ]
    daemon.must("PUT", f"/v1/clients/{client_id}", {"endpoints": definition})


def events(client_id: str, count: int, *, payload: object = 1, kind: str = LONG_TYPE) -> Iterator[dict[str, object]]:
    """With ids and types as long as they may be."""
    for number in range(count):
        yield {"client_id": client_id, "id": f"{LONG_ID}{number:012}", "type": kind, "payload": payload}


def unsettled(count: int, endpoints: int, *, payload_bytes: int = 0, **delivery: object) -> Overrides:
    cost = payload_bytes + 520 + 512 * endpoints
    return {
        "intake": {"unsettled_events_max": count, "unsettled_bytes_max": f"{count * cost}B"},
        "delivery": delivery,
    }


def waiting(daemon: Daemon, ports: Ports, scale: float) -> None:
    register(daemon, "c", ports["deaf"])
    daemon.post(events("c", int(100_000 * scale)))


def waiting_at_sixteen(daemon: Daemon, ports: Ports, scale: float) -> None:
    register(daemon, "c", ports["deaf"], endpoints=16, path=f"/{QUERY}")
    daemon.post(events("c", int(10_000 * scale)))


def large(daemon: Daemon, ports: Ports, scale: float) -> None:
    register(daemon, "c", ports["deaf"])
    daemon.post(events("c", int(400 * scale), payload="x" * (250 * 1024)), at_once=3)


def attempted(kind: str, count: int, attempts: int) -> Callable[[Daemon, Ports, float], None]:
    def fill(daemon: Daemon, ports: Ports, scale: float) -> None:
        register(daemon, "c", ports[kind], concurrency=32)
        daemon.post(events("c", int(count * scale)))
        until_begun(daemon, int(count * scale) * attempts)

    return fill


def until_begun(daemon: Daemon, attempts: int) -> None:
    end = time.monotonic() + 900
    while daemon.metric("hookd_attempts_begun_total") < attempts:
        assert time.monotonic() < end
        time.sleep(0.3)


def delivered_at_sixteen(daemon: Daemon, ports: Ports, scale: float) -> None:
    register(daemon, "c", ports["ok"], endpoints=16, path=f"/{QUERY}")
    daemon.post(events("c", int(10_000 * scale)))
    daemon.wait_until(lambda status: status["events"]["delivered"] == int(10_000 * scale))


def delivered(daemon: Daemon, ports: Ports, scale: float) -> None:
    register(daemon, "c", ports["ok"])
    daemon.post(events("c", int(60_000 * scale)))
    daemon.wait_until(lambda status: status["events"]["delivered"] == int(60_000 * scale))


def gone(daemon: Daemon, ports: Ports, scale: float) -> None:
    """Ended at an endpoint's removal, with a payload each, over and over."""
    count = int(40_000 * scale)
    for turn in range(8):
        register(daemon, "c", ports["deaf"], endpoints=16)
        part = list(events("c", count))[turn * count // 8 : (turn + 1) * count // 8]
        daemon.post(part)
        daemon.must("DELETE", "/v1/clients/c?end_unsettled=true")
        daemon.wait_until(lambda status: status["events"]["pending"] <= 64)


def settlements(daemon: Daemon, ports: Ports, scale: float) -> None:
    register(daemon, "c" * 64, ports["ok"], event_types=["wanted"])
    daemon.post(events("c" * 64, int(400_000 * scale), kind="none"), at_once=1000)


def clients(headers: int, endpoints: int, count: int) -> Callable[[Daemon, Ports, float], None]:
    def fill(daemon: Daemon, ports: Ports, scale: float) -> None:
        for number in range(int(count * scale)):
            fields = {f"x-header-{at}": f"{number:08}{at:08}" + "v" * 4080 for at in range(headers)}
            entries = [
                {"id": f"e{at}", "url": f"http://127.0.0.1:{ports['ok']}/{number:08}{at:08}", "headers": fields}
                for at in range(endpoints)
            ]
            status, answer = daemon.ask("PUT", f"/v1/clients/c{number}", {"endpoints": entries})
            if status == 409:
                return
            assert status in (200, 201), answer

    return fill


def clients_at_work(daemon: Daemon, ports: Ports, scale: float) -> None:
    """Each has an event that waits: a courier, its task and a lane."""
    for number in range(int(20_000 * scale)):
        register(daemon, f"c{number}", ports["deaf"])
        daemon.post([{"client_id": f"c{number}", "type": "t", "payload": 1}])


def flying(kind: str, payload: str) -> Callable[[Daemon, Ports, float], None]:
    """Two attempts at each of so many endpoints: that many begin before any succeeds."""

    def fill(daemon: Daemon, ports: Ports, scale: float) -> None:
        for number in range(int(32 * scale)):
            register(daemon, f"c{number}", ports[kind], endpoints=16)
            for event in events(f"c{number}", 2, payload=payload):
                daemon.post([event])
        until_begun(daemon, int(32 * scale) * 32)
        time.sleep(2)

    return fill


def _flights(count: int, payload_bytes: int) -> Callable[[float], Overrides]:
    return lambda scale: {
        "intake": {"unsettled_bytes_max": f"{int(64 * scale) * (payload_bytes + 9000)}B"},
        "delivery": {"connections_max": int(count * scale)},
    }


def _retention(**keys: object) -> Overrides:
    return {"retention": keys, "intake": {"unsettled_events_max": 1000, "unsettled_bytes_max": "9MiB"}}


UNSETTLED = ("unsettled events", "unsettled events over their charge", "indexes of unsettled events")
ROWS = ("rows of settled events",)
FLIGHTS = ("attempts in flight", "responses being read")
AGAIN: Overrides = {"retry": {"schedule": ["1ms"] * 9 + ["24h"], "jitter": 0.0}}

SHAPES: dict[str, Shape] = {
    "waiting": Shape(UNSETTLED, lambda scale: unsettled(int(100_000 * scale), 1), waiting),
    "waiting at 16 endpoints, URLs of 2 KB": Shape(
        UNSETTLED, lambda scale: unsettled(int(10_000 * scale), 16), waiting_at_sixteen
    ),
    "payloads of 250 KiB": Shape(
        UNSETTLED, lambda scale: unsettled(int(400 * scale), 1, payload_bytes=250 * 1024 + 2), large
    ),
    "ten attempts each, answers of 1 KiB": Shape(
        (*UNSETTLED, "response excerpts"),
        lambda scale: {
            **unsettled(int(20_000 * scale), 1),
            **AGAIN,
            "retention": {"excerpts_bytes_max": f"{int(8 * scale * MIB)}B"},
        },
        attempted("wrong", 20_000, 10),
    ),
    "ten attempts each, not HTTP": Shape(
        UNSETTLED, lambda scale: {**unsettled(int(10_000 * scale), 1), **AGAIN}, attempted("garbage", 10_000, 10)
    ),
    "delivered": Shape(
        ROWS, lambda scale: _retention(delivered_events_max=int(60_000 * scale), delivered_bytes_max="1B"), delivered
    ),
    "delivered at 16 endpoints, URLs of 2 KB": Shape(
        (*ROWS, *UNSETTLED),  # a thousand wait for their turn
        lambda scale: _retention(delivered_events_max=int(10_000 * scale), delivered_bytes_max="1B"),
        delivered_at_sixteen,
    ),
    "exhausted at 16 endpoints": Shape(
        ROWS,
        lambda scale: {
            "retention": {"exhausted_events_max": int(40_000 * scale), "exhausted_bytes_max": "8MiB"},
            "intake": {"unsettled_events_max": 6000, "unsettled_bytes_max": "54MiB"},
        },
        gone,
    ),
    "the settlement feed": Shape(
        ("settlement feed",), lambda scale: {"retention": {"settlements_max": int(400_000 * scale)}}, settlements
    ),
    "clients of 16 endpoints with 20 headers of 4 KiB": Shape(
        ("registered clients",),
        lambda scale: {
            "registry": {"clients_max": int(10_000 * scale)},
            "intake": {"body_bytes_max": "2MiB", "receiving_bytes_max": "2MiB"},
        },
        clients(20, 16, 200),
    ),
    "clients of one endpoint": Shape(
        ("registered clients",), lambda scale: {"registry": {"clients_max": int(20_000 * scale)}}, clients(0, 1, 20_000)
    ),
    "clients of one endpoint, each with an event": Shape(
        ("registered clients", *UNSETTLED),
        lambda scale: {"registry": {"clients_max": int(20_000 * scale)}, **unsettled(int(20_000 * scale), 1)},
        clients_at_work,
    ),
    "1,024 in flight of 250 KiB": Shape(
        (*FLIGHTS, *UNSETTLED), _flights(1024, 250 * 1024), flying("deaf", "x" * (250 * 1024))
    ),
    "1,024 heads of 60 KiB that do not end": Shape(FLIGHTS, _flights(1024, 1), flying("head", "")),
    "1,024 bodies of 16 KiB that do not end": Shape(FLIGHTS, _flights(1024, 1), flying("body", "")),
}
