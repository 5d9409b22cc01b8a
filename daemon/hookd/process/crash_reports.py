"""Owns what a start does about the runs before it: a run that ended without a report gets one (contract section 7).

Rules: it is done under the locks of the report and recorder directories, before anything of this run is recorded or
accepted. What a run recorded becomes a crash report, unless the run has a complete report. Either way the recording is
removed, once the report is on disk. Where the report cannot be written, the recording stays for the next start.

Does not: send anything again; flow/recovery.py does, or whoever is told to.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from hookd.core import crash, report_text
from hookd.core.bind import URL_DEFAULT
from hookd.core.record import Counts, Header
from hookd.core.report import Line, Summary
from hookd.core.run_history import PastRun
from hookd.core.timestamps import parse_rfc3339
from hookd.edge.recorder_files import Found
from hookd.edge.reports import Marker
from hookd.process.outside import LogWriter


class Recordings(Protocol):
    """Where runs record."""

    def left_behind(self) -> Sequence[Found]: ...

    def remove(self, run_id: str) -> None: ...


class Reports(Protocol):
    def open_runs(self) -> Sequence[Marker]: ...

    def of_run(self, run_id: str) -> object | None: ...

    def path_of(self, summary: Summary) -> object: ...

    def write(self, summary: Summary, lines: Iterable[Line]) -> str: ...

    def close_run(self, run_id: str) -> None: ...

    def past_runs(self) -> Sequence[PastRun]: ...


class Crashed(NamedTuple):
    """A run that ended without a report, and the one it has now."""

    summary: Summary
    path: str


def write_crash_reports(
    recordings: Recordings | None,
    reports: Reports,
    log: LogWriter,
    *,
    recovery: bool = False,
    url: str = URL_DEFAULT,
) -> list[Crashed]:
    """Makes the crash reports that are missing, oldest run first. `url` is where the run that begins will be."""
    crashed = []
    markers = {marker.run_id: marker for marker in reports.open_runs()}
    for found in recordings.left_behind() if recordings is not None else ():
        assert recordings is not None
        run_id = found.recording.run_id
        marker = markers.pop(run_id, None)
        if reports.of_run(run_id) is None:
            made = _report(found, marker, reports, log, recovery=recovery, url=url)
            if made is None:
                continue
            crashed.append(made)
        recordings.remove(run_id)
        reports.close_run(run_id)
    reported_at = max((run.started_at for run in reports.past_runs() if run.undelivered is not None), default=0.0)
    for marker in markers.values():
        if reports.of_run(marker.run_id) is not None:
            reports.close_run(marker.run_id)
            continue
        if parse_rfc3339(marker.started_at) < reported_at:
            continue  # that was said at an earlier start
        log(
            "run.ended_without_report",
            level="error",
            run_id=marker.run_id,
            last_heard_of=marker.at,
            counts=marker.counts,
        )
    return crashed


def _report(
    found: Found, marker: Marker | None, reports: Reports, log: LogWriter, *, recovery: bool, url: str
) -> Crashed | None:
    recording = found.recording
    heard_at = parse_rfc3339(marker.at) if marker is not None else 0.0
    identity = recording.header or _identity(found, marker)
    heard_at = heard_at or recording.last_wall or identity.started_at
    summary = crash.summarise(recording, identity, heard_at=heard_at, recovery=recovery)
    path = str(reports.path_of(summary))
    log(
        "crash.found",
        level="error",
        run_id=summary.run_id,
        last_heard_of=summary.stopped_at,
        events=summary.events,
        undelivered=summary.undelivered,
        recorder=summary.recorder,
        balanced=summary.balanced,
    )
    log.text(report_text.text(summary, path=path, url=url))
    try:
        reports.write(summary, crash.lines(recording))
    except OSError as error:
        log("report.not_written", level="error", path=path, error=f"{type(error).__name__}: {error}")
        return None
    log("report.written", path=path)
    return Crashed(summary, path)


def _identity(found: Found, marker: Marker | None) -> Header:
    """Of a recording whose headers cannot be read, as far as it is known at all."""
    if marker is None:
        return Header(0, found.recording.run_id, 0, "unknown", "unknown", 0, found.written_at, False, 0, Counts())
    started_at = parse_rfc3339(marker.started_at)
    return Header(0, marker.run_id, 0, marker.version, marker.host, marker.pid, started_at, False, 0, Counts())
