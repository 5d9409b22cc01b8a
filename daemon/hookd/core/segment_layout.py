"""Owns how the flight recorder's room is cut into segments, and how much of it unsettled events may take.

Rules: a segment holds at least four of the largest rows, so that at most a quarter of it is left over at its end; rows
take at most half of the segments that are not kept free, so that carrying them always frees some.
"""

import msgspec

from hookd.core.record import largest_row_bytes

SEGMENT_BYTES_MIN = 256 * 1024
SEGMENTS_KEPT_FREE = 4
# Of `recorder.bytes_max`: with less there is hardly room for a row.
SEGMENTS_MAX_LEAST = 8
_ROWS_IN_SEGMENT_MIN = 4
_PAGE_BYTES = 4096
# A row of one delivery: an id as made here, a URL of 60 characters, a type and a client of 16.
TYPICAL_ROW_BYTES = 200


class SegmentLayout(msgspec.Struct, frozen=True):
    row_bytes: int  # the largest row
    segment_bytes: int
    segments_max: int

    @property
    def bytes_max_least(self) -> int:
        return self.segment_bytes * SEGMENTS_MAX_LEAST

    def rows_bytes_max(self, segments: int) -> int:
        """How much the rows of unsettled events may take of so many segments."""
        return max(0, segments - SEGMENTS_KEPT_FREE) * (self.segment_bytes - self.row_bytes) // 2

    def events_max(self, bytes_max: int, *, payload_bytes: int) -> int:
        """About how many unsettled events of one delivery fit into so many bytes, each with such a payload."""
        segments = min(self.segments_max, bytes_max // self.segment_bytes)
        return self.rows_bytes_max(segments) // (TYPICAL_ROW_BYTES + payload_bytes)


def layout(bytes_max: int, *, payload_bytes_max: int, endpoints_max: int) -> SegmentLayout:
    """`payload_bytes_max` is 0 where the recorder holds no payloads."""
    row_bytes = largest_row_bytes(payload_bytes_max, endpoints_max)
    pages = -(-row_bytes * _ROWS_IN_SEGMENT_MIN // _PAGE_BYTES)
    segment_bytes = max(SEGMENT_BYTES_MIN, pages * _PAGE_BYTES)
    return SegmentLayout(row_bytes, segment_bytes, bytes_max // segment_bytes)
