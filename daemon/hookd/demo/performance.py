"""The performance: which acts, from the daemon's start to its stop, and the exit code.

On a terminal a table is drawn while it lasts (`screen`), and it goes on until Enter. What is left to say is said when
the table has gone.

Rules: where an act differs from its promise, or cannot be played to its end, the others are still played, the daemon's
log is shown, its folder stays, and the demo exits 1. A signal, and Enter in the middle of an act, end it by way of the
daemon's drain.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hookd import __version__
from hookd.cli.api_client import Unreachable
from hookd.demo.acts import ACTS, TRAFFIC_SECONDS, Act, endless_act, traffic_act
from hookd.demo.board import Board, Scene
from hookd.demo.interruptions import Entered, Stopped
from hookd.demo.pace import (
    CONCURRENCY,
    DRAIN_SECONDS,
    SCHEDULE_SECONDS,
    SHOWN_TRAFFIC_SECONDS,
    SHOWN_VERDICT_SECONDS,
    TIMEOUT_SECONDS,
)
from hookd.demo.stage import DemoFailed, Stage


def run_demo(*, seconds: int | None, plain: bool, act: str | None) -> int:
    """Plays the programme. Returns 0 where every promise held, 1 where one did not, 128 + N after signal N."""
    board = Board(is_drawn=not plain and _may_draw())
    was_drawn = board.is_drawn
    colours = not plain and not board.is_drawn and _may_colour()
    acts = programme(act, seconds, is_drawn=was_drawn)
    stage = Stage(Path(tempfile.mkdtemp(prefix="hookd-demo-")), colours=colours, board=board)
    with board.interruptions.raised():
        return _played(acts, stage, until_enter=was_drawn and seconds is None)


def _played(acts: Sequence[Act], stage: Stage, *, until_enter: bool) -> int:
    was_drawn, code = stage.board.is_drawn, 1
    try:
        code = play(acts, stage, until_enter=until_enter)
    except Stopped as stopped:
        code = 128 + stopped.number
        if was_drawn:
            stage.say("stopped; the daemon has drained:")
        _say_report(stage)
    except (DemoFailed, Unreachable) as failed:
        stage.say(f"the demo cannot go on: {failed}")
        stage.say_log()
    finally:
        stage.close(keep=code == 1)
    return code


def programme(act: str | None, seconds: int | None, *, is_drawn: bool = False) -> list[Act]:
    """All acts, or one; `seconds` is how long the traffic before them lasts (one act alone has none by default)."""
    acts = [one for one in ACTS if act in (None, one.name)]
    if act is None or seconds is not None:
        acts.insert(0, traffic_act(seconds or (SHOWN_TRAFFIC_SECONDS if is_drawn else TRAFFIC_SECONDS)))
    if is_drawn and act is None and seconds is None:
        acts.append(endless_act())
    return acts


def play(acts: Sequence[Act], stage: Stage, *, until_enter: bool = False) -> int:
    """From the daemon's start to its stop; the demo's exit code."""
    was_drawn = stage.board.is_drawn
    with _screen(stage.board):
        try:
            was_cut = _play_until_enter(acts, stage, until_enter=until_enter)
            exit_code = stage.stop()
        except KeyboardInterrupt:
            stage.show(f"the daemon drains: no new 202, {DRAIN_SECONDS:g} s at most to finish, then its report.")
            stage.say("\nstopped; the daemon drains:")
            stage.stop(is_patient=False)
            raise
    if was_drawn:
        _say_verdicts(stage)
    stage.say(f"The daemon has ended, with exit code {exit_code}.")
    differing = [verdict.name for verdict in stage.board.verdicts if not verdict.holds]
    if exit_code and was_cut:
        _say_report(stage)
    elif exit_code and not differing:
        stage.say_verdict([f"nothing is left undelivered, and the exit code is {exit_code}"])
        differing = ["stop"]
    if differing:
        stage.say(f"{len(differing)} of {len(acts)} differ from the promise: {', '.join(differing)}")
        return 1
    stage.say(_all_hold(len(stage.board.verdicts), len(acts)))
    _say_how_to_run(stage)
    return 0


def _play_until_enter(acts: Sequence[Act], stage: Stage, *, until_enter: bool) -> bool:
    """Whether Enter cut an act; where it is waited for, what the last act left stands there until then."""
    board = stage.board
    try:
        stage.start()
        _say_head(stage)
        perform(acts, stage)
        board.interruptions.heeds_enter = True
    except Entered:
        stage.show("the daemon drains.")
        return True
    if until_enter and not board.enter.is_set():
        stage.show("it is over, and the daemon runs on: look at its page.")
        board.enter.wait()
    return False


@contextmanager
def _screen(board: Board) -> Iterator[None]:
    """The table, where one is to be drawn."""
    if not board.is_drawn:
        yield
        return
    from hookd.demo.screen import Screen  # with rich, which nothing else loads

    screen = Screen(board)
    screen.open()
    try:
        yield
    finally:
        board.interruptions.heeds_enter = True
        board.is_drawn = False
        screen.close()


def perform(acts: Sequence[Act], stage: Stage) -> None:
    """Plays the acts in turn; the board has their verdicts."""
    for number, act in enumerate(acts, 1):
        if number > 1 and stage.board.is_drawn:
            time.sleep(SHOWN_VERDICT_SECONDS)  # of the act before
        stage.board.begin(Scene(act.name, number, len(acts), act.does))
        stage.board.interruptions.heeds_enter = act.ends_on_enter
        stage.say(f"--- {act.name} {'-' * (75 - len(act.name))}")
        stage.say_lines("promise: ", act.promise)
        if not stage.board.is_drawn:  # the picture has it above the table
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
        stage.board.judge(holds=not found)
        stage.show(f"{act.name}: the promise {'does not hold' if found else 'holds'}.")
        if found:
            stage.say_log()


def _may_draw() -> bool:
    """On a terminal that can place its cursor, and from one, since Enter is to be heard."""
    can_place = os.environ.get("TERM", "dumb") != "dumb" and sys.stdout.encoding.lower().replace("-", "") == "utf8"
    return can_place and sys.stdin.isatty() and sys.stdout.isatty()


def _may_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _say_head(stage: Stage) -> None:
    schedule = ", ".join(f"{delay:g}" for delay in SCHEDULE_SECONDS)
    stage.say(f"This is the real daemon, hookd {__version__}, process {stage.pid}, listening on {stage.url}")
    stage.say(f"  at a demo's pace: timeout {TIMEOUT_SECONDS:g} s, retries after {schedule} s, {CONCURRENCY} in flight")
    stage.say(f"  while it runs: curl -s {stage.url}/v1/status      Ctrl-C drains it and shows its report\n")


def _say_verdicts(stage: Stage) -> None:
    """What stood beside the table: all that was said, where something differs."""
    verdicts = stage.board.verdicts
    if all(verdict.holds for verdict in verdicts):
        for verdict in verdicts:
            stage.say(f"{verdict.name:<8} holds")
        return
    for line in stage.board.said():
        stage.say(line)


def _all_hold(judged: int, acts: int) -> str:
    if judged < acts:
        return (
            f"Of {acts} promises {judged} were put to the test, and hold.\n" if judged else "No act was played out.\n"
        )
    return f"All {acts} promises hold.\n" if acts > 1 else "The promise holds.\n"


def _say_report(stage: Stage) -> None:
    """Of the daemon that has just ended."""
    report = stage.newest_report()
    if report is None:
        stage.say("It wrote no report.")
        return
    try:
        stage.say_indented(stage.command("report", str(report)))
    except (DemoFailed, subprocess.TimeoutExpired) as failed:
        stage.say(f"its report cannot be shown: {failed}")


def this_command() -> str:
    """As it can be pasted: in a clone `hookd` is in no PATH."""
    called = Path(sys.argv[0])
    if shutil.which("hookd") is not None or called.name != "hookd":
        return "hookd"
    return str(called)


def _say_how_to_run(stage: Stage) -> None:
    stage.say("Run it for real; any HTTP server is a receiver, 9000 stands for its port:")
    stage.say(f"  {this_command()} run --dev --client acme=http://127.0.0.1:9000/hook")
    stage.say("and try:")
    stage.say("  curl -s http://127.0.0.1:8080/v1/clients/acme/events --json \\")
    stage.say("""    '{"type": "invoice.paid", "payload": {"amount": 42}}'""")
    stage.say("  curl -s http://127.0.0.1:8080/v1/clients/acme")
    stage.say("  curl -s http://127.0.0.1:8080/v1/status")
