"""Owns what an endpoint subscribes to: entries of `event_types`, read once for a registration.

Rules:
 * `*` stands for any run of characters, an empty one too. An entry without it is an exact type.
 * An entry with a leading `!` says what is not wanted. It wins over every other entry, wherever it stands.
 * Where all entries begin with `!`, every other type is wanted.
 * One look at a type takes time linear in its length: between `*` and `*` the leftmost place is always good enough, so
   nothing is tried twice.
Limits: EVENT_TYPES_MAX entries of ENTRY_CHARS_MAX each (core/client_schema). An entry with `*` takes PATTERN_BYTES
besides its text, and PART_BYTES for each `*` between two others.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

PATTERN_BYTES, PART_BYTES = 240, 72


class Pattern(NamedTuple):
    """One entry with `*`."""

    beginning: str
    between: tuple[str, ...]  # in this order, without overlap
    end: str

    @classmethod
    def of(cls, entry: str) -> Self:
        beginning, *between, end = entry.split("*")
        return cls(beginning, tuple(part for part in between if part), end)

    def matches(self, event_type: str) -> bool:
        at, end = len(self.beginning), len(event_type) - len(self.end)
        if end < at or not (event_type.startswith(self.beginning) and event_type.endswith(self.end)):
            return False
        for part in self.between:
            found = event_type.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


class Entries(NamedTuple):
    """Either what is wanted or what is not."""

    types: frozenset[str]
    patterns: tuple[Pattern, ...]

    @classmethod
    def of(cls, entries: Iterable[str]) -> Self:
        given = tuple(entries)
        exact = frozenset(entry for entry in given if "*" not in entry)
        return cls(exact, tuple(Pattern.of(entry) for entry in given if "*" in entry))

    @property
    def comparisons(self) -> int:
        """How many texts one type is compared with at most."""
        return 1 + sum(1 + len(pattern.between) for pattern in self.patterns)

    def match(self, event_type: str) -> bool:
        return event_type in self.types or any(pattern.matches(event_type) for pattern in self.patterns)


class Subscription(NamedTuple):
    wanted: Entries | None  # None: every type
    unwanted: Entries | None

    @classmethod
    def of(cls, event_types: Sequence[str]) -> Self | None:
        """None where every type is wanted."""
        wanted = [entry for entry in event_types if not entry.startswith("!")]
        unwanted = [entry[1:] for entry in event_types if entry.startswith("!")]
        if not event_types:
            return None
        return cls(Entries.of(wanted) if wanted else None, Entries.of(unwanted) if unwanted else None)

    @property
    def comparisons(self) -> int:
        """How many texts one type is compared with at most: about 0.4 us each. Who looks at many counts them."""
        return sum(entries.comparisons for entries in (self.wanted, self.unwanted) if entries is not None)

    def wants(self, event_type: str) -> bool:
        if self.unwanted is not None and self.unwanted.match(event_type):
            return False
        return self.wanted is None or self.wanted.match(event_type)


def held_bytes(event_types: Sequence[str]) -> int:
    """What the entries' patterns take at most, their texts twice: as they were given, and in parts."""
    return sum(
        len(entry) + PATTERN_BYTES + PART_BYTES * entry.count("*") if "*" in entry else PART_BYTES
        for entry in event_types
    )
