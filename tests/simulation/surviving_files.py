"""What outlives a killed daemon: the recorder's segments, in memory, and the report directory, a real one.

The directory is the daemon's own `Reports` over a folder of its own; segments stand under the daemon's own recorder.
Each step on either may be the process's last (`Blow`): then nothing of it happens any more, and a record that was being
written is damaged. What is left is what the next run finds.
"""

import errno
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hookd.core.record import FORMAT, Counts, Header
from hookd.core.recorder import SEGMENTS_MIN, SegmentRecorder, Store
from hookd.core.recording import Recording
from hookd.core.report import Line, Summary
from hookd.core.run import Run
from hookd.core.segment_layout import SegmentLayout
from hookd.edge.recorder_files import Found
from hookd.edge.reports import ReportDirectory

SHARED_MEMORY = Path("/dev/shm")
# What may become of the record that is being written; "whole": killed right behind it, "not": right before.
DAMAGES = ("whole", "not", "prefix", "suffix", "hole", "flipped")


class Killed(BaseException):
    """The process ends here: nothing of ours may catch it."""


@dataclass
class Blow:
    """The step that is the last; `strike` ends the process."""

    steps_before: int
    damage: str
    draw: Random
    strike: Callable[[], None]

    def falls(self) -> bool:
        self.steps_before -= 1
        return self.steps_before < 0


class MemoryFolder:
    """`hookd.edge.recorder_files.Folder` without files."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.blow: Blow | None = None
        self.runs: dict[str, Recorded] = {}
        self._wall = wall

    def falls(self) -> Blow | None:
        """The blow, if it falls with this step."""
        if self.blow is None or not self.blow.falls():
            return None
        blow, self.blow = self.blow, None
        return blow

    def left_behind(self) -> list[Found]:
        found = []
        for run_id, recorded in sorted(self.runs.items()):
            recording = Recording(run_id)
            recording.take_segments(
                (number, bytes(data).ljust(recorded.bytes_of(number), b"\0"))
                for number, data in sorted(recorded.segments.items())
            )
            found.append(Found(recording, recorded.written_at))
        return sorted(found, key=lambda one: (one.written_at, one.recording.run_id))

    def remove(self, run_id: str) -> None:
        segments = self.runs[run_id].segments if run_id in self.runs else {}
        for number in sorted(segments):
            blow = self.falls()
            if blow is not None:
                blow.strike()
            del segments[number]
        self.runs.pop(run_id, None)

    def recorder(
        self, run: Run, plan: SegmentLayout, *, payloads: bool, segments_max: int, wrap: Callable[[Store], Store]
    ) -> tuple[SegmentRecorder, "Segments"]:
        """`segments_max` is what its file system has room for. Through `wrap` the recorder has its store."""
        identity = Header(
            FORMAT,
            run.run_id,
            0,
            run.version,
            run.host,
            run.pid,
            run.started_at,
            payloads,
            plan.segment_bytes,
            Counts(),
        )
        segments = Segments(self, run.run_id, plan.segment_bytes, max(SEGMENTS_MIN, segments_max), self._wall)
        return SegmentRecorder(wrap(segments), plan, identity), segments


@dataclass
class Recorded:
    """One run's segments, each as far as it is written: the rest is zeros."""

    segment_bytes: int
    segments: dict[int, bytearray] = field(default_factory=dict)
    written_at: float = 0.0
    is_broken_off: bool = False

    def bytes_of(self, number: int) -> int:
        """The newest is longer than its header says where its recorder has failed."""
        return self.segment_bytes + (self.is_broken_off and number == max(self.segments))


