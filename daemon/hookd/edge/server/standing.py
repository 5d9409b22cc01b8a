"""Owns the names for what a connection does that could make room, in the order in which those go (room.py)."""

from enum import IntEnum


class Use(IntEnum):
    """Of a connection that could make room."""

    LINGERS = 0  # it has ended its own side, and waits for the peer's end
    KEPT = 1  # and idle, between two requests
    HEADLESS = 2  # no whole head has come


# Until when it may go on, in the loop's time.
Standing = tuple[Use, float]
