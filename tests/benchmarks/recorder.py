"""What the flight recorder costs: `python -m tests.benchmarks.recorder`.

Throughput: the real daemon as a child process, delivering to a receiver in a second child that answers 200 to anything
over kept connections; batches in, until all is delivered. Without the recorder, with it, and with payloads by turns,
so that a noisy machine is noisy to each; the ratio is the median of those of the rounds. The daemon's own CPU time is
the measure: the machine has other work.
Report: a recording of 100,000 unsettled events, read and made into a crash report.
Bars: at least 95 % with ids, 85 % with payloads; the report in less than 3 s.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

import trio

ROUNDS = 9
EVENTS = 6000
BATCH = 500
KINDS = {"without": {"HOOKD_RECORDER__DIRECTORY": ""}, "ids": {}, "payloads": {"HOOKD_RECORDER__PAYLOADS": "true"}}
PAYLOAD = {"invoice": "in_1234567890", "amount": 4200, "currency": "eur", "note": "x" * 900}
UNSETTLED = 100_000


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.benchmarks.recorder", "receiver"]
        receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert receiver.stdout is not None
            port = int(receiver.stdout.readline())
            measure(directory, port, {})  # a first one for the caches, not counted
            rounds = []
            for number in range(ROUNDS):
                order = list(KINDS)[number % 3 :] + list(KINDS)[: number % 3]
                rounds.append({kind: measure(directory, port, KINDS[kind]) for kind in order})
                print("  ".join(f"{kind} {rounds[-1][kind]:7.1f} us" for kind in KINDS))
        finally:
            receiver.terminate()
            receiver.wait()
    for kind, bar in (("ids", 95), ("payloads", 85)):
        ratio = statistics.median(each["without"] / each[kind] for each in rounds) * 100
        print(f"throughput with {kind}: {ratio:.1f} % of without, bar {bar} %")
    measure_report()


def measure(directory: str, receiver_port: int, environ: dict[str, str]) -> float:
    """Microseconds of the daemon's CPU for each delivered event."""
    command = [sys.executable, "-m", "daemon", "run", "--dev", "--bind", "127.0.0.1:0", "--reports", directory]
    daemon = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | environ
    )
    try:
        assert daemon.stdout is not None
        api = HTTPConnection("127.0.0.1", int(daemon.stdout.readline().rpartition(":")[2]))
        ask(api, "PUT", "/v1/clients/acme", {"url": f"http://127.0.0.1:{receiver_port}/hook"})
        began = cpu_seconds(daemon.pid)
        for first in range(0, EVENTS, BATCH):
            ids = range(first, first + BATCH)
            batch = [{"client_id": "acme", "type": "invoice.paid", "id": f"e{n}", "payload": PAYLOAD} for n in ids]
            ask(api, "POST", "/v1/events/batch", batch)
        while ask(api, "GET", "/v1/status", None)["events"]["delivered"] < EVENTS:
            time.sleep(0.05)
        return (cpu_seconds(daemon.pid) - began) / EVENTS * 1e6
    finally:
        daemon.terminate()
        daemon.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, to the nanosecond where the scheduler says so."""
    return (
        sum(
            int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            for task in os.listdir(f"/proc/{pid}/task")
        )
        / 1e9
    )


def ask(api: HTTPConnection, method: str, path: str, body: object) -> dict[str, dict[str, int]]:
    api.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    response = api.getresponse()
    content = response.read()
    assert response.status < 300, content
    answer: dict[str, dict[str, int]] = json.loads(content)
    return answer


def measure_report() -> None:
    """In this process: what a start does after a kill with a full backlog."""
    from daemon.aftermath import account
    from daemon.core.settings import DEFAULTS, recorder_layout
    from daemon.edge.recorder import Folder, Place
    from daemon.edge.reports import Reports
    from tests.test_aftermath import Killed
    from tests.test_supervisor import ListLog

    base = tempfile.mkdtemp(dir="/dev/shm")
    try:
        folder = Folder(Place(base, "own"))
        began = time.perf_counter()
        killed = Killed(folder, "bench", events=UNSETTLED)
        each = (time.perf_counter() - began) / UNSETTLED * 1e6
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter()
            (made,) = account(folder, Reports(directory), ListLog())
            took = time.perf_counter() - began
        assert made.summary.events.undelivered == UNSETTLED
        rows = killed.recorder.rows_bytes / UNSETTLED
        print(f"ledger and recorder: {each:.1f} us an admission, {rows:.0f} B a row")
        print(f"crash report of {UNSETTLED:,} events: {took:.2f} s, bar 3 s")
        print(f"layout: {recorder_layout(DEFAULTS)}")
    finally:
        shutil.rmtree(base)


def receiver() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        async for chunk in stream:
            buffer += chunk
            while (head := buffer.find(b"\r\n\r\n")) >= 0:
                length = int(buffer[: head + 2].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if len(buffer) < head + 4 + length:
                    break
                buffer = buffer[head + 4 + length :]
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def serve() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(listener.socket.getsockname()[1], flush=True)
        await trio.serve_listeners(answer, [listener])

    trio.run(serve)


if __name__ == "__main__":
    receiver() if sys.argv[1:] == ["receiver"] else main()
