"""The log never blocks, never loses count of what it dropped, and never lets a line break out of its line."""

import json
import logging
import os
import pty
import subprocess
import sys
import threading

import pytest
from hookd.core.log_line import Line, LineForm
from hookd.core.logged_lines import EventAccepted
from hookd.core.settings import LogSettings
from hookd.core.timestamps import WALL_MAX
from hookd.edge.log_room import LogRoom
from hookd.edge.logs import LINES_BYTES_MAX, WRITE_BYTES_MAX, LibraryLines, LogWriter, capture_libraries, form_on
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_printable import HOSTILE


def read_all(fd: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def test_line_on_a_terminal_has_its_level_s_colour_if_that_has_one():
    """And ends in the terminal's own, whatever the level."""
    colours = {"error": "\x1b[31m", "warning": "\x1b[33m", "info": "\x1b[2m", "debug": ""}
    for level, colour in colours.items():
        plain = LineForm(True).line(0.0, "it.happened", level, {"a": 1}).decode()
        shown = LineForm(True, colours=True).line(0.0, "it.happened", level, {"a": 1}).decode()
        assert plain == f"00:00:00.000 {level:7} it.happened a=1\n"
        assert shown == f"{colour}{plain[:-1]}\x1b[0m\n"


def test_line_off_a_terminal_is_one_json_object():
    """Fields, level and time stand in one JSON line; line breaks and escapes in values stay escaped."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False, wall=lambda: 1764000000.25)
    log("delivery.attempted", level="warning", error="a\nb\x1b[31m", attempt=1)
    assert log.close(timeout_seconds=5)
    os.close(writer)
    lines = read_all(reader).splitlines()
    os.close(reader)
    assert len(lines) == 1
    assert b"\x1b" not in lines[0]
    assert json.loads(lines[0]) == {
        "ts": "2025-11-24T16:00:00.250Z",
        "level": "warning",
        "event": "delivery.attempted",
        "error": "a\nb\x1b[31m",
        "attempt": 1,
    }


def test_lines_that_nobody_chose_are_not_written_and_not_counted_as_dropped():
    """What `[log]` leaves out is no loss; a later choice brings it back."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False)
    log.choose(LogSettings(level="warning", events=False))
    log("client.registered")
    log.made(EventAccepted("e1", "acme", "a", []))
    log("report")
    log.choose(LogSettings())
    log.made(EventAccepted("e2", "acme", "a", []))
    assert log.close(timeout_seconds=5)
    os.close(writer)
    lines = [json.loads(line) for line in read_all(reader).splitlines()]
    os.close(reader)
    assert [(line["event"], line.get("event_id")) for line in lines] == [("report", None), ("event.accepted", "e2")]
    assert log.lines_dropped == 0


@pytest.mark.parametrize("pretty", [False, True])
def test_value_of_others_reaches_no_terminal_in_either_form(pretty: bool):
    """DEL, C1, the line ends of Unicode and bidi stand as escapes, in JSON too; JSON's readers get them back."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=pretty, colours=False, wall=lambda: 1764000000.0)
    log("library", message=HOSTILE, names={HOSTILE: [HOSTILE]}, logger="é")
    log("library", traceback=f"Error: {HOSTILE}")
    if not pretty:
        log.text(f"row {HOSTILE}\n")
    assert log.close(timeout_seconds=5)
    os.close(writer)
    written = read_all(reader).decode()
    os.close(reader)
    assert written.count("\n") == len(written.splitlines()) == (4 if pretty else 3)  # a traceback has lines of its own
    assert written.replace("\n", "").isprintable()
    if not pretty:
        first, second, third = map(json.loads, written.splitlines())
        assert (first["message"], first["names"], first["logger"]) == (HOSTILE, {HOSTILE: [HOSTILE]}, "é")
        assert second["traceback"] == f"Error: {HOSTILE}"
        assert third["text"] == f"row {HOSTILE}\n"


class Thing(Line, frozen=True, tag="thing.done"):
    client_id: str
    text: str
    number: int | None
    seconds: float
    names: list[str]


@given(
    text=st.text() | st.just("\ud800") | st.just(HOSTILE),
    number=st.none() | st.integers(-(2**70), 2**70),
    seconds=st.floats(),
    names=st.lists(st.text(max_size=3), max_size=2),
    at=st.floats(0, WALL_MAX),
    form=st.builds(LineForm, st.booleans(), st.booleans(), st.booleans()),
)
def test_line_that_is_made_is_the_same_as_one_with_fields(text, number, seconds, names, at, form):
    """Byte for byte, in every form, whatever the fields hold."""
    made = Thing("acme", text, number, seconds, names)
    event, fields = made.told()
    assert event == "thing.done"
    assert form.made(at, made) == form.line(at, event, "info", fields)


def test_line_that_is_made_finds_no_more_room_than_any_other():
    """It is bounded, counted and written as the others are."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False, lines_max=100)
    for _ in range(3000):
        log.made(Thing("acme", "x" * 2000, None, 0.0, []))
    dropped = log.lines_dropped
    assert dropped > 0
    received: list[bytes] = []
    pump = threading.Thread(target=lambda: received.append(read_all(reader)))
    pump.start()
    assert log.close(timeout_seconds=10)
    os.close(writer)
    pump.join(10)
    os.close(reader)
    assert received[0].count(b'"event":"thing.done"') == 3000 - dropped


class CountedWaits(threading.Event):
    count = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.count += 1
        return super().wait(timeout)


def test_writer_that_is_behind_does_not_wait_for_more_lines():
    """64 KiB each 20 ms would be all that it writes, and a busy daemon's lines would fill the buffer."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False)
    log._closing = waits = CountedWaits()
    chunks = 12
    line = "x" * 1000
    for _ in range(chunks * WRITE_BYTES_MAX // len(line)):  # it is held up by its second write, as nobody reads yet
        log("filler", text=line)
    with os.fdopen(reader, "rb") as pipe:
        assert len(pipe.read((chunks - 1) * WRITE_BYTES_MAX)) == (chunks - 1) * WRITE_BYTES_MAX
        assert waits.count < chunks // 2  # one for each if it waited; a few before the pipe is full
        pump = threading.Thread(target=pipe.read)
        pump.start()
        assert log.close(timeout_seconds=10)
        os.close(writer)
        pump.join(10)


def test_note_of_a_start_is_harmless_in_either_form():
    for pretty in (False, True):
        note = LineForm(pretty).note(0.0, f"{HOSTILE} is no key", "warning")
        assert note.endswith("\n")
        assert note[:-1].isprintable()


def test_line_on_a_terminal_is_for_people_and_cannot_be_forged():
    """The pretty form is one line too: what is not printable is escaped."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=True, colours=False, wall=lambda: 1764000000.0)
    log("event.accepted", client_id="acme\nforged", status=None)
    assert log.close(timeout_seconds=5)
    os.close(writer)
    assert read_all(reader) == b"16:00:00.000 info    event.accepted client_id=acme\\nforged\n"
    os.close(reader)


def test_pipe_that_nobody_reads_blocks_no_one_and_drops_are_counted():
    """With a full pipe the log goes on answering at once; what did not fit is counted and said when there is room."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False, lines_max=100)
    for number in range(3000):  # more than a pipe and the buffer hold
        log("filler", number=number, text="x" * 2000)
    assert log.lines_dropped > 0
    assert not log.close(timeout_seconds=0.05)
    received: list[bytes] = []
    pump = threading.Thread(target=lambda: received.append(read_all(reader)))
    pump.start()
    assert log.close(timeout_seconds=10)
    os.close(writer)
    pump.join(10)
    os.close(reader)
    lines = [json.loads(line) for line in received[0].splitlines()]
    numbers = [line["number"] for line in lines if line["event"] == "filler"]
    said = sum(line["lines"] for line in lines if line["event"] == "log.dropped")
    assert numbers == sorted(numbers)
    assert said <= log.lines_dropped
    assert len(numbers) + log.lines_dropped == 3000


def test_long_lines_are_bounded_by_their_bytes():
    """Ten thousand lines with URLs of 2 KB would be 30 MB: 8 MiB wait, and the rest is counted."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False)
    for number in range(1200):
        log("filler", number=number, text="x" * 10_000)
    kept = 1200 - log.lines_dropped
    assert LINES_BYTES_MAX // 11_000 < kept <= (LINES_BYTES_MAX + 3 * WRITE_BYTES_MAX) // 10_000
    received: list[bytes] = []
    pump = threading.Thread(target=lambda: received.append(read_all(reader)))
    pump.start()
    assert log.close(timeout_seconds=10)
    assert log._put_bytes == log._taken_bytes
    os.close(writer)
    pump.join(10)
    os.close(reader)
    events = [json.loads(line)["event"] for line in received[0].splitlines()]
    assert events.count("filler") == kept


def test_dropped_lines_are_said_once_there_is_room():
    """The first line that fits again is preceded by how many did not."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False, lines_max=0)
    log("lost")
    log("lost")
    log._room.lines_max = 10
    log("kept")
    assert log.close(timeout_seconds=5)
    os.close(writer)
    events = [json.loads(line) for line in read_all(reader).splitlines()]
    os.close(reader)
    assert [(line["event"], line.get("lines")) for line in events] == [("log.dropped", 2), ("kept", None)]


@pytest.mark.parametrize(
    ("flood", "whose"),
    [
        (("delivery.attempted", {"client_id": "flapping"}), {"client_id": "flapping"}),
        (("event.refused", {"client_id": "made-up"}), {"of": "callers"}),
        (("connection.cut", {}), {"of": "callers"}),
    ],
)
def test_one_clients_lines_leave_room_for_everyone_elses(flood, whose):
    """Nobody reads. One client, or the callers of the API, fill a quarter of the buffer; what is more is left out."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False, lines_max=100)
    log("first", text="x" * 200_000)  # more than a pipe holds
    begun = os.read(reader, 1)  # the thread has taken it out of the buffer, and waits for the pipe
    event, fields = flood
    for number in range(500):
        log(event, **fields, number=number)
    for number in range(12):
        log("delivery.attempted", client_id="acme", number=number)
        log("counts", number=number)
    assert log.lines_dropped == 476
    received: list[bytes] = []
    pump = threading.Thread(target=lambda: received.append(read_all(reader)))
    pump.start()
    assert log.close(timeout_seconds=10)
    os.close(writer)
    pump.join(10)
    os.close(reader)
    lines = [json.loads(line) for line in (begun + received[0]).splitlines()]
    numbers = [line["number"] for line in lines if line["event"] == event and line.get("client_id") != "acme"]
    assert numbers == [*range(24)]
    for others in ("delivery.attempted", "counts"):
        kept = [line["number"] for line in lines if line["event"] == others and line.get("client_id") in ("acme", None)]
        assert kept == [*range(12)]
    dropped = [line for line in lines if line["event"] == "log.dropped"]
    assert [{name: line[name] for name in line.keys() & {"of", "client_id", "lines"}} for line in dropped] == [
        {**whose, "lines": 476}
    ]


def test_room_of_the_log_is_given_back_to_whose_it_was():
    """Lines that are written wait no longer, and nothing is kept of a client without one."""
    room, a, b = LogRoom(16), ("client_id", "a"), ("client_id", "b")

    def take(client_id, waiting=2):
        return room.take(waiting, "delivery.attempted", {"client_id": client_id})

    assert take("a", waiting=1) == (True, None)  # too few wait to count them
    assert [take("a") for _ in range(3)] == [(True, a), (True, a), (False, None)]
    assert [take("b"), room.take(2, "counts", {}), take("b", waiting=16)] == [(True, b), (True, None), (False, None)]
    room.free([a, None])
    assert [take("a"), take("a")] == [(True, a), (False, None)]
    room.free([a, a, b])
    assert room._waiting == {}
    assert room.take_unsaid() == {a: 2, None: 1}
    assert (room.take_unsaid(), room.dropped) == ({}, 3)


def test_pipe_that_does_not_wait_loses_no_line():
    """A pipe that somebody who shares it made non-blocking: the thread waits until there is room."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = LogWriter(writer, pretty=False, colours=False)
    for number in range(500):  # seven times what the pipe holds
        log("filler", number=number, text="x" * 1000)
    received: list[bytes] = []
    pump = threading.Thread(target=lambda: received.append(read_all(reader)))
    pump.start()
    assert log.close(timeout_seconds=10)
    os.close(writer)
    pump.join(10)
    os.close(reader)
    assert [json.loads(line)["number"] for line in received[0].splitlines()] == list(range(500))
    assert log.lines_dropped == 0


def test_lines_that_a_full_disk_did_not_take_are_counted_and_said(tmp_path):
    """A file that may not grow: half a line at its end is ended once there is room, and the lost lines are counted."""
    script = """
import os, resource, signal, sys
from hookd.edge.logs import LogWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
log = LogWriter(fd, pretty=False, colours=False)
for number in range(20):
    log("filler", number=number, text="x" * 100)
while not log.lines_dropped:
    os.sched_yield()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log("kept")
assert not log.close(timeout_seconds=10)
print(log.lines_dropped)
"""
    path = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60)
    whole, torn, said, kept = path.read_text().rsplit("\n", 4)[:4]
    assert len(torn) < 100
    assert json.loads(said)["lines"] == int(done.stdout) == 20 - len(whole.splitlines())
    assert json.loads(kept)["event"] == "kept"


def test_closed_stderr_ends_nothing():
    """Writing to a descriptor whose reader is gone is noted by close and raises nowhere."""
    reader, writer = os.pipe()
    os.close(reader)
    log = LogWriter(writer, pretty=False, colours=False)
    log("anything")
    assert not log.close(timeout_seconds=5)
    os.close(writer)


def test_library_warning_becomes_a_line_of_ours():
    """What a library logs at WARNING is one line in our form; its INFO, which may hold URLs, is none."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False)
    before = logging.root.handlers[:], logging.root.level
    try:
        capture_libraries(log)
        logging.getLogger("httpx").info("HTTP Request: POST https://h/?token=secret")
        logging.getLogger("library").warning("odd %s", "thing")
    finally:
        logging.root.handlers[:], logging.root.level = before
    assert log.close(timeout_seconds=5)
    os.close(writer)
    lines = [json.loads(line) for line in read_all(reader).splitlines()]
    os.close(reader)
    assert [(line["event"], line["logger"], line["message"]) for line in lines] == [("library", "library", "odd thing")]


def test_library_that_repeats_itself_is_heard_once_and_counted():
    """Ten times a second the same: one line, and the next other one says how many there were."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False)
    handler = LibraryLines(log)
    for number, message in enumerate(["no descriptors"] * 10 + ["another"] + ["no descriptors"] * 2):
        record = logging.LogRecord("trio", logging.ERROR, "x", 1, message, None, None)
        record.created = 30.0 * (number == 12) + 35.0 * (number >= 11)  # the last two are 30 s apart
        handler.emit(record)
    record = logging.LogRecord("trio", logging.ERROR, "x", 1, "no descriptors", None, None)
    record.created = 96.0
    handler.emit(record)
    assert log.close(timeout_seconds=5)
    os.close(writer)
    lines = [json.loads(line) for line in read_all(reader).splitlines()]
    os.close(reader)
    assert [(line["message"], line.get("repeated")) for line in lines] == [
        ("no descriptors", None),
        ("another", 9),
        ("no descriptors", None),
        ("no descriptors", 1),
    ]


def test_line_for_the_journal_begins_with_its_priority():
    """A report's lines have that of crit, whatever their level; every other line has its level's."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=False, colours=False, priorities=True, wall=lambda: 1764000000.25)
    for event, level in (("delivery.attempted", "info"), ("delivery.attempted", "warning"), ("flow.crashed", "error")):
        log(event, level=level)
    log("report", level="info")
    log.text("hookd 0.1.0 run r1 stopped\nUNDELIVERED: 1 delivery\n")
    log("report.written", path="/reports/r1")
    assert log.close(timeout_seconds=5)
    os.close(writer)
    lines = read_all(reader).decode().splitlines()
    os.close(reader)
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<3>", "<2>", "<2>", "<2>"]
    assert json.loads(lines[4][3:]) == {
        "ts": "2025-11-24T16:00:00.250Z",
        "level": "info",
        "event": "report.text",
        "text": "hookd 0.1.0 run r1 stopped\nUNDELIVERED: 1 delivery\n",
    }


def test_report_on_a_terminal_is_text_as_it_is():
    """People read it there."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=True, colours=True)
    log.text("UNDELIVERED: 1 delivery\n")
    assert log.close(timeout_seconds=5)
    os.close(writer)
    assert read_all(reader) == b"UNDELIVERED: 1 delivery\n"
    os.close(reader)


def test_journal_is_told_by_device_and_inode():
    """The variable alone is inherited by children whose stderr is something else."""
    reader, writer = os.pipe()
    other, found = os.pipe(), os.fstat(writer)
    environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    assert form_on(writer, environ) == LineForm(pretty=False, priorities=True)
    assert form_on(other[1], environ) == form_on(writer, {}) == LineForm(pretty=False)
    controller, terminal = pty.openpty()
    assert form_on(terminal, {}) == LineForm(pretty=True, colours=True)
    assert form_on(terminal, {"NO_COLOR": "1"}) == LineForm(pretty=True)
    for fd in (reader, writer, *other, controller, terminal):
        os.close(fd)
    assert not form_on(writer, environ).priorities  # closed


def test_note_is_text_on_a_terminal_and_a_line_of_json_off_it():
    """What a start has to say before the log is there."""
    assert LineForm(pretty=True).note(0.0, "--dev: allowed", "warning") == "hookd: --dev: allowed\n"
    note = LineForm(pretty=False, priorities=True).note(0.0, "--dev: allowed", "warning")
    assert note.startswith("<4>{")
    assert json.loads(note[3:]) == {
        "ts": "1970-01-01T00:00:00.000Z",
        "level": "warning",
        "event": "start.note",
        "message": "--dev: allowed",
    }


@pytest.mark.parametrize("pretty", [False, True])
def test_value_that_json_cannot_hold_costs_that_field(pretty):
    """A number of 4,301 digits: the line is written, and nothing is raised."""
    reader, writer = os.pipe()
    log = LogWriter(writer, pretty=pretty, colours=False, wall=lambda: 1764000000.0)
    log("run.ended_without_report", run_id="r1", counts={"accepted": 10**4300})
    assert log.close(timeout_seconds=5)
    os.close(writer)
    [line] = read_all(reader).splitlines()
    os.close(reader)
    assert b"r1" in line
    assert b"cannot be written: ValueError" in line


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_line_that_cannot_be_made_is_counted_and_raises_nowhere(nth: int) -> None:
    """Who logs is in the middle of something: an event that was admitted has to be sent on. The others are written."""
    calls = 0

    def wall() -> float:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError("the clock cannot be read")
        return 1764000000.0

    fd = os.memfd_create("log")
    log = LogWriter(fd, pretty=False, colours=False, wall=wall)
    log("one")
    log.text("two")
    log("three")
    assert log.close(timeout_seconds=10.0)
    assert log.lines_dropped == 1
    events = [json.loads(line)["event"] for line in os.pread(fd, 10_000, 0).splitlines()]
    expected = ["one", "report.text", "three"]
    assert events == ["log.dropped", *expected[: nth - 1], *expected[nth:]]
    os.close(fd)
