"""What an act is: a promise, how it is put to the test, and what was seen, which is then judged.

Rules: an act first observes (`_slow`, `_down`, ...: a frozen `...Seen`) and then compares: `differences` is pure.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from hookd.demo.stage import Stage


class Seen(Protocol):
    """What an act observed."""

    def figures(self) -> list[str]: ...

    def differences(self) -> Iterator[str]: ...


class Act(NamedTuple):
    name: str
    promise: str
    does: str
    observe: Callable[[Stage], Seen]
    ends_on_enter: bool = False  # it watches the board for that, and then judges; other acts are cut


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
