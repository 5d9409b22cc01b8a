"""A receiver whose port is closed, then opens: given up with its reason, delivered in time, and retried by hand."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from hookd.demo.acts.act import Act, counted
from hookd.demo.acts.neighbour import Neighbour, neighbour_of, post_for
from hookd.demo.pace import ATTEMPTS_MAX
from hookd.demo.receivers import quick
from hookd.demo.stage import Stage


class DownSeen(msgspec.Struct, frozen=True, kw_only=True):
    neighbour: Neighbour
    given_up: dict[str, Any]  # the first event's delivery, exhausted
    in_time: dict[str, Any]  # that of an event that was waiting when the receiver came up
    later: dict[str, Any]
    retried: dict[str, Any]  # the first one again, after `POST …/retry`
    arrived: dict[str, list[int]]  # event id -> the attempt numbers that arrived
    posted: list[str]  # ids: given up, in time, later

    def figures(self) -> list[str]:
        attempted = counted(Counter(attempt["outcome"] for attempt in self.given_up["attempts"]))
        return [
            self.neighbour.figure(),
            f"down: the first event is {self.given_up['status']} ({self.given_up['reason']}) after {attempted}",
            f"up again: the one that waited is {_at_attempt(self.in_time)}, a new one {_at_attempt(self.later)}",
            f"POST .../retry of the first: {_at_attempt(self.retried)}",
            f"the receiver got {sum(map(len, self.arrived.values()))} requests under {len(self.arrived)} webhook-ids",
        ]

    def differences(self) -> Iterator[str]:
        yield from self.neighbour.differences()
        found = (self.given_up["status"], self.given_up["reason"], self.given_up["attempt_count"])
        if found != ("exhausted", "attempts_used", ATTEMPTS_MAX):
            yield f"the first event is {found}; promised: exhausted, attempts_used, {ATTEMPTS_MAX}"
        if any(one["outcome"] != "unreachable" or one["request_sent"] for one in self.given_up["attempts"]):
            yield "an attempt at a closed port is not told as unreachable and unsent"
        for name, delivery in (("waiting", self.in_time), ("new", self.later), ("retried", self.retried)):
            if delivery["status"] != "delivered":
                yield f"the receiver is up, and the {name} event is {delivery['status']}"
        last = [delivery["attempt_count"] for delivery in (self.retried, self.in_time, self.later)]
        expected = {event_id: [number] for event_id, number in zip(self.posted, last, strict=True)}
        if self.arrived != expected:
            yield f"attempts arrived as {self.arrived}, not as {expected}"


def _down(stage: Stage) -> DownSeen:
    healthy, down = stage.client("healthy", quick), stage.client("down", quick, up=False)
    first = stage.post("down", "demo.down")
    neighbours = post_for(1.5, stage, "healthy")
    stage.wait(lambda: stage.event("down", first)["settled_at"] is not None, "the first event to be given up")
    given_up = stage.delivery("down", first)
    second = stage.post("down", "demo.down")
    stage.wait(lambda: stage.delivery("down", second)["status"] == "failed", "a failed attempt of the second event")
    down.come_up()
    stage.show("down is up: the event that waited comes, a new one too, and the first one by `hookd retry`.")
    later = stage.post("down", "demo.down")
    stage.wait_settled(["down", "healthy"])
    in_time, new = stage.delivery("down", second), stage.delivery("down", later)
    stage.ask(202).post(f"/v1/clients/down/events/{first.id}/retry", b"")
    stage.wait_settled(["down"])
    arrived: dict[str, list[int]] = {}
    for arrival in down.arrivals:
        arrived.setdefault(arrival.webhook_id, []).append(arrival.attempt_number)
    return DownSeen(
        neighbour=neighbour_of(healthy, neighbours),
        given_up=given_up,
        in_time=in_time,
        later=new,
        retried=stage.delivery("down", first),
        arrived=arrived,
        posted=[first.id, second.id, later.id],
    )


def _at_attempt(delivery: Mapping[str, Any]) -> str:
    return f"{delivery['status']} at attempt {delivery['attempt_count']}"


DOWN = Act(
    "down",
    f"an event is attempted at most {ATTEMPTS_MAX} times here, always under its own webhook-id, and is then "
    "exhausted, saying why, or delivered if the receiver comes back in time. Retry reopens it. Nobody else waits.",
    "a receiver's port is closed; it opens after one event is given up and while another waits.",
    _down,
)
