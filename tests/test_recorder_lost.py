"""The recorder's files are taken away under a running daemon: it says so everywhere, once, and goes on."""

import shutil
import tempfile
from collections.abc import Iterator

import httpx
import pytest
from hookd.core.run import Run
from hookd.core.settings import DEFAULTS
from hookd.core.sizing import recorder_layout
from hookd.edge.recorder_files import Place, RecorderDirectory
from hookd.process.exit_codes import ExitCode

from tests.supervised import Daemon, _start, make_settings, until  # noqa: F401 - a fixture

RUN = Run("run1", "0", "host", 1, 1.8e9)


@pytest.fixture(name="folder")
def _folder() -> Iterator[RecorderDirectory]:
    directory = tempfile.mkdtemp(prefix="hookd-tests-", dir="/dev/shm")
    folder = RecorderDirectory(Place(directory, "own"))
    yield folder
    folder.close()
    shutil.rmtree(directory)


async def text_of(daemon: Daemon, path: str) -> str:
    async with httpx.AsyncClient(base_url=daemon.urls[0]) as http:
        return (await http.get(path)).text


async def test_daemon_goes_on_without_the_recorder_that_somebody_removed(start, folder):
    """Log, metric, readyz, status and report say it; events are admitted, delivered and reported as ever."""
    recorder = folder.recorder(RUN, recorder_layout(DEFAULTS), payloads=False)
    daemon = await start(recorder=recorder)
    assert (await daemon.get("/v1/status"))["recorder"] == "on"
    assert (await daemon.post(id="before")).status_code == 202
    shutil.rmtree(str(folder.where))
    await until(lambda: bool(daemon.log.of("recorder.failed")))
    daemon.sender.hangs = True
    for number in range(3):
        assert (await daemon.post(id=f"after{number}")).status_code == 202
    await until(lambda: len(daemon.sender.sent) > 1)
    assert (await daemon.get("/v1/status"))["recorder"] == "failed"
    readiness = await text_of(daemon, "/readyz?verbose")
    assert "[-]recorder failed: FileNotFoundError: [Errno 2] the recorder's folder was removed" in readiness
    assert readiness.endswith("readyz check passed\n")
    assert "hookd_recorder_failed 1.0\n" in await text_of(daemon, "/metrics")
    assert 'hookd_port_failures_total{port="recorder"} 1.0\n' in await text_of(daemon, "/metrics")
    assert await daemon.stop() is ExitCode.UNDELIVERED
    summary, *lines = daemon.report()
    assert (summary["balanced"], summary["events"]["accepted"], len(lines)) == (True, 4, 3)
    assert summary["recorder_failure"].startswith("FileNotFoundError: ")
    assert "The flight recorder failed, and the run went on without it: FileNotFoundError" in daemon.log.texts[0]
    assert len(daemon.log.of("recorder.failed")) == 1
    assert not daemon.log.of("run.not_closed")
    assert not list(daemon.directory.glob("run-*.open"))


async def test_report_that_cannot_be_written_does_not_count_on_a_recorder_that_failed(start, folder):
    """Whoever is woken must not look for a crash report that the next start cannot make."""
    daemon = await start(recorder=folder.recorder(RUN, recorder_layout(DEFAULTS), payloads=False))
    daemon.sender.hangs = True
    await daemon.post(id="e1")
    shutil.rmtree(str(folder.where))
    await until(lambda: bool(daemon.log.of("recorder.failed")))
    shutil.rmtree(daemon.directory)
    daemon.directory.write_text("in the way")
    await daemon.stop()
    assert daemon.log.of("report.not_written")
    assert "the flight recorder is off" in daemon.log.texts[-1]
