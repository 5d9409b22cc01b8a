"""What a stop says when one of its channels is gone: another one has the summary, the exit code is true, it ends.

The channels are the report's file, stderr (the log, and the text for people) and the termination log. A file that
finds no room is written without payloads. Where it cannot be written at all the exit code is 1, the flight recorder
stays, and the next start makes the report of it.
"""

import json
import os
import resource
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    WITHOUT_RECORDER,
    Api,
    Books,
    Daemon,
    Receiver,
    at_once,
    hookd,
    mounted,
    read_report,
    redirected,
    refusing_url,
    report_texts,
    wait_until,
)
from tests.in_the_way import put_file_in_place_of

DRAIN_SECONDS = 0.5
# drain.timeout + 2 s is the promise; the rest is for the report, and for a machine that has other things to do.
STOP_SECONDS_MAX = DRAIN_SECONDS + 2 + 8
SETTINGS = {**NO_RETRY_SOON, "drain.timeout": f"{DRAIN_SECONDS:g}s", "delivery.timeout": "60s"}
EXIT_NO_REPORT, EXIT_UNDELIVERED = 1, 3
LARGE = b'"' + b"x" * 100_000 + b'"'
CLASSES = {"flying": "outcome_unknown", "failed": "attempted_failed", "waiting": "never_attempted"}


class Loaded:
    """A daemon with one undelivered event of each class, and the receivers that make it so."""

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, object] | None = None,
        payload: bytes = b'{"n": 1}',
        **more: Any,
    ) -> None:
        self.directory = directory
        self._payload = payload
        self.termination_log = directory / "termination-log"
        self.books = Books()
        self._settings = {**SETTINGS, "drain.termination_log": str(self.termination_log), **(settings or {})}
        self._more = more
        self._hung = Receiver(HANG)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            refusing = stack.enter_context(refusing_url())
            stack.enter_context(self._hung)
            self.daemon = stack.enter_context(Daemon(self.directory, settings=self._settings, **self._more))
            with self.daemon.api as api:
                api.put_client("hung", {"url": self._hung.url, "concurrency": 1})
                api.put_client("down", {"url": refusing})
                for client_id, event_id in (("hung", "flying"), ("hung", "waiting"), ("down", "failed")):
                    self.books.note(client_id, event_id, self._payload)
                    assert api.post(client_id, event_id, self._payload).status == 202
                wait_until(lambda: self._hung.hanging == 1 and api.deliveries()["failed"] == 1)
                self.run_id = api.status()["run_id"]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self, code: int = EXIT_UNDELIVERED) -> None:
        """In time, and with this exit code."""
        began = time.monotonic()
        assert self.daemon.stop(STOP_SECONDS_MAX + 10) == code, self.daemon.stderr
        assert time.monotonic() - began < STOP_SECONDS_MAX

    def check_report(self) -> None:
        """The file agrees with what was posted and received, and with the termination log."""
        checked = self.books.check(self.directory, self.daemon.report(), {("hung", "default"): self._hung})
        assert checked.returncode == 0, checked.stdout

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.daemon.stderr.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


def check_summary(text: str) -> None:
    assert "UNDELIVERED: 3 deliveries" in text
    assert "deliveries: 3 opened = 0 delivered + 0 exhausted + 3 undelivered" in text


# --- the report's file cannot be written ------------------------------------------------------------------------------


