"""The invariants of what a delivery is granted: how many attempts, how much age, and when the next one may begin.

The rules are worked out here from what was seen, by bounds: the least and the most that can be true. A claim is made
where both sides of a bound say the same. in_force.py knows which schedules and holds there were, and when.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.simulation.model import Attempt, Duty, Registered

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
SHOWN_SECONDS = 0.01  # times are shown in milliseconds
# Expiry is looked at once a second.
EXPIRY_SLACK_SECONDS = 2.5

# Attempts


def probes(endpoint: Registered, duty: Duty, number: int) -> tuple[int, int]:
    """How many of the attempts before that one were probes that failed, since it was last opened: least and most."""
    before = {each: one for each, one in duty.attempts.items() if each < number}
    least = sum(one.is_probe for each, one in before.items() if each > max(duty.before_most, duty.carried))
    first = max(duty.before_least, duty.carried)
    seen = [one for each, one in before.items() if each > first]
    hidden = sum(one.maybe_paused and not one.exchanges for one in endpoint.history)
    most = sum(one.maybe_paused for one in seen) + max(0, min(number - 1 - first - len(seen), hidden))
    return (
        least + duty.carried_probes * (duty.before_most == 0),
        most + duty.carried_probes * (duty.before_least == 0),
    )


def allowed(endpoint: Registered, duty: Duty, number: int, since: float, until: float) -> tuple[int, int] | None:
    """How many attempts it gets, by a schedule in force then, with the probes before that attempt."""
    lengths = [len(one) for one in endpoint.schedules_in_force.between(since, until)]
    if not lengths:
        return None
    least, most = probes(endpoint, duty, number)
    return duty.before_least + 1 + min(lengths) + least, duty.before_most + 1 + max(lengths) + most


def check_count(world: "World", endpoint: Registered, duty: Duty, number: int, attempt: Attempt, what: str) -> None:
    """Granted by a schedule that was in force between the end of the attempt before and its own begin."""
    last = duty.last()
    since = duty.first_asked_at or 0.0 if last is None or last[1] is attempt else last[1].ended_at()
    granted = allowed(endpoint, duty, number, since, attempt.begun_at)
    if duty.retries_open or granted is None:
        return
    most = max(granted[1], duty.carried + 1)
    if number > most and not _follows_probe(endpoint, duty, number):
        world.fail("S3", f"{what}; there are {most}")


def _follows_probe(endpoint: Registered, duty: Duty, number: int) -> bool:
    """The attempt before may have been a probe that failed: what it waited for then, it still waits for."""
    before = duty.attempts.get(number - 1)
    if before is None:
        return any(one.maybe_paused and not one.exchanges for one in endpoint.history)
    return before.maybe_paused


def check_used_up(world: "World", endpoint: Registered, duty: Duty, count: int, what: str) -> None:
    """Given up now, after so many attempts. A probe that failed takes nothing from the schedule."""
    granted = allowed(endpoint, duty, count + 1, world.now(), world.now())
    if duty.retries_open or granted is None:
        return
    least = max(granted[0], duty.carried + 1)
    if count < least:
        world.fail("S3", f"{what} is exhausted after {count} attempts of {least}")
    last = duty.attempts.get(count)
    if last is not None and last.is_probe:
        world.fail("S3", f"{what} is exhausted by a probe, its attempt {count}")


def check_delay(
    world: "World",
    endpoint: Registered,
    duty: Duty,
    last: tuple[int, Attempt],
    number: int,
    attempt: Attempt,
    what: str,
) -> None:
    """Not sooner than the schedule says, for each attempt since the last that was seen."""
    number_before, before = last
    if attempt.maybe_paused or duty.retried_at >= before.begun_at or duty.retries_open or endpoint.is_changing:
        return
    schedules = endpoint.schedules_in_force.between(before.ended_at(), attempt.begun_at)
    least = sum(_delay(endpoint, duty, each, schedules) for each in range(number_before, number))
    waited = attempt.begun_at - before.ended_at()
    if waited < least * (1 - world.settings.retry.jitter) - EPSILON:
        world.fail("S4", f"{what} began {waited:.3f} s after attempt {number_before}; the schedule says {least:g}")


def _delay(endpoint: Registered, duty: Duty, number: int, schedules: list[tuple[float, ...]]) -> float:
    """The least wait after that attempt: which of the schedule's it is depends on the probes before it."""
    least, most = probes(endpoint, duty, number + 1)
    first, last = max(1, number - duty.before_most - most), max(1, number - duty.before_least - least)
    waits = [one[min(each, len(one)) - 1] if one else 0.0 for one in schedules for each in range(first, last + 1)]
    return min(waits, default=0.0)


