"""The board: what the demo is at, for whoever draws it.

Rules: the acts' thread writes, the one that draws reads. Each field is replaced whole, so no lock is needed.

Limits: SAID_MAX lines are kept; an act says at most some forty.
"""

import threading
from collections import deque
from typing import NamedTuple

from hookd.demo.interruptions import Interruptions

SAID_MAX = 500


class Scene(NamedTuple):
    """The act that is played, the `number`th of `acts`."""

    name: str = ""
    number: int = 0
    acts: int = 0
    does: str = ""


class Verdict(NamedTuple):
    name: str
    holds: bool


class Board:
    """`is_drawn`: a table is on the terminal, and what is said goes there. `now`: the act's sentence, if it has one."""

    def __init__(self, *, is_drawn: bool = False) -> None:
        self.is_drawn = is_drawn
        self.scene = Scene()
        self.now = ""
        self.clients: tuple[str, ...] = ()  # of this act
        self.verdicts: tuple[Verdict, ...] = ()
        self.url = ""
        self.pid = 0
        self.enter = threading.Event()  # it was pressed
        self.interruptions = Interruptions()
        self._said: deque[str] = deque(maxlen=SAID_MAX)

    def begin(self, scene: Scene) -> None:
        self.scene, self.now, self.clients = scene, "", ()

    def show_client(self, client_id: str) -> None:
        if client_id not in self.clients:
            self.clients = (*self.clients, client_id)

    def judge(self, *, holds: bool) -> None:
        self.verdicts = (*self.verdicts, Verdict(self.scene.name, holds))

    def say(self, line: str) -> None:
        self._said.extend(line.splitlines())

    def said(self) -> list[str]:
        return list(self._said.copy())  # the copy is one step: the other thread may be saying something
