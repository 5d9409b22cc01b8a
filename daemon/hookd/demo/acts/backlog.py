"""The backlog of the acts that end the daemon: one receiver is well, one hangs, one answers 500 until much later."""

from typing import NamedTuple

from hookd.demo.pace import CONCURRENCY
from hookd.demo.receivers import Receiver, broken, hang, quick
from hookd.demo.stage import Posted, Stage

CLIENTS = ("healthy", "hung", "broken")


class Backlog(NamedTuple):
    owed: list[Posted]  # to the two that never answer 2xx
    hung: Receiver


def build_backlog(stage: Stage, event_type: str) -> Backlog:
    """Once what is owed to the healthy one has settled, and attempts of the others are in flight and have failed."""
    stage.client("healthy", quick)
    hung = stage.client("hung", hang)
    refusing = stage.client("broken", broken, schedule=["1m"])
    for _ in range(5):
        stage.post("healthy", event_type)
    owed = [stage.post("hung", event_type) for _ in range(4 * CONCURRENCY)]
    owed += [stage.post("broken", event_type) for _ in range(3)]
    stage.wait_settled(["healthy"])
    stage.wait(
        lambda: refusing.refused.total() == 3 and stage.health("hung")["in_flight"] > 0, "the backlog to build up"
    )
    return Backlog(owed, hung)
