"""Owns what may be wrong with the log, Redis: three troubles, which redis_log raises and the relay goes on from.

Whatever else comes out of them is a bug of ours. It ends the relay.
"""


class LogAway(Exception):
    """Redis does not answer, or refuses; the message says what it said. What was asked may be done or not."""


class LogRefused(Exception):
    """Redis refuses our name or password."""


class GroupGone(Exception):
    """The stream, or its group, is not there."""
