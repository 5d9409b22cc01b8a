"""What three daemons behind HAProxy carry against one, by CPU: `python -m tests.benchmarks fleet`.

300 clients, events singly by the client's path over eight connections, through the shipped haproxy.cfg with one daemon
in it or three. A core of its own for each daemon is what a fleet is for, and more than most machines have here. So what
counts is CPU: `carried` is the events a second at which the busiest daemon would fill its core. Its ratio is what three
are worth; less than three is how unevenly clients fall. `per_second` is of this machine as it is.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import click

from tests.benchmarks.end_to_end import PAYLOAD, delivered_by_status, wait_for
from tests.benchmarks.processes import ROOMY, ROOT, Keeper, NotInstalled, daemon, haproxy, sink
from tests.benchmarks.turns import Figures, by_turns, finish, show

NAMES = ("8081", "8082", "8083")
CLIENTS = 300
CONNECTIONS = 8
EVENTS = 6_000
WARM_UP_EVENTS = 300
BODY = json.dumps({"type": "invoice.paid", "payload": PAYLOAD}).encode()


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One round of a few events: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, quick: bool, json_path: str | None) -> None:
    events = EVENTS // 20 if quick else EVENTS
    measures = {f"{count} behind": partial(measure, NAMES[:count], events) for count in (1, len(NAMES))}
    try:
        seen = by_turns(measures, rounds=1 if quick else rounds)
    except NotInstalled as missing:
        click.echo(f"skipped: {missing}")
        return
    show(seen, base="1 behind", ratio_of="carried")
    finish("fleet", seen, json_path=json_path)


def measure(names: Sequence[str], events: int) -> Figures:
    with ExitStack() as stack:
        receiver = stack.enter_context(sink())
        hookds = [
            stack.enter_context(
                daemon(stack.enter_context(tempfile.TemporaryDirectory()), {**ROOMY, "HOOKD_SHARD__NAME": name})
            )
            for name in names
        ]
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ports = dict(zip(names, (one.port for one in hookds), strict=True))
        proxy = stack.enter_context(haproxy(lambda fd: shipped(ports, fd, folder)))
        for one in hookds:
            register(one.port, receiver)
        post(proxy.port, WARM_UP_EVENTS, ports.values(), WARM_UP_EVENTS)
        before, begun = [one.cpu_seconds() for one in (*hookds, proxy)], time.perf_counter()
        post(proxy.port, events, ports.values(), WARM_UP_EVENTS + events)
        seconds = time.perf_counter() - begun
        *cpu, of_proxy = (one.cpu_seconds() - was for one, was in zip((*hookds, proxy), before, strict=True))
    return {
        "carried": events / max(cpu),
        "cpu_us": sum(cpu) / events * 1e6,
        "proxy_us": of_proxy / events * 1e6,
        "per_second": events / seconds,
    }


def shipped(ports: dict[str, int], fd: int, folder: str) -> str:
    """config/haproxy.cfg with these daemons alone."""
    lines = []
    for line in (ROOT / "config" / "haproxy.cfg").read_text().splitlines():
        name = next((name for name in NAMES if f"127.0.0.1:{name}" in line), None)
        if name is None:
            lines.append(line)
        elif name in ports:
            lines.append(line.replace(f"127.0.0.1:{name}", f"127.0.0.1:{ports[name]}"))
    text = "\n".join(lines) + "\n"
    return text.replace("127.0.0.1:8080", f"fd@{fd}").replace("127.0.0.1:8405", f"unix@{folder}/metrics.sock")


def register(port: int, receiver: int) -> None:
    """All clients on this daemon."""
    clients = [
        {"id": f"c{number}", "endpoints": [{"url": f"http://127.0.0.1:{receiver}/{number}"}]}
        for number in range(CLIENTS)
    ]
    with Keeper(port) as api:
        api.json("PUT", "/v1/clients", {"clients": clients})


def post(port: int, events: int, daemons: Iterable[int], settled: int) -> None:
    """Returns when the daemons with these ports have delivered so many in all.

    They are asked afterwards: a connection that waits meanwhile is idle for longer than it is kept.
    """

    def post_share(first: int) -> None:
        with Keeper(port) as api:
            for number in range(first, events, CONNECTIONS):
                status, content = api.ask("POST", f"/v1/clients/c{number % CLIENTS}/events", BODY)
                assert status == 202, content

    threads = [threading.Thread(target=post_share, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ExitStack() as stack:
        apis = [stack.enter_context(Keeper(one)) for one in daemons]
        wait_for(apis[0], settled, delivered=lambda _: sum(map(delivered_by_status, apis)))


if __name__ == "__main__":
    sys.exit(main())
