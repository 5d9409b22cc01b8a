"""Bugs and want of memory, wherever they strike: what is contained, and what ends the daemon with an account."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hookd.core.client import Client, Endpoint
from hookd.core.outcome import Exchange, Outcome
from hookd.core.report import Line, Summary
from hookd.edge.reports import ReportDirectory
from hookd.flow.final_report import REPORT_SECONDS_MAX
from hookd.flow.ports import DeliveryRequest
from hookd.process.exit_codes import ExitCode

from tests.supervised import SECRET, NotedDiscard, ScriptedSender, _start, make_settings, until  # noqa: F401 - a fixture


class BrokenReports(ReportDirectory):
    """A directory that is well; what is asked of it ends in `error` at the named method."""

    def __init__(self, directory: Path, method: str, error: Exception) -> None:
        super().__init__(str(directory))
        self._method, self._error = method, error

    def path_of(self, summary: Summary) -> Path:
        self._fail("path_of")
        return super().path_of(summary)

    def write(self, summary: Summary, lines: Iterable[Line]) -> str:
        self._fail("write")
        return super().write(summary, lines)

    def _fail(self, method: str) -> None:
        if method == self._method:
            raise self._error


@pytest.mark.parametrize("error", [MemoryError(), AssertionError("a bug of ours")])
@pytest.mark.parametrize("method", ["write", "path_of"])
async def test_crash_of_the_reporter_ends_in_exit_1_and_keeps_the_recorder(start, tmp_path, method, error):
    """The summary is in the log by then; that there is no file is said, with the traceback; the recorder stays."""
    recorder = NotedDiscard()
    daemon = await start(reports=BrokenReports(tmp_path, method, error), recorder=recorder)
    await daemon.hang(id="e1")
    assert await daemon.stop() is ExitCode.BUG
    assert daemon.log.of("report")[0]["deliveries"].undelivered == 1
    assert type(error).__name__ in daemon.log.of("report.crashed")[0]["traceback"]
    assert f"THE REPORT COULD NOT BE WRITTEN: {type(error).__name__}" in daemon.log.texts[-1]
    assert ("UNDELIVERED: 1" in daemon.log.texts[0]) == (method == "write")
    assert recorder.discards == 0
    assert list(tmp_path.glob("run-*.open"))


async def test_file_system_that_hangs_at_the_report_holds_the_exit_for_its_time_and_no_longer(start, mock_clock):
    """Half a minute; then the summary stands, the recorder stays, and the exit code says that no report stands."""
    reached = trio.Event()

    async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
        if work.__name__ == "write":
            reached.set()
            await trio.sleep_forever()
        return work(*args)

    recorder = NotedDiscard()
    daemon = await start(recorder=recorder, in_thread=in_thread)
    await daemon.hang(id="e1")
    daemon.signal("SIGTERM")
    await until(lambda: bool(daemon.log.of("drain.started")))
    mock_clock.jump(0.5)
    await reached.wait()
    assert "UNDELIVERED: 1" in daemon.log.texts[0]
    mock_clock.jump(REPORT_SECONDS_MAX)
    assert await daemon.end() is ExitCode.BUG
    assert "the file system gave no answer within 30 s" in daemon.log.texts[1]
    assert recorder.discards == 0


class FailingSender(ScriptedSender):
    """Has no memory for one endpoint."""

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        if "poison" in request.url:
            self.sent.append(request)
            raise MemoryError
        return await super().send(request, exchange)


async def test_want_of_memory_in_one_clients_attempt_is_that_attempts_failure(start):
    """Another client's event goes out, the daemon runs on, and the stop lists what is left."""
    clients = [
        Client(id=name, endpoints=(Endpoint(id="default", url=url, secret=SECRET),), managed_by_config=True)
        for name, url in (("acme", "http://127.0.0.1:1/"), ("poison", "http://127.0.0.1:1/poison"))
    ]
    daemon = await start(
        settings=msgspec.structs.replace(make_settings(), clients=tuple(clients)), sender=FailingSender()
    )
    assert (await daemon.post(id="e1", client_id="poison")).status_code == 202
    await until(lambda: bool(daemon.log.of("attempt.crashed")))
    assert (await daemon.post(id="e2")).status_code == 202
    await until(lambda: len(daemon.sender.sent) == 2)
    assert await daemon.stop() is ExitCode.UNDELIVERED
    summary, line = daemon.report()
    assert summary["events"]["delivered"] == 1
    assert (line["event_id"], line["last_outcome"]["outcome"]) == ("e1", "invalid")


def test_report_is_written_where_the_system_gives_no_thread():
    """Threads that are too large for this machine: the work is done all the same, once, and its own errors are its."""
    script = """
import threading, trio
from hookd.process.outside import in_own_thread
threading.stack_size(1 << 46)
done = []
trio.run(in_own_thread, done.append, 1)
assert done == [1], done
def fail():
    done.append(2)
    raise RuntimeError("its own")
try:
    trio.run(in_own_thread, fail)
except RuntimeError as error:
    assert str(error) == "its own", error
assert done == [1, 2], done
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("no thread\n", "")
