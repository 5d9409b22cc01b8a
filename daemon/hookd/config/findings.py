"""Gathers what is wrong with a configuration, each mistake with its place: `FILE:LINE: key: what is wrong`.

Rules: all mistakes are gathered, and shown in the order of the file. What is not in the file comes last. Two settings
that clash are one mistake, and only where neither of them is mistaken by itself.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hookd.config.file import ConfigFile
from hookd.config.toml_lines import KeyPath
from hookd.core.settings_checks import Conflict


class Origin(NamedTuple):
    """Where a key was given: what stands before a message about it, and the line that the message is sorted by."""

    shown: str
    line: int = 2**31  # not in the file: last


class Findings:
    """The mistakes and warnings found so far in one configuration."""

    def __init__(self, file: ConfigFile) -> None:
        self.file = file
        self.origins: dict[str, Origin] = {}  # key -> where it was given
        self.warnings: list[str] = []
        self._mistakes: list[tuple[int, str]] = []  # (line, text)
        self._mistaken: set[str] = set()  # keys

    def note_in_file(self, path: KeyPath, detail: str) -> None:
        line = self.file.line(path)
        self._mistaken.add(shown(path))
        self._mistakes.append((line, f"{self.file.name}:{line}: {shown(path)}: {detail}"))

    def note(self, key: str, detail: str) -> None:
        origin = self.origins.get(key, Origin(key))
        self._mistaken.add(key)
        self._mistakes.append((origin.line, f"{origin.shown}: {detail}"))

    def mistake_lines(self) -> tuple[str, ...]:
        """Ready to print."""
        return tuple(text for _, text in sorted(self._mistakes, key=lambda mistake: mistake[0]))

    def note_conflicts(self, found: Iterable[Conflict]) -> None:
        mistaken = frozenset(self._mistaken)  # as it was: one clash must not hide the next of the same key
        for keys, detail in found:
            if mistaken.isdisjoint(keys):
                # Name the key somebody set: the one it clashes with may be a default they never saw.
                key = next((key for key in keys if key in self.origins), keys[0])
                self.note(key, detail if key == keys[0] else f"{keys[0]} {detail}")


def shown(path: KeyPath) -> str:
    """clients[0].endpoints[1].url"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
