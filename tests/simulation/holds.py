"""Holds of the loop: how much one step of a task does beside a large backlog, each of the daemon's operations once.

The whole daemon in virtual time, as in the rest of the simulation, without faults. A step is what a task does until it
gives others a turn. Its work is counted in lines of Python, the libraries' among them: the same number at each run,
on each machine, however busy it is. STEP_LINES_MAX are about 50 ms.

    python -m tests.simulation.holds        every operation with its longest step
"""

import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import trio
import trio.testing
from hookd.core.log_line import Line, LineForm
from hookd.core.outcome import Exchange, Outcome, Responded
from hookd.core.run import Run
from hookd.core.settings import DEFAULTS, Settings
from hookd.core.timestamps import Moment
from hookd.edge.reports import ReportDirectory
from hookd.edge.server import Server
from hookd.edge.systemd import Systemd
from hookd.flow.ports import DeliveryRequest
from hookd.process.exit_codes import ExitCode
from hookd.process.outside import Outside
from hookd.process.supervisor import supervise

from tests.simulation.callers import request
from tests.simulation.network import Listener

EPOCH = 1_800_000_000.0
TESTS = str(Path(__file__).parents[1])
TRIO = str(Path(trio.__file__).parent)
BATCH = 1000
# All that one client may have.
WAITING, SETTLED = 20_000, 1_000
# About 50 ms: 4,000 to 16,000 lines are a millisecond, 8,000 in the middle (docs/decisions.md).
STEP_LINES_MAX = 400_000


class Step(NamedTuple):
    lines: int
    cpu_seconds: float
    task: str


class Work(trio.abc.Instrument):
    """The longest step of each operation, in lines: ours and the libraries', not the tests' and trio's."""

    def __init__(self, *, counts: bool = True) -> None:
        self.longest: dict[str, Step] = {}
        self._counts = counts
        self._operation = ""
        self._lines = 0
        self._began = 0.0

    @contextmanager
    def of(self, operation: str) -> Iterator[None]:
        self._operation = operation
        self.longest.setdefault(operation, Step(0, 0.0, ""))
        if self._counts:
            sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)
            self._operation = ""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What production does in a thread."""
        operation, self._operation = self._operation, ""
        lines, began = self._lines, time.thread_time()
        try:
            yield
        finally:
            self._operation, self._lines = operation, lines
            self._began += time.thread_time() - began

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._lines = 0
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._operation:
            step = Step(self._lines, time.thread_time() - self._began, task.name)
            self.longest[self._operation] = max(self.longest[self._operation], step)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        return None if frame.f_code.co_filename.startswith((TESTS, TRIO)) else self._did

    def _did(self, frame: FrameType, event: str, arg: object) -> Any:
        self._lines += 1
        return self._did


class Receivers:
    """By the host of the URL: hangs, is gone, or answers 200."""

    def __init__(self) -> None:
        self.answers: dict[str, int | None] = {}
        self._changed = trio.Event()

    def answer(self, host: str, status: int | None) -> None:
        self.answers[host] = status
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        exchange.sending_started = exchange.request_sent = True
        await trio.lowlevel.checkpoint()
        host = request.url.split("/")[2]
        while self.answers.get(host, 200) is None:
            await self._changed.wait()
        return Responded(self.answers.get(host, 200) or 200)


class Lines:
    """The log: each line is made as the daemon's writer makes it, and written nowhere."""

    lines_dropped = 0

    def __init__(self) -> None:
        self._form = LineForm(pretty=False)

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self._form.line(EPOCH, event, level, fields)

    def made(self, line: Line) -> None:
        self._form.made(EPOCH, line)

    def text(self, text: str) -> None:
        pass


class Clock:
    def now(self) -> Moment:
        return Moment(trio.current_time(), EPOCH + trio.current_time())


