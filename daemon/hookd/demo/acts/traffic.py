"""Traffic for a healthy, a slow, a flaky and a dead receiver at once: everything ends, and the totals balance."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from hookd.demo.acts.act import Act, counted
from hookd.demo.acts.neighbour import Neighbour, neighbour_of
from hookd.demo.receivers import Receiver, Reply, flaky, quick
from hookd.demo.stage import Posted, Stage

TRAFFIC_SECONDS = 3
TRAFFIC_EVERY_SECONDS = 0.1


class TrafficSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    posted: dict[str, int]
    statuses: dict[str, dict[str, int]]  # client -> status -> events
    unbalanced: int
    looks: int

    def figures(self) -> list[str]:
        ended = [
            f"{client}: {self.posted[client]} posted = {counted(found)}" for client, found in self.statuses.items()
        ]
        return [self.neighbour.figure(), *ended, f"the daemon's totals balanced at {self.looks} looks"]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        for client, found in self.statuses.items():
            allowed = {"delivered", "exhausted"} if client == "down" else {"delivered"}
            if set(found) - allowed or sum(found.values()) != self.posted[client]:
                yield f"{client}: {self.posted[client]} admitted, and they ended as {found}"
        if self.unbalanced:
            yield f"the totals did not balance at {self.unbalanced} looks"


def _traffic(stage: Stage, seconds: int) -> TrafficSeen:
    receivers = {
        "healthy": stage.client("healthy", quick),
        "slow": stage.client("slow", lambda _number, _refused: Reply(after_seconds=0.45)),
        "flaky": stage.client("flaky", flaky),
        "down": stage.client("down", quick, up=False),
    }
    posted: dict[str, list[Posted]] = {client: [] for client in receivers}
    looks: list[bool] = []
    began = time.monotonic()
    look_at = itertools.count(began + min(seconds / 2, 5), min(seconds / 2, 5))
    next_look = next(look_at)
    while (now := time.monotonic()) < began + seconds:
        for client, events in posted.items():
            events.append(stage.post(client, f"demo.{client}"))
        if now >= next_look:
            next_look = next(look_at)
            looks.append(_say_clients(stage, receivers, posted, now - began))
        time.sleep(TRAFFIC_EVERY_SECONDS)
    looks.append(_say_clients(stage, receivers, posted, seconds))
    receivers["slow"].behave = quick
    receivers["down"].come_up()
    for event in stage.events("down", status="failed")[:100]:  # now, and not when a pause of the endpoint ends
        stage.ask(202, 200).post(f"/v1/clients/down/events/{event['id']}/retry", b"")
    stage.wait_settled(receivers)
    looks.append(_say_clients(stage, receivers, posted, time.monotonic() - began))
    return TrafficSeen(
        neighbour=neighbour_of(receivers["healthy"], posted["healthy"]),
        posted={client: len(events) for client, events in posted.items()},
        statuses={client: stage.statuses(client, events) for client, events in posted.items()},
        unbalanced=looks.count(False),
        looks=len(looks),
    )


def _say_clients(
    stage: Stage, receivers: Mapping[str, Receiver], posted: Mapping[str, Sequence[Posted]], seconds: float
) -> bool:
    """The clients as they stand; whether the daemon's totals balance."""
    stage.say(f"  after {seconds:4.1f} s  state      posted  answered 2xx  unsettled  in flight  last outcome")
    for client, receiver in receivers.items():
        health = stage.health(client)
        last = health["last_outcome"] or {}
        stage.say(
            f"    {client:<10}  {health['state']:<9}{len(posted[client]):>8}{len(receiver.answered):>14}"
            f"{health['unsettled']:>11}{health['in_flight']:>11}  {last.get('status_code') or last.get('outcome', '-')}"
        )
    return is_balanced(stage.status()["events"])


def is_balanced(events: Mapping[str, int]) -> bool:
    return events["accepted"] == sum(events[word] for word in ("pending", "failed", "delivered", "exhausted"))


def traffic_act(seconds: int) -> Act:
    return Act(
        "traffic",
        "while the process lives, every admitted event is attempted until it is delivered or given up, and the totals "
        "balance at every moment. Nobody waits for another's endpoint.",
        f"{seconds} s of events for a healthy, a slow, a flaky and a dead receiver; then the last two mend.",
        lambda stage: _traffic(stage, seconds),
    )
