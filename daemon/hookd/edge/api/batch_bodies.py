"""Owns how the body of a batch is read: counted, taken apart, and its items read, in slices where it is long.

Rules: the items are counted before any of them is built. A short body is read without a wait, in one pass where nothing
in it is wrong (core/short_batch). Of the long ones one at a time is taken apart, and others have a turn meanwhile;
nothing of it is admitted before all of it is read.

Worst case beside the body: body_budget.BODY_MULTIPLE times its size, of one body at a time.
"""

from collections.abc import Callable
from typing import Self, TypeVar

import trio

from hookd.core.batch import Span, array_spans, is_short_array, line_spans, read_array, too_many
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Submission
from hookd.core.short_batch import read_short_batch
from hookd.core.text_check import text_checks
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.slices import Slices

T = TypeVar("T")

# Such a body of so many items is read in 5 ms at most, in one go.
SHORT_BODY_BYTES = 64 * 1024
SHORT_BODY_ITEMS = 200
# An item costs more than its bytes: with a thousand brackets its depth is counted, 50 ns each.
ITEM_SLICE_BYTES = 32 * 1024


class BatchBodies:
    """One for the daemon."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective

    def turn(self) -> "Turn":
        """To be entered while a body is read and admitted."""
        return Turn(this_request().exchange.body.long_bodies)

    def read_short(self, body: bytes, *, client_id: str | None) -> tuple["Items", list[Submission]] | None:
        """The events of a short JSON array of which nothing is refused. None: `read` it."""
        intake = self._effective.settings.intake
        submissions = read_short_batch(
            body,
            client_id=client_id,
            payload_bytes_max=intake.payload_bytes_max,
            items_max=min(intake.batch_events_max, SHORT_BODY_ITEMS),
        )
        return None if submissions is None else (Items(body, None), submissions)

    async def read(
        self, turn: "Turn", body: bytes, read: Callable[[bytes, int], T], *, is_lines: bool
    ) -> tuple["Items", list[T]]:
        """The items, and what `read` makes of each and its index. Raises TooLarge, Malformed or InvalidEvent."""
        is_long = len(body) > SHORT_BODY_BYTES
        if is_long:
            await turn.take()
        items = await self._items(body, is_lines=is_lines)
        if not is_long and len(items) > SHORT_BODY_ITEMS:
            is_long = True
            await turn.take()
        slices = Slices(bytes_at_once=ITEM_SLICE_BYTES)
        made = []
        for index in range(len(items)):
            item = items[index]
            made.append(read(item, index))
            if is_long:
                await slices.did(len(item))
        if is_long:
            await trio.lowlevel.checkpoint()
        return items, made

    async def _items(self, body: bytes, *, is_lines: bool) -> "Items":
        events_max = self._effective.settings.intake.batch_events_max
        if not is_lines and len(body) <= SHORT_BODY_BYTES and is_short_array(body):
            items = read_array(body)
            if len(items) > events_max:
                raise too_many(events_max)
            return Items(body, items)
        is_long = len(body) > SHORT_BODY_BYTES
        for _ in text_checks(body):
            if is_long:
                await trio.lowlevel.checkpoint()
        spans: list[Span] = []
        slices = Slices()
        for span in line_spans(body) if is_lines else array_spans(body):
            if len(spans) == events_max:
                raise too_many(events_max)
            spans.append(span)
            if is_long:
                await slices.did(span[1] - span[0])
        return Items(body, spans)


class Turn:
    """One request's place in the line of those that read a long body; a short one never stands in it."""

    def __init__(self, one_at_a_time: trio.Lock) -> None:
        self._one_at_a_time = one_at_a_time
        self._is_taken = False

    async def take(self) -> None:
        """Waits until nobody else reads a long body."""
        await self._one_at_a_time.acquire()
        self._is_taken = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_taken:
            self._one_at_a_time.release()


class Items:
    """The items of one body; each is cut out of it when it is asked for."""

    def __init__(self, body: bytes, found: list[bytes] | list[Span] | None) -> None:
        """`found` is None of a short array, which is taken apart once somebody asks for an item."""
        self._body = body
        self._maybe_found = found

    @property
    def _found(self) -> list[bytes] | list[Span]:
        if self._maybe_found is None:
            self._maybe_found = read_array(self._body)
        return self._maybe_found

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> bytes:
        found = self._found[index]
        return found if isinstance(found, bytes) else self._body[found[0] : found[1]].strip()
