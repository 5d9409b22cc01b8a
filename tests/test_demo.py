"""`hookd demo` as someone who tries it meets it: every promise said, shown and judged; and that it would tell."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hookd.demo.acts import ACTS, Act, Seen
from hookd.demo.acts.down import DownSeen
from hookd.demo.acts.flaky import FlakySeen
from hookd.demo.acts.kill import KillSeen, Listed
from hookd.demo.acts.neighbour import Neighbour
from hookd.demo.acts.restart import RestartSeen
from hookd.demo.acts.slow import SlowSeen, most_within
from hookd.demo.acts.traffic import TrafficSeen, is_balanced
from hookd.demo.pace import ATTEMPTS_MAX, CONCURRENCY
from hookd.demo.performance import play, programme, this_command
from hookd.demo.receivers import verifies
from hookd.demo.stage import DemoFailed, Stage
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NAMES = ["traffic", *(act.name for act in ACTS)]
RUN_SECONDS_MAX = 90

# An act mostly waits, so each is played by a demo of its own beside the others, the longest first; test_readme.py runs
# the whole demo, with all acts in a row on one daemon.
RUNS = {
    "restart": ("--seconds", "1", "--act", "restart"),
    "slow": ("--act", "slow"),
    "kill": ("--act", "kill"),
    "down": ("--act", "down"),
    "flaky": ("--act", "flaky"),
}
AT_ONCE = 3

Run = subprocess.CompletedProcess[str]


def demo(*arguments: str) -> "subprocess.Popen[str]":
    """A user's own HOOKD_ settings do not reach its daemon."""
    command = [sys.executable, "-m", "hookd", "demo", "--plain", *arguments]
    environ = os.environ | {"HOOKD_RETRY__SCHEDULE": "nonsense", "HOOKD_URL": "http://127.0.0.1:1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)


def run_to_its_end(arguments: tuple[str, ...]) -> Run:
    with demo(*arguments) as process:
        try:
            out, err = process.communicate(timeout=RUN_SECONDS_MAX)
        finally:
            process.kill()
    return Run(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Future[Run]]]:
    """Every run, under way or ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(run_to_its_end, arguments) for name, arguments in RUNS.items()}


@pytest.fixture(scope="module")
def runs(running: dict[str, Future[Run]]) -> dict[str, Run]:
    """Every run, ended."""
    return {name: run.result() for name, run in running.items()}


def part(runs: dict[str, Run], name: str) -> str:
    """What one act said; traffic in the run of restart."""
    output = runs["restart" if name == "traffic" else name].stdout
    found = re.search(rf"^--- {name} -+\n(.*?)^(?:---|The daemon has ended)", output, re.DOTALL | re.MULTILINE)
    assert found is not None, output
    return found[1]


@pytest.mark.usefixtures("running")  # they wait, and so does this
def test_stopped_demo_drains_its_daemon_and_shows_the_report() -> None:
    """Ctrl-C or SIGTERM in the middle of an act: no traceback, the daemon ends first, and its account is shown."""
    with demo("--act", "down") as interrupted, demo("--act", "down") as terminated:
        heads = [played_up_to_its_act(interrupted), played_up_to_its_act(terminated)]
        interrupted.send_signal(signal.SIGINT)
        terminated.send_signal(signal.SIGTERM)
        ended = [process.communicate(timeout=30) for process in (interrupted, terminated)]
    assert (interrupted.returncode, terminated.returncode) == (130, 143), ended
    for head, (out, err) in zip(heads, ended, strict=True):
        assert err == ""
        assert "stopped; the daemon drains:" in out
        assert re.search(r"\| events: \d+ accepted = ", out)
        assert_ended(head)


@pytest.mark.parametrize("name", RUNS)
def test_demo_holds(runs: dict[str, Run], name: str) -> None:
    """Exit 0, the acts asked for and no other, the real daemon named at the top and how to run it at the end."""
    run = runs[name]
    with_traffic = "--seconds" in RUNS[name]
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert re.findall(r"^--- (\w+) -", run.stdout, re.MULTILINE) == (["traffic", name] if with_traffic else [name])
    assert re.match(r"This is the real daemon, .* listening on http://127\.0\.0\.1:\d+\n", run.stdout)
    assert ("All 2 promises hold." if with_traffic else "The promise holds.") in run.stdout
    assert "hookd run --dev --client acme=" in run.stdout
    assert run.stdout.count("  curl -s http://127.0.0.1:8080/") == 3


@pytest.mark.parametrize("name", RUNS)
def test_demo_is_readable_at_100_columns(runs: dict[str, Run], name: str) -> None:
    """But for paths, which must be pasted whole."""
    output = runs[name].stdout
    long = [line for line in output.splitlines() if len(line) > 100 and "/reports/" not in line]
    assert long == []
    assert "\x1b" not in output


def test_demo_leaves_nothing_behind(runs: dict[str, Run]) -> None:
    """Its folder is removed and its daemon has ended."""
    found = re.search(r"report: (\S+)/reports/shutdown-", runs["restart"].stdout)
    assert found is not None
    assert not Path(found[1]).exists()
    for run in runs.values():
        assert_ended(run.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_act_promises_shows_and_holds(runs: dict[str, Run], name: str) -> None:
    """Each act says the promise, what it does, what was seen, and the verdict."""
    lines = part(runs, name)
    for label in ("promise: ", "doing:   ", "seen:    "):
        assert re.search(f"^{label}", lines, re.MULTILINE), lines
    assert re.search("^holds$", lines, re.MULTILINE), lines
    assert "DIFFERS" not in lines


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("traffic", r"healthy: (\d+) of \1 delivered meanwhile"),
        ("traffic", r"busy: [1-9]\d* rests? by Retry-After, and 0 requests came too early"),
        ("traffic", r"held got 0 while it was paused; gone, which answers 410, got [12] in all"),
        ("slow", r"slow: 8 events, \d+ attempts timed out, 2 in flight \(the receiver: 2\), then 1"),
        ("slow", r"quick again: 8 of 8 delivered"),
        ("down", rf"exhausted \(attempts_used\) after {ATTEMPTS_MAX} unreachable"),
        ("down", r"the one that waited is delivered at attempt [2-5], a new one delivered at attempt 1"),
        ("down", rf"retry of the first: delivered at attempt {ATTEMPTS_MAX + 1}"),
        ("flaky", r"24 events, (\d+) requests, [1-9]\d* of them answered 503; the daemon counts \1 attempts"),
        ("flaky", r"verified \(v1, HMAC-SHA256\), 0 not; bodies altered: 0"),
        ("restart", r"with exit code 3; meanwhile: 503 draining"),
        ("kill", r"owed 19, listed 19: "),
        ("kill", r"UNDELIVERED: 19 deliveries"),
        ("kill", r"started again: 0 accepted, 0 requests"),
        ("kill", r"with recovery on: 19 owed, 19 taken back, 19 until their client is PUT"),
        ("kill", r"19 events arrived that nobody had to send again, at most 1 time each"),
        ("restart", r"owed 19, listed 19: "),
        ("restart", r"UNDELIVERED: 19 deliveries"),
        ("restart", r"started again: 0 accepted, 0 requests before `resend`"),
        ("restart", r"admitted: 19, known: 19 \(run twice\); 19 events arrived, at most 1 time each"),
    ],
)
def test_act_shows_figures(runs: dict[str, Run], name: str, figure: str) -> None:
    """What was seen stands there in numbers."""
    assert re.search(figure, part(runs, name)), part(runs, name)


def played_up_to_its_act(process: "subprocess.Popen[str]") -> str:
    """Its first line."""
    assert process.stdout is not None
    head = process.stdout.readline()
    while not process.stdout.readline().startswith("doing:"):
        assert process.poll() is None
    return head


def assert_ended(output: str) -> None:
    found = re.search(r"process (\d+),", output)
    assert found is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


NEIGHBOUR = Neighbour(posted=20, delivered=20, slowest_seconds=0.02)
TRAFFIC = TrafficSeen(
    neighbour=NEIGHBOUR,
    posted={"healthy": 20, "slow": 20, "flaky": 20, "down": 20, "gone": 20},
    statuses={
        "healthy": {"delivered": 20},
        "slow": {"delivered": 20},
        "flaky": {"delivered": 20},
        "down": {"delivered": 5, "exhausted": 15},
        "gone": {"exhausted": 20},
    },
    unbalanced=0,
    looks=3,
    rests=2,
    came_early=0,
    came_paused=0,
    gone_asked=2,
    gone_resumes=0,
)
SLOW = SlowSeen(
    neighbour=NEIGHBOUR,
    posted=frozenset("abc"),
    attempts_timed_out=5,
    in_flight_max=2,
    in_flight_last=1,
    at_once_max=2,
    delivered=frozenset("abc"),
    statuses={"delivered": 3},
    recovery_seconds=1.0,
)


def delivery(status: str, attempt_count: int, reason: str | None = None) -> dict[str, Any]:
    attempts = [{"outcome": "unreachable", "request_sent": False}] * attempt_count
    return {"status": status, "reason": reason, "attempt_count": attempt_count, "attempts": attempts}


DOWN = DownSeen(
    neighbour=NEIGHBOUR,
    given_up=delivery("exhausted", ATTEMPTS_MAX, "attempts_used"),
    in_time=delivery("delivered", 2),
    later=delivery("delivered", 1),
    retried=delivery("delivered", ATTEMPTS_MAX + 1),
    arrived={"a": [ATTEMPTS_MAX + 1], "b": [2], "c": [1]},
    posted=["a", "b", "c"],
)
FLAKY = FlakySeen(
    posted=frozenset("ab"),
    statuses={"delivered": 2},
    arrived=frozenset("ab"),
    refused=1,
    delivered=2,
    attempt_count=3,
    unverified=0,
    altered=0,
)
RESTART = RestartSeen(
    owed=frozenset("ab"),
    listed=frozenset("ab"),
    classes={"never_attempted": 1, "attempted_failed": 0, "outcome_unknown": 1},
    admitted=5,
    accepted=5,
    balanced=True,
    exit_code=3,
    exit_seconds=2.1,
    refusal="503 draining",
    accepted_at_start=0,
    unasked=0,
    resent={"a": 1, "b": 1},
    said=["admitted: 2", "known: 2"],
)
LISTED = Listed(
    owed=frozenset("abc"),
    listed=frozenset("abc"),
    classes={"never_attempted": 1, "attempted_failed": 0, "outcome_unknown": 2},
    unknown=frozenset("bc"),
    sent=frozenset("b"),
    accepted=5,
    admitted=5,
    balanced=True,
)
KILL = KillSeen(
    report=LISTED,
    has_payloads=False,
    accepted_at_start=0,
    unasked=0,
    recovering=LISTED,
    recovered=3,
    waiting=3,
    delivered={"a": 1, "b": 1, "c": 1},
)


@pytest.mark.parametrize("seen", [TRAFFIC, SLOW, DOWN, FLAKY, RESTART, KILL])
def test_observation_as_promised_has_no_difference(seen: Seen) -> None:
    """And its figures can be written."""
    assert list(seen.differences()) == []
    assert all(seen.figures())


@pytest.mark.parametrize(
    ("seen", "false"),
    [
        (NEIGHBOUR, {"delivered": 19}),
        (NEIGHBOUR, {"slowest_seconds": 1.2}),
        (TRAFFIC, {"unbalanced": 1}),
        (TRAFFIC, {"rests": 0}),
        (TRAFFIC, {"came_early": 1}),
        (TRAFFIC, {"came_paused": 1}),
        (TRAFFIC, {"gone_asked": 0}),
        (TRAFFIC, {"gone_asked": 3}),
        (TRAFFIC, {"statuses": TRAFFIC.statuses | {"gone": {"delivered": 1, "exhausted": 19}}}),
        (TRAFFIC, {"statuses": TRAFFIC.statuses | {"flaky": {"delivered": 19, "exhausted": 1}}}),
        (TRAFFIC, {"statuses": TRAFFIC.statuses | {"down": {"delivered": 5}}}),
        (TRAFFIC, {"neighbour": msgspec.structs.replace(NEIGHBOUR, delivered=0)}),
        (SLOW, {"in_flight_max": CONCURRENCY + 1}),
        (SLOW, {"at_once_max": CONCURRENCY + 1}),
        (SLOW, {"attempts_timed_out": 0}),
        (SLOW, {"in_flight_last": 2}),
        (SLOW, {"delivered": frozenset("ab")}),
        (SLOW, {"statuses": {"delivered": 2, "failed": 1}}),
        (DOWN, {"given_up": delivery("exhausted", ATTEMPTS_MAX - 1, "attempts_used")}),
        (DOWN, {"given_up": delivery("exhausted", ATTEMPTS_MAX, "expired")}),
        (DOWN, {"retried": delivery("exhausted", ATTEMPTS_MAX + 1)}),
        (DOWN, {"arrived": DOWN.arrived | {"b": [1, 2]}}),
        (DOWN, {"arrived": DOWN.arrived | {"other": [1]}}),
        (FLAKY, {"statuses": {"delivered": 1, "exhausted": 1}}),
        (FLAKY, {"arrived": frozenset("ac")}),
        (FLAKY, {"refused": 0, "attempt_count": 2}),
        (FLAKY, {"attempt_count": 4}),
        (FLAKY, {"unverified": 1}),
        (FLAKY, {"altered": 1}),
        (RESTART, {"exit_code": 0}),
        (RESTART, {"exit_seconds": 4.1}),
        (RESTART, {"refusal": "202"}),
        (RESTART, {"listed": frozenset("a")}),
        (RESTART, {"accepted": 4}),
        (RESTART, {"balanced": False}),
        (RESTART, {"accepted_at_start": 2}),
        (RESTART, {"unasked": 1}),
        (RESTART, {"resent": {"a": 1}}),
        (RESTART, {"resent": {"a": 1, "b": 2}}),
        (RESTART, {"said": ["admitted: 2", "admitted: 2"]}),
        (KILL, {"report": msgspec.structs.replace(LISTED, listed=frozenset("ab"))}),
        (KILL, {"report": msgspec.structs.replace(LISTED, unknown=frozenset("c"))}),
        (KILL, {"report": msgspec.structs.replace(LISTED, balanced=False)}),
        (KILL, {"report": msgspec.structs.replace(LISTED, accepted=4)}),
        (KILL, {"recovering": msgspec.structs.replace(LISTED, listed=frozenset("abcd"))}),
        (KILL, {"has_payloads": True}),
        (KILL, {"accepted_at_start": 3}),
        (KILL, {"unasked": 1}),
        (KILL, {"recovered": 2, "waiting": 2}),
        (KILL, {"waiting": 0}),
        (KILL, {"delivered": {"a": 1, "b": 1}}),
        (KILL, {"delivered": {"a": 1, "b": 2, "c": 1}}),
    ],
)
def test_observation_against_the_promise_differs(seen: Any, false: dict[str, Any]) -> None:
    """One wrong figure, and the act says so."""
    assert list(msgspec.structs.replace(seen, **false).differences())


class BareStage(Stage):
    """A stage without a daemon: for acts that have seen what they have seen."""

    exit_code = 0

    def start(self) -> None:
        pass

    def stop(self) -> int:
        return self.exit_code


def observed(seen: Seen) -> Act:
    return Act("slow", "this is so", "nothing", lambda _stage: seen)


def unplayable(stage: Stage) -> Seen:
    raise DemoFailed("waited 15 s for nothing")


def test_demo_whose_promise_does_not_hold_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other acts are still played, the difference is named, and the log's last lines are shown."""
    (tmp_path / "daemon.log").write_text("one line of the log\n")
    false = msgspec.structs.replace(SLOW, in_flight_max=9)
    assert play([observed(false), observed(SLOW)], BareStage(tmp_path, colours=False)) == 1
    out = capsys.readouterr().out
    assert "DIFFERS: 9 in flight at once; an endpoint begins with 2" in out
    assert "  | one line of the log" in out
    assert out.count("holds\n") == 1
    assert "1 of 2 differ from the promise: slow" in out


