"""Looks at what a daemon says of its ports: readyz, the feed, and what of status and metrics tells of them.

They are planned where a port raises (ports.py); workload.py has the table.
"""

from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation import notice_invariants

if TYPE_CHECKING:
    from tests.simulation.workload import Workload
    from tests.simulation.world import World


class Looks:
    def __init__(self, workload: "Workload") -> None:
        self.workload = workload
        self.world = workload.world

    async def get_ready(self, draw: Random) -> None:
        run, asked_at = self.world.run, self.world.now()
        answered = await self.workload._callers.ask("GET", "/readyz?verbose")
        if answered is None or run is not self.world.run:
            return
        lines = answered.text.decode().splitlines()
        has_failed = any(line.startswith("[-]recorder failed: ") for line in lines)
        if not has_failed and "[+]recorder ok" not in lines:
            self.world.fail("S15", f"readyz says nothing of the recorder: {lines}")
        check_failed(self.world, has_failed, asked_at, "readyz")
        if answered.status != 200 and not run.may_drain:
            self.world.fail("S15", f"readyz answered {answered.status}: {lines}")

    async def get_settlements(self, draw: Random) -> None:
        """The next page. Where the feed has raised since the page before, it has a gap; and nowhere else."""
        run, reader, fallen = self.world.run, self.world.run.ports.reader, self.world.run.ports.fallen
        if reader.is_reading:
            return
        reader.is_reading, least = True, fallen["feed"]
        cursor = "" if reader.cursor is None else f"&cursor={reader.cursor}"
        answered = await self.workload._callers.ask("GET", f"/v1/settlements?limit={draw.choice((1, 10, 100))}{cursor}")
        if answered is None or run is not self.world.run:
            return
        reader.is_reading, most, body = False, fallen["feed"], answered.body
        must, may = bool(cursor) and least > reader.fallen_most, bool(cursor) and most > reader.fallen_least
        if not must <= body["gap"] <= may:
            self.world.fail("S15", f"the feed raised {least} to {most} times, and its gap is {body['gap']}")
        for one in body["settlements"]:
            posted = self.world.checks.posted_as(one["client_id"], one["event_id"])
            if posted is None and not self.world.checks.nameless:
                self.world.fail("S8", f"{one} is in the feed, and was never posted")
        reader.cursor, reader.fallen_least, reader.fallen_most = body["next_cursor"], least, most
        self.world.count("pages of the feed with a gap", body["gap"])


def check_failed(world: "World", said: bool, asked_at: float, where: str) -> None:
    """Whether the recorder has failed, as it is said somewhere that was asked for then."""
    failed_at = world.run.ports.recorder_failed_at
    if said is (failed_at is None) and (said or failed_at is None or failed_at < asked_at):
        world.fail("S15", f"{where} says that the recorder {'failed' if said else 'is well'}; it failed at {failed_at}")


def check_status(world: "World", view: dict[str, Any], asked_at: float) -> None:
    notice_invariants.check_status(world, view)
    said = view["recorder"]
    if (said == "off") is not (world.plan.layout is None) and said != "failed":
        world.fail("S15", f"the recorder is said to be {said}")
    check_failed(world, said == "failed", asked_at, "status")


def check_metrics(world: "World", text: str, asked_at: float, fallen_before: dict[str, int]) -> None:
    """`fallen_before`: what had raised when it was asked."""
    values = dict(line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#"))
    check_failed(world, float(values["hookd_recorder_failed"]) == 1, asked_at, "metrics")
    names = {port: f'hookd_port_failures_total{{port="{port}"}}' for port in ("recorder", "feed", "log")}
    names["lines"] = "hookd_log_lines_dropped_total"
    for port, name in names.items():
        least, most = fallen_before.get(port, 0), world.run.ports.fallen[port]
        if not least <= float(values[name]) <= most:
            world.fail("S15", f"{name} is {values[name]}; {port} raised {least} to {most} times")
