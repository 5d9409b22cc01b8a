"""What an endpoint subscribes to: exact types, `*` anywhere, and what is not wanted."""

import re
import sys
import tracemalloc
from collections.abc import Sequence

import pytest
from hookd.core.client_schema import ENTRY_CHARS_MAX, EVENT_TYPES_MAX
from hookd.core.subscription import Subscription, held_bytes
from hypothesis import given
from hypothesis import strategies as st

TYPES = ("user.created", "user", "user.created.x", "invoice", "invoice.paid", "invoice.paid.late", "invoices.paid")


def wanted(*entries: str) -> list[str]:
    subscription = Subscription.of(entries)
    return [event_type for event_type in TYPES if subscription is None or subscription.wants(event_type)]


@pytest.mark.parametrize(
    ("entries", "types"),
    [
        ((), TYPES),
        (("*",), TYPES),
        (("user.created", "invoice.*"), ("user.created", "invoice.paid", "invoice.paid.late")),
        (("*.paid",), ("invoice.paid", "invoices.paid")),
        (("*voice*late",), ("invoice.paid.late",)),
        (("invoice*", "!invoice.*"), ("invoice", "invoices.paid")),
        (("!*.paid", "invoice.paid", "*"), ("user.created", "user", "user.created.x", "invoice", "invoice.paid.late")),
        (("!invoice*", "!user"), ("user.created", "user.created.x")),
        (("!*",), ()),
        (("user.*created",), ("user.created",)),  # an empty run
    ],
)
def test_entries_choose_types(entries: tuple[str, ...], types: Sequence[str]) -> None:
    """`*` is any run, an empty one too; `!` wins wherever it stands; `!` alone leaves every other type."""
    assert wanted(*entries) == list(types)


def test_parts_do_not_overlap() -> None:
    """`ab*ba` needs four characters."""
    assert not any(Subscription.of((entry,)).wants(text) for entry, text in [("ab*ba", "aba"), ("*aa*aa*", "aaa")])
    assert all(Subscription.of((entry,)).wants(text) for entry, text in [("ab*ba", "abba"), ("*aa*aa*", "xaaaa")])


def by_regular_expression(entries: Sequence[str], event_type: str) -> bool:
    def matches(entry: str) -> bool:
        return re.fullmatch(".*".join(map(re.escape, entry.split("*"))), event_type) is not None

    excluded = any(matches(entry[1:]) for entry in entries if entry.startswith("!"))
    wanted = [entry for entry in entries if not entry.startswith("!")]
    return not excluded and (not wanted or any(map(matches, wanted)))


ENTRIES = st.lists(st.from_regex(r"\A!?[ab.*]{1,7}\Z"), max_size=5)


@given(ENTRIES, st.text("ab.", min_size=1, max_size=10))
def test_choice_is_that_of_regular_expressions(entries: list[str], event_type: str) -> None:
    """Few letters make many near misses."""
    subscription = Subscription.of(entries)
    assert (subscription is None or subscription.wants(event_type)) == by_regular_expression(entries, event_type)


class Counted(str):
    """A type that counts how many characters `find` may look at."""

    __slots__ = ("looked_at",)
    looked_at: int

    def find(self, part: str, begin: int = 0, end: int = sys.maxsize) -> int:  # type: ignore[override]
        found = super().find(part, begin, end)
        self.looked_at += (found + len(part) if found >= 0 else min(end, len(self))) - begin
        return found


def test_one_look_is_linear_in_the_type() -> None:
    """What makes a regular expression try for ever: many `*` with the same letters between, and no match at the end."""
    event_type = Counted("a" * 128)
    event_type.looked_at = 0
    subscription = Subscription.of(("*a" * 64 + "*b", "*aa" * 40 + "*c*d"))
    assert subscription is not None
    assert not subscription.wants(event_type)
    assert event_type.looked_at <= 2 * len(event_type)


@pytest.mark.parametrize("entry", ["a" * 120, "a*" * 65, "*" * 130, "ab*" + "c" * 100, "!*" + "d" * 100])
def test_charge_covers_what_is_held(entry: str) -> None:
    """The texts themselves are the endpoint's, and charged there."""
    entries = tuple(f"{entry}{number:02}"[-ENTRY_CHARS_MAX:] for number in range(EVENT_TYPES_MAX))
    tracemalloc.start()
    try:
        subscription = Subscription.of(entries)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert subscription is not None
    assert held <= held_bytes(entries) + 2048  # and the subscription itself, once
