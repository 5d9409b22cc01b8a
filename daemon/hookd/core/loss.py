"""Owns what a report lists as undelivered, in short: how much, whose, since when, and whether it can be sent again.

Rules: the endpoints owed most come first, as the report has them. The rest is counted.
Limits: LARGEST_MAX endpoints of three texts of TEXT_CHARACTERS_MAX each, 5 KiB with all. A report names up to 320,000.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from hookd.core.report import CRASH, ClientLine, Recorded, Summary, Undelivered
from hookd.core.timestamps import parse_rfc3339, rfc3339

LARGEST_MAX = 10
# What stands in a file may be of any length; no id and no error of ours is longer than that on one line.
TEXT_CHARACTERS_MAX = 100


class Largest(NamedTuple):
    """The endpoints owed most, and what the others are owed."""

    shown: Sequence[ClientLine]
    more_endpoints: int
    more_deliveries: int


class Loss(msgspec.Struct, frozen=True):
    """Of one report. Times are RFC 3339."""

    was_killed: bool
    ended_at: str  # of a killed run: when it was last heard of
    deliveries: int
    by_class: Undelivered
    oldest_accepted_at: str | None  # None: the report does not say
    largest: tuple[ClientLine, ...]
    more_endpoints: int
    more_deliveries: int
    has_payloads: bool
    is_whole: bool  # False: more may be lost than what is listed


def largest(summary: Summary) -> Largest:
    rest = summary.clients[LARGEST_MAX:]
    return Largest(summary.clients[:LARGEST_MAX], len(rest), sum(line.undelivered for line in rest))


def loss_of(summary: Summary) -> Loss:
    found = largest(summary)
    recorder = summary.recorder
    return Loss(
        was_killed=summary.trigger == CRASH,
        ended_at=summary.stopped_at,
        deliveries=summary.deliveries.undelivered,
        by_class=summary.undelivered,
        oldest_accepted_at=_oldest(summary.clients),
        largest=tuple(_clipped(line) for line in found.shown),
        more_endpoints=found.more_endpoints,
        more_deliveries=found.more_deliveries,
        has_payloads=summary.payloads is not False,
        is_whole=not isinstance(recorder, Recorded) or recorder.is_whole,
    )


def _oldest(lines: Sequence[ClientLine]) -> str | None:
    """Times of one form are in order as text, too."""
    return _time(min((line.oldest_accepted_at for line in lines), default=None))


def _time(text: str | None) -> str | None:
    """None where it is no time: anything may stand in a file."""
    with suppress(ValueError):
        return None if text is None else rfc3339(parse_rfc3339(text))
    return None


def _clipped(line: ClientLine) -> ClientLine:
    error = line.last_error
    return ClientLine(
        client_id=line.client_id[:TEXT_CHARACTERS_MAX],
        endpoint_id=line.endpoint_id[:TEXT_CHARACTERS_MAX],
        undelivered=line.undelivered,
        oldest_accepted_at=_time(line.oldest_accepted_at) or "",
        failing_since=_time(line.failing_since),
        last_error=None if error is None else error[:TEXT_CHARACTERS_MAX],
    )
