"""Owns a delivery's past attempts: 22 B each in one bytes object, and the words of what went wrong, kept once.

Rules:
 1. An attempt is added when it begins, and completed in its place when it ends.
 2. Of a long history the first and the last nine are kept.
 3. A status code and a timeout stand in the row. What went wrong in words stands in a table of the whole process, since
    a thousand deliveries that are refused are refused in the same words. The words that nobody used for longest go
    first; an attempt whose words are gone shows its outcome and says that they are.
As objects ten attempts took 1,200 B, more than twice what the budget counts for a delivery.
Limits: ten rows and 33 B, 253 B a delivery; WORDS_MAX texts, at most 3 MB. A duration is kept to the microsecond, as it
is shown, up to 71 minutes; a timeout, and so an attempt, has an hour at most.
"""

import struct
from collections import OrderedDict

import msgspec

from hookd.core.outcome import Blocked, Exchange, Invalid, Outcome, Responded, TimedOut, Unreachable

ATTEMPTS_KEPT_LAST = 9
WORDS_MAX = 4096
WORDS_GONE = "in words that are not held any more; the log has them"

_BEGUN = struct.Struct("<Id")  # number, started_at
_ENDED = struct.Struct("<IIBB")  # microseconds, status code or microseconds or number of the words, kind, flags
_ROW_BYTES = _BEGUN.size + _ENDED.size
_STARTED_AT = struct.Struct("<d")
_KEPT_BYTES_MAX = (1 + ATTEMPTS_KEPT_LAST) * _ROW_BYTES
_NO_DURATION = _NUMBER_MAX = 2**32 - 1
_REQUEST_SENT, _RECONNECTED = 1, 2
_RESPONDED, _TIMED_OUT = 1, 2
_WORDED: dict[type[Outcome], int] = {Unreachable: 3, Blocked: 4, Invalid: 5}
_KINDS = {kind: outcome for outcome, kind in _WORDED.items()}
_TO_ENDED = -_ENDED.size
_pack_row, _pack_ended = struct.Struct("<IdIIBB").pack, _ENDED.pack


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One POST. `outcome` and `duration_seconds` are None while it is in flight, `outcome` also after a stop cut it."""

    number: int
    started_at: float  # wall
    duration_seconds: float | None = None
    outcome: Outcome | None = None
    request_sent: bool = False
    reconnected: bool = False  # a kept connection was stale: it was sent once more, on a fresh one


class _Words:
    """Outcomes by number, the one that was not used for longest first."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[Outcome, int] = OrderedDict()
        self._outcomes: dict[int, Outcome] = {}
        self._last = 0

    def number(self, outcome: Outcome) -> int:
        number = self._numbers.get(outcome)
        if number is None:
            if len(self._numbers) >= WORDS_MAX:
                del self._outcomes[self._numbers.popitem(last=False)[1]]
            self._last = number = self._last % _NO_DURATION + 1
            self._numbers[outcome] = number
            self._outcomes[number] = outcome
        else:
            self._numbers.move_to_end(outcome)
        return number

    def outcome(self, number: int) -> Outcome | None:
        return self._outcomes.get(number)


_words = _Words()


def with_begun(history: bytes, number: int, started_at: float) -> bytes:
    """The history with one more attempt, which is in flight."""
    if len(history) >= _KEPT_BYTES_MAX:
        history = history[:_ROW_BYTES] + history[2 * _ROW_BYTES :]
    return history + _pack_row(number if number < _NUMBER_MAX else _NUMBER_MAX, started_at, _NO_DURATION, 0, 0, 0)


def with_end(history: bytes, outcome: Outcome | None, exchange: Exchange, *, duration_seconds: float) -> bytes:
    """The history with its last attempt ended; `outcome` is None where it was cut."""
    flags = (_REQUEST_SENT if exchange.request_sent else 0) | (_RECONNECTED if exchange.reconnected else 0)
    microseconds = _microseconds(duration_seconds)
    if type(outcome) is Responded:  # as nearly all end
        return history[:_TO_ENDED] + _pack_ended(microseconds, outcome.status_code, _RESPONDED, flags)
    return history[:_TO_ENDED] + _pack_ended(microseconds, *_code(outcome), flags)


def of_one(attempt: Attempt) -> bytes:
    """The history that is this attempt."""
    flags = _REQUEST_SENT * attempt.request_sent | _RECONNECTED * attempt.reconnected
    duration_seconds = attempt.duration_seconds
    microseconds = _NO_DURATION if duration_seconds is None else _microseconds(duration_seconds)
    begun = _BEGUN.pack(attempt.number, attempt.started_at)
    return begun + _ENDED.pack(microseconds, *_code(attempt.outcome), flags)


def started_at(history: bytes) -> float:
    """When the last attempt began (wall)."""
    found: float = _STARTED_AT.unpack_from(history, len(history) - _ENDED.size - _STARTED_AT.size)[0]
    return found


def last_attempt(history: bytes) -> Attempt:
    return _attempt(history, len(history) - _ROW_BYTES)


def attempts(history: bytes) -> tuple[Attempt, ...]:
    """Oldest first."""
    return tuple(_attempt(history, at) for at in range(0, len(history), _ROW_BYTES))


def _attempt(history: bytes, at: int) -> Attempt:
    number, began_at = _BEGUN.unpack_from(history, at)
    microseconds, code, kind, flags = _ENDED.unpack_from(history, at + _BEGUN.size)
    return Attempt(
        number,
        began_at,
        None if microseconds == _NO_DURATION else microseconds / 1e6,
        _outcome(kind, code),
        bool(flags & _REQUEST_SENT),
        bool(flags & _RECONNECTED),
    )


def _code(outcome: Outcome | None) -> tuple[int, int]:
    match outcome:
        case None:
            return 0, 0
        case Responded(status_code=status_code):
            return status_code, _RESPONDED
        case TimedOut(timeout_seconds=timeout_seconds):
            return _microseconds(timeout_seconds), _TIMED_OUT
        case _:
            return _words.number(outcome), _WORDED[type(outcome)]


def _outcome(kind: int, code: int) -> Outcome | None:
    if kind == 0:
        return None
    if kind == _RESPONDED:
        return Responded(code)
    if kind == _TIMED_OUT:
        return TimedOut(code / 1e6)
    return _words.outcome(code) or _KINDS[kind](WORDS_GONE)  # type: ignore[arg-type]


def _microseconds(seconds: float) -> int:
    microseconds = round(seconds * 1e6)
    return microseconds if 0 <= microseconds < _NO_DURATION else max(0, min(microseconds, _NO_DURATION - 1))