def test_demo_whose_promises_hold_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same way, with true observations."""
    acts = [observed(seen) for seen in (TRAFFIC, SLOW, DOWN, FLAKY, RESTART, KILL)]
    assert play(acts, BareStage(tmp_path, colours=False)) == 0
    out = capsys.readouterr().out
    assert out.count("holds\n") == 6
    assert "All 6 promises hold." in out


@pytest.mark.parametrize(
    ("act", "seconds", "names"),
    [
        (None, None, NAMES),
        (None, 7, NAMES),
        ("flaky", None, ["flaky"]),
        ("flaky", 7, ["traffic", "flaky"]),
    ],
)
def test_programme_is_every_act_or_the_one_asked_for(act: str | None, seconds: int | None, names: list[str]) -> None:
    """Traffic comes first; before one act alone only if its length is given."""
    acts = programme(act, seconds)
    assert [act.name for act in acts] == names
    assert acts[0].does.startswith(f"{seconds or 3} s of events") or names[0] != "traffic"


def test_act_that_cannot_be_played_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not seen does not hold."""
    act = Act("down", "this is so", "nothing", unplayable)
    assert play([act], BareStage(tmp_path, colours=False)) == 1
    assert "DIFFERS: it could not be played to its end: waited 15 s for nothing" in capsys.readouterr().out


