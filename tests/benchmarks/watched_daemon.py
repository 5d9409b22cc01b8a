"""The daemon with a watch on its event loop: each turn over 2 ms is written to a file as end, wall and CPU seconds.

A turn is what lies between two looks at the sockets: so long a peer waits. Its CPU time is the daemon's own doing;
what is more of its wall time, other programs of the machine took.

    python -m tests.benchmarks.watched_daemon FILE run ...
"""

import os
import struct
import sys
import time
from typing import Any

import trio

TURN = struct.Struct("ddd")
SECONDS_MIN = 0.002


class TurnWatch(trio.abc.Instrument):
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._began = self._cpu = 0.0

    def after_io_wait(self, timeout: float) -> None:
        self._began, self._cpu = time.monotonic(), time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        now = time.monotonic()
        if self._began and now - self._began >= SECONDS_MIN:
            os.write(self._fd, TURN.pack(now, now - self._began, time.thread_time() - self._cpu))


def main() -> None:
    fd = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    run = trio.run

    def watched_run(*given: Any, instruments: Any = (), **named: Any) -> Any:
        return run(*given, instruments=[*instruments, TurnWatch(fd)], **named)

    trio.run = watched_run
    from hookd.__main__ import main as hookd

    hookd()


if __name__ == "__main__":
    main()
