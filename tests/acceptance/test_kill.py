"""A killed daemon leaves a list: the next start names every event that was answered 202 and had not settled.

The judge is independent: the producer's own list of 202s, and the receivers' own logs.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    ROOT,
    WITHOUT_RECORDER,
    Daemon,
    Received,
    Receiver,
    environment,
    event_body,
    hookd,
    read_report,
    refusing_url,
    report_texts,
    runtime_directory,
    wait_until,
)
from tests.acceptance.producing import Producer, answers_of

pytestmark = pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")

# In full, by hand: HOOKD_TEST_KILLS=200 pytest -n 0 --timeout 0 -k random_times tests/acceptance
KILLS = int(os.environ.get("HOOKD_TEST_KILLS", "20"))
SETTINGS = {**NO_RETRY_SOON, "delivery.timeout": "30s", "drain.timeout": "0s"}


def mistakes(
    lines: list[dict[str, Any]], producer: Producer, answers: dict[tuple[str, str], list[int | None]]
) -> list[str]:
    """What a crash report says that is not so, or does not say."""
    found = []
    listed = {(line["client_id"], line["event_id"]): line["class"] for line in lines}
    delivered = {key for key, statuses in answers.items() if 200 in statuses}
    for key in producer.accepted - listed.keys() - delivered:
        found.append(f"{key} was answered 202, was not delivered, and is not listed")
    for key, class_ in listed.items():
        if key not in producer.sent:
            found.append(f"{key} was never posted")
        if key in delivered and class_ != "outcome_unknown":
            found.append(f"{key} was answered 2xx and is listed as {class_}")
        if class_ == "never_attempted" and answers.get(key):
            found.append(f"{key} is listed as never_attempted, and a request arrived")
        if class_ == "attempted_failed" and (None in answers.get(key, [None]) or 200 in answers.get(key, [])):
            found.append(f"{key} is listed as attempted_failed: {answers.get(key)}")
    if len(listed) != len(lines):
        found.append("a delivery is listed twice")
    return found


def test_kills_at_random_times_under_load_leave_a_true_list(tmp_path: Path) -> None:
    """Each crash report names what was lost, classes it by what is known, and nothing is delivered from any file."""
    seed = random.randrange(10**6)
    print(f"seed {seed}, {KILLS} kills")
    moments = random.Random(seed)
    with Receiver(200) as up, Receiver(500) as failing, Receiver(HANG) as hung:
        receivers = {"up": up, "failing": failing, "hung": hung}
        killed: tuple[str, Producer, dict[tuple[str, str], list[int | None]]] | None = None
        losses = 0
        for run in range(KILLS + 1):
            with Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
                arrived = {client_id: len(receiver.log) for client_id, receiver in receivers.items()}
                if killed is not None:
                    losses += judge(daemon, *killed)
                for client_id, receiver in receivers.items():
                    api.put_client(client_id, {"url": receiver.url})
                run_id = api.status()["run_id"]
                producer = Producer(daemon.port, run)
                enough = moments.choice([1, moments.randrange(1, 2000)])
                wait_until(lambda: len(producer.accepted) >= enough, seconds=30, what=f"{enough} accepted")  # noqa: B023
                daemon.kill()
                producer.join()
            for client_id, receiver in receivers.items():
                assert all(one.event_id.startswith(f"r{run}-") for one in receiver.log[arrived[client_id] :])
            killed = run_id, producer, answers_of(receivers)
        with Daemon(tmp_path, settings=SETTINGS) as daemon:
            assert killed is not None
            losses += judge(daemon, *killed)
            assert daemon.stop() == 0
    assert losses > KILLS
    assert left_behind(daemon) == []


def judge(daemon: Daemon, run_id: str, producer: Producer, answers: dict[tuple[str, str], list[int | None]]) -> int:
    (path,) = daemon.reports.glob(f"crash-*-{run_id}.jsonl")
    summary, lines = read_report(path)
    assert mistakes(lines, producer, answers) == []
    assert (summary["trigger"], summary["run_id"], summary["balanced"]) == ("crash", run_id, True)
    assert summary["recorder"] == {"unread_bytes": 0, "records_missing": 0, "events_unrecorded": 0}
    assert len(producer.accepted) <= summary["events"]["accepted"] <= len(producer.sent)
    assert summary["events"]["undelivered"] == len(lines) == summary["deliveries"]["undelivered"]
    assert not any("payload" in line for line in lines)
    assert not list(daemon.reports.glob(f"*-{run_id}.open"))
    return len(lines)


def left_behind(daemon: Daemon) -> list[str]:
    """Files of the recorder, and markers beside the reports."""
    files = [str(path) for path in runtime_directory(daemon.reports).rglob("*")]
    return files + [str(path) for path in daemon.reports.glob("*.open")]


def killed_with_one_of_each(tmp_path: Path, **settings: object) -> tuple[Daemon, str]:
    """A daemon that was killed with an event in flight, one that failed and one that waits."""
    with (
        refusing_url() as refusing,
        Receiver(HANG) as hung,
        Daemon(tmp_path, settings={**SETTINGS, **settings}) as daemon,
    ):
        with daemon.api as api:
            api.put_client("acme", {"id": "hung", "url": hung.url, "concurrency": 1, "event_types": ["hung"]})
            api.put_client("beta", {"url": refusing})
            for event_id in ("flying", "waiting"):
                assert api.post("acme", event_id, b'{"n": 1}', "hung").status == 202
            assert api.post("beta", "failed", b'{"n": 2}').status == 202
            wait_until(lambda: hung.hanging == 1 and api.deliveries()["failed"] == 1)
            run_id = api.status()["run_id"]
        daemon.kill()
    return daemon, run_id


def test_crash_report_says_what_is_known_of_each(tmp_path: Path) -> None:
    """The three classes, on disk, on stderr and in the log; `hookd report` shows it, `resend` has nothing to send."""
    daemon, run_id = killed_with_one_of_each(tmp_path)
    shown = hookd("report", "--reports", str(daemon.reports))
    assert f"RUN {run_id} ENDED WITHOUT A REPORT" in shown.stderr
    with Daemon(tmp_path, settings=SETTINGS) as after:
        (path,) = after.reports.glob("crash-*.jsonl")
        summary, lines = read_report(path)
        assert summary["undelivered"] == {"never_attempted": 1, "attempted_failed": 1, "outcome_unknown": 1}
        by_id = {line["event_id"]: line for line in lines}
        assert by_id["flying"]["class"] == "outcome_unknown"
        assert by_id["flying"]["last_outcome"]["outcome"] is None
        assert by_id["waiting"]["last_outcome"] is None
        assert by_id["failed"]["last_outcome"]["outcome"] == "unreachable"
        assert by_id["failed"]["attempt_count"] == 1
        assert {line["type"] for line in lines} == {"hung", "order.paid"}
        assert path.stat().st_mode & 0o777 == 0o600
        assert "UNDELIVERED: 3 deliveries" in report_texts(after.stderr)
        assert '"event":"crash.found"' in after.stderr
        with after.api as api:
            assert api.status()["events"]["accepted"] == 0
            for client_id in ("acme", "beta"):
                api.put_client(
                    client_id,
                    {"id": "hung", "url": "http://127.0.0.1:9/"},
                    {"id": "default", "url": "http://127.0.0.1:9/"},
                )
        shown = hookd("report", "--reports", str(after.reports))
        assert f"run {run_id} crashed or was killed" in shown.stdout
        assert "it holds no payloads" in shown.stdout
        assert shown.stderr == ""
        resent = hookd("resend", str(path), "--url", after.url)
        assert resent.stdout == "no-payload: 3\n"
        assert after.stop() == 0


def test_recorder_with_payloads_makes_a_report_that_can_be_sent_again(tmp_path: Path) -> None:
    """`recorder.payloads`: the crash report holds each payload byte for byte, and `hookd resend` brings them back."""
    killed_with_one_of_each(tmp_path, **{"recorder.payloads": True})
    with Receiver(200) as up, Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
        (path,) = daemon.reports.glob("crash-*.jsonl")
        assert {line["payload"]["n"] for line in read_report(path)[1]} == {1, 2}
        api.put_client("acme", {"id": "hung", "url": up.url})
        api.put_client("beta", {"id": "default", "url": up.url})
        assert hookd("resend", str(path), "--url", daemon.url).stdout == "admitted: 3\n"
        wait_until(lambda: len(up.log) == 3)
        assert {(one.event_id, one.body) for one in up.log} == {
            ("flying", b'{"n": 1}'),
            ("waiting", b'{"n": 1}'),
            ("failed", b'{"n": 2}'),
        }
        assert daemon.stop() == 0


def test_run_without_recorder_is_said_to_have_ended_without_a_report(tmp_path: Path) -> None:
    """With the recorder off nobody knows what was lost; `hookd report` says so before yesterday's good news."""
    off = {**SETTINGS, "recorder.directory": ""}
    with Daemon(tmp_path, settings=off) as daemon:
        assert daemon.stop() == 0
    with Daemon(tmp_path, settings=off) as daemon, daemon.api as api:
        run_id = api.status()["run_id"]
        assert hookd("report", "--reports", str(daemon.reports)).stderr == ""  # it runs
        daemon.kill()
    shown = hookd("report", "--reports", str(daemon.reports))
    assert f"RUN {run_id} ENDED WITHOUT A REPORT" in shown.stderr
    assert "Nothing was left undelivered." in shown.stdout
    assert left_behind(daemon) == [str(daemon.reports / f"run-{run_id}.open")]


