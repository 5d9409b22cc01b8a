"""What an event costs without sockets: `python -m tests.benchmarks.flow [--beside DIRECTORY] [--part NAME]`.

The whole daemon in one process, its log on /dev/null and its recorder in memory as they are, but for two stubs: a
sender that answers 200 after one turn of the loop, and a server that hands requests to the application itself. The
figures are microseconds of the process's CPU time, each the median of the rounds:

  batch   an event in by a batch of 100, to an endpoint that is paused: intake alone
  single  a single post to it, the application's work included
  empty   the same post to an empty Quart-Trio route, for comparison
  settle  an event from the channel to its settling, once it is in: lanes, attempts, ledger, recorder, log

With `--beside` a process of each checkout has its turn in each round, and the ratios are the medians of the rounds'
own. On a machine that others use, only those hold.
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

ROUNDS = 7
BATCH = 100
BATCHES = 16
SINGLES = 300
CLIENTS = 50
TURNS = 3  # of each part in one process; the median counts
EVENT = {"type": "invoice.paid", "payload": {"invoice": "in_1", "amount": 1999, "currency": "EUR"}}
SHARED_MEMORY = "/dev/shm"
HERE = Path(__file__).resolve().parents[2]
Part = Callable[["Daemon"], Awaitable[float]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--beside", type=Path, help="another checkout, which takes turns with this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--part", dest="parts", action="append", choices=list(PARTS))
    given = parser.parse_args()
    given.parts = given.parts or list(PARTS)
    checkouts = [HERE] if given.beside is None else [given.beside, HERE]
    rounds = [{path: measured(path, given.parts) for path in checkouts} for _ in range(given.rounds)]
    for part in given.parts:
        ours = statistics.median(each[HERE][part] for each in rounds)
        line = f"{part:>7}: {ours:6.1f} us"
        if given.beside is not None:
            base = statistics.median(each[given.beside][part] for each in rounds)
            least, *_, most = ratios = sorted(each[HERE][part] / each[given.beside][part] for each in rounds)
            line += f", base {base:6.1f} us, ratio {statistics.median(ratios):.3f} ({least:.3f} to {most:.3f})"
        print(line, flush=True)


def measured(checkout: Path, parts: Sequence[str]) -> dict[str, float]:
    """By a process of its own, with that checkout's package."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None) as directory:
        env = os.environ | {"PYTHONPATH": str(checkout / "daemon"), "MEASURED": directory}
        command = [sys.executable, str(Path(__file__).resolve()), *parts]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


# In the process that is measured


class Daemon:
    """What a part of the measurement may use: the supervisor's own objects, and the application."""

    def __init__(self, supervisor: Any, app: Any) -> None:
        self.ledger = supervisor._ledger
        self.app = app
        self.empty_app = empty_app()

    async def ask(self, method: str, path: str, body: bytes = b"", *, app: Any = None) -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        headers.append((b"content-length", str(len(body)).encode()))
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {}}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        statuses = []

        async def receive() -> dict[str, Any]:
            if not messages:
                await trio.sleep_forever()
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await (app or self.app)(scope, receive, send)
        assert statuses[0] < 300, (path, statuses)


async def batch(daemon: Daemon) -> float:
    body = json.dumps([{"client_id": "paused", **EVENT}] * BATCH).encode()
    began = time.process_time()
    for _ in range(BATCHES):
        await daemon.ask("POST", "/v1/events/batch", body)
    return (time.process_time() - began) / (BATCHES * BATCH)


async def single(daemon: Daemon) -> float:
    return await posts(daemon, daemon.app)


async def empty(daemon: Daemon) -> float:
    return await posts(daemon, daemon.empty_app)


async def posts(daemon: Daemon, app: Any) -> float:
    body = json.dumps({"client_id": "paused", **EVENT}).encode()
    began = time.process_time()
    for _ in range(SINGLES):
        await daemon.ask("POST", "/v1/events", body, app=app)
    return (time.process_time() - began) / SINGLES


