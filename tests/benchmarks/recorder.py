"""What the flight recorder costs: `python -m tests.benchmarks recorder [--quick]`.

Throughput: the real daemon as a child process, delivering to a receiver in a second child that answers 200 to anything
over kept connections; a batch in, until all of it is delivered. Three daemons, without the recorder, with it and with
payloads, have turns of half a second, so that a noisy machine is noisy to each; the ratio is the median of those of
the turns. Six times three daemons, since of the same code one process takes up to 3 % more than another. The daemon's
own CPU time is the measure: the machine may have other work.
Report: a recording of 100,000 unsettled events, read and made into a crash report.
Start: a daemon with recovery on, from its command to its `listening on`, with a report of 100,000 undelivered events to
take back; then its stop, which writes them all down again.
Bars: at least 95 % with ids, 85 % with payloads; the reports in less than 3 s, the start in less than 5 s.
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

SETS = 6
SLICES = 12
BATCH = 500
KINDS = {"without": {"HOOKD_RECORDER__DIRECTORY": ""}, "ids": {}, "payloads": {"HOOKD_RECORDER__PAYLOADS": "true"}}
PAYLOAD = {"invoice": "in_1234567890", "amount": 4200, "currency": "eur", "note": "x" * 900}
UNSETTLED = 100_000


class Daemon:
    """One of the three, each with its own client; idle while the others have their turn."""

    def __init__(self, directory: str, receiver_port: int, environ: dict[str, str]) -> None:
        command = [sys.executable, "-m", "hookd", "run", "--dev", "--bind", "127.0.0.1:0", "--reports", directory]
        env = os.environ | environ
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        assert self.process.stdout is not None
        self._api = HTTPConnection("127.0.0.1", int(self.process.stdout.readline().rpartition(":")[2]))
        ask(self._api, "PUT", "/v1/clients/acme", {"url": f"http://127.0.0.1:{receiver_port}/hook"})
        self._events = 0

    def microseconds(self) -> float:
        """Of its CPU for each of a batch of events, from the POST to the last delivery."""
        began = cpu_seconds(self.process.pid)
        ids = range(self._events, self._events + BATCH)
        batch = [{"client_id": "acme", "type": "invoice.paid", "id": f"e{n}", "payload": PAYLOAD} for n in ids]
        ask(self._api, "POST", "/v1/events/batch", batch)
        self._events += BATCH
        while ask(self._api, "GET", "/v1/status", None)["events"]["delivered"] < self._events:
            time.sleep(0.05)
        return (cpu_seconds(self.process.pid) - began) / BATCH * 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def main(*, quick: bool = False) -> None:
    """Quick: one set of a few turns, whether it runs."""
    sets, turns, unsettled = (1, 3, 2_000) if quick else (SETS, SLICES, UNSETTLED)
    slices: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.benchmarks.recorder", "receiver"]
        receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert receiver.stdout is not None
            port = int(receiver.stdout.readline())
            for number in range(sets):
                measure_set(f"{directory}/{number}", port, slices, turns)
        finally:
            receiver.terminate()
            receiver.wait()
    for kind, found in slices.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"{kind:>9}: {middle:6.1f} us of CPU an event (quartiles {low:.1f} to {high:.1f})")
    for kind, bar in (("ids", 95), ("payloads", 85)):
        pairs = zip(slices["without"], slices[kind], strict=True)
        ratio = statistics.median(without / with_ for without, with_ in pairs) * 100
        print(f"throughput with {kind}: {ratio:.1f} % of without, bar {bar} %")
    measure_report(unsettled)
    measure_start(unsettled)


def measure_set(directory: str, port: int, slices: dict[str, list[float]], turns: int) -> None:
    """One process of each kind, in turns."""
    daemons: dict[str, Daemon] = {}
    try:
        for kind, environ in KINDS.items():
            daemons[kind] = Daemon(f"{directory}/{kind}", port, environ)
            daemons[kind].microseconds()  # for the caches, not counted
        for number in range(turns):
            order = list(KINDS)[number % 3 :] + list(KINDS)[: number % 3]
            for kind in order:
                slices[kind].append(daemons[kind].microseconds())
    finally:
        for daemon in daemons.values():
            daemon.stop()


def cpu_seconds(pid: int) -> float:
    """User and system time of the process's threads, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def ask(api: HTTPConnection, method: str, path: str, body: object) -> dict[str, dict[str, int]]:
    api.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    response = api.getresponse()
    content = response.read()
    assert response.status < 300, content
    answer: dict[str, dict[str, int]] = json.loads(content)
    return answer


def measure_report(unsettled: int) -> None:
    """In this process: what a start does after a kill with a full backlog."""
    from hookd.core.settings import DEFAULTS
    from hookd.core.sizing import recorder_layout
    from hookd.edge.recorder_files import Place, RecorderDirectory
    from hookd.edge.reports import ReportDirectory
    from hookd.process.crash_reports import write_crash_reports

    from tests.supervised import ListLog
    from tests.test_crash_reports import Killed

    base = tempfile.mkdtemp(dir="/dev/shm")
    try:
        folder = RecorderDirectory(Place(base, "own"))
        began = time.process_time()
        killed = Killed(folder, "bench", events=unsettled)
        each = (time.process_time() - began) / unsettled * 1e6
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter(), time.process_time()
            (made,) = write_crash_reports(folder, ReportDirectory(directory), ListLog())
            took, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        assert made.summary.events.undelivered == unsettled
        rows = killed.recorder.rows_bytes / unsettled
        print(f"ledger and recorder: {each:.1f} us an admission, {rows:.0f} B a row")
        print(f"crash report of {unsettled:,} events: {took:.2f} s, {cpu:.2f} s of CPU, bar 3 s")
        print(f"layout: {recorder_layout(DEFAULTS)}")
    finally:
        shutil.rmtree(base)


def measure_start(unsettled: int) -> None:
    """A child process; its own CPU besides the clock."""
    from tests.acceptance.harness import write_shutdown_report

    with tempfile.TemporaryDirectory() as directory:
        reports = Path(directory) / "reports"
        write_shutdown_report(reports, unsettled, "http://127.0.0.1:9/")
        command = [sys.executable, "-m", "hookd", "run", "--dev", "--bind", "127.0.0.1:0", "--reports", str(reports)]
        env = os.environ | {"HOOKD_RECOVERY__ENABLED": "true", "HOOKD_DRAIN__TIMEOUT": "0s"}
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        took, cpu = time.perf_counter() - began, cpu_seconds(process.pid)
        recovered = ask(HTTPConnection("127.0.0.1", port), "GET", "/v1/status", None)["events"]["recovered"]
        assert recovered == unsettled
        print(f"start with {recovered:,} events to recover: {took:.2f} s, {cpu:.2f} s of CPU, bar 5 s")
        began = time.perf_counter()
        process.terminate()
        assert process.wait() == 3
        print(f"SIGTERM to exit with {recovered:,} undelivered: {time.perf_counter() - began:.2f} s, bar 3 s")


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
    receiver() if sys.argv[1:] == ["receiver"] else main(quick=sys.argv[1:] == ["--quick"])