class Hall:
    """One run of the daemon, and who asks it."""

    def __init__(self, settings: Settings, directory: Path, work: Work, number: int) -> None:
        self.receivers = Receivers()
        self.ended = trio.Event()
        self.exit_code: ExitCode | None = None
        self._settings = settings
        self._directory = directory
        self._work = work
        self._number = number
        self._listener = Listener()
        self._ids = 0
        self.signal: Callable[[str], None]

    async def run(self) -> None:
        run = Run(f"run{self._number}", "0", "host", 1, EPOCH)
        self.exit_code = await supervise(self._settings, self._outside(), run)
        self.ended.set()

    def _outside(self) -> Outside:
        reports, log = ReportDirectory(str(self._directory)), Lines()
        return Outside(
            clock=Clock(),
            log=log,
            open_sender=lambda effective: nullcontext(self.receivers),
            reports=reports,
            manager=Systemd({}),
            server=partial(Server, sockets=(), listeners=[self._listener], log=log),
            attach_signals=self._attach,
            random_bytes=lambda count: b"x" * count,
            jitter_unit=lambda: 0.5,
            new_event_id=self._new_id,
            announce=lambda urls: None,
            reload=lambda: self._settings,
            in_thread=self._in_thread,
            past_runs=reports.past_runs(),
        )

    def _attach(self, deliver: Callable[[str, float], None]) -> None:
        self.signal = lambda name: deliver(name, 0.0)

    def _new_id(self) -> str:
        self._ids += 1
        return f"evt_{self._number}_{self._ids}"

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        with self._work.paused():
            result = work(*args)
        await trio.lowlevel.checkpoint()
        return result

    async def ask(self, method: str, path: str, body: Any = None, *, status_max: int = 204) -> Any:
        """The answer, decoded where it is JSON."""
        raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        media_type = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        end = self._listener.connect(1 << 24, None)
        await end.send_all(request(method, path, raw, media_type))
        received = b""
        while b"\r\n\r\n" not in received:
            received += await end.receive_some(1 << 20)
        head, _, text = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        while len(text) < int(fields.get("content-length", "0")):
            text += await end.receive_some(1 << 20)
        end.close()
        assert int(head.split(b" ")[1]) <= status_max, (method, path, text[:300])
        return msgspec.json.decode(text) if "json" in fields.get("content-type", "") else text

    async def admit(self, client_id: str, count: int) -> None:
        for _ in range(count // BATCH):
            await self.ask("POST", "/v1/events/batch", batch(client_id))

    async def put(self, client_id: str, host: str, endpoint_id: str = "default", **fields: Any) -> None:
        endpoint = {"id": endpoint_id, "url": f"http://{host}/hook", "concurrency": 1, **fields}
        await self.ask("PUT", f"/v1/clients/{client_id}?end_unsettled=true", {"endpoints": [endpoint]})


def batch(client_id: str) -> list[dict[str, Any]]:
    return [{"client_id": client_id, "type": "a.x", "payload": {"n": 1}} for _ in range(BATCH)]


async def at_rest() -> None:
    await trio.testing.wait_all_tasks_blocked()


class Day:
    """Each operation once, with so much waiting, and so much settled."""

    def __init__(self, waiting: int, settled: int, work: Work, scenes: Sequence[str]) -> None:
        self.waiting = waiting
        self.settled = settled
        self.work = work
        self._scenes = {name: scene for name, scene in SCENES.items() if name in scenes}
        self._hosts = 0
        self._host = ""
        self._is_admitted = False

    async def live(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            await self._run(Hall(self._settings(), Path(directory), self.work, 1), self._first)
            if "adopt" in self._scenes:
                await self._run(Hall(self._settings(), Path(directory), self.work, 2), self._scenes["adopt"])

    def _settings(self) -> Settings:
        replace = msgspec.structs.replace
        return replace(
            DEFAULTS,
            egress=replace(DEFAULTS.egress, allow_http=True),
            intake=replace(DEFAULTS.intake, client_events_max=self.waiting + BATCH // 2),
            retry=replace(DEFAULTS.retry, age_seconds_max=600.0),
            recovery=replace(DEFAULTS.recovery, enabled=True),
            drain=replace(DEFAULTS.drain, timeout_seconds=5.0),
        )

    async def _run(self, hall: Hall, script: Callable[..., Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hall.run)
            await at_rest()
            if script == self._first:
                await script(hall)
            else:
                await script(self, hall)
            with self.work.of(f"stop with {self.waiting:,} waiting"):
                hall.signal("SIGTERM")
                await hall.ended.wait()

    async def _first(self, hall: Hall) -> None:
        await hall.put("idle", "idle.test", event_types=["none"])
        await hall.admit("idle", self.settled)
        for name, scene in self._scenes.items():
            if name != "adopt":
                await scene(self, hall)
        await self._owe(hall)

    async def _owe(self, hall: Hall) -> str:
        """As much waits as is to wait, behind an attempt that hangs. Returns the endpoint's host, a new one."""
        self._hosts += 1
        before, host = self._host, f"h{self._hosts}.test"
        self._host = host
        hall.receivers.answer(host, None)
        await hall.put("acme", host)
        hall.receivers.answer(before, 200)
        await at_rest()
        if self._is_admitted:
            await hall.ask("POST", "/v1/clients/acme/replay", SPAN)
        else:
            self._is_admitted = True
            await hall.admit("acme", self.waiting - BATCH)
            with self.work.of("a batch of 1,000"):
                await hall.admit("acme", BATCH)
        unsettled = (await hall.ask("GET", "/v1/status"))["memory"]["unsettled_events"]
        assert unsettled >= self.waiting - 10, unsettled  # of each scene one is delivered
        return host

    async def _do(self, operation: str, hall: Hall, method: str, path: str, body: Any = None) -> Any:
        with self.work.of(operation):
            answer = await hall.ask(method, path, body)
            await at_rest()
        return answer

    async def _read(self, hall: Hall) -> None:
        await self._owe(hall)
        paths = ("/v1/status", "/metrics", "/v1/clients", "/v1/clients/acme", "/", "/readyz?verbose")
        pages = ("/v1/events?limit=1000", "/v1/events?limit=1000&client_id=idle", "/v1/events?status=exhausted")
        for path in (*paths, *pages, "/v1/events?type=b.y", "/v1/settlements?limit=1000"):
            await self._do(f"GET {path}", hall, "GET", path)
        with self.work.of("a batch of 1,000 without room"):
            await hall.ask("POST", "/v1/events/batch", batch("acme"), status_max=429)
        with self.work.of("a minute"):
            await trio.sleep(61.0)

    async def _operate(self, hall: Hall) -> None:
        await self._owe(hall)
        for what in ("pause", "resume", "rotate-secret"):
            await self._do(what, hall, "POST", f"/v1/clients/acme/endpoints/default/{what}")
        event_id = (await hall.ask("GET", "/v1/events?limit=1&client_id=acme"))["events"][0]["id"]
        await self._do("GET an event", hall, "GET", f"/v1/events/{event_id}")
        await self._do("retry", hall, "POST", f"/v1/clients/acme/events/{event_id}/retry")
        self._host = "b.test"
        hall.receivers.answer(self._host, None)
        for what, fields in (("PUT of another URL", {}), ("PUT of a schedule", {"schedule": ["1s", "2s"]})):
            with self.work.of(what):
                await hall.put("acme", "b.test", **fields)
                await at_rest()

    async def _gone(self, hall: Hall) -> None:
        host = await self._owe(hall)
        with self.work.of("410"):
            hall.receivers.answer(host, 410)
            await trio.sleep(5.0)

    async def _replay(self, hall: Hall) -> None:
        host = await self._owe(hall)
        hall.receivers.answer(host, 410)
        await trio.sleep(5.0)
        hall.receivers.answer(host, None)
        await hall.ask("POST", "/v1/clients/acme/endpoints/default/resume")
        await self._do("replay, dry", hall, "POST", "/v1/clients/acme/replay", {**SPAN, "dry_run": True})
        await self._do("replay", hall, "POST", "/v1/clients/acme/replay", SPAN)

    async def _expire(self, hall: Hall) -> None:
        await self._owe(hall)
        with self.work.of("expiry"):
            await trio.sleep(620.0)

    async def _remove(self, hall: Hall) -> None:
        await self._owe(hall)
        with self.work.of("removal of an endpoint"):
            await hall.put("acme", "c.test", "other")
            await trio.sleep(5.0)

    async def _delete(self, hall: Hall) -> None:
        await self._owe(hall)
        with self.work.of("DELETE of a client"):
            await hall.ask("DELETE", "/v1/clients/acme?end_unsettled=true")
            await trio.sleep(5.0)

    async def _resend(self, hall: Hall) -> None:
        hall.receivers.answer("d.test", None)
        await hall.put("beta", "d.test")
        lines = b"\n".join(_line(number) for number in range(BATCH))
        await self._do("resend of 1,000", hall, "POST", "/v1/resend", lines)

    async def _adopt(self, hall: Hall) -> None:
        """The start before it has taken all of it back; its client is registered now."""
        status = await hall.ask("GET", "/v1/status")
        assert status["waiting_for_client"] >= self.waiting - 10, status
        hall.receivers.answer("d.test", None)
        with self.work.of("PUT that adopts"):
            await hall.put("acme", "d.test")
            await trio.sleep(5.0)


SPAN = {"since": "2026-01-01T00:00:00Z"}
SCENES: dict[str, Callable[[Day, Hall], Awaitable[None]]] = {
    "read": Day._read,
    "operate": Day._operate,
    "gone": Day._gone,
    "replay": Day._replay,
    "expire": Day._expire,
    "remove": Day._remove,
    "delete": Day._delete,
    "resend": Day._resend,
    "adopt": Day._adopt,
}


def _line(number: int) -> bytes:
    line = {"kind": "undelivered", "class": "never_attempted", "event_id": f"r{number}", "client_id": "beta"}
    line |= {"endpoint_id": "default", "url": "http://d.test/hook", "type": "a.x", "attempt_count": 0, "payload": 1}
    return msgspec.json.encode(line | {"accepted_at": "2026-01-01T00:00:00Z"})


def longest_steps(
    waiting: int, settled: int, *, scenes: Sequence[str] = tuple(SCENES), counts: bool = True
) -> dict[str, Step]:
    work = Work(counts=counts)
    day = Day(waiting, settled, work, scenes)
    trio.run(day.live, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[work])
    return work.longest


def main() -> None:
    waiting, settled = map(int, sys.argv[1:3] or (WAITING, SETTLED))
    gc.disable()  # a collection falls into any step
    counted, timed = (longest_steps(waiting, settled, counts=counts) for counts in (True, False))
    for operation, step in sorted(counted.items(), key=lambda one: -one[1].lines):
        cpu = timed[operation].cpu_seconds * 1000
        print(f"{step.lines:>9,} lines {cpu:7.1f} ms  {operation}  ({step.task[:60]})")


if __name__ == "__main__":
    main()
