"""The story of five runs in one folder: a stop that leaves something, a recovery, a kill, what is said of it, a resend."""

import signal
import time
from pathlib import Path
from typing import Any

from tests.recorded.opened import event, register
from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Daemon, Program, wait_until
from tests.recorded.receivers import SILENT, Receivers
from tests.recorded.recording import Recording, command, received

SECOND_SIGNAL_SECONDS = 2.0
SETTINGS = {
    "HOOKD_DRAIN__TIMEOUT": "1s",
    "HOOKD_RETRY__JITTER": "0",
    "HOOKD_RETRY__SCHEDULE": '["10m", "10m"]',
    "HOOKD_DRAIN__TERMINATION_LOG": "last-words",
}


def restarted(program: Program, names: Placeholders) -> dict[str, Any]:
    folder = program.folder
    (folder / "recorder").mkdir()
    reports = folder / "reports"
    shared = {**SETTINGS, "RUNTIME_DIRECTORY": str(folder / "recorder")}
    found: dict[str, Any] = {"exchanges": [], "commands": []}

    with Receivers() as receivers:
        names.add(receivers.url.removeprefix("http://"), "RECEIVER")
        names.add(receivers.refusing_url.removeprefix("http://"), "REFUSING")
        client = ("--dev", "--client", f"cli={receivers.refusing_url}/hook")

        def run(name: str, story: Any, *arguments: str, leaves_report: bool = True, **more: str) -> None:
            with Daemon(program, name, *client, *arguments, **{**shared, **more}) as daemon:
                it = Recording(daemon, names, receivers)
                it.get("/v1/status")
                story(it)
                shown = it.ended(daemon.wait(), reports if leaves_report else None)
            found["exchanges"] += shown.pop("exchanges")
            found[name] = {**shown, "last words": words(folder / "last-words", names)}
            found["commands"].append(command(program, names, "report", spans=True))

        run("stopped", stopped)
        recovery = {"HOOKD_RECOVERY__ENABLED": "true", "HOOKD_RECORDER__PAYLOADS": "true"}
        run("recovering", recovering, **recovery)
        run("killed", killed, leaves_report=False, **recovery)
        run("after the kill", after_kill, **{**recovery, "HOOKD_DRAIN__TIMEOUT": "25s"})
        [*_, newest] = sorted(reports.glob("shutdown-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        with Daemon(program, "resent", *client, **shared) as daemon:
            it = Recording(daemon, names, receivers)
            it.get("/v1/status")
            url = f"http://127.0.0.1:{daemon.port}"
            for arguments in (("--dry-run",), ("--exhausted",), ("--client", "nobody"), (), ()):
                found["commands"].append(command(program, names, "resend", str(newest), *arguments, HOOKD_URL=url))
            found["commands"].append(command(program, names, "report", str(newest), spans=True))
            found["commands"].append(command(program, names, "report", str(newest), "--json"))
            it.get("/v1/events")
            daemon.process.send_signal(signal.SIGINT)
            shown = it.ended(daemon.wait(), reports)
            found["exchanges"] += shown.pop("exchanges")
            found["resent"] = shown
        found["received"] = received(receivers, names)
    return found


def words(path: Path, names: Placeholders) -> list[str]:
    return names.text(path.read_text(), spans=True).split("\n") if path.exists() else ["(none)"]


def stopped(it: Recording) -> None:
    it.post("/v1/events", event("cli", "left", {"n": 1}))
    it.settle("cli", "left")
    it.post("/v1/clients/cli/endpoints/default/pause")
    it.post("/v1/events", event("cli", "never", "waits"))
    register(it, "api", SILENT)
    it.post("/v1/events", event("api", "unanswered"))
    _wait_for_silence(it, 1)
    it.daemon.signal(signal.SIGTERM)


def recovering(it: Recording) -> None:
    """What was left is there again; the client of the API is waited for."""
    it.settle("cli", "left")
    it.settle("cli", "never")
    for path in ("/v1/status", "/v1/events", "/v1/clients/api", "/v1/clients/api/events/unanswered", "/v1/settlements"):
        it.get(path)
    register(it, "api", "/well")
    it.settle("api", "unanswered", attempts=2)
    it.get("/v1/clients/api/events/unanswered")
    it.daemon.signal(signal.SIGTERM)


def killed(it: Recording) -> None:
    it.settle("cli", "left")
    it.settle("cli", "never")
    register(it, "api", SILENT)
    it.post("/v1/events", event("api", "in-flight"))
    _wait_for_silence(it, 2)
    it.post("/v1/clients/cli/endpoints/default/pause")
    it.post("/v1/events", event("cli", "held", {"held": "ü"}))
    it.get("/v1/status")
    wait_until(lambda: '"event_id":"held"' in it.daemon.stderr, "the last line of the log")
    it.daemon.signal(signal.SIGKILL)


def after_kill(it: Recording) -> None:
    """What was given up before the kill stays so; the rest is there, and a second signal cuts the stop short."""
    it.settle("cli", "never")
    it.settle("cli", "held")
    it.get("/v1/status")
    it.get("/v1/events")
    it.get("/v1/clients/api/events/in-flight")
    it.get("/metrics")
    register(it, "api", SILENT)
    _wait_for_silence(it, 3)
    it.daemon.signal(signal.SIGTERM)
    it.wait_status(lambda status: status["state"] == "draining", "draining")
    it.get("/readyz")
    began = time.monotonic()  # a second signal that comes too soon is taken for the first one
    wait_until(lambda: time.monotonic() - began > SECOND_SIGNAL_SECONDS, "time for a second signal")
    it.daemon.signal(signal.SIGTERM)


def _wait_for_silence(it: Recording, count: int) -> None:
    """Until so many requests in all have come to the path that never answers."""
    came = f"POST {SILENT} HTTP/1.1"
    wait_until(lambda: sum(one.head[0] == came for one in it.receivers.received) == count, "the request that hangs")
    wait_until(lambda: it.look("/v1/status")["deliveries"]["in_flight"] == 1, "one in flight")


