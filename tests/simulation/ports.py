"""Ports that raise: which of what the ledger and the flow are given, at which of its calls, before or after its effect.

In some seeds, drawn from a source of its own: every other seed is the run that it was. What nobody injected is a bug
(world.py). Here stands what must follow from a fault that was: nothing but that it is said, and that the recorder,
which fails for good, is told nothing more.

log     raises to whoever writes these lines: the ledger's guard
lines   the clock by which the log's writer stamps its lines raises: the line is lost, and counted
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, cast

from hookd.core.guard import NOTICES
from hookd.core.notices import Notices
from hookd.core.recorder import Recorder
from hookd.core.segment_store import Store
from hookd.core.settlements import Settlements
from hookd.edge.logs import LogWriter

from tests.core.port_faults import RECORDER_CALLS, Faults, Faulty
from tests.simulation.notice_invariants import WatchedNotices

if TYPE_CHECKING:
    from tests.simulation.world import World

SHARE = 1 / 6  # of the seeds
RUNS = 5  # of a seed: in those that come later no port raises
OCCURS = 0.5  # in a run, for each port
CLOCK_SHARE = 1 / 12  # of the seeds: what reads the flow's clock may crash, so little is claimed of such a run
CLOCK_OCCURS = 0.4
# Port -> its calls. A fault falls at any of them, or at those of one name: some are rare.
PORT_CALLS: dict[str, tuple[str, ...]] = {
    "recorder": (*RECORDER_CALLS, "prove"),
    "store": ("allocate", "begin", "append", "drop", "prove", "discard"),
    "feed": ("append",),
    "log": ("delivery.exhausted", "event.forgotten"),
    "lines": ("wall",),
    "clock": ("now",),
}
# As the ledger's guard, the log and the metrics name them.
SAID_AS = {"recorder": "recorder", "store": "recorder", "feed": "feed", "log": "log"}
READ_THE_CLOCK = (NOTICES,)  # inside the ledger's guard: it tells of them where the flow's clock raised


@dataclass(frozen=True)
class PortFault:
    run: int
    port: str
    call: str  # empty: any
    nths: tuple[int, ...]  # from 1, of those calls
    late: bool


def draw_port_faults(draw: Random, without: frozenset[str]) -> tuple[PortFault, ...]:
    """All that is drawn is drawn before anything is left out."""
    if draw.random() > SHARE:
        return ()
    found = []
    for run in range(1, RUNS + 1):
        for port, calls in PORT_CALLS.items():
            if port == "clock":
                continue
            occurs, call, late = draw.random() < OCCURS, draw.choice(("", *calls)), draw.random() < 0.5
            first = draw.choice((1, 1, 2, 3, 5, 10)) if call else int(2 ** draw.uniform(0, 7))
            more = [draw.randint(1, 40) for _ in range(draw.choice((0, 0, 1, 3)))]
            nths = (first, *(first + sum(more[: index + 1]) for index in range(len(more))))
            if occurs and without.isdisjoint(("ports", f"port {port}")):
                found.append(PortFault(run, port, call, nths, late))
    return tuple(found)


def draw_clock_faults(draw: Random, without: frozenset[str]) -> tuple[PortFault, ...]:
    """Apart from the others: a run of which little is claimed shows less of what they do."""
    if draw.random() > CLOCK_SHARE:
        return ()
    found = []
    for run in range(1, RUNS + 1):
        occurs, first, late = draw.random() < CLOCK_OCCURS, int(2 ** draw.uniform(0, 11)), draw.random() < 0.5
        if occurs and without.isdisjoint(("ports", "port clock")):
            found.append(PortFault(run, "clock", "", (first,), late))
    return tuple(found)


class Ports:
    """Of one run: what is handed to the daemon, and what has fallen."""

    def __init__(self, world: "World", run_number: int) -> None:
        self._world = world
        self._faults = {one.port: _RunFaults(one, self) for one in world.plan.port_faults if one.run == run_number}
        self._writer = _Lines(self._faults["lines"].on("wall", world.wall)) if "lines" in self._faults else None
        self._said: Counter[str] = Counter()
        self.fallen: Counter[str] = Counter()  # by their names for people
        self.recorder_failed_at: float | None = None
        self.may_leave_recorder = False  # it could not be removed
        self.shaken_at: float | None = None  # the clock raised: whoever read it may have crashed
        self.has_crashed = False  # the flow, the API or a signal's handling, and said so
        self.has_text_of_recorder = False  # on stderr
        self.reader = FeedReader()

    # What the daemon is given

    def recorder(self, make: Callable[[Callable[[Store], Store]], Recorder]) -> Recorder:
        """`make` takes what wraps the store. Nothing raises before the recorder is there."""
        store, faults = self._faults.get("store"), self._faults.get("recorder")
        recorder = make(lambda inner: inner if store is None else cast(Store, _FaultyStore(inner, store)))
        if faults is not None:
            recorder = cast(Recorder, Faulty(recorder, faults, *PORT_CALLS["recorder"]))
        for port, one in self._faults.items():
            one.is_armed = port != "clock"
        return recorder

    def clock(self, now: Callable[[], Any]) -> Callable[[], Any]:
        faults = self._faults.get("clock")
        return now if faults is None else faults.on("now", now)

    def arm_clock(self, is_armed: bool) -> None:
        """Once the daemon has answered, until the faults of the core stop."""
        if "clock" in self._faults:
            self._faults["clock"].is_armed = is_armed

    def settlements(self, effective: Any) -> Settlements:
        faults, settlements = self._faults.get("feed"), Settlements(effective)
        return settlements if faults is None else cast(Settlements, Faulty(settlements, faults, "append"))

    def notices(self, effective: Any) -> Notices:
        return WatchedNotices(effective, self._world.checks.readers)

    def log(self, event: str, level: str, fields: dict[str, Any]) -> None:
        """One line: to the world, unless it is lost."""
        faults = self._faults.get("log")
        if faults is None or event not in PORT_CALLS["log"]:
            self._log(event, level, fields)
            return
        fallen = self.fallen["log"]
        try:
            faults.on(event, self._log)(event, level, fields)
        finally:
            if self.fallen["log"] > fallen and not faults.is_late:
                self._world.log(event, level=level, is_lost=True, **fields)

    def _log(self, event: str, level: str, fields: dict[str, Any]) -> None:
        dropped = self.lines_dropped
        if self._writer is not None:
            self._writer(event, level=level, **fields)
        self._world.log(event, level=level, is_lost=self.lines_dropped > dropped, **fields)

    def text(self, text: str) -> None:
        if self._writer is not None:
            self._writer.text(text)
        self.has_text_of_recorder |= "The flight recorder failed, and the run went on without it" in text

    @property
    def lines_dropped(self) -> int:
        return 0 if self._writer is None else self._writer.lines_dropped

    # What has fallen

    def called(self, port: str, call: str) -> None:
        if self.recorder_failed_at is not None and SAID_AS.get(port) == "recorder" and call != "discard":
            self._world.fail("S15", f"the recorder has failed, and its {port} is told of {call}")

    def fell(self, fault: PortFault, call: str) -> None:
        world = self._world
        if not world.run.is_over:
            world.cover_port(fault.port, call, late=fault.late)
        world.trace("port", fault.port, call)
        said_as = SAID_AS.get(fault.port, fault.port)
        self.fallen[said_as] += 1
        if fault.port == "clock" and self.shaken_at is None:
            self.shaken_at = world.now()
            world.stop_shaken()
        if call == "discard":
            self.may_leave_recorder = not fault.late
        elif said_as == "recorder" and self.recorder_failed_at is None:
            self.recorder_failed_at = world.now()

    def is_injected(self, event: str, fields: dict[str, Any]) -> bool:
        """Whether this line tells of a fault that has fallen, and was not told yet."""
        if event in ("flow.crashed", "api.crashed", "signal.crashed"):
            self.has_crashed = True
        if event not in ("port.failed", "recorder.failed"):
            return self.shaken_at is not None
        port = fields["port"]
        self._said[port] += 1
        return self._said[port] <= self.fallen[port] + self.fallen["clock"] * (port in READ_THE_CLOCK)

    def check_end(self) -> None:
        """Of a run that was not killed."""
        for port in set(SAID_AS.values()):
            if self.fallen[port] and not self._said[port]:
                self._world.fail("S15", f"{port} raised {self.fallen[port]} times, and the log never said so")


class FeedReader:
    """Who reads the settlements of one run, page by page."""

    def __init__(self) -> None:
        self.is_reading = False
        self.cursor: str | None = None
        self.fallen_least = self.fallen_most = 0  # how often the feed had raised when that cursor was made


class _RunFaults(Faults):
    def __init__(self, fault: PortFault, ports: Ports) -> None:
        super().__init__(*fault.nths, late=fault.late)
        self.is_armed = False
        self.is_late = fault.late
        self._fault = fault
        self._ports = ports

    def on(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        counted = super().on(name, call) if self._fault.call in ("", name) else call

        def watched(*args: Any, **fields: Any) -> Any:
            self._ports.called(self._fault.port, name)
            return (counted if self.is_armed else call)(*args, **fields)

        return watched

    def fall(self, name: str) -> None:
        self._ports.fell(self._fault, name)
        super().fall(name)


class _FaultyStore(Faulty):
    def __init__(self, inner: Store, faults: Faults) -> None:
        super().__init__(inner, faults, "allocate", "drop", "prove", "discard")
        self._faults = faults
        self._begin = faults.on("begin", inner.begin)

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        return self._faults.on("append", self._begin(number, header))


class _Lines(LogWriter):
    """Lines are made, and written nowhere: virtual time has no threads."""

    def __init__(self, wall: Callable[[], float]) -> None:
        super().__init__(-1, pretty=False, colours=False, wall=wall, lines_max=1_000_000)

    def _write_lines(self) -> None:
        pass
