"""Operators who cancel: one event, or what is unsettled of a client. Planned apart, in some seeds (plan.py)."""

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation import answer_invariants
from tests.simulation.model import Posted

if TYPE_CHECKING:
    from tests.simulation.workload import Workload


class Cancelling:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world

    async def cancel(self, draw: Random) -> None:
        """All of an event, or its delivery to one endpoint."""
        posted = self.workload._one_posted(draw)
        is_whole, chosen = draw.random() < 0.6, draw.random()
        if posted is None or not posted.endpoints:
            return
        endpoint_id = None if is_whole else posted.endpoints[int(chosen * len(posted.endpoints))]
        asked_at, run = self.world.now(), self.world.run
        self._ask([posted], endpoint_id)
        body = b"" if endpoint_id is None else msgspec.json.encode({"endpoint_id": endpoint_id})
        path = f"/v1/clients/{posted.client_id}/events/{posted.id}/cancel"
        answered = await self.workload._callers.ask("POST", path, body)
        if answered is None or run is not self.world.run:
            return
        if answered.status not in (200, 202):
            allowed = ("unknown-event", "unknown-client", "not-found") if posted.may_be_forgotten else ()
            self.workload._refused(answered, *allowed, *(("draining",) if run.may_drain else ()))
            return
        for view in answered.body["deliveries"]:
            if endpoint_id in (None, view["endpoint_id"]):
                self._note_one(posted, view, asked_at)
        answer_invariants.check_event(self.world, answered.body, asked_at)

    def _note_one(self, posted: Posted, view: dict[str, Any], asked_at: float) -> None:
        what = f"{posted.id} to {posted.client_id}/{view['endpoint_id']}"
        if posted.may_be_forgotten:
            return
        duty = posted.duty(view["endpoint_id"])
        is_settled = view["status"] in answer_invariants.SETTLED
        if duty.retries_open or duty.retried_at >= asked_at:
            return
        if not is_settled and not (view["in_flight"] and view["ends_as"]):
            self.world.fail("S20", f"{what} was cancelled and is {view}")
        if view["ends_as"] == "cancelled" or view["reason"] == "cancelled":
            duty.cancelled_at, duty.ran_out = self.world.now(), not is_settled
            self.world.count("deliveries cancelled in flight", not is_settled)

    async def cancel_range(self, draw: Random) -> None:
        """What is unsettled of a client, perhaps to one endpoint; or only its number."""
        client_id = draw.choice(sorted(self.workload._defined))
        keys = sorted(self.workload._defined[client_id])
        endpoint_id = draw.choice((None, None, *keys))
        dry_run = draw.random() < 0.2
        asked_at, run, checks = self.world.now(), self.world.run, self.world.checks
        events = [*checks.posted.values(), *checks.nameless.values()]
        hit = [one for one in events if one.client_id == client_id and (one.admitted or one.maybe)]
        sure = [one for one in hit if one.answered_at is not None and one.answered_at < asked_at]
        if not dry_run:
            self._ask(hit, endpoint_id)
        body = msgspec.json.encode({"endpoint_id": endpoint_id, "dry_run": dry_run})
        answered = await self.workload._callers.ask("POST", f"/v1/clients/{client_id}/cancel", body)
        if answered is None or run is not self.world.run:
            return
        if answered.status != 200:
            busy = ("unknown-client", "not-found")  # whose registration is changed, and of which nothing is held
            self.workload._refused(answered, *busy, *(("draining",) if run.may_drain else ()))
            return
        said = answered.body
        if said["matched"] != said["in_flight"] + said["cancelled"] * (not dry_run) and not dry_run:
            self.world.fail("S20", f"a cancel is answered {said}")
        if dry_run and said["cancelled"]:
            self.world.fail("S20", f"a dry run is answered {said}")
        self.world.count("ranges cancelled", not dry_run and said["cancelled"] > 0)
        for posted in sure if not dry_run else ():
            self._note_range(posted, endpoint_id, asked_at)

    def _note_range(self, posted: Posted, endpoint_id: str | None, asked_at: float) -> None:
        for key in posted.endpoints if endpoint_id is None else (endpoint_id,):
            duty = posted.duties.get(key)
            if duty is None or posted.may_be_forgotten or duty.retries_open or duty.retried_at >= asked_at:
                continue
            if duty.removed_at is not None and duty.removed_at > duty.retried_at:
                continue  # in flight it ends as `endpoint_removed`, which a cancel leaves as it is
            if duty.opened_at is not None and duty.opened_at < asked_at:
                duty.cancelled_at = self.world.now()

    def _ask(self, events: list[Posted], endpoint_id: str | None) -> None:
        for posted in events:
            posted.cancels_asked.add(endpoint_id)
