"""Owns where the items of a batch begin and end: those of a JSON array, and the lines of NDJSON.

Rules: nothing is built before it is counted. Items are found one at a time, so that whoever counts them stops at the
first one too many. What lies between two items is looked at here; what is in an item is core/event's to judge.

A short array is taken apart at once, which costs 0.04 us an item instead of 2.
Limits: an item of an array that is longer than ITEM_BYTES_SKIPPED refuses its batch. A skip cannot be interrupted, and
4 MiB of the worst kind take 35 ms.
"""

import re
from collections.abc import Iterator

import msgspec

from hookd.core.event import read_error
from hookd.core.json_scan import SPACES_MAX, Unended, after, after_space, value_end
from hookd.core.refusal import Malformed, TooLarge
from hookd.core.text_check import check_text
from hookd.core.units import format_size

Span = tuple[int, int]

ITEM_BYTES_SKIPPED = 4 * 2**20
# With no more commas an array has at most 20,001 items: 2 MiB, built before they are counted.
COMMAS_AT_ONCE = 20_000
BYTES_AT_ONCE = 2**20

_BLANK = re.compile(rb"\s{0,%d}" % SPACES_MAX)  # what `bytes.strip` strips
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def too_many(most: int) -> TooLarge:
    return TooLarge(f"more than {most:,} items in one batch; intake.batch_events_max is {most:,}")


def is_short_array(body: bytes) -> bool:
    """Whether an array cannot have so many items that they should be counted first."""
    return len(body) <= BYTES_AT_ONCE and body.count(b",") <= COMMAS_AT_ONCE


def read_array(body: bytes) -> list[bytes]:
    """The raw items of a short JSON array. Raises Malformed or InvalidEvent."""
    check_text(body)
    try:
        return [bytes(raw) for raw in _array_decoder.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise read_error(error, body, "") from None


def array_spans(body: bytes, begin: int = 0, *, behind: bytes = b"") -> Iterator[Span]:
    """From where to where each item of the array at `begin` lies, one at a time; spaces may stand at its end.

    `behind` is what must follow the array: the brace of the object that it is in.
    Raises Malformed, InvalidEvent (no array, or too deep) or TooLarge once it comes to what is wrong.
    """
    at = after_space(body, begin)
    if body[at : at + 1] != b"[":
        raise _no_array(body)
    at = after_space(body, at + 1)
    if body[at : at + 1] == b"]":
        _refuse_more(body, at + 1, behind)
        return
    while True:
        end = _item_end(body, at)
        yield at, end
        if body[end] == ord("]"):
            _refuse_more(body, end + 1, behind)
            return
        if body[end] != ord(","):
            raise _malformed("expected ',' or ']'", end)
        at = after_space(body, end + 1)


def line_spans(body: bytes) -> Iterator[Span]:
    """From where to where each line lies that is not blank, one at a time. Raises TooLarge."""
    end = -1
    while True:
        first = after(_BLANK, body, end + 1)
        if first == len(body):
            return
        begin = body.rfind(b"\n", end + 1, first) + 1 or end + 1
        end = body.find(b"\n", first)
        if end < 0:
            yield begin, len(body)
            return
        yield begin, end


def _item_end(body: bytes, at: int) -> int:
    try:
        return value_end(body, at, bytes_max=ITEM_BYTES_SKIPPED)
    except Unended:
        if len(body) - at > ITEM_BYTES_SKIPPED:
            raise TooLarge(f"an item of the array is larger than {format_size(ITEM_BYTES_SKIPPED)}") from None
        raise Malformed("the body is not JSON: Input data was truncated") from None
    except RecursionError as error:
        raise read_error(error, b"", "") from None
    except msgspec.DecodeError as error:
        said, _, number = str(error).removeprefix("JSON is malformed: ").rpartition(" (byte ")
        raise _malformed(said, at + int(number[:-1])) from None


def _no_array(body: bytes) -> Exception:
    """What msgspec says at its first byte."""
    try:
        _array_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return read_error(error, body, "")
    raise AssertionError("an array begins with a bracket")


def _refuse_more(body: bytes, at: int, behind: bytes) -> None:
    """Raises Malformed where anything but `behind` and spaces follows the array."""
    end = after_space(body, at)
    if behind:
        if not body.startswith(behind, end):
            raise _malformed(f"expected {behind.decode()!r}", end)
        end = after_space(body, end + len(behind))
    if end < len(body):
        raise _malformed("trailing characters", end)


def _malformed(said: str, at: int) -> Malformed:
    return Malformed(f"the body is not JSON: JSON is malformed: {said} (byte {at:,})")
