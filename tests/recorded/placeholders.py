"""What differs from run to run, each by a rule with a name: everything else is compared as it is.

Rules: a value is replaced only where a rule says so; what is replaced keeps its place, so a field that goes, comes or
moves is seen. Ids that are made (events, runs) are numbered in the order in which they are first seen.
"""

import base64
import binascii
import json
import re
from typing import Any

# Fields whose numbers depend on how long something took; null stays null unless the field is in EITHER.
SECONDS = {
    "duration_seconds", "uptime_seconds", "oldest_unsettled_seconds", "drain_seconds", "lag_seconds", "after_seconds",
}  # fmt: skip
SECONDS_IN_TEXT = re.compile(rf'"({"|".join(sorted(SECONDS))})":[0-9][0-9.eE+-]*')
# Null or a number, as it happens.
EITHER = {"oldest_overdue_seconds", "loop_lag_seconds"}
# Of this machine, or of this process.
MACHINE = {"pid": "PID", "host": "HOST", "limit": "DESCRIPTORS"}

TEXT_RULES = (
    ("TIME", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")),
    (r"\1-STAMP", re.compile(r"\b(shutdown|crash)-\d{8}T\d{6}Z")),
    ("whsec_SECRET", re.compile(r"whsec_[A-Za-z0-9+/]{32,}=*")),
    ("SIZE are free", re.compile(r"[0-9.,]+ [KMGT]?i?B are free")),
    ("hookd-USER-FOLDER", re.compile(r"hookd-\d+-[0-9a-f]{12}\b")),
    ("test_MILLISECONDS", re.compile(r"test_\d{13}\b")),
    ("loop-lag EITHER", re.compile(r"\[\+\]loop-lag ok|\[-\]loop-lag failed: [^\n]*")),
)
NUMBERED = (("EVENT", re.compile(r"evt_[0-9a-f]{24}")), ("RUN", re.compile(r"\b[0-9a-f]{16}\b")))
# For people: `explain`, `status`, `report` and the summary on stderr.
SPAN_RULES = (
    ("CLOCK", re.compile(r"\b\d\d:\d\d:\d\dZ")),
    ("SPAN", re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|d|h|m|s)\b(?: \d+(?:\.\d+)? ?(?:ms|d|h|m|s)\b)*")),
    ("per second  RATES", re.compile(r"(?m)^per second .*$")),
    ("connections  OPEN of", re.compile(r"(?m)^connections +\d+ of")),
    ("  ", re.compile(r" {2,}")),
)
# Metrics whose values are times or of the process; their names and labels are compared all the same.
METRIC_VALUES = re.compile(
    r"^(?:process_|hookd_loop_lag_seconds|hookd_oldest_|hookd_connections_open|hookd_connections_max"
    r"|\w+_bucket\{le=\"(?!\+Inf)|\w+_sum\b|\w+_created\b)"
)
CURSOR = re.compile(r"cursor=([A-Za-z0-9_-]{12,})")
PYTHON_VERSION = re.compile(r'python_version="[^"]*"')


class Placeholders:
    """For one recording; `literals` (ports, directories) are added as they become known."""

    def __init__(self) -> None:
        self._literals: dict[str, str] = {}
        self._numbers: dict[str, str] = {}

    def add(self, literal: str, name: str) -> None:
        self._literals[literal] = name

    def text(self, text: str, *, spans: bool = False) -> str:
        for literal in sorted(self._literals, key=len, reverse=True):
            text = text.replace(literal, self._literals[literal])
        for name, pattern in TEXT_RULES:
            text = pattern.sub(name, text)
        for name, pattern in NUMBERED:
            text = pattern.sub(lambda found, name=name: self._number(name, found[0]), text)
        for name, pattern in SPAN_RULES if spans else ():
            text = pattern.sub(name, text)
        return text

    def target(self, target: str) -> str:
        """A request's, where a cursor may stand."""
        return CURSOR.sub(lambda found: self._named_cursor(found[1]) or found[0], target)

    def _named_cursor(self, text: str) -> str | None:
        read = _cursor(text)
        return None if read is None else f"cursor=({self.text(read[0])} at {read[1]})"

    def _number(self, name: str, value: str) -> str:
        if value not in self._numbers:
            count = sum(given.startswith(f"{name}-") for given in self._numbers.values())
            self._numbers[value] = f"{name}-{count + 1}"
        return self._numbers[value]

    def value(self, value: Any, key: str = "", parent: str = "") -> Any:
        """JSON, field by field, in its order."""
        if key in MACHINE:
            return MACHINE[key]
        if key in EITHER or (key in SECONDS and isinstance(value, int | float)):
            return "SECONDS"
        if parent == "per_second":
            return "RATE"
        if (parent, key) == ("connections", "open"):
            return "OPEN"  # one that we closed may be there for a moment
        match value:
            case dict():
                return {self.text(name): self.value(one, name, key) for name, one in value.items()}
            case list():
                return [self.value(one, "", key) for one in value]
            case str() if (cursor := _cursor(value)) is not None:
                return self.text(f"cursor of {cursor[0]} at {cursor[1]}")
            case str():
                return self.text(value)
            case _:
                return value

    def body(self, body: bytes, content_type: str) -> Any:
        """JSON that is written as compact as can be, as a value; text as its lines; else the text itself."""
        text = body.decode("utf-8", "backslashreplace")
        if "json" in content_type:
            try:
                value = json.loads(text)
            except ValueError:
                return self.text(text)
            if json.dumps(value, separators=(",", ":"), ensure_ascii=False) == text:
                return self.value(value)
            return {"not compact": self.text(SECONDS_IN_TEXT.sub(r'"\1":"SECONDS"', text))}
        if content_type.startswith(("text/plain; version", "application/openmetrics-text")):
            return self.metrics(text)
        lines = self.text(text).split("\n")
        return lines[0] if len(lines) == 1 else lines

    def metrics(self, text: str) -> list[str]:
        lines = []
        for line in text.split("\n"):
            series, _, value = line.rpartition(" ")
            shown = f"{series} VALUE" if METRIC_VALUES.match(line) else line
            lines.append(PYTHON_VERSION.sub('python_version="PYTHON"', shown))
        return lines


def _cursor(text: str) -> tuple[str, str] | None:
    """The settlement feed's: which run, and how far."""
    try:
        read = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode()
    except (ValueError, binascii.Error):
        return None
    found = re.fullmatch(r"s([0-9a-f]{16}):([0-9]+)", read)
    return None if found is None else (found[1], found[2])
