"""The performance: which acts, from the daemon's start to its stop, and the exit code.

Rules: where an act differs from its promise, or cannot be played to its end, the others are still played, the daemon's
log is shown, its folder stays, and the demo exits 1. A signal ends it by way of the daemon's drain.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from hookd import __version__
from hookd.cli.api_client import Unreachable
from hookd.demo.acts import ACTS, TRAFFIC_SECONDS, Act, traffic_act
from hookd.demo.pace import CONCURRENCY, SCHEDULE_SECONDS, TIMEOUT_SECONDS
from hookd.demo.stage import DemoFailed, Stage


class _Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP to the demo: the same way out as Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_demo(*, seconds: int | None, plain: bool, act: str | None) -> int:
    """Plays the programme. Returns 0 where every promise held, 1 where one did not, 128 + N after signal N."""
    acts = programme(act, seconds)
    handlers = {number: signal.signal(number, _raise_stopped) for number in (signal.SIGTERM, signal.SIGHUP)}
    stage = Stage(Path(tempfile.mkdtemp(prefix="hookd-demo-")), colours=not plain and _may_colour())
    code = 1
    try:
        code = play(acts, stage)
    except KeyboardInterrupt as stopped:
        code = 128 + (stopped.number if isinstance(stopped, _Stopped) else signal.SIGINT)
        _say_stopped(stage)
    except (DemoFailed, Unreachable) as failed:
        stage.say(f"the demo cannot go on: {failed}")
        stage.say_log()
    finally:
        stage.close(keep=code == 1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def programme(act: str | None, seconds: int | None) -> list[Act]:
    """All acts, or one; `seconds` is how long the traffic before them lasts (one act alone has none by default)."""
    acts = [one for one in ACTS if act in (None, one.name)]
    if act is None or seconds is not None:
        acts.insert(0, traffic_act(seconds or TRAFFIC_SECONDS))
    return acts


def play(acts: Sequence[Act], stage: Stage) -> int:
    """From the daemon's start to its stop; the demo's exit code."""
    stage.start()
    _say_head(stage)
    differing = perform(acts, stage)
    exit_code = stage.stop()
    stage.say(f"The daemon has ended, with exit code {exit_code}.")
    if exit_code and not differing:
        stage.say_verdict([f"nothing is left undelivered, and the exit code is {exit_code}"])
        differing = ["stop"]
    if differing:
        stage.say(f"{len(differing)} of {len(acts)} differ from the promise: {', '.join(differing)}")
        return 1
    stage.say(f"All {len(acts)} promises hold.\n" if len(acts) > 1 else "The promise holds.\n")
    _say_how_to_run(stage)
    return 0


def perform(acts: Sequence[Act], stage: Stage) -> list[str]:
    """Plays the acts in turn; returns the names of those that differ from what they promise."""
    differing = []
    for act in acts:
        stage.say(f"--- {act.name} {'-' * (75 - len(act.name))}")
        stage.say_lines("promise: ", act.promise)
        stage.say_lines("doing:   ", act.does)
        try:
            stage.start()
            seen = act.observe(stage)
        except (DemoFailed, Unreachable, subprocess.TimeoutExpired) as failed:
            found = [f"it could not be played to its end: {failed}"]
        else:
            for figure in seen.figures():
                stage.say(f"seen:    {figure}")
            found = list(seen.differences())
        stage.say_verdict(found)
        if found:
            differing.append(act.name)
            stage.say_log()
    return differing


def _may_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise _Stopped(number)


def _say_head(stage: Stage) -> None:
    schedule = ", ".join(f"{delay:g}" for delay in SCHEDULE_SECONDS)
    stage.say(f"This is the real daemon, hookd {__version__}, process {stage.pid}, listening on {stage.url}")
    stage.say(f"  at a demo's pace: timeout {TIMEOUT_SECONDS:g} s, retries after {schedule} s, {CONCURRENCY} in flight")
    stage.say(f"  while it runs: curl -s {stage.url}/v1/status      Ctrl-C drains it and shows its report\n")


def _say_stopped(stage: Stage) -> None:
    stage.say("\nstopped; the daemon drains:")
    stage.stop()
    reports = sorted(stage.reports.glob("shutdown-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    if reports:
        try:
            stage.say_indented(stage.command("report", str(reports[-1])))
        except (DemoFailed, subprocess.TimeoutExpired) as failed:
            stage.say(f"its report cannot be shown: {failed}")


def _say_how_to_run(stage: Stage) -> None:
    stage.say("Run it for real; any HTTP server is a receiver, 9000 stands for its port:")
    stage.say("  hookd run --dev --client acme=http://127.0.0.1:9000/hook")
    stage.say("and try:")
    stage.say("  curl -s http://127.0.0.1:8080/v1/clients/acme/events --json \\")
    stage.say("""    '{"type": "invoice.paid", "payload": {"amount": 42}}'""")
    stage.say("  curl -s http://127.0.0.1:8080/v1/clients/acme")
    stage.say("  curl -s http://127.0.0.1:8080/v1/status")