def fill(path: Path) -> None:
    with (path / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass


def free(path: Path) -> None:
    (path / "filler").unlink()


def remount(path: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", path], check=True, capture_output=True)


class Breakage(NamedTuple):
    """What befalls the report directory of a running daemon."""

    error: str
    befall: Callable[[Path], object]
    mend: Callable[[Path], object]
    is_mounted: bool = True


BREAKAGES = {
    "full": Breakage("No space left on device", fill, free),
    "read-only": Breakage("Read-only file system", lambda path: remount(path, "ro"), lambda path: remount(path, "rw")),
    "no directory": Breakage(
        "File exists", lambda path: put_file_in_place_of(path), lambda path: path.unlink(), is_mounted=False
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_report_that_has_no_place_is_said_and_made_by_the_next_start(tmp_path: Path, name: str) -> None:
    """Disk full, read-only or no directory at the stop: exit 1 in time; the summary, and that there is no file, is on
    stderr, in the log and in the termination log; the start after it names every undelivered event, and sends none."""
    breakage, reports = BREAKAGES[name], tmp_path / "reports"
    with mounted(reports) if breakage.is_mounted else nullcontext():
        with Loaded(tmp_path) as loaded:
            breakage.befall(reports)
            loaded.stop(EXIT_NO_REPORT)
        assert list(tmp_path.rglob("shutdown-*")) == []
        check_not_written(loaded, breakage.error)
        breakage.mend(reports)
        if breakage.is_mounted:  # else what says so is gone with the directory
            shown = hookd("report", "--reports", str(reports))
            assert f"RUN {loaded.run_id} ENDED WITHOUT A REPORT" in shown.stderr
        check_next_start(loaded)


def check_not_written(loaded: Loaded, error: str) -> None:
    stderr, last = report_texts(loaded.daemon.stderr), loaded.termination_log.read_text()
    (said,) = loaded.logged("report.not_written")
    assert error in said["error"]
    (summary,) = loaded.logged("report")
    assert summary["undelivered"] == dict.fromkeys(CLASSES.values(), 1)
    assert loaded.logged("report.written") == []
    assert last.startswith("THE REPORT COULD NOT BE WRITTEN: ")
    for text in (stderr, last):
        check_summary(text)
        assert error in text
        assert ("the flight recorder is off" if WITHOUT_RECORDER else "start hookd again on this host") in text
    assert all(len(line) <= 100 for line in last.splitlines() if "/" not in line)  # paths are never cut


def check_next_start(loaded: Loaded) -> None:
    with Daemon(loaded.directory, settings=SETTINGS) as after, after.api as api:
        found = list(after.reports.glob("crash-*.jsonl"))
        assert len(found) == (not WITHOUT_RECORDER)
        for path in found:
            summary, lines = read_report(path)
            assert {line["event_id"]: line["class"] for line in lines} == CLASSES
            assert (summary["run_id"], summary["balanced"]) == (loaded.run_id, True)
            # The log has a thread of its own: it may be behind the line on stdout and the report's file.
            wait_until(lambda: '"event":"report.written"' in after.stderr, what="the crash report in the log")
            check_summary(report_texts(after.stderr))
        assert api.status()["events"]["accepted"] == 0
        assert after.stop() == 0


def test_report_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """By a cleaner, while it ran: the report is whole, its directory is for its owner alone, the exit code is 3."""
    with Loaded(tmp_path) as loaded:
        shutil.rmtree(loaded.daemon.reports)
        loaded.stop()
        loaded.check_report()
    assert stat.S_IMODE(loaded.daemon.reports.stat().st_mode) == 0o700
    assert loaded.logged("report.not_written") == []


def test_claim_that_everybody_may_write_is_refused_and_a_folder_in_it_is_made(tmp_path: Path) -> None:
    """As Kubernetes mounts one: 78 with the command that helps; the folder is for its owner alone, and has the report.
    Opened to the group afterwards, as fsGroup does at each mount, it is refused until that is taken back."""
    claim = tmp_path / "claim"
    claim.mkdir()
    claim.chmod(0o2777)
    start = ("run", "--bind", "127.0.0.1:0", "--reports")
    refused = hookd(*start, str(claim))
    assert (refused.returncode, refused.stdout) == (78, "")
    assert f"drain.report_directory cannot be used: {claim} can be written by others (mode 2777)" in refused.stderr
    assert f"chmod go-w {claim}, or name a folder in it ({claim}/hookd)" in refused.stderr
    with Loaded(claim) as loaded:
        loaded.stop()
    reports = loaded.daemon.reports
    assert (reports.parent, stat.S_IMODE(reports.stat().st_mode) & 0o777) == (claim, 0o700)
    reports.chmod(0o2770)
    refused = hookd(*start, str(reports))
    assert (refused.returncode, f"chmod go-w {reports}" in refused.stderr) == (78, True)
    reports.chmod(0o2700)
    settings = {**SETTINGS, "recovery.enabled": True}
    with Daemon(claim, settings=settings) as after, after.api as api:
        assert api.status()["events"]["recovered"] == len(CLASSES)


@pytest.mark.parametrize("recorder", ["", "auto"])
def test_report_without_room_for_payloads_lists_the_ids_and_says_so(tmp_path: Path, recorder: str) -> None:
    """A file may have 64 KiB, and a payload alone has more: exit 3 with a list that `hookd resend` cannot send."""
    settings = {"recorder.directory": recorder}
    with Loaded(tmp_path, payload=LARGE, settings=settings) as loaded:
        resource.prlimit(loaded.daemon.process.pid, resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
        loaded.stop()
    check_without_payloads(loaded, "File too large")
    resent = resend_to_another(tmp_path, loaded.daemon.report())
    assert (resent.returncode, "no-payload: 3" in resent.stdout) == (EXIT_UNDELIVERED, True)
    tried = hookd("resend", str(loaded.daemon.report()), "--dry-run")
    assert (tried.returncode, tried.stdout) == (EXIT_UNDELIVERED, "would be sent: 0\n")
    assert "3 no-payload: the report holds no payload of them" in tried.stderr


def test_report_on_a_disk_without_room_for_payloads_lists_the_ids(tmp_path: Path) -> None:
    """The same where the disk has 64 KiB left."""
    with mounted(tmp_path / "reports", size="128k"), Loaded(tmp_path, payload=LARGE) as loaded:
        (tmp_path / "reports" / "filler").write_bytes(bytes(64 * 1024))
        loaded.stop()
        check_without_payloads(loaded, "No space left on device")


def check_without_payloads(loaded: Loaded, error: str) -> None:
    summary, lines = read_report(loaded.daemon.report())
    assert (summary["payloads"], summary["balanced"]) == (False, True)
    assert {line["event_id"]: line["class"] for line in lines} == CLASSES
    assert not [line for line in lines if "payload" in line or "payload_base64" in line]
    [said] = loaded.logged("report.without_payloads")
    assert error in said["error"]
    assert len(loaded.logged("report.written")) == 1
    assert not list(loaded.daemon.reports.glob("run-*.open"))
    text, last = report_texts(loaded.daemon.stderr), loaded.termination_log.read_text()
    assert text.endswith(last)
    assert last.startswith("THE REPORT HAS NO PAYLOADS: ")
    check_summary(last)
    assert "post these events again from your own records" in last
    assert "hookd resend" not in last


def resend_to_another(directory: Path, report: Path) -> subprocess.CompletedProcess[str]:
    with Receiver(200) as receiver, Daemon(directory / "other") as other, other.api as api:
        for client_id in ("hung", "down"):
            api.put_client(client_id, {"url": receiver.url})
        return hookd("resend", str(report), "--url", other.url)


def test_recorder_with_payloads_is_kept_rather_than_a_report_without(tmp_path: Path) -> None:
    """There is no second try: what the recorder has is more. Exit 1; the next start's report has the payloads."""
    settings = {"recorder.payloads": True, "recorder.directory": "auto"}
    with Loaded(tmp_path, payload=LARGE, settings=settings) as loaded:
        resource.prlimit(loaded.daemon.process.pid, resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))
        loaded.stop(EXIT_NO_REPORT)
    assert loaded.logged("report.without_payloads") == []
    assert list(loaded.daemon.reports.glob("*.jsonl")) == []
    with Daemon(tmp_path, settings={**SETTINGS, **settings}) as after:
        [path] = after.reports.glob("crash-*.jsonl")
        assert {
            line["event_id"]: json.dumps(line["payload"]).encode() for line in read_report(path)[1]
        } == dict.fromkeys(CLASSES, LARGE)
        assert after.stop() == 0


def test_all_channels_gone_at_once_still_end_in_time(tmp_path: Path) -> None:
    """The report's disk is full, stderr's too, and so is the termination log's: exit 1, and the recorder remains."""
    reports = tmp_path / "reports"
    with mounted(reports):
        full = os.open("/dev/full", os.O_WRONLY)
        with Loaded(tmp_path, settings={"drain.termination_log": "/dev/full"}, stderr=full) as loaded:
            os.close(full)
            fill(reports)
            loaded.stop(EXIT_NO_REPORT)
        free(reports)
        check_next_start(loaded)


# --- stderr, stdout, the termination log ------------------------------------------------------------------------------


@contextmanager
def full_pipe() -> Iterator[int]:
    """Nobody reads it, and there is no room from the first byte on."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        try:
            while os.write(writing, bytes(4096)):
                pass
        except BlockingIOError:
            os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def broken_pipe() -> Iterator[int]:
    """Its reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_stderr_that_takes_nothing_costs_neither_start_nor_report_nor_exit_code(tmp_path: Path) -> None:
    """Closed, full or broken from the start: the file is complete, and the termination log has the summary."""
    cases: dict[str, Any] = {
        "closed": {"through": redirected("2>&-")},
        "all closed but stdout": {"through": redirected("<&- 2>&-")},
        "/dev/full": {"through": redirected("2>/dev/full")},
        "full pipe": full_pipe(),
        "broken pipe": broken_pipe(),
    }

    def show(name: str, case: Any) -> None:
        directory = tmp_path / name.replace("/", "-")
        directory.mkdir()
        with nullcontext() if isinstance(case, dict) else case as stderr:
            more = case if isinstance(case, dict) else {"stderr": stderr}
            with Loaded(directory, **more) as loaded:
                loaded.stop()
                loaded.check_report()
            check_summary(loaded.termination_log.read_text())

    at_once(cases, show)


def test_log_on_a_full_disk_costs_nothing_and_goes_on_where_there_is_room_again(tmp_path: Path) -> None:
    """The lines that found no room are counted and said; the stop's own are there."""
    disk = tmp_path / "log-disk"
    with mounted(disk):
        fd = os.open(disk / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with Loaded(tmp_path, stderr=fd) as loaded:
            os.close(fd)
            fill(disk)
            with loaded.daemon.api as api:
                wait_until(lambda: api.post("nobody", "refused").status == 404 and dropped(api), what="lines dropped")
            free(disk)
            loaded.stop()
            loaded.check_report()
        check_summary(report_texts(text := (disk / "log").read_text()))
        assert '"event":"log.dropped"' in text
        assert '"event":"report.written"' in text


def dropped(api: Api) -> bool:
    """Whether any line of the log was, as its counter says."""
    samples = (line.split() for line in api.ask("GET", "/metrics").content.decode().splitlines())
    return any(sample[0] == "hookd_log_lines_dropped_total" and float(sample[1]) > 0 for sample in samples)


class Unheard(Daemon):
    """Whose stdout tells nobody where it listens: the log does."""

    def first_line(self) -> str:
        def url() -> str | None:
            lines = (json.loads(line) for line in self.stderr.splitlines() if line.startswith("{"))
            return next((line["urls"][0] for line in lines if line["event"] == "daemon.started"), None)

        return f"listening on {wait_until(url, seconds=20, what='daemon.started in the log')}"


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_stdout_that_takes_nothing_is_said_in_the_log_and_costs_nothing(tmp_path: Path, redirection: str) -> None:
    """The address is in the log as well; start, report and exit code are as ever."""
    with Receiver(HANG) as hung, Unheard(tmp_path, settings=SETTINGS, through=redirected(redirection)) as daemon:
        with daemon.api as api:
            api.put_client("hung", {"url": hung.url})
            assert api.post("hung", "flying").status == 202
            wait_until(lambda: hung.hanging)
        assert daemon.stop(STOP_SECONDS_MAX + 10) == EXIT_UNDELIVERED
        assert [line["event_id"] for line in read_report(daemon.report())[1]] == ["flying"]
    assert ("stdout.not_written" in daemon.stderr) == (redirection == ">/dev/full")


def test_start_and_stop_with_both_streams_blocked(tmp_path: Path) -> None:
    """One pipe for both that nobody reads: it starts, and its stop has a report and the exit code."""
    with full_pipe() as pipe:
        daemon = Daemon(tmp_path, settings=SETTINGS, stderr=pipe, through=redirected(">&2"))
        try:
            wait_until(lambda: list(daemon.reports.glob("run-*.open")), seconds=20, what="a run")
            assert daemon.stop(STOP_SECONDS_MAX + 10) == 0
            assert read_report(daemon.report())[0]["balanced"] is True
        finally:
            daemon.__exit__(None, None, None)


def test_termination_log_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """No such directory, a directory, a full device, a pipe that nobody opens: said in the log, no more."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    paths = {
        "missing": tmp_path / "no" / "such" / "log",
        "directory": tmp_path / "directory",
        "full": Path("/dev/full"),
        "fifo": tmp_path / "fifo",
    }

    def show(name: str, path: Path) -> None:
        directory = tmp_path / f"run-{name}"
        with Loaded(directory, settings={"drain.termination_log": str(path)}) as loaded:
            loaded.stop()
            loaded.check_report()
        check_summary(report_texts(loaded.daemon.stderr))
        assert loaded.logged("termination_log.not_written")
        assert loaded.logged("report.written")

    at_once(paths, show)
