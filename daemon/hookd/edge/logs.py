"""Owns the log: one line for each thing that happened. How a line looks is core/log_line's.

Rules: logging never blocks and never raises: who logs is in the middle of something. Lines go into a bounded buffer;
one writer thread writes them, so that a full stderr pipe stops no delivery. What does not fit, cannot be made a line,
or could not be written (a full disk) is counted, and the count is logged once there is room. Whose lines have how much
of the room is log_room's. Which lines the operator wants is core/logged_lines'.
Limits: 10,000 lines and 8 MiB of them, 5 MB at 500 B a line. A report's text comes on top.
"""

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from hookd.core.log_line import Line, LineForm
from hookd.core.logged_lines import LogChoice
from hookd.core.settings import LogSettings
from hookd.edge.log_room import LogRoom, Owner

LINES_MAX = 10_000
LINES_BYTES_MAX = 8 * 2**20
# Written at once: what a pipe holds.
WRITE_BYTES_MAX = 64 * 1024
# A thread that is woken for each line takes the interpreter from the event loop each time.
GATHER_SECONDS = 0.02
# How long a library that says the same again is not heard.
REPEATED_SECONDS = 60.0


def form_on(fd: int, environ: Mapping[str, str]) -> LineForm:
    """The form for what the descriptor is: a terminal, the journal, or anything else."""
    if os.isatty(fd):
        return LineForm(pretty=True, colours="NO_COLOR" not in environ)
    return LineForm(pretty=False, priorities=reads_priorities(fd, environ))


