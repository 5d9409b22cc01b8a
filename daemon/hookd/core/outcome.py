"""Owns what one attempt came to: an `Outcome` is a value, never an exception and never a pair of flags.

Being cancelled is not an outcome: an attempt cut by a stop has none. `match` an outcome once and end with
`assert_never`. The verdict on an outcome is core/retry's, what follows from it is core/ledger's.
"""

from typing import Literal, assert_never

import msgspec


class Responded(msgspec.Struct, frozen=True, gc=False):
    """A complete final status line and head arrived, whatever the status."""

    status_code: int


class TimedOut(msgspec.Struct, frozen=True, gc=False):
    """The attempt's one deadline passed before a final head arrived."""

    timeout_seconds: float


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """Refused, DNS, TLS or reset: no final head, and the network is why."""

    error: str


class Blocked(msgspec.Struct, frozen=True, gc=False):
    """The address policy forbids the address; nothing was sent."""

    address: str


class Invalid(msgspec.Struct, frozen=True, gc=False):
    """What came back is not HTTP or over budget, or the attempt itself failed unexpectedly."""

    error: str


Outcome = Responded | TimedOut | Unreachable | Blocked | Invalid
OutcomeName = Literal["responded", "timed_out", "unreachable", "blocked", "invalid"]


class Exchange:
    """What is known so far of one attempt's request and answer: written by the sender, read when the attempt ends.

    It outlives a cancelled `send`, so that a cut or timed out attempt still says how much of it went out.
    """

    __slots__ = (
        "answer",
        "excerpt",
        "reconnected",
        "request_sent",
        "retry_after",
        "sending_started",
        "unanswered_before",
    )

    def __init__(self) -> None:
        self.sending_started = False  # a byte of the request may have left
        self.request_sent = False  # the whole request was written: the client may have it
        self.answer: Responded | None = None  # the final head; decides, whatever becomes of the body
        self.retry_after: str | None = None  # the header of the final head, as it came
        self.reconnected = False  # a kept connection turned out stale, and the request was sent once more on a new one
        self.unanswered_before = False  # that kept connection took it and gave no answer: the client may have it
        self.excerpt = b""  # the first bytes of the response's body


def name(outcome: Outcome) -> OutcomeName:
    """The outcome's public word, as in the API, the log and the report."""
    match outcome:
        case Responded():
            return "responded"
        case TimedOut():
            return "timed_out"
        case Unreachable():
            return "unreachable"
        case Blocked():
            return "blocked"
        case Invalid():
            return "invalid"
        case _:
            assert_never(outcome)


def status_code(outcome: Outcome | None) -> int | None:
    return outcome.status_code if isinstance(outcome, Responded) else None


def error(outcome: Outcome | None) -> str | None:
    """What went wrong, in words; None for an answer, whose status code says it."""
    match outcome:
        case None | Responded():
            return None
        case TimedOut():
            return f"no answer within {outcome.timeout_seconds:g} s"
        case Unreachable() | Invalid():
            return outcome.error
        case Blocked():
            return f"address {outcome.address} is not allowed"
        case _:
            assert_never(outcome)


def is_success(outcome: Outcome) -> bool:
    return type(outcome) is Responded and 200 <= outcome.status_code <= 299
