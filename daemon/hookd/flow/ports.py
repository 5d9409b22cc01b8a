"""Owns what the flow needs from the world, each as a protocol with one production implementation in edge/.

Whatever is not ours (clocks, network, logs, jitter, ids) comes in through these, so that the whole daemon runs in
virtual time.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.log_line import Line
from hookd.core.loss import Loss
from hookd.core.outcome import Exchange, Outcome
from hookd.core.timestamps import Moment


class Clock(Protocol):
    def now(self) -> Moment: ...


class LoopWatch(Protocol):
    """Measures how long the event loop keeps everyone waiting."""

    @property
    def longest_seconds(self) -> float:
        """The longest turn of the loop since `begin_anew`."""
        ...

    def begin_anew(self) -> None: ...


class NothingWatched:
    """For virtual time, which stands still while anything runs."""

    longest_seconds = 0.0

    def begin_anew(self) -> None:
        pass


class Log(Protocol):
    """One line; never blocks, never raises. Fields hold no payload, no secret and no URL query."""

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None: ...

    def made(self, line: Line) -> None:
        """The same of a line that is made already, as those are that come with each event."""
        ...


class Channel(Log, Protocol):
    """The log, and text for people between its lines."""

    def text(self, text: str) -> None: ...


class DeliveryRequest(msgspec.Struct, frozen=True, gc=False):
    """One POST, ready to go out."""

    client_id: str
    endpoint_id: str
    url: str
    headers: Sequence[tuple[str, str]]  # of this attempt
    body: bytes
    endpoint_headers: tuple[tuple[str, str], ...] = ()  # beside them, the same at each attempt
    egress: EndpointEgress | None = None  # how it is reached; None: straight
    traceparent: str | None = None  # of the event
    trace_context: bool = False  # whether the endpoint gets one


class Pruned(msgspec.Struct, frozen=True):
    """What became of the reports that are older than those to keep."""

    deleted: int
    held: int  # kept all the same: they list undelivered deliveries that nobody claimed


class Unclaimed(msgspec.Struct, frozen=True):
    """A report that lists something undelivered and that nobody took up yet."""

    path: str
    run_id: str | None  # None: the report cannot be read
    loss: Loss | None = None  # what it lists; None: it cannot be read, or nobody looked


class Sender(Protocol):
    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        """Sends once and returns what came of it; `exchange` is kept current all the while.

        It takes no timeout: the caller's cancel scope bounds it. It raises nothing but Cancelled and our own bugs.
        """
        ...


# A number in [0, 1], new at each call.
JitterUnit = Callable[[], float]
