"""A receiver that answers 503 every other time: all delivered, under one webhook-id each, and signed."""

from collections.abc import Iterator

import msgspec

from hookd.demo.acts.act import Act, counted
from hookd.demo.receivers import flaky
from hookd.demo.stage import Ids, Stage, ids_of


class FlakySeen(msgspec.Struct, frozen=True, kw_only=True):
    posted: Ids
    statuses: dict[str, int]
    arrived: Ids
    refused: int  # answered 503
    delivered: int  # answered 2xx
    attempt_count: int  # as the daemon says
    unverified: int
    altered: int  # arrived with another body than was posted

    def figures(self) -> list[str]:
        requests = f"{self.refused + self.delivered} requests, {self.refused} of them answered 503"
        verified = self.refused + self.delivered - self.unverified
        return [
            f"flaky: {len(self.posted)} events, {requests}; the daemon counts {self.attempt_count} attempts",
            f"ended as {counted(self.statuses)}, under {len(self.arrived)} webhook-ids",
            f"signatures: {verified} verified (v1, HMAC-SHA256), {self.unverified} not; bodies altered: {self.altered}",
        ]

    def differences(self) -> Iterator[str]:
        if self.statuses != {"delivered": len(self.posted)}:
            yield f"not everything is delivered: {self.statuses}"
        if self.arrived != self.posted:
            yield f"{len(self.posted ^ self.arrived)} webhook-ids are not those of the events posted"
        if self.delivered < len(self.posted):
            yield f"{len(self.posted)} events and only {self.delivered} answers of 200"
        if not self.refused:
            yield "nothing was refused, so nothing was shown"
        if self.attempt_count != self.refused + self.delivered:
            yield f"{self.attempt_count} attempts counted, {self.refused + self.delivered} arrived"
        if self.unverified or self.altered:
            yield f"{self.unverified} signatures do not verify, {self.altered} bodies differ"


def _flaky(stage: Stage) -> FlakySeen:
    receiver = stage.client("flaky", flaky)
    events = [stage.post("flaky", "demo.flaky") for _ in range(24)]
    stage.wait_settled(["flaky"])
    bodies = {event.id: event.payload for event in events}
    arrivals = receiver.arrivals
    return FlakySeen(
        posted=ids_of(events),
        statuses=stage.statuses("flaky", events),
        arrived=frozenset(arrival.webhook_id for arrival in arrivals),
        refused=receiver.refused.total(),
        delivered=receiver.answered.total(),
        attempt_count=sum(event["deliveries"][0]["attempt_count"] for event in stage.named("flaky", events)),
        unverified=sum(not arrival.verified for arrival in arrivals),
        altered=sum(arrival.body != bodies.get(arrival.webhook_id) for arrival in arrivals),
    )


FLAKY = Act(
    "flaky",
    "every admitted event is delivered at least once, after retries, always under the same webhook-id, and the "
    "signature verifies (Standard Webhooks v1).",
    "a receiver answers 503 every other time, to no event more than twice, and verifies what it gets.",
    _flaky,
)
