"""What the simulation found in the daemon, each as the plan that shows it: seeds change with the tables.

And what is too rare in seeds to be waited for: a plan that shows a bug which was seeded, or one that a check took for a
bug, and was none.
"""

import msgspec
import pytest
from hookd.core.delivery import Delivery
from hookd.core.health import Health
from hookd.core.ledger import Ledger
from hookd.core.segment_layout import SegmentLayout
from hookd.edge.reports import ReportDirectory
from hookd.flow.attempt import Attempter
from hookd.flow.pacer import Pacer
from hookd.flow.recovery import Recovery
from hookd.process.supervisor import Supervisor

from tests.simulation.crashes import CrashReportCheck
from tests.simulation.engine import run
from tests.simulation.mutants import Mutant, applied
from tests.simulation.notice_invariants import Readers
from tests.simulation.plan import Action, Plan, Stop, Weather, make_plan
from tests.simulation.ports import PortFault
from tests.simulation.workload import Workload

JUMP_BACK = 4  # the number of an action whose jump is an hour back


def _plan(*actions: Action, fault: str) -> Plan:
    """One client with one endpoint with one fault; the settings are the daemon's own."""
    plan = make_plan(0, faults=(), actions={"post": 1})
    plan.seconds, plan.clients, plan.stops, plan.capacity = 5.0, {"c0": [{"id": "default"}]}, [], 65536
    plan.settings = type(plan.settings)(clients=plan.settings.clients, egress=plan.settings.egress)
    plan.weather = [Weather(0.0, "c0", "default", ((fault, 1),))]
    plan.actions, plan.core, plan.retention_is_tiny = list(actions), (("c0", "default"),), False
    plan.layout, plan.full = None, []
    return plan


def _removed_in_flight() -> Plan:
    """Seed 2 of the first day: deleted and put again beside an attempt in flight, it stayed paused by its operator."""
    posts = [Action(1.0, "post", number) for number in range(3)]
    return _plan(
        *posts, Action(2.0, "pause", 3), *(Action(3.0 + n / 10, "delete", n) for n in range(4, 8)), fault="hangs"
    )


def _probe_due_at_the_end() -> Plan:
    """Seed 1089 of its day: a probe due in the tick in which the drain ended was begun and cut, its outcome unknown."""
    plan = _plan(Action(1.0, "post", 1), fault="hangs")
    plan.seconds, plan.stops = 120.0, [Stop(116.0, "sigterm", 0.5, "none")]  # a probe is due in that very tick
    retry = msgspec.structs.replace(plan.settings.retry, schedule_seconds=(3.0,) * 20, jitter=0.0)
    delivery = msgspec.structs.replace(plan.settings.delivery, timeout_seconds=1.0)
    plan.settings = msgspec.structs.replace(plan.settings, retry=retry, delivery=delivery)
    return plan


def _stopped_on_an_earlier_day() -> Plan:
    """Seed 47 of the second day: the clock was set back, so the report just written was the oldest, and was deleted."""
    plan = _plan(Action(4.0, "jump", JUMP_BACK), fault="ok")
    plan.stops = [Stop(at, "sigterm", 0.5, "none") for at in (1.0, 2.0, 3.0)]
    plan.settings = msgspec.structs.replace(
        plan.settings, drain=msgspec.structs.replace(plan.settings.drain, reports_kept=1)
    )
    return plan


def _crashes_in_a_row() -> Plan:
    """Seed 73 of the second day: reports_kept was 1, so the next start saw two crashes of three, and recovered."""
    plan = _plan(*(Action(1.0 + n / 10, "post", n) for n in range(5)), fault="hangs")
    plan.stops = [Stop(at, "crash", 0.5, "none") for at in (2.0, 3.0, 4.0)]
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(
        given,
        recovery=replace(given.recovery, enabled=True),
        recorder=replace(given.recorder, payloads=True),
        drain=replace(given.drain, reports_kept=1),
    )
    plan.layout = SegmentLayout(100_000, 400_000, 64)
    return plan


