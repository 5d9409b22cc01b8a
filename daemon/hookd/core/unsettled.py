"""Owns the order of unsettled events: of all clients, or of one; each is found by its sequence, and gives its place up.

Rules:
 1. They stand in chunks, by sequence. Those that are admitted come in by that order, and so by `since`.
 2. One that is unsettled again, and not the newest by its sequence, stands apart: by `since` it comes after all others
    so far, by sequence before some.
 3. A chunk that has become small takes in the one after it. So one that waits among many that settled costs little.
 4. A full chunk is a tuple until one of it goes. The collector forgets a tuple of events, and looks through a list at
    each full collection: with all of a million in lists that held the loop for 130 ms.
It holds the same events as the budget counts; what is unsettled, and since when, is the ledger's to say.
Limits: 9 B an event, 40 B where most have settled, and 30 to 105 B an event that is unsettled again. In a dict each
took 42 to 105 B. To come in and to go take a microsecond.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import chain
from operator import attrgetter

from hookd.core.event import Event

CHUNK_EVENTS = 256
SMALL_EVENTS = CHUNK_EVENTS // 8

_since, _sequence = attrgetter("since"), attrgetter("sequence")


class Unsettled:
    __slots__ = ("_again", "_chunks", "_firsts")

    def __init__(self) -> None:
        self._chunks: list[list[Event] | tuple[Event, ...]] = []  # none is empty
        self._firsts: list[int] = []  # of each chunk: no sequence in it is lower, and all before it are
        self._again: dict[int, Event] | None = None  # by sequence, in order of `since`; as nearly always, none

    def __bool__(self) -> bool:
        return bool(self._chunks or self._again)

    def __len__(self) -> int:
        return sum(map(len, self._chunks)) + len(self._again or ())

    def __iter__(self) -> Iterator[Event]:
        """In order of `since`."""
        in_chunks = chain.from_iterable(self._chunks)
        return merge(in_chunks, self._again.values(), key=_since) if self._again else in_chunks

    def by_sequence(self) -> Iterator[Event]:
        """In order of admission."""
        in_chunks = chain.from_iterable(self._chunks)
        return (
            merge(in_chunks, sorted(self._again.values(), key=_sequence), key=_sequence) if self._again else in_chunks
        )

    def slices(self, rows: int) -> Iterator[Sequence[Event]]:
        """What is here now, so many at a time: those that were unsettled all along by admission, then the others.

        What has settled meanwhile may be among the others; nothing that comes in from here on is.
        """
        again = list(self._again.values()) if self._again else []
        return self._slices(rows, self._chunks[-1][-1].sequence if self._chunks else 0, again)

    def _slices(self, rows: int, last: int, again: list[Event]) -> Iterator[Sequence[Event]]:
        after = 0
        while found := self._after(after, rows):
            after = found[-1].sequence
            yield found if after <= last else [event for event in found if event.sequence <= last]
            if after >= last:
                break
        for start in range(0, len(again), rows):
            yield again[start : start + rows]

    def _after(self, sequence: int, most: int) -> list[Event]:
        """The next that were admitted later, at most so many, those of `_again` apart."""
        found: list[Event] = []
        for at in range(max(0, bisect_right(self._firsts, sequence) - 1), len(self._chunks)):
            chunk = self._chunks[at]
            place = 0 if found else bisect_right(chunk, sequence, key=_sequence)
            found += chunk[place : place + most - len(found)]
            if len(found) == most:
                break
        return found

    def oldest(self) -> Event | None:
        """By `since`."""
        return next(iter(self), None)

    def find(self, sequence: int) -> Event | None:
        if self._again and (event := self._again.get(sequence)) is not None:
            return event
        at = bisect_right(self._firsts, sequence) - 1
        if at < 0:
            return None
        chunk = self._chunks[at]
        place = bisect_left(chunk, sequence, key=_sequence)
        return chunk[place] if place < len(chunk) and chunk[place].sequence == sequence else None

    def add(self, event: Event) -> None:
        """It is not here yet, and no event here has a later `since`."""
        chunks, sequence = self._chunks, event.sequence
        if not chunks:
            chunks.append([event])
            self._firsts.append(sequence)
            return
        last = chunks[-1]
        if sequence < last[-1].sequence:
            self._again = self._again or {}
            self._again[sequence] = event
        elif type(last) is list and len(last) < CHUNK_EVENTS:
            last.append(event)
        else:
            chunks[-1] = tuple(last)
            chunks.append([event])
            self._firsts.append(sequence)

    def remove(self, event: Event) -> None:
        """Raises KeyError where it is not here."""
        if self._again is not None and self._again.pop(event.sequence, None) is not None:
            self._again = self._again or None
            return
        chunks, sequence = self._chunks, event.sequence
        count = len(chunks)
        at = count - 1 if count < 2 else bisect_right(self._firsts, sequence) - 1
        if at < 0:
            raise KeyError(sequence)
        chunk = chunks[at]
        size, place = len(chunk), sequence - chunk[0].sequence  # at most: as a rule a few before it have settled
        if place:
            place = bisect_left(chunk, sequence, 0, place + 1 if place < size else size, key=_sequence)
        if place == size or chunk[place] is not event:
            raise KeyError(sequence)
        if isinstance(chunk, tuple):
            chunk = chunks[at] = list(chunk)
        del chunk[place]
        size -= 1
        if size > 2 and not size & (size - 1):  # half of what it was
            chunks[at] = chunk[:]  # a list of Python 3.13 gives back nothing by itself
        if not size or (size < SMALL_EVENTS and at + 1 < count):
            self._mend(at)

    def _mend(self, at: int) -> None:
        """A chunk has become small: it takes in the next, or is gone."""
        chunks, chunk = self._chunks, self._chunks[at]
        if not chunk:
            del chunks[at], self._firsts[at]
        elif isinstance(chunk, list) and at + 1 < len(chunks) and len(chunks[at + 1]) <= CHUNK_EVENTS // 2:
            chunk += chunks[at + 1]
            del chunks[at + 1], self._firsts[at + 1]
