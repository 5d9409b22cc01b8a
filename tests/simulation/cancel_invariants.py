"""The invariants of what should no longer go out: what was cancelled, and what is past its event's own expiry.

Only seeds that plan.py chooses have either, and none of them sets the wall clock: so an expiry has one moment.

S19: nothing is attempted later than its event's expiry, and what waits is given up within seconds of it, unless an
     operator holds its endpoint.
S20: what an answer said to be cancelled is not attempted again but by hand, also not by a later run; what was in flight
     then ends as `delivered` or `cancelled`; and nothing is cancelled that nobody asked to be, or that was posted after
     the asking.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.simulation.model import Attempt, Duty, Posted, Registered

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 2e-3  # times are given in milliseconds
EXPIRY_SLACK_SECONDS = 2.5


def written(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lapses_at(world: "World", posted: Posted | None) -> float | None:
    """When the event's own expiry passes, by the daemon's monotonic clock; None: it has none."""
    if posted is None or posted.expires_at is None:
        return None
    return posted.expires_at - world.wall() + world.now()


def check_sent(world: "World", endpoint: Registered, attempt: Attempt, posted: Posted, duty: Duty, what: str) -> None:
    """Before the attempt is noted among the duty's."""
    lapsed_at = lapses_at(world, posted)
    if lapsed_at is not None and attempt.begun_at > lapsed_at + EPSILON:
        world.fail("S19", f"{what} began at {attempt.begun_at:.3f} s, and its event expired at {lapsed_at:.3f}")
    if duty.is_cancelled and duty.cancelled_at is not None and attempt.begun_at > duty.cancelled_at + EPSILON:
        world.fail("S20", f"{what}, which was cancelled at {duty.cancelled_at:.3f} s")
    if duty.is_recovered and endpoint.key[1] in posted.cancelled_before and not posted.is_resent:
        world.fail("S20", f"{what}, which was recovered, and was cancelled in an earlier run")


def check_event(world: "World", posted: Posted, view: dict[str, Any]) -> None:
    if view["expires_at"] != shown(posted):
        world.fail("S19", f"{posted.id} expires at {shown(posted)}, and shows {view['expires_at']}")


def check_delivery(
    world: "World", posted: Posted, duty: Duty, view: dict[str, Any], asked_at: float, what: str
) -> None:
    """As it is shown."""
    was_cancelled = duty.is_cancelled and duty.cancelled_at is not None and duty.cancelled_at <= asked_at
    if was_cancelled and view["status"] not in ("delivered", "exhausted") and view["ends_as"] != "cancelled":
        world.fail("S20", f"{what} was cancelled, and is {view['status']} and ends as {view['ends_as']}")
    if view["ends_as"] == "cancelled" and not may_be_cancelled(posted, duty, view["endpoint_id"]):
        world.fail("S20", f"{what} is said to end as cancelled, and nobody asked for that")
    if duty.ran_out and duty.is_cancelled and view["status"] == "exhausted" and view["reason"] != "cancelled":
        world.fail("S20", f"{what} was cancelled in flight, and is exhausted as {view['reason']}")


def may_be_cancelled(posted: Posted, duty: Duty, endpoint_id: str) -> bool:
    """Somebody asked for it, in this run or in one that it was taken over from."""
    is_asked = not {None, endpoint_id}.isdisjoint(posted.cancels_asked)
    return is_asked or posted.is_resent or any(line.get("cancelled") for line in duty.taken_up)


def check_reported(world: "World", posted: Posted, duty: Duty, line: dict[str, Any], what: str) -> None:
    """It stands in the report as undelivered."""
    if duty.is_cancelled and duty.cancelled_at is not None and not line.get("cancelled"):
        world.fail("S20", f"{what} was cancelled at {duty.cancelled_at:.3f} s, and its line does not say so")
    if line.get("cancelled") and not may_be_cancelled(posted, duty, line["endpoint_id"]):
        world.fail("S20", f"{what} is cancelled in the report, and nobody asked for that")
    check_line(world, posted, line, what)


def check_line(world: "World", posted: Posted, line: dict[str, Any], what: str) -> None:
    """Of a report, of a crash too: it says when its event expires."""
    if line.get("expires_at") != shown(posted):
        world.fail("S19", f"{what} expires at {shown(posted)}, and its line says {line.get('expires_at')}")


def shown(posted: Posted) -> str | None:
    return None if posted.expires_at is None else written(posted.expires_at)


def check_not_lapsed(world: "World", posted: Posted, endpoint: Registered, duty: Duty, what: str, *, at: float) -> None:
    """Unsettled at that time, and not in flight."""
    lapsed_at = lapses_at(world, posted)
    if lapsed_at is None or endpoint.is_changing or any(one.was_cut for one in duty.attempts.values()):
        return
    since = max(lapsed_at, endpoint.holds.stands_until(at))
    if at > since + EXPIRY_SLACK_SECONDS + endpoint.timeout and not endpoint.holds.may_be_paused(at):
        world.fail("S19", f"{what} is unsettled at {at:.3f} s, and its event expired at {lapsed_at:.3f}")


def may_have_ended(world: "World", posted: Posted, duty: Duty, endpoint_id: str, *, at: float) -> bool:
    """By a cancel or its event's expiry, at that time."""
    lapsed_at = lapses_at(world, posted)
    return may_be_cancelled(posted, duty, endpoint_id) or (lapsed_at is not None and at >= lapsed_at - EPSILON)