async def settle(daemon: Daemon) -> float:
    """What comes in is counted apart: nothing else has a turn while a batch is admitted."""
    spent = 0.0
    for _ in range(BATCHES // 10):
        events = [{"client_id": f"c{number % CLIENTS}", **EVENT} for number in range(10 * BATCH)]
        await daemon.ask("POST", "/v1/events/batch", json.dumps(events).encode())
        began = time.process_time()
        unsettled = daemon.ledger.totals().unsettled_events - 10 * BATCH
        while daemon.ledger.totals().unsettled_events > unsettled:
            await trio.lowlevel.checkpoint()
        spent += time.process_time() - began
    return spent / (BATCHES * BATCH)


def empty_app() -> Any:
    from quart import Response
    from quart_trio import QuartTrio

    app = QuartTrio("empty", static_folder=None)

    @app.post("/v1/events")
    async def post_event() -> Response:
        return Response(b"{}", 202, content_type="application/json")

    return app


PARTS: dict[str, Part] = {"batch": batch, "single": single, "empty": empty, "settle": settle}


class StubServer:
    """Measures instead of serving."""

    def __init__(self, app: Any, found: SimpleNamespace) -> None:
        found.app = app
        self._found = found

    async def serve(self, *, task_status: Any) -> None:
        task_status.started(())
        daemon = Daemon(self._found.supervisor, self._found.app)
        await daemon.ask("PUT", "/v1/clients/paused", json.dumps({"url": "https://receiver.example/hook"}).encode())
        await daemon.ask("POST", "/v1/clients/paused/endpoints/default/pause")
        for number in range(CLIENTS):
            definition = {"endpoints": [{"url": f"https://receiver.example/{number}", "concurrency": 8}]}
            await daemon.ask("PUT", f"/v1/clients/c{number}", json.dumps(definition).encode())
        figures = {}
        for name in sys.argv[1:]:
            await PARTS[name](daemon)  # for the caches
            figures[name] = statistics.median([await PARTS[name](daemon) for _ in range(TURNS)]) * 1e6
        print(json.dumps(figures), flush=True)
        os._exit(0)


def measure() -> None:
    from hookd.core.effective_settings import EffectiveSettings
    from hookd.core.outcome import Exchange, Outcome, Responded
    from hookd.core.run import Run
    from hookd.core.settings import DrainSettings, IntakeSettings, Settings
    from hookd.core.sizing import recorder_layout
    from hookd.edge.clock import LoopClock, SystemClock
    from hookd.edge.logs import LogWriter
    from hookd.edge.loop_watch import LoopWatch
    from hookd.edge.recorder_files import RecorderDirectory, place
    from hookd.edge.reports import ReportDirectory
    from hookd.edge.systemd import Systemd
    from hookd.process.outside import Outside
    from hookd.process.supervisor import Supervisor

    class StubSender:
        async def send(self, request: Any, exchange: Exchange) -> Outcome:
            exchange.sending_started = True
            await trio.lowlevel.checkpoint()
            exchange.request_sent = True
            exchange.answer = Responded(200)
            return exchange.answer

    @asynccontextmanager
    async def open_sender(_: EffectiveSettings) -> AsyncIterator[StubSender]:
        yield StubSender()

    directory = os.environ["MEASURED"]
    wide = {"unsettled_events_max": 1_000_000, "client_events_max": 1_000_000}
    intake = IntakeSettings(**wide, unsettled_bytes_max=2**31, client_bytes_max=2**31)  # type: ignore[arg-type]
    drain = DrainSettings(timeout_seconds=0, report_directory=directory)
    settings = Settings(dev=True, intake=intake, drain=drain)
    run = Run("0" * 16, "0", "here", os.getpid(), time.time())
    found, numbers = SimpleNamespace(), count()
    recorder_directory = RecorderDirectory(place(directory, report_directory=directory, environ={}, dev=True))
    outside = Outside(
        clock=SystemClock(),
        log=LogWriter(os.open(os.devnull, os.O_WRONLY), pretty=False, colours=False),
        open_sender=open_sender,
        reports=ReportDirectory(directory),
        manager=Systemd({}),
        server=lambda app, **_: StubServer(app, found),  # type: ignore[arg-type, return-value]
        attach_signals=lambda _: None,
        random_bytes=os.urandom,
        jitter_unit=random.random,
        new_event_id=lambda: f"evt_{next(numbers):024x}",
        announce=lambda _: None,
        reload=lambda: settings,
        recorder=recorder_directory.recorder(run, recorder_layout(settings), payloads=False),
        loop_watch=(watch := LoopWatch()),
    )

    async def live() -> None:
        effective = EffectiveSettings(settings)
        async with open_sender(effective) as sender:
            found.supervisor = Supervisor(effective, outside, run, sender)  # type: ignore[arg-type]
            await found.supervisor.run()

    gc.freeze()
    trio.run(live, clock=LoopClock(), instruments=[watch])


if __name__ == "__main__":
    measure() if "MEASURED" in os.environ else main()
