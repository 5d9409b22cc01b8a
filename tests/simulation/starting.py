"""What a platform does when its daemon starts: it looks, registers its clients, some of them late, and sends again.

Resending is what `hookd resend` does: a report's lines in batches, and a claim once every one of them was taken.
"""

from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from tests.simulation.plan import STEADY, chance
from tests.simulation.posting import FULL, NDJSON, Posting

if TYPE_CHECKING:
    from tests.simulation.workload import Workload
    from tests.simulation.world import Run

LINES_AT_ONCE, BYTES_AT_ONCE = 20, 100_000


class Starting:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world

    async def set_up(self, run: "Run") -> None:
        """What a platform does when its daemon starts: register, and send again what the last one left."""
        steady = self.world.checks.registered[STEADY, "default"]
        steady.is_registered, steady.timeout = True, self.world.settings.delivery.timeout_seconds
        steady.schedules_in_force.offer(self.world.settings.retry.schedule_seconds, run.started_at)
        self.workload._busy.clear()
        draw = chance(self.world.plan.seed, "set up", run.number)
        if draw.random() < 0.3:  # it need not know that its daemon was away
            self.workload._nursery.start_soon(Posting(self.workload).post_one, STEADY, draw)
        await self._first_look(run)
        for client_id in self.workload._defined:
            if run.number > 1 and draw.random() < 0.2:
                self.workload._busy.add(client_id)
                self.workload._nursery.start_soon(self._register_late, run, client_id, draw.choice((1.0, 10.0, 40.0)))
            else:
                await self._register(client_id, draw)
        for name, report in self._reports_to_resend(run):
            await self._resend(run, name, report)
        run.is_ready = run.stop_asked_at is None  # else some of it was refused

    async def _first_look(self, run: "Run") -> None:
        answered = await self.workload._callers.ask("GET", "/v1/status")
        if answered is not None and run is self.world.run:
            run.has_answered = True
            run.ports.arm_clock(not self.world.is_live)
            self.world.machine.recovering.check(run, answered.body)

    async def _register(self, client_id: str, draw: Random) -> None:
        """Since the last run the platform may have dropped an endpoint."""
        defined = dict(self.workload._defined[client_id])
        if len(defined) > 1 and draw.random() < 0.1:
            del defined[draw.choice(sorted(defined))]
        await self.workload._put(
            client_id, defined, {key: self.workload._endpoint(client_id, key).host for key in defined}
        )

    async def _register_late(self, run: "Run", client_id: str, seconds: float) -> None:
        await trio.sleep(seconds)
        if run is self.world.run and not run.is_over:
            self.workload._busy.discard(client_id)
            await self._register(client_id, chance(self.world.plan.seed, "late", run.number, client_id))
            if not all(
                self.workload._endpoint(client_id, key).is_registered for key in self.workload._defined[client_id]
            ):
                self.workload._busy.add(client_id)  # it was refused, by a daemon that drains

    def _reports_to_resend(self, run: "Run") -> list[tuple[str, bytes]]:
        reports = self.world.machine.unclaimed()
        match run.resend:
            case "last":
                return reports[-1:]
            case "all":
                return reports[-4:]
            case "again":
                return reports[-2:] * 2
        return []

    async def _resend(self, run: "Run", name: str, report: bytes) -> None:
        """As `hookd resend` does: it claims the report once every line of it was taken."""
        texts = [text for text in report.split(b"\n")[1:] if b'"kind":"undelivered"' in text]
        answers: list[str] = []
        while texts and run is self.world.run:
            count = max(1, sum(1 for size in accumulate(map(len, texts)) if size <= BYTES_AT_ONCE))
            batch, texts = texts[: min(count, LINES_AT_ONCE)], texts[min(count, LINES_AT_ONCE) :]
            answers += await self._resend_lines(run, batch)
        if run is self.world.run and set(answers) <= {"admitted", "known"}:
            self.world.machine.claim(name, run)

    async def _resend_lines(self, run: "Run", texts: list[bytes]) -> list[str]:
        """What became of each line; empty text where that is not known."""
        lines = [msgspec.json.decode(text) for text in texts]
        for line in lines:
            self._carry(line)
        answered = await self.workload._callers.ask("POST", "/v1/resend", b"\n".join(texts), NDJSON)
        if answered is None or run is not self.world.run:
            return [""] * len(lines)
        answers = answered.body["lines"] if answered.status == 200 else [""] * len(lines)
        if answered.status != 200:
            self.workload._refused(answered, "draining", *FULL)
        for line, answer in zip(lines, answers, strict=True):
            self.world.count(f"resent: {answer or answered.problem}")
            self._note_resent(line, answer)
        return list(answers)

    def _carry(self, line: dict[str, Any]) -> None:
        posted = self.world.checks.posted_before(line)
        if posted is None:  # of an event whose id nobody knows: without its payload it cannot be admitted
            return
        posted.maybe += 1
        posted.is_resent = True
        posted.may_be_forgotten |= self.world.plan.retention_is_tiny
        if line["endpoint_id"] not in posted.endpoints:
            duty = posted.duty(line["endpoint_id"])
            duty.carried, duty.carried_probes = line["attempt_count"], line.get("unscheduled_attempts", 0)
            duty.before_least = duty.before_most = 0
            duty.carried_unknown = line["class"] == "outcome_unknown"
            duty.crashes = line.get("crash_count", 0)
            duty.first_asked_at = self.world.now()

    def _note_resent(self, line: dict[str, Any], answer: str) -> None:
        posted = self.world.checks.posted_as(line["client_id"], line["event_id"])
        what, has_payload = f"{line['event_id']} to {line['client_id']}/{line['endpoint_id']}", "payload" in line
        if answer == "no-payload" and has_payload:
            self.world.fail("S8", f"{what} was resent with its payload and answered {answer}")
        if answer == "admitted" and not has_payload:
            self.world.fail("S8", f"{what} was resent without a payload and admitted")
        if posted is None:
            return
        posted.maybe -= 1
        is_held = line["endpoint_id"] in posted.endpoints
        if answer == "known" and not is_held and not posted.maybe and not posted.may_be_forgotten:
            self.world.fail("S8", f"{what} is known, and nobody resent it to this run")
        if answer == "admitted":
            if is_held and not posted.may_be_forgotten:
                self.world.fail("S8", f"{what} was admitted twice")
            posted.admitted = True
            posted.answered_at = self.world.now()  # before anything can be posted
            posted.endpoints = tuple(dict.fromkeys((*posted.endpoints, line["endpoint_id"])))
            posted.duty(line["endpoint_id"]).opened_at = self.world.now()
        elif not is_held:
            posted.duties.pop(line["endpoint_id"], None)
