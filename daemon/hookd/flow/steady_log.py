"""Owns the log as the flow has it: a line that cannot be made or taken is counted, and ends nothing.

A log that raises would leave what it tells of half done: an event that was admitted and never sent on.
"""

from typing import Protocol

from hookd.flow.ports import Channel


class CountedChannel(Channel, Protocol):
    @property
    def lines_dropped(self) -> int: ...


class SteadyLog:
    def __init__(self, log: CountedChannel) -> None:
        self._log = log
        self._failed = 0

    @property
    def lines_dropped(self) -> int:
        """Since the start; those that failed too."""
        return self._log.lines_dropped + self._failed

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        try:
            self._log(event, level=level, **fields)
        except Exception:  # where a line cannot be said, that cannot be said either
            self._failed += 1

    def text(self, text: str) -> None:
        try:
            self._log.text(text)
        except Exception:  # the file has the report
            self._failed += 1
