"""Owns who has connected and has no task yet: accepted quickly, and started some in each turn of the event loop.

A probe stands behind all that connected before it, and to serve one of those takes ten times as long as to accept it.
So it is accepted first, and what it brought is looked at. Whoever may yet be a probe comes before whoever is none.

Rules:
 * Of a connection's first bytes FIRST_BYTES are read. A plain probe (probes.py) is answered there and then.
 * Who has sent nothing yet, and a probe that is not plain, are started at once. Over TLS that is everyone: nobody can
   tell what they bring.
 * Who brought something else, or has its answer, waits in line: STARTED_PER_TURN of those, first come, first served.
 * Who is accepted while there is a place has that place. Where there is none, a plain probe takes none: its answer is
   the connection's last. Of others a few are accepted, and come first: each displaces one, or is refused.

Limits: so many wait as there are places, and `beyond_max` more.
"""

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from hookd.edge.server.arrivals import FIRST_BYTES, read_now, write_now
from hookd.edge.server.probes import Probes
from hookd.edge.server.sockets import BACKLOG, CannotBind

# 0.04 ms each, a plain probe's answer included.
ACCEPTED_PER_TURN = 128
# 0.1 ms each, to where they wait at the gate.
STARTED_PER_TURN = 16


@dataclass(frozen=True, slots=True)
class Newcomer(trio.abc.AsyncResource):
    """`first` is what it brought, as far as that was read; None: nothing yet. `is_answered`: that was a plain probe."""

    stream: trio.SocketStream
    first: bytes | None
    is_answered: bool
    has_place: bool

    async def aclose(self) -> None:
        await self.stream.aclose()


class Reception:
    """Of one server, for all that it listens on.

    `room`: places that no connection has. `is_last`: whether each answer is its connection's last by now.
    """

    def __init__(
        self, probes: Probes, *, room: Callable[[], int], beyond_max: int, is_last: Callable[[], bool]
    ) -> None:
        self._probes, self._room, self._beyond_max, self._is_last = probes, room, beyond_max, is_last
        self.placed = self.beyond = 0  # so many wait: with a place, and without

    @property
    def has_place(self) -> bool:
        """Whether there is one for the next."""
        return self._room() > self.placed

    @property
    def is_open(self) -> bool:
        """Whether one more may be accepted."""
        return self.has_place or self.beyond < self._beyond_max

    def is_probe(self, first: bytes) -> bool:
        return self._probes.begins(first)

    def answer(self, first: bytes) -> tuple[bytes, bool] | None:
        """As `Probes.answer`."""
        return self._probes.answer(first, is_last=self._is_last() or not self.has_place)

    def enter(self, stream: trio.SocketStream, first: bytes | None, *, is_answered: bool) -> Newcomer:
        """It waits from here on, until it leaves."""
        newcomer = Newcomer(stream, first, is_answered, self.has_place)
        self._count(newcomer, 1)
        return newcomer

    def leave(self, newcomer: Newcomer) -> None:
        self._count(newcomer, -1)

    def _count(self, newcomer: Newcomer, change: int) -> None:
        if newcomer.has_place:
            self.placed += change
        else:
            self.beyond += change


def listen(one: socket.socket, url: str, reception: Reception, *, is_tls: bool) -> "Listener":
    """Raises CannotBind."""
    try:
        one.listen(BACKLOG)
    except OSError as error:  # two may bind the same address with SO_REUSEADDR; only one may listen
        raise CannotBind(url, error) from error
    return Listener(one, reception, is_tls=is_tls)


class Listener(trio.abc.Listener[Newcomer]):
    """Hands out, in each turn of the event loop, those who are started in it. Trio's own takes one a turn."""

    def __init__(self, one: socket.socket, reception: Reception, *, is_tls: bool) -> None:
        self._socket = one
        self._reception, self._is_tls = reception, is_tls
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(one))
        self._due: deque[Newcomer] = deque()  # in this turn
        self._line: deque[Newcomer] = deque()
        self._waiting = trio.CancelScope()
        self._is_left = False

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    async def accept(self) -> Newcomer:
        """Does not wait where one is due in this turn. Raises OSError as trio's does."""
        while not self._due and not (self._is_left and not self._line):
            with trio.CancelScope() as self._waiting:
                await trio.lowlevel.checkpoint()
                await self._take_turn()
        if not self._due:
            await trio.sleep_forever()  # until the server stops
        return self._due.popleft()

    async def _take_turn(self) -> None:
        for _ in range(0 if self._is_left else ACCEPTED_PER_TURN):
            if not self._reception.is_open or not self._take():
                break
        if not self._due and not self._line and self._reception.is_open and not self._is_left:
            self._meet(await self._listener.accept())
        for _ in range(min(STARTED_PER_TURN, len(self._line))):
            self._due.append(self._line.popleft())

    def leave(self) -> None:
        """Takes no more: what connects from here on is for whoever else has this socket open."""
        self._is_left = True
        self._waiting.cancel()

    async def aclose(self) -> None:
        """Those that wait have connected, and may have asked: they are among `last`. The kernel would reset them."""
        for _ in range(0 if self._is_left else BACKLOG):
            if not self._take():
                break
        await self._listener.aclose()

    def last(self) -> list[Newcomer]:
        """Who was taken and not handed out, for once: the caller's to serve or to close."""
        last = [*self._due, *self._line]
        self._due.clear()
        self._line.clear()
        return last

    def _take(self) -> bool:
        """Whether there was one."""
        try:
            found, _ = self._socket.accept()
        except OSError:  # there is none; whatever else it is, the next wait says
            return False
        self._meet(trio.SocketStream(trio.socket.from_stdlib_socket(found)))
        return True

    def _meet(self, stream: trio.SocketStream) -> None:
        first, answer = None, None
        try:
            if not self._is_tls and (first := read_now(stream, FIRST_BYTES)):
                answer = self._reception.answer(first)
                if answer is not None:
                    write_now(stream.socket, answer[0])  # all of it: nothing else is in the system's buffer
        except trio.BrokenResourceError:
            first = b""
        if first == b"" or (answer is not None and answer[1]):
            stream.socket.close()
            return
        newcomer = self._reception.enter(stream, first, is_answered=answer is not None)
        may_be_probe = answer is None and (first is None or self._reception.is_probe(first))
        (self._due if may_be_probe or not newcomer.has_place else self._line).append(newcomer)
