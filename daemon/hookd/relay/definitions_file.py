"""Owns `--clients`: the file with the definitions of clients that a daemon may not know, as PUT /v1/clients takes them.

It is read again when it has changed, so that a new client needs no restart. Nothing that the name leads to is waited
for: it is read in the event loop, and before it while signals are held. Give secrets in it: a daemon that gets none
makes another each time.
"""

import os
from pathlib import Path
from typing import Protocol

import msgspec

FILE_BYTES_MAX = 64 * 2**20


class CannotRead(Exception):
    """The file is not there, or cannot be read."""


class NoDefinitions(Exception):
    """It is not of the form that is wanted."""


class _File(msgspec.Struct):
    clients: list[dict[str, msgspec.Raw]]


class ReadNamed(Protocol):
    def __call__(self, path: Path, *, bytes_max: int) -> tuple[bytes, os.stat_result]:
        """The whole file, and what it is; waits for no pipe. Raises OSError."""
        ...


_decoder = msgspec.json.Decoder(_File)
_text_decoder = msgspec.json.Decoder(str)


class DefinitionsFile:
    def __init__(self, path: str, read_named: ReadNamed) -> None:
        """Raises CannotRead or NoDefinitions."""
        self.path = Path(path)
        self._read_named = read_named
        self._stamp: tuple[int, int] | None = None
        self._definitions: dict[str, bytes] = {}
        self.refresh()

    def find(self, client_id: str) -> bytes | None:
        return self._definitions.get(client_id)

    def refresh(self) -> None:
        """Raises CannotRead or NoDefinitions; what was read before stays, then."""
        try:
            found = self.path.stat()
            if (found.st_mtime_ns, found.st_size) == self._stamp:
                return
            if found.st_size > FILE_BYTES_MAX:
                raise NoDefinitions(f"{self.path}: has {found.st_size:,} bytes; at most {FILE_BYTES_MAX:,} are read")
            data, _ = self._read_named(self.path, bytes_max=FILE_BYTES_MAX)
        except OSError as error:
            raise CannotRead(f"cannot read {self.path}: {error.strerror}") from error
        self._definitions = _read(self.path, data)
        self._stamp = found.st_mtime_ns, found.st_size


def _read(path: Path, data: bytes) -> dict[str, bytes]:
    try:
        clients = _decoder.decode(data).clients
        return {
            _text_decoder.decode(one["id"]): msgspec.json.encode({k: v for k, v in one.items() if k != "id"})
            for one in clients
        }
    except KeyError:
        raise NoDefinitions(f"{path}: a client has no id") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        form = '{"clients": [{"id": …, "endpoints": […]}, …]}'
        raise NoDefinitions(f"{path}: write {form}: {error}") from None
