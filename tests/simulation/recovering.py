"""What a start must take back: the unclaimed reports, judged by their lines alone (contract section 7, One way back).

Before the daemon has answered for the first time nothing is certain: it may have been stopped on its way. With its
first answer all of it is there, or, after crashes in a row, nothing. Which reports it claims must agree.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation import cancel_invariants
from tests.simulation.model import Posted
from tests.simulation.plan import STEADY

if TYPE_CHECKING:
    from tests.simulation.world import Run, World

CRASHES_IN_A_ROW, CRASHES_WITHIN_SECONDS, CRASHES_MAX = 3, 600.0, 3
Key = tuple[str, str, str]  # client, event and endpoint


@dataclass
class Ended:
    """A run before this one."""

    run_id: str
    started_at: float
    ended_at: float
    crashed: bool
    undelivered: int | None  # None where it left no list


@dataclass
class Owed:
    """One delivery as the unclaimed reports have it, taken together."""

    attempt_count: int = 0
    probes: int = 0  # of these, that failed
    crashes: int = 0
    maybe_received: bool = False
    is_cancelled: bool = False
    lines: list[dict[str, Any]] = field(default_factory=list)
    run_id: str = ""  # whose report brings it back: the oldest with its payload

    def add(self, line: dict[str, Any]) -> None:
        self.lines.append(line)
        if line["attempt_count"] > self.attempt_count:
            self.attempt_count, self.probes = line["attempt_count"], line.get("unscheduled_attempts", 0)
        self.crashes = max(self.crashes, line.get("crash_count", 0))
        self.maybe_received |= line["class"] == "outcome_unknown"
        self.is_cancelled |= line.get("cancelled", False)


class Recovering:
    """Of one start. It begins the duties that the reports list."""

    def __init__(
        self, world: "World", unclaimed: list[tuple[str, bytes]], ends: list[Ended], *, is_unaccounted: bool
    ) -> None:
        self.world = world
        self.reports: list[str] = []  # that are to be claimed
        self.owed: dict[Key, Owed] = {}
        self._left: list[str] = []  # without payloads
        self._ends = ends
        self._began_at = world.now()
        self._is_unaccounted = is_unaccounted  # a run's report is still to come, and may list what others list
        if world.settings.recovery.enabled:
            for name, raw in sorted(unclaimed, key=_age):
                self._read(name, raw)
        self._begin()

    def _read(self, name: str, raw: bytes) -> None:
        """One without payloads tells of what is known from older ones; where that is all of it, nothing is left."""
        lines = [msgspec.json.decode(line) for line in raw.splitlines()[1:]]
        lines = [line for line in lines if line["kind"] == "undelivered"]
        known = [line for line in lines if "payload" in line or _key(line) in self.owed]
        (self.reports if len(known) == len(lines) else self._left).append(name)
        run_id = name.removesuffix(".jsonl").rpartition("-")[2]
        for line in known:
            self.owed.setdefault(_key(line), Owed(run_id=run_id)).add(line)

    def _begin(self) -> None:
        for (_, _, endpoint_id), owed in self.owed.items():
            posted = self._posted(owed)
            posted.maybe += 1
            posted.may_be_forgotten |= self.world.plan.retention_is_tiny
            duty = posted.duty(endpoint_id)
            duty.carried, duty.carried_unknown, duty.crashes = owed.attempt_count, owed.maybe_received, owed.crashes
            duty.carried_probes, duty.taken_up = owed.probes, owed.lines
            duty.is_recovered, duty.first_asked_at = True, self.world.now()

    def _posted(self, owed: Owed) -> Posted:
        posted = self.world.checks.posted_before(next(line for line in owed.lines if "payload" in line))
        assert posted is not None, "a report lists an event that nobody posted; its check says so before"
        return posted

    # The first answer

    def check(self, run: "Run", status: dict[str, Any]) -> None:
        """All or nothing of it is there."""
        recovered = status["events"]["recovered"]
        is_taken = self._is_taken(run, recovered)
        self._check_previous(status["previous_run"], is_taken=is_taken)
        self._confirm(is_taken=is_taken)
        expected = len({key[:2] for key in self.owed}) if is_taken else 0
        if recovered != expected:
            self.world.fail("S13", f"{recovered} events were recovered; unclaimed reports list {expected}")
        least, most = self._waiting() if is_taken else (0, 0)
        if not least <= status["waiting_for_client"] <= most:
            self.world.fail("S1", f"{status['waiting_for_client']} wait for their client, not {least} to {most}")
        claims = self.world.machine.claims()
        for name in self.reports:
            if name not in claims and self._may_be_forced(run):
                continue  # before the claim: its own report lists everything too, and nothing was attempted
            if (claims.get(name) == f"run{run.number}") is not is_taken:
                self.world.fail("S13", f"{name} is claimed by {claims.get(name)}; recovered: {is_taken}")
        for name in self._left:
            if name in claims:
                self.world.fail("S13", f"{name} cannot be recovered from, and is claimed")
            is_told = name in run.not_recovered or self._may_be_forced(run)
            if is_taken and self.world.settings.recovery.enabled and not is_told:
                self.world.fail("S13", f"{name} cannot be recovered from, and nothing says so")
        self._count(is_taken=is_taken)

    def _waiting(self) -> tuple[int, int]:
        """How many wait for their client's registration: what has expired by now did so at once, or since."""
        waiting = [
            one
            for key, one in self.owed.items()
            if key[0] != STEADY and one.crashes < CRASHES_MAX and not one.is_cancelled
        ]
        lapses = [cancel_invariants.lapses_at(self.world, self._posted(one)) for one in waiting]
        lapsed = sum(one is not None and one <= self.world.now() + cancel_invariants.EPSILON for one in lapses)
        long_ago = sum(one is not None and one < self._began_at - cancel_invariants.EPSILON for one in lapses)
        return len(waiting) - lapsed, len(waiting) - long_ago

    def _is_taken(self, run: "Run", recovered: int) -> bool:
        held_back = None if self._may_be_cut(run) else self._is_held_back()
        return bool(recovered) if held_back is None else not held_back

    def _may_be_cut(self, run: "Run") -> bool:
        """Stopped while it looked at files: all or nothing all the same."""
        return run.stop_asked_at is not None and self.world.plan.look_seconds > 0

    def _may_be_forced(self, run: "Run") -> bool:
        return self._may_be_cut(run) and run.ended_by is not None and run.ended_by.kind == "twice"

    def _is_held_back(self) -> bool | None:
        """After crashes in a row; None where it depends on when the first of them was last heard of."""
        if self._is_unaccounted:
            return True
        last = self._ends[-CRASHES_IN_A_ROW:]
        if self.world.has_jumped or self.world.plan.full:  # of some run nothing may be told yet
            return None if len(last) == CRASHES_IN_A_ROW else False
        if len(last) < CRASHES_IN_A_ROW or not all(one.crashed for one in last):
            return False
        if self.world.now() - last[0].ended_at > CRASHES_WITHIN_SECONDS:
            return False
        return True if self.world.now() - last[0].started_at <= CRASHES_WITHIN_SECONDS else None

    def _confirm(self, *, is_taken: bool) -> None:
        for (_, _, endpoint_id), owed in self.owed.items():
            posted = self._posted(owed)
            posted.maybe -= 1
            if is_taken:
                posted.admitted = True
                posted.endpoints = (*posted.endpoints, endpoint_id)
                posted.duty(endpoint_id).opened_at = self.world.now()
            else:
                del posted.duties[endpoint_id]

    def _check_previous(self, said: dict[str, Any] | None, *, is_taken: bool) -> None:
        if self.world.has_jumped or self.world.plan.full:
            return
        last = self._ends[-1] if self._ends else None
        if last is None or said is None:
            if said is not None or last is not None:
                self.world.fail("S13", f"the run before is {last}, and said is {said}")
            return
        ended = "crash" if last.crashed else "reported" if last.undelivered else "clean"
        recovered = sum(one.run_id == last.run_id for one in self.owed.values()) if is_taken else 0
        if said != {
            "run_id": last.run_id,
            "ended": ended,
            "undelivered": last.undelivered,
            "recovered": recovered,
        }:
            self.world.fail("S13", f"the run before is {last}, of which {recovered} were recovered, and said is {said}")

    def _count(self, *, is_taken: bool) -> None:
        if not self.world.settings.recovery.enabled:
            return
        self.world.count("recoveries" if is_taken else "recoveries held back")
        if not is_taken:
            return
        for owed in self.owed.values():
            self.world.count("deliveries recovered")
            self.world.count("deliveries suspected of crashes", owed.crashes >= CRASHES_MAX)
            self.world.count("deliveries recovered from several reports", len(owed.lines) > 1)


def _key(line: dict[str, Any]) -> Key:
    return line["client_id"], line["event_id"], line["endpoint_id"]


def _age(report: tuple[str, bytes]) -> tuple[str, str]:
    summary = msgspec.json.decode(report[1].partition(b"\n")[0])
    return summary["started_at"], summary["stopped_at"]
