"""What happened in order, as a hash and on request as lines; and the coverage: which fault met which transition."""

import hashlib
from collections import Counter


class Trace:
    def __init__(self, *, keeps_lines: bool) -> None:
        self._hash = hashlib.sha256()
        self._keeps_lines = keeps_lines
        self.lines: list[str] = []
        self.coverage: Counter[tuple[str, str]] = Counter()  # (transition, fault)
        self.ends: Counter[tuple[str, str]] = Counter()  # (how a run ended, its recorder)
        self.ports: Counter[tuple[str, str]] = Counter()  # (when it raised, which call of which port)
        self.counts: Counter[str] = Counter()

    def add(self, time: float, *parts: object) -> None:
        line = f"{time:.6f} {' '.join(map(str, parts))}"
        self._hash.update(line.encode())
        if self._keeps_lines:
            self.lines.append(line)

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()[:32]
