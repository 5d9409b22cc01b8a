"""Owns the telling of ports that raised: the ledger's step went on, and somebody must mend what raised.

Rules: the recorder fails once, and that has a line of its own. Of the others, what repeats is counted (the ledger's
`port_failures`) and said again when it changes: a feed that fails fails thousands of times a second.
"""

import traceback

from hookd.core.guard import RECORDER, said_of
from hookd.flow.ports import Log


class PortFailureLog:
    """For the ledger's `on_port_failed`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._said: dict[str, str] = {}  # by the port's name

    def __call__(self, port: str, error: Exception) -> None:
        said = said_of(error)
        if self._said.get(port) == said:
            return
        self._said[port] = said
        event = "recorder.failed" if port == RECORDER else "port.failed"
        trace = "".join(traceback.format_exception(error))
        self._log(event, level="error", port=port, error=said, traceback=trace)
