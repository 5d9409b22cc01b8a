"""Somebody takes the recorder's name before the daemon has it, or its files while it runs: neither ends anything."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    WITHOUT_RECORDER,
    Daemon,
    Receiver,
    read_report,
    runtime_directory,
    wait_until,
)

pytestmark = pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")

SETTINGS = {**NO_RETRY_SOON, "delivery.timeout": "30s", "drain.timeout": "0s"}


def lines(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in daemon.stderr.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def in_the_way(folder: Path, kind: str) -> None:
    if kind == "a file":
        folder.write_text("theirs")
        return
    folder.mkdir(mode=0o700)
    (folder / "r1-0.segment").write_text("theirs")
    if kind == "open to others":
        folder.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    else:
        pytest.skip("only root can give a folder away")


@pytest.mark.parametrize("kind", ["a file", "open to others", "belongs to user 12345"])
def test_name_that_somebody_else_has_costs_neither_the_start_nor_the_list(tmp_path: Path, kind: str) -> None:
    """Another name is taken, and said; after a kill the next start finds the recording under it."""
    folder = runtime_directory(tmp_path / "reports") / "hookd-recorder"
    in_the_way(folder, kind)
    with Receiver(HANG) as receiver:
        with Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
            (said,) = lines(daemon, "recorder.passed_over")
            assert said["level"] == "warning"
            assert (said["count"], said["passed_over"][0].partition(":")[0]) == (1, str(folder))
            assert Path(said["folder"]).parent == folder.parent
            api.put_client("acme", {"url": receiver.url})
            assert api.post("acme", "lost").status == 202
            run_id = api.status()["run_id"]
            daemon.kill()
        with Daemon(tmp_path, settings=SETTINGS) as daemon:
            (path,) = daemon.reports.glob(f"crash-*-{run_id}.jsonl")
            summary, (line,) = read_report(path)
            assert (summary["balanced"], line["event_id"]) == (True, "lost")
            assert daemon.stop() == 0
    assert [path.name for path in folder.parent.iterdir()] == ["hookd-recorder"]
    if kind == "a file":
        assert folder.read_text() == "theirs"
    else:
        assert [path.name for path in folder.iterdir()] == ["r1-0.segment"]


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_files_taken_from_a_running_daemon_cost_the_recorder_alone(tmp_path: Path, how: str) -> None:
    """What is posted is admitted and delivered; readyz, log and report say that nothing is recorded."""
    folder = runtime_directory(tmp_path / "reports") / "hookd-recorder"
    with Receiver(200) as receiver, Receiver(HANG) as hung, Daemon(tmp_path, settings=SETTINGS) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            api.put_client("slow", {"url": hung.url})
            if how == "removed":
                shutil.rmtree(folder)
            else:
                os.truncate(next(folder.glob("*.segment")), 0)
            ready = wait_until(lambda: failed_readiness(daemon), what="the recorder's failure")
            assert "readyz check passed" in ready
            for number in range(20):
                assert api.post("acme", f"e{number}").status == 202
            assert api.post("slow", "owed").status == 202
            wait_until(lambda: api.status()["events"]["delivered"] == 20)
            assert api.status()["recorder"] == "failed"
            assert len(lines(daemon, "recorder.failed")) == 1
        assert daemon.stop() == 3
        summary, (line,) = read_report(daemon.report())
        assert (summary["balanced"], summary["events"]["accepted"], line["event_id"]) == (True, 21, "owed")
        assert summary["recorder_failure"]
    assert not list(folder.parent.iterdir())


def failed_readiness(daemon: Daemon) -> str | None:
    with daemon.api as api:
        text = api.ask("GET", "/readyz?verbose").content.decode()
    return text if "[-]recorder failed: " in text else None


def test_kill_after_the_recorder_failed_is_said_to_have_left_no_report(tmp_path: Path) -> None:
    """Its folder is gone: there is nothing to make a list of, and the next start says so."""
    with Receiver(HANG) as receiver, Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        shutil.rmtree(runtime_directory(daemon.reports) / "hookd-recorder")
        wait_until(lambda: failed_readiness(daemon), what="the recorder's failure")
        assert api.post("acme", "lost").status == 202
        run_id = api.status()["run_id"]
        daemon.kill()
    with Daemon(tmp_path, settings=SETTINGS) as daemon:
        (said,) = lines(daemon, "run.ended_without_report")
        assert said["run_id"] == run_id
        assert not list(daemon.reports.glob("crash-*"))
        assert daemon.stop() == 0