def test_daemon_that_ends_badly_after_its_acts_differs(tmp_path: Path) -> None:
    """Everything held, and still the exit code says that something was left."""
    stage = BareStage(tmp_path, colours=False)
    stage.exit_code = 3
    assert play([observed(SLOW)], stage) == 1


def test_receiver_verifies_as_the_reference_library_signs() -> None:
    """And refuses another body, another id, an old timestamp, another secret, and no signature at all."""
    now, body = 1_800_000_000, b'{"number":1}'
    signature = Webhook(SECRET).sign("evt_1", datetime.fromtimestamp(now, UTC), body.decode())
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": f"v1,other {signature}"}
    assert verifies(SECRET, headers, body, now=now + 5)
    assert not verifies(SECRET, headers, body + b" ", now=now)
    assert not verifies(SECRET, headers | {"webhook-id": "evt_2"}, body, now=now)
    assert not verifies(SECRET, headers, body, now=now + 301)
    assert not verifies(SECRET[:-4] + "AAAA", headers, body, now=now)
    assert not verifies(SECRET, {}, body, now=now)


def test_most_within_counts_the_densest_window() -> None:
    """The window is half open: what begins as another ends is not with it."""
    assert most_within([], 1) == 0
    assert most_within([5.0, 0.0, 0.5, 1.0], 1) == 2
    assert most_within([5.0, 0.0, 0.5, 0.9], 1) == 3


def test_totals_balance_only_if_they_sum() -> None:
    """`accepted` = pending + failed + delivered + exhausted."""
    events = {"accepted": 10, "pending": 1, "failed": 2, "delivered": 3, "exhausted": 4, "unrouted": 3}
    assert is_balanced(events)
    assert not is_balanced(events | {"delivered": 2})


def test_command_to_paste_is_the_one_that_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a clone `hookd` is in no PATH: `hookd run …` was not found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [".venv/bin/hookd", "demo"])
    assert this_command() == ".venv/bin/hookd"
    (tmp_path / "hookd").touch(mode=0o700)
    assert this_command() == "hookd"
