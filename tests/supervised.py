"""The whole daemon in this process, through the supervisor: real HTTP on port 0, everything else injected."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from hookd.core.client import Client, Endpoint
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.log_line import Line
from hookd.core.no_recorder import NOTHING_RECORDED, NoRecorder
from hookd.core.outcome import Exchange, Outcome, Responded
from hookd.core.recorder import Recorder
from hookd.core.run import Run
from hookd.core.settings import DEFAULTS, Settings
from hookd.edge.clock import SystemClock
from hookd.edge.reports import ReportDirectory
from hookd.edge.server import Server, bound_sockets
from hookd.edge.systemd import Systemd
from hookd.flow.ports import DeliveryRequest
from hookd.process.exit_codes import ExitCode
from hookd.process.outside import Outside
from hookd.process.supervisor import Supervisor

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class ScriptedSender:
    """Answers 200, or hangs while `hangs` is set; keeps what it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[DeliveryRequest] = []
        self.hangs = False

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        self.sent.append(request)
        exchange.sending_started = exchange.request_sent = True
        if self.hangs:
            await trio.sleep_forever()
        return Responded(200)


class NotedDiscard(NoRecorder):
    def __init__(self) -> None:
        self.discards = 0

    def discard(self) -> None:
        self.discards += 1


class ListLog:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.lines_dropped = 0

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.lines.append((event, {"level": level, **fields} if level != "info" else fields))

    def made(self, line: Line) -> None:
        event, fields = line.told()
        self(event, **fields)

    def text(self, text: str) -> None:
        self.texts.append(text)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.lines if name == event]


class Daemon:
    """One supervised run, and what a test needs to drive it."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        reload: Callable[[], Settings] | None = None,
        environ: Mapping[str, str] | None = None,
        recorder: Recorder = NOTHING_RECORDED,
        reports: ReportDirectory | None = None,
        sender: ScriptedSender | None = None,
        **outside_more: Any,
    ) -> None:
        self.sender = sender or ScriptedSender()
        self.log = ListLog()
        self.directory = directory
        self.urls: Sequence[str] = ()
        self.listening = trio.Event()
        self.exit_code: ExitCode | None = None
        reports = reports or ReportDirectory(str(directory))
        reports.prove_writable()
        outside = Outside(
            clock=SystemClock(),
            log=self.log,
            open_sender=lambda effective: nullcontext(self.sender),
            reports=reports,
            manager=Systemd(environ or {}),
            server=partial(Server, sockets=bound_sockets(["127.0.0.1:0"]), log=self.log),
            attach_signals=self._attach_signals,
            random_bytes=lambda count: b"x" * count,
            jitter_unit=lambda: 0.5,
            new_event_id=partial(next, iter(f"evt_{number}" for number in range(10_000))),
            announce=self._announce,
            reload=reload or (lambda: settings),
            recorder=recorder,
            **outside_more,
        )
        self.started_at = outside.clock.now().wall
        run = Run("run1", "0", "host", 1, self.started_at)
        self.supervisor = Supervisor(EffectiveSettings(settings), outside, run, self.sender)

    def _attach_signals(self, deliver: Callable[[str, float], None]) -> None:
        self._deliver_signal = deliver

    def signal(self, name: str, *, late_seconds: float = 0.0) -> None:
        """It came so long ago: the loop was busy."""
        self._deliver_signal(name, late_seconds)

    def _announce(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.listening.set()

    async def run(self) -> None:
        self.exit_code = await self.supervisor.run()

    async def hang(self, **event: Any) -> None:
        """From now on no attempt has an answer; one has begun."""
        self.sender.hangs = True
        assert (await self.post(**event)).status_code == 202
        await until(lambda: bool(self.sender.sent))

    async def stop(self, name: str = "SIGTERM") -> ExitCode:
        self.signal(name)
        return await self.end()

    async def end(self) -> ExitCode:
        await until(lambda: self.exit_code is not None)
        assert self.exit_code is not None
        return self.exit_code

    async def metrics(self) -> str:
        async with httpx.AsyncClient(base_url=self.urls[0]) as http:
            return (await http.get("/metrics")).text

    async def post(self, **event: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.urls[0]) as http:
            return await http.post("/v1/events", json={"client_id": "acme", "type": "a", "payload": 1, **event})

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(base_url=self.urls[0]) as http:
            return (await http.get(path)).json()

    def report(self) -> list[dict[str, Any]]:
        (path,) = self.directory.glob("shutdown-*.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


def make_settings(**drain: Any) -> Settings:
    endpoint = Endpoint(id="default", url="http://127.0.0.1:1/", secret=SECRET)
    client = Client(id="acme", endpoints=(endpoint,), managed_by_config=True)
    return msgspec.structs.replace(
        DEFAULTS, clients=(client,), drain=msgspec.structs.replace(DEFAULTS.drain, **{"timeout_seconds": 0.3, **drain})
    )


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()


@pytest.fixture(name="start")
def _start(tmp_path: Path, nursery: trio.Nursery) -> Callable[..., Any]:
    async def start(settings: Settings | None = None, **more: Any) -> Daemon:
        daemon = Daemon(tmp_path, settings or make_settings(), **more)
        nursery.start_soon(daemon.run)
        with trio.fail_after(10):
            await daemon.listening.wait()
        return daemon

    return start