def _told_to_stop_while_it_recovers() -> Plan:
    """Seed 6323 of the second day: with no time to drain, what was recovered was attempted all the same, and cut."""
    plan = _plan(Action(1.99, "post_steady", 1), fault="ok")
    plan.stops = [Stop(2.0, "sigterm", 0.5, "none", recovery_ends=(0, "sigterm"))]
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(
        given, recovery=replace(given.recovery, enabled=True), drain=replace(given.drain, timeout_seconds=0.0)
    )
    return plan


def _killed_before_it_claimed() -> Plan:
    """Seed 7353 of the second day: killed while it recovered, and no room for its report at the next start, which took
    back and delivered what that report lists when it is written at last.
    """
    plan = _plan(Action(1.99, "post_steady", 1), fault="ok")
    plan.seconds = 60.0
    plan.stops = [
        Stop(2.0, "sigterm", 0.5, "none", recovery_ends=(6, "crash")),
        *(Stop(at, "sigterm", 0.5, "none") for at in (30.0, 50.0)),
    ]
    plan.full = [(2.4, 40.0)]
    replace, given = msgspec.structs.replace, plan.settings
    plan.settings = replace(
        given,
        recovery=replace(given.recovery, enabled=True),
        recorder=replace(given.recorder, payloads=True),
        drain=replace(given.drain, timeout_seconds=0.0),
    )
    plan.layout = SegmentLayout(100_000, 400_000, 64)
    return plan


def _retried(plan: Plan, *, schedule_seconds: tuple[float, ...], age_seconds_max: float = 3600.0) -> None:
    retry = msgspec.structs.replace(
        plan.settings.retry, schedule_seconds=schedule_seconds, jitter=0.0, age_seconds_max=age_seconds_max
    )
    delivery = msgspec.structs.replace(plan.settings.delivery, timeout_seconds=1.0)
    plan.settings = msgspec.structs.replace(plan.settings, retry=retry, delivery=delivery)


def _probes_of_an_outage() -> Plan:
    """Rare in seeds: an outage that lasts, and a schedule that its probes would use up."""
    posts = [Action(1.0 + number / 10, "post", number) for number in range(12)]
    plan = _plan(*posts, *(Action(60.0 + n, "get_event", 20 + n) for n in range(40)), fault="5xx")
    plan.seconds = 120.0
    _retried(plan, schedule_seconds=(4.0,) * 10)
    return plan


def _one_of_two_reopened() -> Plan:
    """Rare in seeds: of two deliveries of an event one is reopened while the other waits until it is too old."""
    looks = [Action(28.0 + n, "get_event", 10 + n) for n in range(4)]
    plan = _plan(Action(1.0, "post", 1), Action(15.0, "retry", 2), *looks, fault="4xx")
    plan.clients, plan.seconds = {"c0": [{"id": "e0", "schedule": []}, {"id": "e1"}]}, 35.0
    plan.weather = [Weather(0.0, "c0", each, (("4xx", 1),)) for each in ("e0", "e1")]
    plan.core = (("c0", "e0"),)
    _retried(plan, schedule_seconds=(40.0, 40.0), age_seconds_max=20.0)
    return plan


def _last_attempts_in_an_outage() -> Plan:
    """Rare in seeds: what waits for its last attempt when the pause begins, so that a probe is that attempt."""
    plan = _probes_of_an_outage()
    _retried(plan, schedule_seconds=(15.0, 20.0))
    return plan


def _killed_while_it_reads_a_body() -> Plan:
    """Seed 245 of its day: killed with a 503 read and its body under way. What its tasks made of that while they ended
    was taken for a notice that somebody reads.
    """
    plan = _plan(*(Action(1.0 + number / 10, "post", number) for number in range(4)), fault="drips_body")
    plan.stops = [Stop(1.5, "crash", 0.5, "none")]
    return plan


