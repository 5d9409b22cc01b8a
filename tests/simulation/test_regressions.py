"""What the simulation found in the daemon, each as the plan that shows it: seeds change with the tables."""

from daemon.core.health import Health
from daemon.core.ledger import Ledger
from tests.simulation.mutants import Mutant, applied
from tests.simulation.plan import Action, Plan, Weather, make_plan
from tests.simulation.world import run


def _plan(*actions: Action, mood: str) -> Plan:
    """One client with one endpoint in one mood; the settings are the daemon's own."""
    plan = make_plan(0, moods=(), actions={"post": 1})
    plan.seconds, plan.clients, plan.stops, plan.capacity = 5.0, {"c0": [{"id": "default"}]}, [], 65536
    plan.settings = type(plan.settings)(clients=plan.settings.clients, egress=plan.settings.egress)
    plan.weather = [Weather(0.0, "c0", "default", ((mood, 1),))]
    plan.actions, plan.core, plan.retention_is_tiny = list(actions), (("c0", "default"),), False
    return plan


def _removed_in_flight() -> Plan:
    posts = [Action(1.0, "post", number) for number in range(3)]
    return _plan(
        *posts, Action(2.0, "pause", 3), *(Action(3.0 + n / 10, "delete", n) for n in range(4, 8)), mood="hangs"
    )


def test_endpoint_registered_again_is_not_paused_and_owes_nothing_old() -> None:
    """Found by seed 2: deleted and put again beside an attempt in flight, it stayed paused by its operator."""
    assert run(_removed_in_flight()).violation is None


def test_these_plans_show_what_they_found() -> None:
    """Without its fix each one fails."""
    stays_paused = Mutant("stays_paused", Health, "be_removed", "self.resume()", "self.disabled = False")
    goes_on = Mutant("goes_on", Ledger, "abandon", "delivery.is_abandoned = True", "pass")
    for reverted in (stays_paused, goes_on):
        with applied(reverted):
            assert run(_removed_in_flight()).violation is not None, reverted.name
