"""Traffic for seven receivers at once, six of them with a fault: everything ends, and the totals balance.

Where it is to go on until Enter it posts for POSTING_SECONDS_MAX at most, which bounds what the receivers record: some
60,000 requests, 30 MB.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hookd.core.health import WINDOW_START
from hookd.core.plurals import plural
from hookd.demo.acts.act import Act, Seen, counted
from hookd.demo.acts.crowd import Crowd, Weather
from hookd.demo.acts.neighbour import Neighbour, neighbour_of
from hookd.demo.receivers import Receiver
from hookd.demo.stage import Posted, Stage

TRAFFIC_SECONDS = 3
TRAFFIC_EVERY_SECONDS = 0.1
LOOK_EVERY_SECONDS = 5.0
POSTING_SECONDS_MAX = 600.0
# How a client's events may end; those of the others are all delivered.
ENDS = {"down": {"delivered", "exhausted"}, "gone": {"exhausted"}}


class TrafficSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    posted: dict[str, int]
    statuses: dict[str, dict[str, int]]  # client -> status -> events
    unbalanced: int
    looks: int
    rests: int  # answers of 429 with Retry-After
    came_early: int  # requests before it was over
    came_paused: int  # requests to the one that an operator had paused
    gone_asked: int  # requests to the one that answers 410
    gone_resumes: int

    def figures(self) -> list[str]:
        ended = [
            f"{client}: {self.posted[client]} posted = {counted(found)}" for client, found in self.statuses.items()
        ]
        rests = f"{self.rests} {plural('rest', self.rests)} by Retry-After"
        return [
            self.neighbour.figure(),
            *ended,
            f"busy: {rests}, and {self.came_early} requests came too early",
            f"held got {self.came_paused} while it was paused; gone, which answers 410, got {self.gone_asked} in all",
            f"the daemon's totals balanced at {self.looks} looks",
        ]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        for client, found in self.statuses.items():
            if set(found) - ENDS.get(client, {"delivered"}) or sum(found.values()) != self.posted[client]:
                yield f"{client}: {self.posted[client]} admitted, and they ended as {found}"
        if not self.rests:
            yield "nobody answered with Retry-After, so nothing was shown of it"
        if self.came_early:
            yield f"{self.came_early} requests came before the time that Retry-After named"
        if self.came_paused:
            yield f"{self.came_paused} requests came to an endpoint that an operator had paused"
        if not 0 < self.gone_asked <= WINDOW_START * (1 + self.gone_resumes):
            yield f"an endpoint that answers 410, resumed {self.gone_resumes} times, got {self.gone_asked} requests"
        if self.unbalanced:
            yield f"the totals did not balance at {self.unbalanced} looks"


def _traffic(stage: Stage, is_over: Callable[[float], bool], looks_every_seconds: float) -> TrafficSeen:
    """`is_over` is asked with the seconds that it has lasted."""
    crowd = Crowd(stage)
    posted: dict[str, list[Posted]] = {client: [] for client in crowd.receivers}
    looks: list[bool] = []
    began = time.monotonic()
    look_at = itertools.count(looks_every_seconds, looks_every_seconds)
    next_look = next(look_at)
    while not is_over(seconds := time.monotonic() - began):
        crowd.change(Weather.after(seconds))
        if seconds < POSTING_SECONDS_MAX:
            for client, events in posted.items():
                events.append(stage.post(client, f"demo.{client}"))
        if seconds >= next_look:
            next_look = next(look_at)
            looks.append(_say_clients(stage, crowd.receivers, posted, seconds))
        time.sleep(TRAFFIC_EVERY_SECONDS)
    looks.append(_say_clients(stage, crowd.receivers, posted, seconds))
    stage.show("the receivers mend, all but the one that is gone: what waits is delivered.")
    crowd.mend()
    stage.wait_settled(crowd.receivers)
    looks.append(_say_clients(stage, crowd.receivers, posted, time.monotonic() - began))
    return TrafficSeen(
        neighbour=neighbour_of(crowd.receivers["healthy"], posted["healthy"]),
        posted={client: len(events) for client, events in posted.items()},
        statuses={client: stage.statuses(client, events) for client, events in posted.items()},
        unbalanced=looks.count(False),
        looks=len(looks),
        rests=len(crowd.receivers["busy"].rests),
        came_early=crowd.came_early,
        came_paused=crowd.came_paused,
        gone_asked=len(crowd.receivers["gone"].arrivals),
        gone_resumes=crowd.weather.resumes,
    )


def _say_clients(
    stage: Stage, receivers: Mapping[str, Receiver], posted: Mapping[str, Sequence[Posted]], seconds: float
) -> bool:
    """The clients as they stand, where no table shows them; whether the daemon's totals balance."""
    if not stage.board.is_drawn:
        stage.say(f"  after {seconds:4.1f} s  state      posted  answered 2xx  unsettled  in flight  last outcome")
        for client, receiver in receivers.items():
            stage.say(_client_line(client, receiver, len(posted[client]), stage.health(client)))
    return is_balanced(stage.status()["events"])


def _client_line(client: str, receiver: Receiver, posted: int, health: Mapping[str, Any]) -> str:
    last = health["last_outcome"] or {}
    return (
        f"    {client:<10}  {health['state']:<9}{posted:>8}{len(receiver.answered):>14}"
        f"{health['unsettled']:>11}{health['in_flight']:>11}  {last.get('status_code') or last.get('outcome', '-')}"
    )


def is_balanced(events: Mapping[str, int]) -> bool:
    return events["accepted"] == sum(events[word] for word in ("pending", "failed", "delivered", "exhausted"))


def traffic_act(seconds: int) -> Act:
    return _act(
        f"{seconds} s of events",
        lambda stage: _traffic(stage, lambda lasted: lasted >= seconds, min(seconds / 2, LOOK_EVERY_SECONDS)),
    )


def endless_act() -> Act:
    """Until Enter."""
    return _act(
        "events until Enter is pressed,",
        lambda stage: _traffic(stage, lambda _lasted: stage.board.enter.is_set(), LOOK_EVERY_SECONDS),
        ends_on_enter=True,
    )


def _act(events: str, observe: Callable[[Stage], Seen], *, ends_on_enter: bool = False) -> Act:
    return Act(
        "traffic",
        "while the process lives, every admitted event is attempted until it is delivered or given up, and the totals "
        "balance at every moment. Nobody waits for another's endpoint. Retry-After, 410 and an operator are obeyed.",
        f"{events} for a healthy, a slow, a flaky, a dead, a busy, a paused and a gone receiver; then they mend.",
        observe,
        ends_on_enter,
    )