def test_clean_stop_leaves_nothing(tmp_path: Path) -> None:
    """No segment, no folder, no marker: also after events were delivered."""
    with Receiver(200) as up, Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
        api.put_client("acme", {"url": up.url})
        assert len(left_behind(daemon)) > 2
        for n in range(20):
            assert api.post("acme", f"e{n}").status == 202
        wait_until(lambda: api.deliveries()["delivered"] == 20)
        assert daemon.stop() == 0
    assert left_behind(daemon) == []


@pytest.mark.parametrize("shared", ["reports", "recorder"])
def test_second_daemon_on_one_directory_exits_69(tmp_path: Path, shared: str) -> None:
    """Whichever of the two directories they share; the first goes on."""
    with Daemon(tmp_path / "first", settings=SETTINGS) as first, first.api as api:
        if shared == "reports":
            env = environment(SETTINGS, RUNTIME_DIRECTORY=str(runtime_directory(tmp_path)))
        else:
            env = environment(SETTINGS, RUNTIME_DIRECTORY=str(runtime_directory(first.reports)))
        reports = first.reports if shared == "reports" else tmp_path / "other"
        second = hookd("run", "--dev", "--bind", "127.0.0.1:0", "--reports", str(reports), env=env)
        assert second.returncode == 69
        assert "another daemon" in second.stderr
        assert {"reports": "stop it, or name another folder with --reports", "recorder": "stop it, or name another"}[
            shared
        ] in second.stderr
        assert api.status()["state"] == "running"
        assert first.stop() == 0


