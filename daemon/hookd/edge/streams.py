"""Owns the process's standard streams: they are there, and writing to one neither raises nor waits.

Rules: 0, 1 and 2 are taken before anything else is opened. One that was closed would be given to the next file, a
socket or the flight recorder, and the log would be written into that. What a stream does not take at once (a full
pipe that nobody reads, a full disk) is dropped, and whoever wrote hears of it. Used before the log is there, and for
the lines that are data.
"""

import os
import select
import sys

STDOUT, STDERR = 1, 2
# What a pipe that is ready takes without waiting.
WRITE_BYTES_MAX = 4096


def secure() -> None:
    """What is closed becomes /dev/null."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", STDOUT, "w"), ("stderr", STDERR, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def say(fd: int, text: str) -> str | None:
    """Writes it as it is; what kept it from being written whole, or None."""
    data = text.encode(errors="backslashreplace")
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    try:
        while data:
            if not ready.poll(0):
                return "it is full, and nobody reads it"
            data = data[os.write(fd, data[:WRITE_BYTES_MAX]) :]
    except OSError as error:
        return error.strerror or str(error)
    return None