def check_attempts_max(
    world: "World", endpoint: Registered, duty: Duty, view: dict[str, Any], asked_at: float, what: str
) -> None:
    """As it is shown: derived from what is in force, and what a settled one shows stays."""
    shown, count = view["attempts_max"], view["attempt_count"]
    if view["status"] in ("delivered", "exhausted"):
        if duty.shown_max not in (None, shown) and duty.retried_at < 0:
            world.fail("S3", f"{what} had settled with attempts_max {duty.shown_max} and shows {shown}")
        duty.shown_max = shown
        return
    granted = allowed(endpoint, duty, count + 1, asked_at, world.now())
    is_frozen = endpoint.was_removed or view["ends_as"] is not None
    if duty.retries_open or granted is None or is_frozen or endpoint.is_changing:
        return
    least = max(granted[0] - view["in_flight"], count)  # one in flight may be a probe that has not failed yet
    if not least <= shown <= max(granted[1], count + 1):
        world.fail("S3", f"{what} shows attempts_max {shown} after {count}; by what is in force it is {granted}")


# Ages


def age_least(endpoint: Registered, duty: Duty, at: float) -> float:
    assert duty.opened_at is not None
    return at - duty.opened_at - endpoint.holds.stood_most(duty.opened_at, at)


def age_most(endpoint: Registered, duty: Duty, at: float) -> float:
    assert duty.first_asked_at is not None
    return at - duty.first_asked_at - endpoint.holds.stood_least(duty.first_asked_at, at)


def check_age(world: "World", endpoint: Registered, duty: Duty, attempt: Attempt, what: str) -> None:
    """Of a delivery that is attempted."""
    if duty.opened_at is None or duty.retries_open or duty.opened_at > attempt.begun_at:
        return
    age = age_least(endpoint, duty, attempt.begun_at)
    if age > world.settings.retry.age_seconds_max + EPSILON:
        world.fail("S3", f"{what} at the age of {age:.3f} s")


def check_expired(
    world: "World", endpoint: Registered, duty: Duty, what: str, *, lapses_at: float | None = None
) -> None:
    """Given up now as too old, or past its event's expiry: it is, and nothing expires in an operator's pause."""
    if duty.first_asked_at is None:
        return
    age = age_most(endpoint, duty, world.now())
    is_lapsed = lapses_at is not None and world.now() >= lapses_at - SHOWN_SECONDS
    if age < world.settings.retry.age_seconds_max - EPSILON and not is_lapsed:
        world.fail("S3", f"{what} is expired at the age of {age:.3f} s")
    if endpoint.holds.is_paused(world.now()):
        world.fail("S3", f"{what} expired while an operator paused its endpoint")


def check_not_expired(world: "World", duty: Duty, endpoint: Registered, what: str, *, at: float) -> None:
    """Unsettled at that time, and not in flight."""
    if duty.opened_at is None or duty.retries_open or endpoint.is_changing or endpoint.holds.may_be_paused(at):
        return
    if any(one.was_cut for one in duty.attempts.values()):
        return
    age = age_least(endpoint, duty, at)
    # One in flight is not given up; its end and the next look at ages come after it.
    if age > world.settings.retry.age_seconds_max + EXPIRY_SLACK_SECONDS + endpoint.timeout:
        world.fail("S3", f"{what} is undelivered at the age of {age:.3f} s")


# What is promised


def check_promise(
    world: "World",
    endpoint: Registered,
    duty: Duty,
    view: dict[str, Any],
    asked_at: float,
    what: str,
    *,
    lapses_at: float | None,
) -> None:
    """`next_attempt_at` and `expires_at` of an unsettled delivery, as they are shown."""
    now, holds = world.now(), endpoint.holds
    if duty.opened_at is None or duty.retries_open or endpoint.is_changing or endpoint.loosened_at >= asked_at:
        return
    if not endpoint.is_registered or world.has_jumped_since(asked_at):
        return
    begins, expires = (_monotonic(world, view[name]) for name in ("next_attempt_at", "expires_at"))
    if holds.may_be_paused(now):
        if holds.is_paused(asked_at) and holds.is_paused(now) and (begins is not None or expires is not None):
            world.fail("S4", f"{what} is paused by an operator, and its next attempt or its expiry has a time")
        return
    age_max = world.settings.retry.age_seconds_max
    latest = now + holds.left_most(now) + age_max - age_least(endpoint, duty, now)
    soonest = now + holds.left_least(now) + age_max - age_most(endpoint, duty, now)
    if lapses_at is not None:
        soonest, latest = min(soonest, max(now, lapses_at)), min(latest, max(now, lapses_at))
    if expires is None or not soonest - SHOWN_SECONDS <= expires <= latest + SHOWN_SECONDS:
        world.fail("S3", f"{what} expires at {expires}; it is owed {soonest:.3f} to {latest:.3f} s")
    if begins is not None and begins > latest + SHOWN_SECONDS:
        world.fail("S4", f"{what} is promised an attempt at {begins:.3f} s, and expires at {latest:.3f} at the latest")
    left = holds.left_least(now)
    if begins is not None and left and holds.left_least(asked_at) and begins < now + left - SHOWN_SECONDS:
        world.fail("S4", f"{what} is promised an attempt at {begins:.3f} s, before Retry-After")


def _monotonic(world: "World", shown: str | None) -> float | None:
    return None if shown is None else datetime.fromisoformat(shown).timestamp() - world.wall() + world.now()