def test_directory_that_is_not_memory_is_refused_but_for_dev(tmp_path: Path) -> None:
    """A disk is no place for it: every record would cost a write there, and be there after a reboot."""
    disk = tmp_path / "disk"
    settings = {**SETTINGS, "recorder.directory": str(disk)}
    arguments = ["run", "--bind", "127.0.0.1:0", "--reports", str(tmp_path / "reports")]
    refused = hookd(*arguments, env=environment(settings))
    assert refused.returncode == 78
    assert "is not in memory (tmpfs)" in refused.stderr
    assert list(disk.iterdir()) == []
    with Daemon(tmp_path, settings=settings) as daemon:
        assert "is not in memory (tmpfs); taken under --dev only" in daemon.stderr
        assert daemon.stop() == 0


def test_auto_finds_the_shared_memory_file_system(tmp_path: Path) -> None:
    """Without $RUNTIME_DIRECTORY: a folder for this user and this report directory, and nothing of it afterwards."""
    before = set(Path("/dev/shm").iterdir())
    command = [sys.executable, "-m", "hookd", "run", "--bind", "127.0.0.1:0", "--reports", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=ROOT
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith(b"listening on ")
        mine = [path for path in Path("/dev/shm").iterdir() if path.name.startswith(f"hookd-{os.geteuid()}-")]
        assert any(path.stat().st_mode & 0o777 == 0o700 for path in mine if path not in before)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=20)
        assert daemon.returncode == 0
    assert {path.name for path in Path("/dev/shm").iterdir()} & {path.name for path in mine} <= {p.name for p in before}