def _refused_before_it_crashed() -> Plan:
    """Seed 1193 of its day: refused at its first attempt, so settled, while its schedule granted more. A report that
    lists no more of it was taken for one that lost it.
    """
    plan = _plan(*(Action(1.0 + number / 10, "post", number) for number in range(4)), fault="4xx")
    plan.seed = 65  # whose endpoint gives up on 4xx
    plan.stops = [Stop(3.0, "crash", 0.5, "none")]
    plan.layout = SegmentLayout(100_000, 400_000, 64)
    return plan


def _crashed_and_killed_in_its_report() -> Plan:
    """Seed 3455 of its day: its clock raised, so that it ended by itself, and it was killed while it reported. What it
    had refused as draining was read after that.
    """
    plan = _plan(fault="ok")
    plan.seed = 111  # its second run is registered with one second late, as the clock raises
    plan.stops = [Stop(0.5, "sigterm", 0.5, "none"), Stop(1.9, "crash in write", 0.5, "none", 1)]
    plan.port_faults = (PortFault(2, "clock", "", (1,), late=False),)
    plan.layout = SegmentLayout(100_000, 400_000, 64)
    return plan


FOUND = {
    "probes_use_up": (
        _probes_of_an_outage,
        Mutant(
            "probes_use_up",
            Delivery,
            "end_attempt",
            "self.probe_failures += outcome is None or not is_success(outcome)",
            "pass",
        ),
    ),
    "probe_is_the_last": (
        _last_attempts_in_an_outage,
        Mutant("probe_is_the_last", Attempter, "_verdict", "not delivery.particulars.is_probing and ", ""),
    ),
    "reopening_moves_the_age": (
        _one_of_two_reopened,
        Mutant("reopening_moves_the_age", Ledger, "reopen", "if before in SETTLED:", "if True:"),
    ),
    "stays_paused": (
        _removed_in_flight,
        Mutant("stays_paused", Health, "be_removed", "self.resume(now)", "self.disabled = False"),
    ),
    "goes_on": (_removed_in_flight, Mutant("goes_on", Ledger, "abandon", "delivery.abandon(", "delivery.freeze(")),
    "begins_at_the_end": (_probe_due_at_the_end, Mutant("begins", Pacer, "close", "self._is_closed = True", "pass")),
    "deletes_its_own": (
        _stopped_on_an_earlier_day,
        Mutant("deletes_its_own", ReportDirectory, "write", "self._written.add(path)", "pass"),
    ),
    "begins_nevertheless": (
        _told_to_stop_while_it_recovers,
        Mutant("begins_nevertheless", Supervisor, "_run_flow", "self._seconds_to_drain() > 0", "True"),
    ),
    "recovers_what_is_unaccounted": (
        _killed_before_it_claimed,
        Mutant("recovers", Recovery, "run", "if self._is_unaccounted or is_crashing:", "if is_crashing:"),
    ),
    "forgets_crashes": (
        _crashes_in_a_row,
        Mutant("forgets_crashes", ReportDirectory, "prune", "CRASHES_IN_A_ROW * has_crashed", "0"),
    ),
    "killed_tells": (
        _killed_while_it_reads_a_body,
        Mutant("killed_tells", Readers, "told", "if world.run.is_over:", "if False:"),
    ),
    "refused_is_lost": (
        _refused_before_it_crashed,
        Mutant(
            "refused_is_lost",
            CrashReportCheck,
            "_may_be_given_up",
            "trait_invariants.may_be_refused(endpoint, duty, at=self.known_until)",
            "False",
        ),
    ),
    "drains_unasked": (
        _crashed_and_killed_in_its_report,
        Mutant(
            "drains_unasked",
            Workload,
            "_refused",
            "not self.world.run.may_drain",
            "self.world.run.stop_asked_at is None",
        ),
    ),
}


@pytest.mark.parametrize("found", FOUND)
def test_plan_that_showed_a_bug_fails_without_its_fix_only(found: str) -> None:
    """The fix taken back, of the daemon or of a check, is a mutant, which the plan still catches."""
    plan, reverted = FOUND[found]
    assert run(plan()).violation is None
    with applied(reverted):
        assert run(plan()).violation is not None
