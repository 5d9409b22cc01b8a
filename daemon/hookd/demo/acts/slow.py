"""A receiver that accepts requests and never answers, then mends: bounded, timed out, retried, delivered."""

import time
from collections.abc import Iterable, Iterator

import msgspec

from hookd.core.health import WINDOW_START
from hookd.demo.acts.act import Act
from hookd.demo.acts.neighbour import Neighbour, neighbour_of, post_for
from hookd.demo.pace import CONCURRENCY, TIMEOUT_SECONDS
from hookd.demo.receivers import hang, quick
from hookd.demo.stage import Ids, Stage, ids_of


class SlowSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    posted: Ids
    attempts_timed_out: int
    in_flight_max: int  # as the daemon says
    in_flight_last: int  # the same, after the first timeouts
    at_once_max: int  # as arrived at the receiver, within less than the timeout
    delivered: Ids  # as the receiver answered
    statuses: dict[str, int]
    recovery_seconds: float

    def figures(self) -> list[str]:
        at_once = f"{self.in_flight_max} in flight (the receiver: {self.at_once_max}), then {self.in_flight_last}"
        again = f"{len(self.delivered)} of {len(self.posted)} delivered in {self.recovery_seconds:.1f} s"
        return [
            self.neighbour.figure(),
            f"slow: {len(self.posted)} events, {self.attempts_timed_out} attempts timed out, {at_once}",
            f"quick again: {again}, under their own webhook-ids",
        ]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        most = max(self.in_flight_max, self.at_once_max)
        if most > WINDOW_START:
            yield f"{most} in flight at once; an endpoint begins with {WINDOW_START}"
        if self.in_flight_last > 1:
            yield f"{self.in_flight_last} in flight after the first timeouts"
        if not self.attempts_timed_out:
            yield "no attempt at the hanging receiver timed out"
        if self.delivered != self.posted or self.statuses != {"delivered": len(self.posted)}:
            yield f"of {len(self.posted)} events {len(self.delivered)} arrived, and the daemon says {self.statuses}"


def _slow(stage: Stage) -> SlowSeen:
    healthy, slow = stage.client("healthy", quick), stage.client("slow", hang)
    events = [stage.post("slow", "demo.slow") for _ in range(2 * CONCURRENCY)]
    in_flight: list[int] = []
    neighbours = post_for(2.2, stage, "healthy", each=lambda: in_flight.append(stage.health("slow")["in_flight"]))
    slow.behave = quick
    stage.show("slow answers again: what waited for it is delivered, as fast as its window grows.")
    switched = time.monotonic()
    hung = [arrival.at for arrival in slow.arrivals if arrival.at < switched]
    stage.wait_settled(["healthy", "slow"])
    recovered = time.monotonic()
    timed_out = sum(
        attempt["outcome"] == "timed_out"
        for event in stage.named("slow", events)
        for attempt in event["deliveries"][0]["attempts"]
    )
    return SlowSeen(
        neighbour=neighbour_of(healthy, neighbours),
        posted=ids_of(events),
        attempts_timed_out=timed_out,
        in_flight_max=max(in_flight),
        in_flight_last=in_flight[-1],
        at_once_max=most_within(hung, TIMEOUT_SECONDS * 0.7),
        delivered=frozenset(slow.answered),
        statuses=stage.statuses("slow", events),
        recovery_seconds=recovered - switched,
    )


def most_within(times: Iterable[float], seconds: float) -> int:
    """How many of these times fall, at most, within so many seconds."""
    ordered = sorted(times)
    return max((sum(start <= at < start + seconds for at in ordered) for start in ordered), default=0)


SLOW = Act(
    "slow",
    "one client's endpoint, whatever it does, does not delay another's. The slow one gets two attempts at a time, "
    "after a timeout one; its events wait, are retried, and are delivered once it is quick again.",
    "one receiver accepts requests and never answers, another is healthy; then the first is quick.",
    _slow,
)
