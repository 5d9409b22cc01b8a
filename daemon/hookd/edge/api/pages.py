"""Owns how the page of a listing is made: in slices, one at a time, and no longer than PAGE_BYTES_MAX.

Rules: what would make a page too long begins the next one; a page holds at least one row. Each row is of the instant at
which it is made, and counts as a held answer from then on.
Limits: 1 MiB, or one row where that is longer; the whole once more while the page is put together.
"""

from typing import Generic, TypeVar, cast

import msgspec

from hookd.edge.api.answer_budget import CountedAnswer
from hookd.edge.api.slices import Slices

PAGE_BYTES_MAX = 2**20
# 3 ms.
SLICE_BYTES = 32 * 1024

_encode = msgspec.json.Encoder().encode


R = TypeVar("R", bound=msgspec.Struct)


class Page(Generic[R]):
    """The rows of one page, encoded."""

    def __init__(self, answer: CountedAnswer) -> None:
        self._answer = answer
        self._slices = Slices(bytes_at_once=SLICE_BYTES)
        self._bytes = 0
        self._rows: list[msgspec.Raw] = []

    async def add(self, row: R) -> bool:
        """False where the row has no room any more, and begins the next page. Raises Full."""
        data = _encode(row)
        if self._rows and self._bytes + len(data) > PAGE_BYTES_MAX:
            return False
        self._answer.grow(len(data))
        self._bytes += len(data)
        self._rows.append(msgspec.Raw(data))
        await self._slices.did(len(data))
        return True

    @property
    def rows(self) -> list[R]:
        """They stand for themselves where the page is encoded."""
        return cast(list[R], self._rows)
