"""The configuration file: a TOML document, and the line of each of its keys.

`ConfigurationError` carries what is wrong with a configuration, in lines that are ready to print.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from hookd.config.named_file import read_named
from hookd.config.toml_lines import KeyPath, key_lines

# 20,000 clients of 16 endpoints take a fifth of it.
CONFIG_BYTES_MAX = 1 << 28


class ConfigurationError(Exception):
    """`lines` are ready to print, in the order of the file."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class UnreadableConfiguration(ConfigurationError):
    """The file itself cannot be read: it is not there, is a folder, or is not ours to read."""


class ConfigFile:
    """A TOML file's content, and the line each of its keys stands on."""

    def __init__(self, name: str, document: dict[str, Any], lines: dict[KeyPath, int]) -> None:
        self.name = name
        self.document = document
        self._lines = lines

    @classmethod
    def read(cls, path: str | None) -> "ConfigFile":
        """Without a path an empty one. Raises ConfigurationError, of the one or the other kind."""
        if path is None:
            return cls("", {}, {})
        try:
            text = read_named(Path(path), bytes_max=CONFIG_BYTES_MAX)[0].decode()
            document = tomllib.loads(text)
        except OSError as error:
            raise UnreadableConfiguration((f"{path}: cannot be read: {error.strerror or error}",)) from None
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigurationError((f"{path}:{line}: the file is not UTF-8",)) from None
        except (ValueError, RecursionError) as error:  # an over-long number and deep nesting are no TOMLDecodeError
            raise ConfigurationError((_syntax_line(path, error),)) from None
        return cls(path, document, key_lines(text))

    def line(self, path: KeyPath) -> int:
        """The line of the nearest key at or above `path`."""
        return next((self._lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._lines), 1)

    @property
    def directory(self) -> Path:
        """The folder that it stands in."""
        return Path(self.name).parent


def _syntax_line(path: str, error: Exception) -> str:
    message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    found = re.search(r" \(at line ([0-9]+), column ([0-9]+)\)$", message)
    if found is None:
        return f"{path}: not TOML: {message}"
    return f"{path}:{found[1]}: not TOML: {message[: found.start()]} (column {found[2]})"
