"""Owns how a report's lines become bytes: whatever one of them holds, the report is written.

Rule: a field that JSON cannot hold (a number of more than 4,300 digits, half of a surrogate pair) costs that field of
that line. Text is written with what JSON cannot hold as escapes; anything else is left out.
"""

from collections.abc import Iterable, Iterator

import msgspec

from hookd.core.report import Line, Summary

# What encoding raises for a value that JSON cannot hold. UnicodeEncodeError is a ValueError.
UNWRITABLE = (OverflowError, ValueError, TypeError, RecursionError)
_encoder = msgspec.json.Encoder()


def encoded(summary: Summary, lines: Iterable[Line]) -> Iterator[bytes]:
    """The report, one line at a time."""
    yield _encoded(summary)
    for line in lines:
        yield _encoded(line)


def _encoded(line: Summary | Line) -> bytes:
    try:
        return _encoder.encode(line) + b"\n"
    except UNWRITABLE:
        return _encoder.encode(_writable(line)) + b"\n"


def _writable(line: Summary | Line) -> dict[str, object]:
    kept: dict[str, object] = {}
    for field in msgspec.structs.fields(line):
        value = getattr(line, field.name)
        if isinstance(value, str):
            value = value.encode(errors="backslashreplace").decode()
        if value is not msgspec.UNSET and _is_writable(value):
            kept[field.encode_name] = value
    return kept


def _is_writable(value: object) -> bool:
    try:
        _encoder.encode(value)
    except UNWRITABLE:
        return False
    return True