def test_full_recorder_refuses_before_the_202(tmp_path: Path) -> None:
    """503 `full` names the recorder; what was answered 202 is in the crash report to the last one."""
    settings = {**SETTINGS, "recorder.bytes_max": "2MiB", "intake.client_events_max": 100_000}
    with Receiver(HANG) as hung, Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
        api.put_client("acme", {"url": hung.url})
        accepted = 0
        while True:
            body = b"[" + b",".join(event_body("acme", f"e{accepted + n}") for n in range(500)) + b"]"
            answer = api.ask("POST", "/v1/events/batch", body)
            if answer.status != 202:
                break
            accepted += 500
        assert (answer.status, answer.slug) == (503, "full")
        assert "flight recorder" in answer.json["detail"]
        assert answer.headers["retry-after"]
        assert api.status()["events"]["accepted"] == accepted > 500
        daemon.kill()
    with Daemon(tmp_path, settings=settings) as daemon:
        (path,) = daemon.reports.glob("crash-*.jsonl")
        assert len({line["event_id"] for line in read_report(path)[1]}) == accepted
        assert daemon.stop() == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here")
def test_no_payload_byte_reaches_a_file_before_the_report(tmp_path: Path) -> None:
    """A default run, every write of it traced, mapped files read as they stand: the payload goes to sockets alone."""
    secret = "S3cr3tP4yl04dM4rk"
    trace = tmp_path / "trace"

    def fail_first(received: Received) -> int:
        return 500 if received.number == 1 else 200

    with (
        Receiver(fail_first) as receiver,
        Receiver(HANG) as hung,
        Daemon(tmp_path, settings={"drain.timeout": "0s"}) as daemon,
    ):
        strace = ["strace", "-f", "-p", str(daemon.process.pid), "-o", str(trace), "-s", "100000", "-y", "-x"]
        tracer = subprocess.Popen(
            [*strace, "-e", "trace=write,writev,pwrite64,pwritev,sendto,sendmsg"], stderr=subprocess.PIPE
        )
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        if b"attached" not in attached:
            tracer.kill()
            tracer.communicate()
            pytest.skip(f"strace may not attach here: {attached.decode()}")
        with daemon.api as api:
            api.put_client("acme", {"id": "a", "url": receiver.url, "schedule": ["50ms"]}, {"id": "b", "url": hung.url})
            for n in range(20):
                assert api.post("acme", f"e{n}", json.dumps({"secret": secret}).encode()).status == 202
            wait_until(lambda: api.deliveries()["delivered"] == 20 and hung.hanging)
            for path in runtime_directory(daemon.reports).rglob("*"):
                assert path.is_dir() or secret.encode() not in path.read_bytes()
        assert daemon.stop() == 3
        tracer.communicate(timeout=30)
    writes = trace.read_text(errors="replace").splitlines()
    carrying = [line for line in writes if secret in line]
    assert any(re.search(r"(write|sendto|sendmsg)\(\d+<(TCP|socket)", line) for line in carrying), (
        "the trace saw nothing"
    )
    to_files = [line for line in carrying if re.search(r"\(\d+</", line)]
    assert all("/reports/.shutdown-" in line for line in to_files), [line[:200] for line in to_files]
    assert to_files
