"""Actions that send again: redeliver, and the wider replay; planned apart from the others, in some seeds (plan.py).

S21: what was delivered is attempted again only where that was asked for since its 2xx was read, and not by a dry run.
     What is answered 202 is owed again: it ends in a 2xx, or stands in the report. What is refused changed nothing.
     A replay's counts add up.
"""

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.simulation import answer_invariants
from tests.simulation.model import Duty, Posted
from tests.simulation.posting import FULL

if TYPE_CHECKING:
    from tests.simulation.workload import Workload

STATUSES = (["delivered"], ["delivered"], ["failed"], ["exhausted", "delivered", "failed"])


class Marked(NamedTuple):
    """A duty that may be sent again, and what it was before anyone asked."""

    duty: Duty
    retries_sent: int
    retried_at: float
    was_delivered: bool  # for sure
    known_before: list[set[str]]  # where earlier runs are known to have settled it: whoever asks again overrules them


class Again:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world

    async def redeliver(self, draw: Random) -> None:
        """To one endpoint or to all, those among them that came later."""
        posted = self.workload._one_posted(draw)
        is_of_one, chosen = draw.random() < 0.5, draw.random()
        if posted is None:
            return
        known = sorted(posted.endpoints) or ["default"]
        named = known[int(chosen * len(known))] if is_of_one else None
        marked = self._mark(posted, [named] if named else self._endpoint_ids(posted))
        asked_at, run = self.world.now(), self.world.run
        path = f"/v1/clients/{posted.client_id}/events/{posted.id}/redeliver"
        body = msgspec.json.encode({"endpoint_id": named} if named else {})
        answered = await self.workload._callers.ask("POST", path, body)
        if answered is None or run is not self.world.run:
            return
        for one in marked.values():
            one.duty.redeliveries_open -= 1
        if answered.status not in (200, 202):
            for endpoint_id, one in marked.items():
                self._take_back(one, posted, endpoint_id, answered.status)
            allowed = (
                "not-found",
                "unknown-event",
                "unknown-client",
                "no-payload",
                "endpoint-disabled",
                "invalid-query",
            )
            self.workload._refused(answered, "draining", *allowed, *FULL)
            return
        views = {one["endpoint_id"]: one for one in answered.body["deliveries"]}
        for endpoint_id, one in marked.items():
            self._note(posted, endpoint_id, one.duty, views.get(endpoint_id), asked_at)
        if answered.status == 202:
            self.world.count("redelivered")
            if not any(view["status"] not in answer_invariants.SETTLED for view in views.values()):
                self.world.fail("S21", f"{posted.id} is redelivered, and owes nothing: {answered.body}")
        answer_invariants.check_event(self.world, answered.body, asked_at)

    async def replay(self, draw: Random) -> None:
        """Of one client, a dry run now and then: that changes nothing."""
        client_id = self.workload._client(draw)
        statuses, is_dry = draw.choice(STATUSES), draw.random() < 0.3
        types = draw.choice((None, None, ["*"], ["!*"]))
        if client_id is None:
            return
        marked: list[Marked] = []
        if not is_dry:
            for posted in self.world.checks.posted.values():
                if posted.client_id == client_id and (posted.admitted or posted.maybe):
                    marked += self._mark(posted, self._endpoint_ids(posted)).values()
            for key, endpoint in self.world.checks.registered.items():
                if key[0] == client_id:  # one goes over a pause
                    endpoint.loosened_at = self.world.now()
        run = self.world.run
        body = msgspec.json.encode({"statuses": statuses, "types": types, "dry_run": is_dry})
        answered = await self.workload._callers.ask("POST", f"/v1/clients/{client_id}/replay", body)
        if answered is None or run is not self.world.run:
            return
        for one in marked:
            one.duty.redeliveries_open -= 1
            one.duty.redelivered_at = self.world.now()
        if answered.status != 200:
            self.workload._refused(answered, "draining", "unknown-client")
            return
        done = answered.body
        self.world.count("replayed", done["reopened"])
        is_right = done["reopened"] == 0 if is_dry else done["matched"] == done["reopened"] + done["left"]
        if (
            not is_right
            or (types == ["!*"] and done["matched"])
            or (done["left"] > 0) != (done["stopped_by"] is not None)
        ):
            self.world.fail("S21", f"a replay of {statuses} and {types}, dry: {is_dry}, came to {done}")

    def _endpoint_ids(self, posted: Posted) -> list[str]:
        """Whoever may get it: those that it was owed to, and those that came since."""
        registered = [key[1] for key in self.world.checks.registered if key[0] == posted.client_id]
        return sorted({*posted.endpoints, *posted.duties, *registered})

    def _mark(self, posted: Posted, endpoint_ids: list[str]) -> dict[str, Marked]:
        """It may be reopened from now on. What it is granted is not known until the answer says so."""
        now, marked = self.world.now(), dict[str, Marked]()
        for endpoint_id in endpoint_ids:
            duty = posted.duty(endpoint_id)
            before = [known for known in (posted.delivered_before, posted.cancelled_before) if endpoint_id in known]
            marked[endpoint_id] = Marked(duty, duty.retries_sent, duty.retried_at, duty.is_delivered, before)
            for known in before:
                known.discard(endpoint_id)
            duty.retries_sent += 1
            duty.redeliveries_sent += 1
            duty.redeliveries_open += 1
            duty.retried_at = now
            duty.retry_asked_at = duty.retry_asked_at if duty.retries_open else now
            duty.retries_open += 1
        return marked

    def _take_back(self, marked: Marked, posted: Posted, endpoint_id: str, status: int) -> None:
        """It was refused: where nobody else asked meanwhile, it is what it was."""
        duty, what = marked.duty, f"{posted.id} to {posted.client_id}/{endpoint_id}"
        duty.retries_open -= 1
        duty.retries_sent -= 1
        duty.redeliveries_sent -= 1
        if duty.retries_open or duty.redeliveries_open or duty.retries_sent != marked.retries_sent:
            return
        duty.retried_at = marked.retried_at
        for known in marked.known_before:
            known.add(endpoint_id)
        if marked.was_delivered and not duty.is_delivered:
            self.world.fail("S21", f"{what} was to be sent again, was refused ({status}), and was attempted")

    def _note(self, posted: Posted, endpoint_id: str, duty: Duty, view: dict[str, Any] | None, asked_at: float) -> None:
        """By its answer. Where it is not known what was reopened, nothing is claimed of its attempts any more."""
        delivered = duty.delivered
        duty.redelivered_at = self.world.now()
        if endpoint_id not in posted.endpoints:  # it came later
            posted.endpoints += () if view is None else (endpoint_id,)
            return
        if view is None or view["status"] in answer_invariants.SETTLED:
            return
        if delivered is None:
            if duty.delivered_once is None:
                self.workload._note_retried(posted, endpoint_id, view)
            return
        if delivered.read_at is None or delivered.read_at >= asked_at:
            return
        was_owed_again, duty.is_owed_again = duty.is_owed_again, True
        number = int(delivered.head["hookd-attempt"])
        if view["attempt_count"] - view["in_flight"] != number or duty.retries_open > 1 or duty.redeliveries_open:
            return
        duty.retries_open -= 1
        if was_owed_again and duty.cancelled_at is None:  # it waits already, and keeps its age
            return
        duty.first_asked_at, duty.opened_at = asked_at, self.world.now()
        duty.before_least = duty.before_most = number
        duty.settled_status = duty.shown_max = None
