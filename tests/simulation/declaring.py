"""Declares the whole registry, all of it or nothing, with and without `prune`; workload.py has the table of actions.

It is planned apart, in some seeds (plan.py), and done while no other change of a client is under way.

S24: what a declaration answered is what stands: each declared client as it was declared, and of the others those that
     `prune` removed are unknown, and no more. What was refused changed nothing of any client.
"""

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tests.simulation.callers import Answered
    from tests.simulation.workload import Putting, Workload

KINDS = ("prune", "prune", "keep", "mistake", "everyone")


class Declaring:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world

    async def declare(self, draw: Random) -> None:
        """One client is left out of the list, or none; in one of the others an endpoint moves to another URL."""
        workload, run = self.workload, self.world.run
        kind, flag = draw.choice(KINDS), draw.choice(("true", "true", "false"))
        ids = draw.sample(sorted(workload._defined), k=len(workload._defined))
        if workload._busy or not self._are_registered(ids):
            return
        left_out = ids.pop() if len(ids) > 1 and kind != "everyone" else ""
        affected = [workload._endpoint(left_out, key) for key in workload._defined.get(left_out, {})]
        if left_out:
            workload._begin_change(left_out, affected)
        for endpoint in affected if kind == "prune" else ():
            endpoint.holds.lift_asked(self.world.now(), pauses=True)
        asked_at, putting = self.world.now(), [self._begin(client_id, number) for number, client_id in enumerate(ids)]
        definitions = [{"id": one.client_id, "endpoints": one.endpoints} for one in putting]
        if kind == "mistake":
            definitions[-1]["endpoints"] = []
        path = f"/v1/clients?prune={str(kind in ('prune', 'everyone')).lower()}&end_unsettled={flag}"
        answered = await workload._callers.ask("PUT", path, msgspec.json.encode({"clients": definitions}))
        if workload._is_stale(run, answered):
            return
        assert answered is not None
        self.world.count(f"declarations: {kind}, {answered.problem or 'done'}")
        is_done, is_pruned = answered.status == 200, kind == "prune" and answered.status == 200 and bool(left_out)
        if is_done:
            self._check_answer(answered, kind, ids, left_out if is_pruned else "")
        else:
            slugs = ("invalid-client",) if kind == "mistake" else ("unsettled-deliveries",)
            workload._refused(answered, *slugs, "draining")
        shown = {one["id"]: one for one in answered.body["clients"]} if is_done else {}
        for one in putting:
            workload._end_put(one, shown[one.client_id]["secrets"] if is_done else None)
        if not is_pruned and left_out:
            workload._end_change(left_out, affected)
        for client_id in ids:
            await self._check_stands(client_id)
        if is_pruned and run is self.world.run:
            await self._check_is_gone(left_out)
            if run is self.world.run:
                await workload._register_again(left_out, affected, asked_at)
        elif left_out:
            await self._check_stands(left_out)

    def _are_registered(self, client_ids: list[str]) -> bool:
        """For sure, so that it is known what a declaration changes."""
        defined = self.workload._defined
        return all(self.workload._endpoint(one, key).is_registered for one in client_ids for key in defined[one])

    def _begin(self, client_id: str, number: int) -> "Putting":
        workload, defined = self.workload, self.workload._defined[client_id]
        hosts = {key: workload._endpoint(client_id, key).host for key in defined}
        if number == 0:
            key = min(defined)
            hosts[key] = workload._new_host((client_id, key))
            workload._endpoint(client_id, key).hosts.append(hosts[key])
        return workload._begin_put(client_id, {key: dict(one) for key, one in defined.items()}, hosts, {})

    def _check_answer(self, answered: "Answered", kind: str, declared: list[str], pruned: str) -> None:
        found = [one["id"] for one in answered.body["clients"]], answered.body["removed"]
        if kind == "mistake" or found != (declared, [pruned] if pruned else []):
            self.world.fail("S24", f"a declaration ({kind}) of {declared} answered {found}")

    async def _check_is_gone(self, client_id: str) -> None:
        answered = await self.workload._callers.ask("GET", f"/v1/clients/{client_id}")
        if answered is not None and answered.status != 404:
            self.world.fail("S24", f"{client_id} was pruned, and is answered with {answered.status}")

    async def _check_stands(self, client_id: str) -> None:
        """At the URLs that the platform believes in."""
        if client_id in self.workload._busy:
            return
        self.workload._busy.add(client_id)  # nobody changes it meanwhile
        run, answered = self.world.run, await self.workload._callers.ask("GET", f"/v1/clients/{client_id}")
        if run is not self.world.run:
            return
        self.workload._busy.discard(client_id)
        if answered is None:
            return
        shown: dict[str, Any] = {}
        if answered.status == 200:
            shown = {one["id"]: one["url"].partition("//")[2].partition("/")[0] for one in answered.body["endpoints"]}
        wanted = {key: self.workload._endpoint(client_id, key).host.name for key in self.workload._defined[client_id]}
        if shown != wanted:
            self.world.fail("S24", f"{client_id} should stand at {wanted}, and stands at {shown}")
