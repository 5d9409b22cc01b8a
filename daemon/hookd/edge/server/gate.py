"""Owns whose turn it is: what arrives on the connections goes on so many at a time, in each turn of the event loop.

A turn of Trio's loop is one step of every task that can go on. Without a gate, a hundred peers that ask at once make
each turn a hundred steps long, and whoever asks for `/livez` waits for five of those turns or more.

Rules:
 * First come, first served. Where fewer come in a turn than may pass, nobody waits, and no turn is lost.
 * What waits has not been read yet: it is held by the system, not here, but for FIRST_BYTES (arrivals.py).
 * A connection waits for one thing at a time: it has one place, however much it sends.
 * Probes have a gate of their own, so that they pass those who wait; and one for those that cost next to nothing
   (probes.py). Each is bounded too: a flood of probes waits for itself.
 * Who is cancelled leaves the line, and holds up nobody.

Does not: weigh what passes. Work that is long is cut into slices where it is done.
"""

from dataclasses import dataclass, field

import trio

# What follows a request's passing takes 0.6 ms in all, over some eight turns: so these are 5 ms of each turn.
REQUESTS_PER_TURN = 8
PROBES_PER_TURN = 4
# 0.1 ms each.
PLAIN_PROBES_PER_TURN = 32


class TurnCount(trio.abc.Instrument):
    """Tells the turns of one event loop apart, once it is among the loop's instruments."""

    def __init__(self) -> None:
        self.number = 0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's
        self.number += 1


class Gate:
    def __init__(self, per_turn: int, turns: TurnCount) -> None:
        self._per_turn = per_turn
        self._turns = turns
        self._turn = self._passed = 0  # so many passed in that turn
        self._line = trio.lowlevel.ParkingLot()
        self._caller: trio.lowlevel.Task | None = None  # among those who wait, who lets the next ones pass

    @property
    def waiting(self) -> int:
        return self._line.statistics().tasks_waiting + (self._caller is not None)

    def passes(self) -> bool:
        """Whether one more may go on at once, and then it has passed. Else it has to `wait`."""
        if self._turn != self._turns.number:
            self._turn, self._passed = self._turns.number, 0
        if self._caller is not None or self._passed >= self._per_turn:
            return False
        self._passed += 1
        return True

    async def wait(self) -> None:
        """Until all that came before have passed, and this one may."""
        me = trio.lowlevel.current_task()
        if self._caller is None:
            self._caller = me
            await trio.lowlevel.cancel_shielded_checkpoint()  # a turn; cancelled or not, it calls the next ones
        else:
            await self._line.park()
        if self._caller is me:
            self._call()

    def _call(self) -> None:
        """The next ones pass in the next turn, and the last of them calls again."""
        called = self._line.unpark(count=self._per_turn)
        self._caller = called[-1] if called else None
        self._turn, self._passed = self._turns.number, self._per_turn  # nobody else in this turn


@dataclass(frozen=True, slots=True)
class Gates:
    """Of one server."""

    turns: TurnCount = field(default_factory=TurnCount)
    requests: Gate = field(init=False)
    probes: Gate = field(init=False)
    plain_probes: Gate = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "requests", Gate(REQUESTS_PER_TURN, self.turns))
        object.__setattr__(self, "probes", Gate(PROBES_PER_TURN, self.turns))
        object.__setattr__(self, "plain_probes", Gate(PLAIN_PROBES_PER_TURN, self.turns))
