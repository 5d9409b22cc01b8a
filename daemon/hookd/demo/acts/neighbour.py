"""The healthy client beside a misbehaving one: posted to meanwhile, and never to wait for its neighbour."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from hookd.demo.pace import TIMEOUT_SECONDS
from hookd.demo.receivers import Receiver
from hookd.demo.stage import Posted, Stage


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """The healthy client that is served beside a misbehaving one."""

    posted: int
    delivered: int
    slowest_seconds: float  # from before the POST to the arrival

    def figure(self) -> str:
        slowest = f"the slowest {self.slowest_seconds * 1000:.0f} ms after it was posted"
        return f"healthy: {self.delivered} of {self.posted} delivered meanwhile, {slowest}"

    def differences(self) -> Iterator[str]:
        if self.delivered != self.posted:
            yield f"{self.posted - self.delivered} events of the healthy client did not arrive"
        if self.slowest_seconds >= TIMEOUT_SECONDS:
            yield f"an event of the healthy client took {self.slowest_seconds:.1f} s: it waited for its neighbour"


def neighbour_of(receiver: Receiver, events: Sequence[Posted]) -> Neighbour:
    arrived: dict[str, float] = {}
    for arrival in receiver.arrivals:
        arrived.setdefault(arrival.webhook_id, arrival.at)
    waits = [arrived[event.id] - event.at for event in events if event.id in arrived]
    delivered = sum(event.id in receiver.answered for event in events)
    return Neighbour(posted=len(events), delivered=delivered, slowest_seconds=max(waits, default=math.inf))


def post_for(seconds: float, stage: Stage, client_id: str, *, each: Callable[[], None] = lambda: None) -> list[Posted]:
    """Posts an event every 50 ms."""
    events = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        events.append(stage.post(client_id, f"demo.{client_id}"))
        each()
        time.sleep(0.05)
    return events
