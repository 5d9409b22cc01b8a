"""What the log and the counters must say of states and of what is given up: once, whichever way it comes.

The log is one of the daemon's answers: what is told there is known from outside, and at the very moment.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation import cancel_invariants, terms_invariants

if TYPE_CHECKING:
    from tests.simulation.world import World

STATES = ("ok", "throttled", "paused", "disabled")
# Where time alone ends a state: it is looked at once a second.
TOLD_WITHIN_SECONDS = 1.5
EPSILON = 1e-6
Key = tuple[str, str, str]  # client, event and endpoint


@dataclass(frozen=True)
class GivenUp:
    at: float
    reason: str
    attempts: int


@dataclass
class Told:
    """What one run has said."""

    states: dict[tuple[str, str], list[tuple[float, str, str | None]]] = field(default_factory=dict)
    given_up: dict[Key, list[GivenUp]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)  # reasons

    def state_at(self, key: tuple[str, str]) -> tuple[float, str, str | None]:
        return self.states.get(key, [(-1.0, "ok", None)])[-1]

    def since(self, key: tuple[str, str], moment: float) -> set[tuple[str, str | None]]:
        """The states that were told at some time since then."""
        told = [(-1.0, "ok", None), *self.states.get(key, [])]
        before = [one for one in told if one[0] < moment]
        return {one[1:] for one in (*before[-1:], *(one for one in told if one[0] >= moment))}


def note(world: "World", event: str, fields: dict[str, Any]) -> None:
    """A line of the log."""
    if event == "endpoint.removed":  # a later endpoint of this id begins anew
        told = world.checks.told.states.setdefault((fields["client_id"], fields["endpoint_id"]), [])
        told.append((world.now(), "ok", None))
        world.checks.readers.logged_removal((fields["client_id"], fields["endpoint_id"]))
    elif event.startswith("endpoint.") and event.partition(".")[2] in STATES:
        _note_state(world, event.partition(".")[2], fields)
    elif event == "delivery.exhausted":
        _note_given_up(world, fields)


def _note_state(world: "World", state: str, fields: dict[str, Any]) -> None:
    key = (fields["client_id"], fields["endpoint_id"])
    said = (state, fields["paused_by"])
    if world.checks.told.state_at(key)[1:] == said:
        world.fail("S14", f"endpoint {key} is told to be {said} twice")
    world.checks.told.states.setdefault(key, []).append((world.now(), *said))
    world.checks.readers.logged_state(key, said)
    world.count(f"told: {state}")


def _note_given_up(world: "World", fields: dict[str, Any]) -> None:
    told, line = world.checks.told, GivenUp(world.now(), fields["reason"], fields["attempts"])
    key = (fields["client_id"], fields["event_id"], fields["endpoint_id"])
    world.checks.readers.logged_given_up((key[0], key[2]), key[1])
    if key[1].startswith("ntc_"):  # hookd's own, which counts apart
        return
    posted = world.checks.posted.get(key[:2])
    before = told.given_up.setdefault(key, [])
    duty = None if posted is None else posted.duties.get(key[2])
    if before and not world.plan.retention_is_tiny and (duty is None or duty.retried_at < before[-1].at):
        world.fail("S14", f"{key} is told to be given up twice, as {before[-1].reason} and as {line.reason}")
    before.append(line)
    told.counts[line.reason] += 1
    world.count(f"told: {line.reason}")
    if posted is None or duty is None or posted.may_be_forgotten:
        return
    endpoint, what = world.checks.registered[key[0], key[2]], f"{key[1]} to {key[0]}/{key[2]}"
    if line.reason == "attempts_used":
        terms_invariants.check_used_up(world, endpoint, duty, line.attempts, what)
    elif line.reason == "expired":
        lapses_at = cancel_invariants.lapses_at(world, posted)
        terms_invariants.check_expired(world, endpoint, duty, what, lapses_at=lapses_at)


def check_exhausted(world: "World", key: Key, reason: str, attempt_count: int) -> None:
    """One that is exhausted, by an answer or a report of its run: the log has said so."""
    lines = world.checks.told.given_up.get(key, [])
    if not lines:
        world.fail("S14", f"{key} is exhausted as {reason}, and the log never said so")
    elif (lines[-1].reason, lines[-1].attempts) != (reason, attempt_count):
        world.fail("S14", f"{key} is exhausted as {reason} after {attempt_count}; the log said {lines[-1]}")


def check_health(world: "World", key: tuple[str, str], health: dict[str, Any], asked_at: float) -> None:
    """An endpoint's state as it is shown is the one that was told last; only time ends one before that is told."""
    shown = (health["state"], health["paused_by"] if health["state"] == "paused" else None)
    told = world.checks.told.since(key, asked_at)
    if shown in told:
        return
    endpoint = world.checks.registered[key]
    ended = endpoint.holds.may_have_ended(asked_at - TOLD_WITHIN_SECONDS, world.now())
    if shown[0] == "ok" and ("throttled", None) in told and ended:
        return
    world.fail("S14", f"endpoint {key} is {shown}, and told was {told}")


def check_metrics(world: "World", text: str, counted_before: Counter[str]) -> None:
    """`counted_before`: the lines of the log when it was asked."""
    for reason in ("attempts_used", "expired", "gone", "endpoint_removed", "crashed", "refused", "cancelled"):
        name = f'hookd_deliveries_exhausted_total{{reason="{reason}"}} '
        counted = next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)
        if not counted_before[reason] <= counted <= world.checks.told.counts[reason]:
            world.fail("S14", f"{counted:g} are counted as {reason}; told were {world.checks.told.counts[reason]}")


def check_end(world: "World") -> None:
    """Of a run that is over: each endpoint that answered 410, and was left so, was told to be disabled.

    An answer that is read as the drain ends still counts for its delivery. Nothing follows from it for its endpoint.
    """
    drained_at = world.run.no_attempts_after
    until = world.now() if drained_at is None else min(world.now(), drained_at - EPSILON)
    for key, endpoint in world.checks.registered.items():
        is_sure = endpoint.gone and not endpoint.is_changing and endpoint.is_registered
        if is_sure and endpoint.gone_at < until and world.checks.told.state_at(key)[1] != "disabled":
            world.fail("S14", f"endpoint {key} answered 410 at {endpoint.gone_at:.3f} s, and is told to be otherwise")
