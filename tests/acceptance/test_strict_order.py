"""Strict order across restarts, by signal and by kill: with recovery on no event overtakes another, at any receiver.

The judge is the receiver's own log. A request that a kill cut off may come again: the same event, before any later one.
"""

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

from tests.acceptance.harness import Api, Daemon, Received, Receiver, event_body, wait_until

# In full, by hand: HOOKD_TEST_ORDERED=10000 HOOKD_TEST_RESTARTS=20 pytest -n 0 --timeout 0 -k overtakes_another
EVENTS = int(os.environ.get("HOOKD_TEST_ORDERED", "900"))
RESTARTS = int(os.environ.get("HOOKD_TEST_RESTARTS", "6"))
BATCH = 50
SETTINGS = {
    "recovery.enabled": True,
    "recorder.payloads": True,
    "retry.schedule": ["10ms"] * 20,
    "drain.timeout": "200ms",
    "drain.reports_kept": 1000,
}


def post(api: Api, numbers: range) -> None:
    bodies = [event_body("strict", f"e{number:06}") for number in numbers]
    assert api.ask("POST", "/v1/events/batch", b"[" + b",".join(bodies) + b"]").status == 202


def wait_for(receiver: Receiver, count: int) -> None:
    wait_until(lambda: len(receiver.ids()) >= count, seconds=300, what=f"{count} events to arrive")


@pytest.mark.timeout(600 if EVENTS > 1000 else 120)
def test_no_event_overtakes_another_across_restarts(tmp_path: Path) -> None:
    """The client is registered anew by each run, and posted to at once: what is new does not overtake what waited."""
    draw = random.Random(15)

    def at_random(_: Received) -> int:
        return 500 if draw.random() < 0.2 else 200

    with Receiver(at_random) as receiver:
        posted = 0
        for run in range(RESTARTS + 1):
            is_last = run == RESTARTS
            with Daemon(tmp_path, settings=SETTINGS) as daemon:
                with daemon.api as api:
                    api.put_client("strict", {"url": receiver.url, "order": "strict"})
                    until = EVENTS if is_last else (run + 1) * EVENTS // (RESTARTS + 1)
                    while posted < until:
                        post(api, range(posted, min(posted + BATCH, until)))
                        posted = min(posted + BATCH, until)
                    enough = posted if is_last else posted - draw.randrange(1, BATCH * 2)
                    wait_for(receiver, enough)
                    if is_last:
                        wait_until(
                            lambda: not api.status()["memory"]["unsettled_events"], seconds=30, what="all to settle"
                        )
                if run % 2 and not is_last:
                    daemon.kill()
                else:
                    assert daemon.stop() in (0, 3)
        arrived = [received.event_id for received in receiver.log]
    assert set(arrived) == {f"e{number:06}" for number in range(EVENTS)}
    overtaken = [(one, other) for one, other in pairwise(arrived) if other < one]
    assert overtaken == []
