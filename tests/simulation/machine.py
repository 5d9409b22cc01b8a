"""The machine that the daemon's processes run on: what each leaves there, and what the next one makes of it.

A start does what the daemon's own does: it accounts for the runs before it, by the daemon's own code, and may be killed
while it does. Then it is checked that every run without a report has one now, that it is true (crashes.py), and that
nothing else was touched.
"""

import shutil
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from hookd.core.no_recorder import NOTHING_RECORDED
from hookd.core.recorder import Recorder
from hookd.core.run import Run as RunIdentity
from hookd.core.segment_store import Store
from hookd.process import crash_reports

from tests.simulation.broken_off import BrokenOffCheck
from tests.simulation.crashes import CrashReportCheck
from tests.simulation.model import Model
from tests.simulation.plan import Stop, chance
from tests.simulation.ports import Ports
from tests.simulation.recovering import Ended, Recovering
from tests.simulation.surviving_files import DAMAGES, Blow, Directory, Killed, MemoryFolder, Segments, make_directory

if TYPE_CHECKING:
    from tests.simulation.world import Run, World

WRITES_MAX = 40  # before the last one


class Machine:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.where = make_directory()
        self.directory = Directory(self.where, self._is_full)
        self.folder = MemoryFolder(world.wall)
        self.segments: Segments | None = None  # the running daemon's
        self._owed: dict[str, Model] = {}  # of the runs that have no report yet
        self._reports: dict[str, bytes] = {}  # that were there at the last look
        self._claimed: dict[str, str] = {}
        self._ends: list[Ended] = []
        self._summaries: dict[str, dict[str, Any]] = {}  # of every report that ever was
        self._was_torn = False
        self.recovering: Recovering

    def remove(self) -> None:
        shutil.rmtree(self.where)

    # A start

    def account(self, *, killed_at: int | None, draw: Random) -> bool:
        """Of the runs before; False where that was cut, at some step."""
        self._look()
        self.directory = Directory(self.where, self._is_full)
        self.folder.blow = self.directory.blow = None
        if killed_at is not None:
            self.folder.blow = self.directory.blow = Blow(killed_at, "whole", draw, _die)
        try:
            crash_reports.write_crash_reports(
                self._folder(), self.directory, self.world.own_log, recovery=self.world.settings.recovery.enabled
            )
        except Killed:
            self.world.cover_killed_start()
            self._look()
            return False
        finally:
            self.folder.blow = self.directory.blow = None
        self._look()
        self._check_accounted()
        return True

    def recorder(self, run: RunIdentity, ports: Ports) -> Recorder:
        """The next run's."""
        plan, self.segments, self.directory.refused = self.world.plan, None, 0
        if plan.layout is None:
            return NOTHING_RECORDED
        layout, payloads = plan.layout, plan.settings.recorder.payloads

        def make(wrap: Callable[[Store], Store]) -> Recorder:
            recorder, self.segments = self.folder.recorder(
                run, layout, payloads=payloads, segments_max=plan.segments_max, wrap=wrap
            )
            return recorder

        return ports.recorder(make)

    def begin_run(self) -> None:
        """The model of the last run is closed."""
        self.recovering = Recovering(self.world, self.unclaimed(), self._ends, is_unaccounted=bool(self._owed))

    # A stop

    def arm(self, stop: Stop, run: "Run") -> None:
        """The run is killed in one of its next steps on the recorder."""
        draw = chance(self.world.plan.seed, "blow", stop.number)
        steps = draw.choice((0, 1, draw.randint(2, WRITES_MAX)))
        self.folder.blow = Blow(steps, draw.choice(DAMAGES), draw, lambda: self.world.crash(run, stop))

    def disarm(self) -> None:
        self.folder.blow = None

    def kill(self) -> None:
        self.folder.blow = None
        if self.segments is not None:
            self.segments.is_dead = True

    def ended(self, run: "Run", code: int | None) -> bytes | None:
        """The run's report; None where it has none, which the next start has to make good where it can."""
        run_id = f"run{run.number}"
        raw = self._look().get(run_id)
        self._count(run)
        undelivered = None if raw is None else summary_of(raw)["deliveries"]["undelivered"]
        if raw is not None or self.segments is not None or run_id in self.directory.markers():  # else nothing is left
            self._ends.append(Ended(run_id, run.started_at, self.world.now(), raw is None, undelivered))
        if raw is None:
            if code is not None and not self.directory.refused:
                self.world.fail("S13", f"the daemon ended with {code} and without a report")
            if self.segments is not None:
                self._was_torn |= self.segments.is_torn or self.segments.is_broken_off
                self._owed[run_id] = self.world.checks.model(
                    run_id,
                    self.world.now(),
                    is_torn=self.segments.is_torn,
                    broken_at=run.ports.recorder_failed_at if self.segments.is_broken_off else None,
                    is_shaken=run.ports.shaken_at is not None,
                )
            elif run.has_answered and run_id not in self.directory.markers():
                self.world.fail("S13", f"{run_id} ended without a report, and nothing says so")
        elif code is not None and self._has_more_than_its_report(run, run_id):
            self.world.fail("S13", f"{run_id} has its report, and its recorder or marker is still there")
        return raw

    def _has_more_than_its_report(self, run: "Run", run_id: str) -> bool:
        has_recorder = run_id in self.folder.runs and not run.ports.may_leave_recorder
        return has_recorder or run_id in self.directory.markers()

    def remembered(self) -> None:
        """Just before the model of the last run is closed: a producer may have read its answer since the crash."""
        for run_id, model in self._owed.items():
            if run_id == f"run{self.world.run.number}":
                self._owed[run_id] = self.world.checks.model(
                    run_id, model.ended_at, is_torn=model.is_torn, broken_at=model.broken_at, is_shaken=model.is_shaken
                )

    def claim(self, name: str, run: "Run") -> None:
        self.directory.claim(str(self.where / name), f"run{run.number}")
        self._look()

    def claims(self) -> dict[str, str]:
        """Of the reports that are there, and what the running process claimed and deleted."""
        return self.directory.claimed | self.directory.claims()

    def unclaimed(self) -> list[tuple[str, bytes]]:
        """The reports that list something undelivered that nobody took, oldest first."""
        self._look()
        found = self._reports
        names = sorted(found, key=lambda name: name.partition("-")[2])
        return [(name, found[name]) for name in names if is_owing(found[name]) and name not in self._claimed]

    def check_sums(self, runs: int) -> None:
        """Over all runs: each event that came in new was delivered, given up, or is listed by a report unclaimed."""
        summaries = [one["events"] for one in self._summaries.values()]
        given, posted = self.world.settings, self.world.checks.posted.values()
        is_exact = given.recovery.enabled and len(summaries) == runs and not self._was_torn
        unrecorded = sum(one.get("recorder", {}).get("events_unrecorded", 0) for one in self._summaries.values())
        if not is_exact or unrecorded or any(one.is_resent for one in posted):
            return
        self.world.count("sums over all runs")
        came_in = sum(one["accepted"] - one["recovered"] for one in summaries)
        settled = sum(one["delivered"] + one["exhausted"] for one in summaries)
        lines = [msgspec.json.decode(line) for _, raw in self.unclaimed() for line in raw.splitlines()[1:]]
        listed = {(line["client_id"], line["event_id"]) for line in lines if line["kind"] == "undelivered"}
        if came_in != settled + len(listed):
            self.world.fail("S1", f"{came_in} came in over all runs; {settled} settled, and {len(listed)} are listed")

    # What is there

    def _look(self) -> dict[str, bytes]:
        """Reports are never changed, and those that are owed something never deleted. Returns those of each run."""
        found = self.directory.complete()
        self._claimed |= self.claims()
        for name, raw in self._reports.items():
            if found.get(name, raw) != raw:
                self.world.fail("S13", f"{name} was changed")
            if name not in found and is_owing(raw) and name not in self._claimed:
                self.world.fail("S13", f"{name} was deleted, and lists what nobody claimed")
        run_ids = [name.removesuffix(".jsonl").rpartition("-")[2] for name in found]
        if len(set(run_ids)) != len(run_ids):
            self.world.fail("S13", f"a run has two reports: {sorted(found)}")
        self._reports = found
        self._summaries |= {run_id: summary_of(raw) for run_id, raw in zip(run_ids, found.values(), strict=True)}
        return dict(zip(run_ids, found.values(), strict=True))

    def _check_accounted(self) -> None:
        reports = self._look()
        for run_id, model in list(self._owed.items()):
            raw = reports.get(run_id)
            if raw is None:
                if not self.directory.refused:
                    self.world.fail("S13", f"{run_id} ended without a report, and its recorder was there")
                continue
            del self._owed[run_id]
            undelivered = summary_of(raw)["deliveries"]["undelivered"]
            next(one for one in self._ends if one.run_id == run_id).undelivered = undelivered
            check = CrashReportCheck if model.broken_at is None else BrokenOffCheck
            check(self.world, model, raw).check()
            self.world.count("crash reports broken off", model.broken_at is not None)
        left = sorted({*self.folder.runs} - {*self._owed})
        if left:
            self.world.fail("S13", f"recorders of {left} are still there")
        if self.world.plan.layout is not None and self.directory.markers() - {*self._owed}:
            self.world.fail("S13", f"markers of {sorted(self.directory.markers())} are still there")

    def _folder(self) -> MemoryFolder | None:
        return None if self.world.plan.layout is None else self.folder

    def _is_full(self) -> bool:
        return any(begin <= self.world.now() < end for begin, end in self.world.plan.full)

    def _count(self, run: "Run") -> None:
        if self.segments is None:
            return
        self.world.count("recorder runs")
        if self.segments.dropped:
            self.world.count("recorder runs in which segments were dropped")
        if self.segments.refused:
            self.world.count("recorder runs without room on the file system")


def is_owing(raw: bytes) -> bool:
    return bool(summary_of(raw)["deliveries"]["undelivered"])


def summary_of(raw: bytes) -> Any:
    return msgspec.json.decode(raw.partition(b"\n")[0])


def _die() -> NoReturn:
    raise Killed
