"""Owns where the newest row of an unsettled event stands in the flight recorder: its segment, and how long it is.

Rules: rows of one length in one segment share a place, so each costs its event one field. A segment that is full takes
no more rows, and forgets which places they share.
It knows no events: a segment has their sequences, which are the records' serials.
Limits: 8 B a row and one place for each length of row in a segment; where every row has a length of its own, 48 B more.
"""

from collections import deque

import msgspec


class RowPlace(msgspec.Struct, gc=False, eq=False):
    segment: "Segment"
    bytes: int


class Segment:
    __slots__ = ("_places", "number", "serials", "unsettled")

    def __init__(self, number: int) -> None:
        self.number = number
        self.serials: deque[int] = deque()  # of the rows in it, in their order; of some the event has settled since
        self.unsettled = 0
        self._places: dict[int, RowPlace] = {}  # by the length of the row

    def take(self, serial: int, row_bytes: int) -> RowPlace:
        """A row was written here."""
        self.serials.append(serial)
        self.unsettled += 1
        place = self._places.get(row_bytes)
        if place is None:
            place = self._places[row_bytes] = RowPlace(self, row_bytes)
        return place

    def close(self) -> None:
        """It is full."""
        self._places.clear()
