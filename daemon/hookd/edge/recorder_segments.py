"""Owns one run's segments as files: how they are made, mapped, named, given back and removed.

Rules:
 1. A file gets the name of a segment last: the name says that it is in the log, and that its header stands.
 2. Whatever is removed goes from the old end: what is left must not say that something is unsettled which a later
    segment settles.
 3. Room is allocated before it is written (posix_fallocate). So a full file system is an error, and no signal later.
 4. Segments are mapped, not written: 0.1 to 0.3 us a record, against 2. So a file that somebody cuts ends the process
    at the next record (SIGBUS), as a kill would; `prove` finds it first where nothing happens meanwhile.
The folder is edge/recorder_files's; what the records say is core/recorder's.
"""

import errno
import mmap
from collections.abc import Callable
from typing import Protocol

from hookd.core.segment_store import Store

# There may be room, or a descriptor, in a moment. Whatever else keeps a file from being made will not pass.
_NO_ROOM_NOW = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class Files(Protocol):
    """Those of the folder, by their names. Each call raises OSError."""

    def create(self, name: str, size: int) -> None: ...

    def map(self, name: str, size: int) -> mmap.mmap: ...

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def prove(self, name: str, size: int) -> None: ...


class Segments(Store):
    def __init__(self, files: Files, run_id: str, segment_bytes: int) -> None:
        self._files = files
        self._run_id = run_id
        self._segment_bytes = segment_bytes
        self._spares: list[str] = []
        self._made = 0
        self._in_log: set[int] = set()
        self._newest = -1
        self._mapped: mmap.mmap | None = None

    def allocate(self) -> bool:
        name = f"{self._run_id}-{self._made}.spare"
        try:
            self._files.create(name, self._segment_bytes)
        except OSError as error:
            if error.errno not in _NO_ROOM_NOW:
                raise
            return False
        self._made += 1
        self._spares.append(name)
        return True

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        spare = self._spares[-1]
        mapped = self._files.map(spare, self._segment_bytes)
        mapped[:] = bytes(self._segment_bytes)
        mapped.write(header)
        self._files.rename(spare, self._name(number))
        self._spares.pop()
        self._in_log.add(number)
        self._newest = number
        if self._mapped is not None:
            self._mapped.close()
        self._mapped = mapped
        return mapped.write  # goes on behind what it wrote before

    def drop(self, number: int, *, keep: bool) -> None:
        if keep:
            spare = f"{self._run_id}-{self._made}.spare"
            self._files.rename(self._name(number), spare)
            self._made += 1
            self._spares.append(spare)
        else:
            self._files.unlink(self._name(number))
        self._in_log.remove(number)

    def prove(self) -> None:
        self._files.prove(self._name(self._newest), self._segment_bytes)

    def break_off(self) -> None:
        """The newest segment becomes longer than its header says: that takes neither room nor a descriptor."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            try:
                mapped.resize(self._segment_bytes + 1)
            finally:
                mapped.close()

    def discard(self) -> None:
        """Goes on where one cannot be removed, and raises the first OSError then. One that is gone is removed."""
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
        errors = []
        for name in (*map(self._name, sorted(self._in_log)), *self._spares):
            try:
                self._files.unlink(name)
            except FileNotFoundError:
                pass  # somebody else has removed it
            except OSError as error:
                errors.append(error)
        self._in_log.clear()
        self._spares.clear()
        if errors:
            raise errors[0]

    def _name(self, number: int) -> str:
        return f"{self._run_id}-{number}.segment"
