"""Owns the forms in which Redis answers, and how an answer is read: the other side of scripts.py.

Rules: an answer that is not of the form which was asked for is `LogAway`: whatever is at the other end, it is no Redis
of ours. It is judged once, here. So what is made of it afterwards raises nothing but bugs. Entries' ids are looked at,
the rest is anybody's text.
"""

import re
from typing import Any, TypeVar

import msgspec

from hookd.relay.entry import Entry
from hookd.relay.log_troubles import LogAway

T = TypeVar("T")

_ENTRY_ID = re.compile(rb"\d{1,20}-\d{1,20}")


class _Form(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A Lua table with this in order; a `false` in it is None."""


class Found(_Form):
    """An entry with its fields, its whole size (0: it was trimmed), and where that was asked for, its deliveries."""

    entry_id: bytes
    client_id: bytes | None
    type: bytes | None
    event_id: bytes | None
    payload: bytes | None
    expires_at: bytes | None
    size: int
    deliveries: int = 0


class NamedEntry(_Form):
    entry_id: bytes
    client_id: bytes | None
    event_id: bytes | None


class PassedBy(_Form):
    client_id: bytes
    entries: int
    beyond: int


class Reader(_Form):
    name: bytes
    pending: int
    idle_milliseconds: int


class ReadAnswer(_Form):
    last_id: bytes
    is_dry: int
    found: list[Found]
    passed: list[PassedBy]


class SurveyAnswer(_Form):
    lag: int | None
    pending: int
    members: list[Reader]


class SettleAnswer(_Form):
    done: int
    failed: list[bytes]
    problem: bytes


class ParkAnswer(_Form):
    gone: list[bytes]
    beyond: int


class TakeBackAnswer(_Form):
    found: list[Found]
    trimmed: list[bytes]
    beyond: int


class TakeOverAnswer(_Form):
    named: list[NamedEntry]
    trimmed: list[bytes]
    cursors: list[bytes]  # a feed's URL, its cursor, and so on
    found: int


class FetchAnswer(_Form):
    found: list[Found]
    lost: list[bytes]


def of_form(answer: Any, form: type[T]) -> T:
    """Raises LogAway."""
    try:
        return msgspec.convert(answer, form, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise LogAway(f"no answer to what was asked: {error}") from error


def entry_id(value: bytes) -> str:
    """As text. Raises LogAway where it is none."""
    if _ENTRY_ID.fullmatch(value) is None:
        raise LogAway(f"no entry's id: {value[:40]!r}")
    return value.decode()


def text(value: bytes | None) -> str:
    """What is not there is empty."""
    return (value or b"").decode(errors="replace")


def pairs(values: list[bytes]) -> dict[str, str]:
    """Raises LogAway where one has no other."""
    if len(values) % 2:
        raise LogAway(f"no pairs: {len(values)}")
    texts = [text(one) for one in values]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def named(found: NamedEntry) -> Entry:
    """By its names alone; those of an entry that has none are empty, and no daemon knows it."""
    return Entry(entry_id(found.entry_id), text(found.client_id), text(found.event_id))