def reads_priorities(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether systemd connected it to the journal: `$JOURNAL_STREAM` names its device and inode (systemd.exec(5)).

    The variable alone proves nothing: a child that writes elsewhere inherits it.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Counted(msgspec.Struct, frozen=True, gc=False):
    """A line that is counted as somebody's. Nearly all are not: those wait as their bytes."""

    owner: Owner
    data: bytes


class LogWriter:
    """`fd` is written by the thread alone. `wall` is the clock that lines are stamped with."""

    def __init__(
        self,
        fd: int,
        *,
        pretty: bool,
        colours: bool,
        priorities: bool = False,
        wall: Callable[[], float] = time.time,
        lines_max: int = LINES_MAX,
    ) -> None:
        self._fd = fd
        self._form = LineForm(pretty, colours, priorities)
        self._wall = wall
        self._lines: queue.SimpleQueue[bytes | _Counted | None] = queue.SimpleQueue()
        self._room = LogRoom(lines_max)
        self._choice: LogChoice | None = None  # None: every line
        self._put_bytes = 0  # ever; the loop's alone
        self._taken_bytes = 0  # ever; the thread's alone, so neither needs a lock
        self._is_torn = False  # the last line that was written is half a line
        self._broken = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_lines, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def lines_dropped(self) -> int:
        """Since the start."""
        return self._room.dropped

    def choose(self, settings: LogSettings) -> None:
        """From here on only these lines are logged."""
        choice = LogChoice(settings)
        self._choice = None if choice.is_everything else choice

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        if self._choice is not None and not self._choice.takes(event, level):
            return
        has_room, owner = self._room.take(self._lines.qsize(), event, fields)
        if has_room:
            self._put(owner, self._form.line, event, level, fields)

    def made(self, line: Line) -> None:
        """The same of a line that is made already."""
        if self._choice is not None and not self._choice.takes_line(line):
            return
        waiting = self._lines.qsize()
        if self._room.is_plenty(waiting):  # whose it is does not count
            self._put(None, self._form.made, line)
            return
        has_room, owner = self._room.take(waiting, line.event, {"client_id": getattr(line, "client_id", None)})
        if has_room:
            self._put(owner, self._form.made, line)

    def _put(self, owner: Owner, make: Callable[..., bytes], *said: object) -> None:
        try:
            line = make(self._wall(), *said)
            if self._put_bytes - self._taken_bytes + len(line) > LINES_BYTES_MAX:
                self._room.free([owner])
                self._room.drop()
                return
            self._put_bytes += len(line)
            self._lines.put(line if owner is None else _Counted(owner, line))
        except Exception:  # whose fault that is cannot be said here
            self._room.free([owner])
            self._room.drop()

    def text(self, text: str) -> None:
        """A report's text: as it is on a terminal, else one line. It finds room even where the buffer is full."""
        try:
            line = self._form.text(self._wall(), text)
            self._put_bytes += len(line)
            self._lines.put(line)
        except Exception:  # the report's file has it
            self._room.drop()

    def close(self, *, timeout_seconds: float) -> bool:
        """Writes what is buffered, for so long at most; False where not all of it went out."""
        self._closing.set()
        self._lines.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive() and not self._broken

    def _write_lines(self) -> None:
        is_behind = False  # more was there than is written at once
        while (line := self._lines.get()) is not None:
            if not is_behind:
                self._closing.wait(GATHER_SECONDS)
            chunk, last = self._gather(line)
            self._write(chunk)
            self._taken_bytes += len(chunk)
            is_behind = len(chunk) >= WRITE_BYTES_MAX
            if last:
                return

    def _write(self, chunk: bytes) -> None:
        """What cannot be written is counted: it is closed, its reader is gone, its disk is full."""
        unsaid = self._room.take_unsaid()
        note = b"\n" if self._is_torn else b""
        try:
            note += self._dropped_lines(unsaid)
        except Exception:  # the thread has lines to write; it is said with the next ones
            self._room.unsay(unsaid)
            unsaid.clear()
        left = whole = note + chunk
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # somebody who shares it has made it so
                select.select([], [self._fd], [])
            except OSError:
                self._broken = True
                self._room.drop(left[-len(chunk) :].count(b"\n"))
                break
        if written := len(whole) - len(left):
            self._is_torn = whole[written - 1] != ord("\n")
        if written < len(note):
            self._room.unsay(unsaid)

    def _dropped_lines(self, unsaid: Mapping[Owner, int]) -> bytes:
        """One line for each of those whose lines were left out over their share, and one for the rest."""
        lines = b""
        for owner, count in unsaid.items():
            whose: dict[str, object] = {} if owner is None else dict([owner])
            lines += self._form.line(self._wall(), "log.dropped", "warning", whose | {"lines": count})
        return lines

    def _gather(self, first: bytes | _Counted) -> tuple[bytes, bool]:
        """What else is buffered, as one write; whether the closing mark was among it."""
        lines: list[bytes] = []
        owners: list[Owner] = []
        line: bytes | _Counted | None = first
        take, size = self._lines.get_nowait, 0
        while line is not None:
            if isinstance(line, _Counted):
                owners.append(line.owner)
                line = line.data
            lines.append(line)
            size += len(line)
            if size >= WRITE_BYTES_MAX:
                break
            try:
                line = take()
            except queue.Empty:
                break
        self._room.free(owners)
        return b"".join(lines), line is None


class LibraryLines(logging.Handler):
    """Brings what libraries log at WARNING and above into our log, as one line each.

    One that says the same ten times a second (trio's accept loop, while there are no descriptors) is heard once a
    minute, with how often it said so in between.
    """

    def __init__(self, log: LogWriter) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._said: tuple[str, str] | None = None
        self._said_at = 0.0
        self._repeated = 0

    def emit(self, record: logging.LogRecord) -> None:
        said = record.name, record.getMessage()
        if said == self._said and record.created - self._said_at < REPEATED_SECONDS:
            self._repeated += 1
            return
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields: dict[str, object] = {"logger": record.name, "message": said[1]}
        if self._repeated:
            fields["repeated"] = self._repeated  # the line before this one
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._said, self._said_at, self._repeated = said, record.created, 0
        self._log("library", level=level, **fields)


def capture_libraries(log: LogWriter) -> None:
    """From here on no library writes to stderr by itself (httpx would log whole URLs at INFO, secrets and all)."""
    logging.basicConfig(handlers=[LibraryLines(log)], level=logging.WARNING, force=True)
