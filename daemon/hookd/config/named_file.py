"""Owns how a file that the operator named is read: it is never waited for, and no more of it is read than there may be.

A name may lead to anything: a FIFO that nobody writes, a device without an end, a log that grew over the configuration.
At SIGHUP the running daemon reads in its event loop, with everything that it holds in memory.
A pipe (`--config <(…)`) is read to its end, for as long as what comes does not stop for WAIT_SECONDS_MAX.
"""

import errno
import os
import select
from pathlib import Path

WAIT_SECONDS_MAX = 1.0
_AT_ONCE_BYTES = 1 << 20


def read_named(path: Path, *, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """The whole file, and what it is.

    Raises OSError, also where it is longer or nothing comes from it; ValueError for a NUL in its name.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = bytearray()
        while more := _read(fd):
            data += more
            if len(data) > bytes_max:
                raise OSError(errno.EFBIG, f"it is longer than {bytes_max:,} bytes")
        return bytes(data), os.fstat(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    """What comes next; nothing at the end. A FIFO without a writer is at its end."""
    try:
        return os.read(fd, _AT_ONCE_BYTES)
    except BlockingIOError:
        if not select.select([fd], [], [], WAIT_SECONDS_MAX)[0]:
            raise OSError(errno.ETIMEDOUT, f"nothing comes from it for {WAIT_SECONDS_MAX:g} s") from None
        return os.read(fd, _AT_ONCE_BYTES)
