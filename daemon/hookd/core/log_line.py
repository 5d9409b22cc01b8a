"""Owns how a line of the log looks: JSON off a terminal, for people on one, with a priority where the journal reads it.

Rules: one event is one line, and no value breaks out of it, whatever it holds (core/printable). Where stderr is the
journal, each line begins with its priority as `<N>` (sd-daemon(3)). The journal's rate limit counts `crit` apart from
errors, warnings and infos: a flood of attempts takes no line of a report along.
Does not: write anything; edge/logs does, and knows what stderr is.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from hookd.core.printable import printable, printable_json
from hookd.core.timestamps import rfc3339

PRIORITIES = {"error": 3, "warning": 4, "info": 6}
REPORT_PRIORITY = 2  # crit
# What tells of a run's end: the only account of it, where the file is lost.
REPORT_EVENTS = {"report", "report.text", "report.written", "report.not_written", "report.crashed", "crash.found"}
REPORT_EVENTS |= {"report.without_payloads", "run.ended_without_report"}

_encode = msgspec.json.Encoder().encode
# What stands between a line's second and its own fields. To format it takes longer than to encode a line.
_MILLISECONDS = [b'%03dZ","level":"info",' % milliseconds for milliseconds in range(1000)]

_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "info": "\x1b[2m"}
_RESET = "\x1b[0m"


class Line(msgspec.Struct, frozen=True, gc=False, tag_field="event"):
    """A line that is logged thousands of times a second, always at level info; a third of the cost of one with fields.

    A subclass's `tag` is the event's name, its fields stand in the line's order. Whose it is says `client_id`.
    """

    @property
    def event(self) -> str:
        return str(self.__struct_config__.tag)

    def told(self) -> tuple[str, dict[str, object]]:
        """The event's name and its fields, as any other line is logged."""
        return self.event, msgspec.structs.asdict(self)


class LineForm(NamedTuple):
    """How lines look on one descriptor."""

    pretty: bool
    colours: bool = False
    priorities: bool = False

    def line(self, at: float, event: str, level: str, fields: Mapping[str, object]) -> bytes:
        """`at` is wall time."""
        return self._pretty(at, event, level, fields) if self.pretty else self._json(at, event, level, fields)

    def made(self, at: float, made: Line) -> bytes:
        """The same of a Line: byte for byte what `line` makes of its name and fields."""
        if self.pretty:
            return self._general(at, made)
        try:
            encoded = printable_json(_encode(made))
        except (OverflowError, ValueError, TypeError, RecursionError):
            return self._general(at, made)
        seconds, milliseconds = divmod(round(at * 1000), 1000)
        return b"".join((_head(seconds, self.priorities), _MILLISECONDS[milliseconds], encoded[1:], b"\n"))

    def _general(self, at: float, made: Line) -> bytes:
        event, fields = made.told()
        return self.line(at, event, "info", fields)

    def text(self, at: float, text: str) -> bytes:
        """A report's text: as it is for people, else as one line with the text in a field."""
        return text.encode() if self.pretty else self._json(at, "report.text", "info", {"text": text})

    def note(self, at: float, message: str, level: str) -> str:
        """What is said before the log is there."""
        if self.pretty:
            return f"hookd: {printable(message)}\n"
        return self._json(at, "start.note", level, {"message": message}).decode()

    def _json(self, at: float, event: str, level: str, fields: Mapping[str, object]) -> bytes:
        line = {"ts": rfc3339(at), "level": level, "event": event, **fields}
        try:
            encoded = msgspec.json.encode(line)
        except (OverflowError, ValueError, TypeError, RecursionError):  # half of a surrogate pair, 4,301 digits
            encoded = msgspec.json.encode({name: _encodable(value) for name, value in line.items()})
        return b"%s%s\n" % (self._priority(event, level), printable_json(encoded))

    def _priority(self, event: str, level: str) -> bytes:
        if not self.priorities:
            return b""
        return b"<%d>" % (REPORT_PRIORITY if event in REPORT_EVENTS else PRIORITIES[level])

    def _pretty(self, at: float, event: str, level: str, fields: Mapping[str, object]) -> bytes:
        pairs = " ".join(f"{name}={_shown(value)}" for name, value in fields.items() if value is not None)
        traceback = fields.get("traceback")
        line = f"{rfc3339(at)[11:-1]} {level:7} {event} " + (pairs if traceback is None else f"\n{_lines(traceback)}")
        if self.colours:
            line = f"{_COLOURS.get(level, '')}{line}{_RESET}"
        return f"{line}\n".encode(errors="backslashreplace")


@lru_cache(maxsize=8)
def _head(seconds: int, priorities: bool) -> bytes:
    """How the lines of one second begin, up to their milliseconds."""
    priority = f"<{PRIORITIES['info']}>" if priorities else ""
    return f'{priority}{{"ts":"{rfc3339(seconds)[:-4]}'.encode()


def _encodable(value: object) -> object:
    """Logging never raises: what JSON cannot hold costs that field."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    try:
        msgspec.json.encode(value)
    except (OverflowError, ValueError, TypeError, RecursionError) as error:
        return f"cannot be written: {type(error).__name__}"
    return value


def _lines(text: object) -> str:
    """A traceback's own lines, set in: no message in it can pass for a line of the log."""
    return "\n".join(f"    {printable(line)}" for line in str(text).rstrip("\n").split("\n"))


def _shown(value: object) -> str:
    return printable(value if isinstance(value, str) else msgspec.json.encode(_encodable(value)).decode())