class Segments(Store):
    def __init__(
        self, folder: MemoryFolder, run_id: str, segment_bytes: int, segments_max: int, wall: Callable[[], float]
    ) -> None:
        self.is_dead = self.is_torn = False
        self.dropped = 0
        self.refused = 0  # allocations
        self._folder = folder
        self._run_id = run_id
        self._recorded = folder.runs[run_id] = Recorded(segment_bytes)
        self._segments_max = segments_max
        self._allocated = 0
        self._newest = bytearray()
        self._wall = wall

    def allocate(self) -> bool:
        has_room = self._allocated < self._segments_max
        self._allocated += has_room
        self.refused += not has_room
        return has_room

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        """A segment has its name once its header stands."""
        if self._dies():
            return self._append
        assert number not in self._recorded.segments
        assert len(header) <= self._recorded.segment_bytes
        self._newest = self._recorded.segments[number] = bytearray(header)
        self._recorded.written_at = self._wall()
        return self._append

    def _append(self, record: bytes) -> None:
        if self.is_dead:
            return
        assert len(self._newest) + len(record) <= self._recorded.segment_bytes
        blow = self._folder.falls()
        stands = record if blow is None else damaged(record, blow.damage, blow.draw)
        self._newest += stands
        self.is_torn = stands not in (b"", record)
        if blow is not None:
            self.is_dead = True
            blow.strike()

    def drop(self, number: int, *, keep: bool) -> None:
        if self._dies():
            return
        del self._recorded.segments[number]
        self.dropped += 1
        self._allocated -= not keep

    def break_off(self) -> None:
        if not self._dies():
            self._recorded.is_broken_off = True

    @property
    def is_broken_off(self) -> bool:
        return self._recorded.is_broken_off

    def discard(self) -> None:
        if not self._dies():
            del self._folder.runs[self._run_id]
            self.is_dead = True

    def _dies(self) -> bool:
        """In front of this step."""
        blow = None if self.is_dead else self._folder.falls()
        if blow is not None:
            self.is_dead = True
            blow.strike()
        return self.is_dead


def damaged(record: bytes, damage: str, draw: Random) -> bytes:
    """What stands of a record whose writer was killed: copies need not go from the front to the back."""
    first = draw.randrange(len(record))
    match damage:
        case "whole":
            return record
        case "not":
            return b""
        case "prefix":
            return record[:first]
        case "suffix":
            return bytes(first) + record[first:]
        case "hole":
            last = draw.randint(first, len(record))
            return record[:first] + bytes(last - first) + record[last:]
    return record[:first] + bytes([record[first] ^ (1 << draw.randrange(8))]) + record[first + 1 :]


def make_directory() -> Path:
    """In memory where there is a place for that: a real folder, for the reports of all runs."""
    return Path(tempfile.mkdtemp(prefix="hookd-simulation-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))


class Directory(ReportDirectory):
    """As one process sees it: what it knows of it besides ends with it."""

    def __init__(self, where: Path, is_full: Callable[[], bool]) -> None:
        super().__init__(str(where))
        self.where = where
        self.refused = 0  # reports for which there was no room
        self.claimed: dict[str, str] = {}  # the report's name and the run: claims go with their reports
        self._is_full = is_full
        self.blow: Blow | None = None

    def write(self, summary: Summary, lines: Iterable[Line]) -> str:
        if self._is_full():
            self.refused += 1
            raise OSError(errno.ENOSPC, "no space left")
        if self.blow is not None and self.blow.falls():
            path = self.path_of(summary)
            path.with_name(f".{path.name}.tmp").write_bytes(b'{"kind": "summ')  # of a process that was killed
            self.blow.strike()
        return super().write(summary, lines)

    def claim(self, path: str, run_id: str) -> bool:
        is_first = super().claim(path, run_id)
        self.claimed[Path(path).name] = run_id
        return is_first

    def complete(self) -> dict[str, bytes]:
        """All reports, by their names."""
        return {path.name: path.read_bytes() for path in sorted(self.where.glob("*.jsonl"))}

    def claims(self) -> dict[str, str]:
        """Of the report with this name, by which run."""
        found = (path.name.partition(".claimed-by-") for path in self.where.glob("*.claimed-by-*"))
        return {name: run_id for name, _, run_id in found}

    def markers(self) -> set[str]:
        """Of the runs that have no report."""
        return {path.stem.removeprefix("run-") for path in self.where.glob("run-*.open")}
