"""The invariants of what an endpoint asks for itself: its rate, strict order, and the statuses that it gives up on.

An endpoint has these traits from its first PUT to the last (plan.traits), so nothing of them is in doubt.

S16: no more attempts begin in any window of a rate than its burst.
S17: with strict order one attempt is in flight at most, and none of an event is sent once one that was surely accepted
     later was sent. Accepted later is what was asked for after the answer to the other was read. What was taken back
     was accepted by an earlier run, however late it is posted again. What was reopened by hand goes late by right.
     A report lists what is undelivered in the order of acceptance: the next start takes it back in this order.
S18: after an answer that the endpoint gives up on there is no attempt but by hand, and `refused` has such an answer.
S25: an endpoint with trace_context is sent the traceparent of a request that brought the event, at each attempt and in
     each run that takes it over; others are sent none, and nobody tracestate or baggage.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.model import Attempt, Duty, Exchange, Posted, Registered

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
SECONDS = {"s": 1.0, "m": 60.0}


def check_begin(world: "World", endpoint: Registered, attempt: Attempt, now: float) -> None:
    """Of an attempt that is no test."""
    name = attempt.host.name
    if endpoint.tests_ever or endpoint.was_removed:  # a test looks like an attempt; a removal forgets what began
        return
    rate = endpoint.traits.get("rate")
    if rate is not None:
        count, seconds = int(rate[:-2]), SECONDS[rate[-1]]
        burst = max(1, int(count / seconds))
        window = burst * seconds / count
        lately = 1 + sum(one.begun_at > now - window + EPSILON for one in endpoint.history)
        if lately > burst:
            world.fail("S16", f"{lately} attempts began at {name} within {window:g} s; its rate is {rate}")
    if endpoint.traits.get("order") == "strict" and any(one.is_open for one in endpoint.open):
        world.fail("S17", f"two attempts are in flight at {name}, which has strict order")


def check_sent(world: "World", endpoint: Registered, exchange: Exchange, posted: Posted, duty: Duty) -> None:
    """Before the attempt is noted among the duty's."""
    what = f"{posted.id} at {exchange.attempt.host.name}"
    _check_trace(world, endpoint, exchange, posted, what)
    if endpoint.traits.get("order") == "strict":
        _check_order(world, endpoint, posted, duty, what)
    last = duty.last()
    if last is None or last[1] is exchange.attempt or duty.retried_at >= 0 or posted.is_resent or duty.is_recovered:
        return
    answer = last[1].answer
    if answer is not None and answer.status != 410 and gives_up(endpoint, answer.status):
        world.fail("S18", f"{what} is attempted after it answered {answer.status}, which it gives up on")


def check_listed(
    world: "World", find: Callable[[str, str], Posted | None], undelivered: Sequence[dict[str, Any]], what: str
) -> None:
    """`undelivered` are a report's lines, and `find` knows the events of its run."""
    accepted_behind, behind = math.inf, ""  # when one that stands further behind was surely accepted
    for line in reversed(undelivered):
        posted = find(line["client_id"], line["event_id"])
        if posted is None or posted.is_resent or posted.may_be_forgotten:
            continue
        if any(duty.is_recovered for duty in posted.duties.values()):
            continue
        if accepted_behind < posted.first_asked_at:
            world.fail("S17", f"{what} lists {posted.id} before {behind}, which was accepted earlier")
        if posted.answered_at is not None and posted.answered_at < accepted_behind:
            accepted_behind, behind = posted.answered_at, posted.id


def check_refused(world: "World", endpoint: Registered, duty: Duty, what: str) -> None:
    """It is exhausted as `refused`."""
    answers = [one.answer for one in duty.attempts.values()]
    if not any(answer is not None and gives_up(endpoint, answer.status) for answer in answers):
        world.fail("S18", f"{what} is refused, and was answered nothing that its endpoint gives up on")


def may_be_refused(endpoint: Registered, duty: Duty, *, at: float) -> bool:
    """Its last attempt was over by then, with an answer that its endpoint gives up on; no retry reopened it since."""
    last = duty.last()
    if last is None or last[1].answer is None or not gives_up(endpoint, last[1].answer.status):
        return False
    ended_at = last[1].exchanges[-1].ended_at
    if ended_at is None or ended_at > at:
        return False
    was_reopened = duty.retried_at >= 0 and duty.first_asked_at is not None and ended_at < duty.first_asked_at
    return not was_reopened


def gives_up(endpoint: Registered, status: int) -> bool:
    entries = endpoint.traits.get("give_up_on", ())
    return status in entries or f"{status // 100}xx" in entries


def _check_trace(world: "World", endpoint: Registered, exchange: Exchange, posted: Posted, what: str) -> None:
    given = exchange.head.get("traceparent", "")
    allowed = posted.traceparents or {""} if endpoint.traits.get("trace_context") else {""}
    if given not in allowed or {"tracestate", "baggage"} & exchange.head.keys():
        world.fail("S25", f"{what} is sent the traceparent {given!r}, and not one of {sorted(allowed)}")
    world.count("attempts with a trace", bool(given))


def _check_order(world: "World", endpoint: Registered, posted: Posted, duty: Duty, what: str) -> None:
    if duty.retried_at >= 0 or posted.is_resent or posted.may_be_forgotten or posted.answered_at is None:
        return
    for other in world.checks.posted.values():
        is_later = other.client_id == posted.client_id and other.first_asked_at > posted.answered_at
        theirs = other.duties.get(endpoint.key[1])
        if not is_later or other is posted or theirs is None or _is_from_before(other, theirs):
            continue
        if any(attempt.exchanges for attempt in theirs.attempts.values()):
            world.fail("S17", f"{what} was overtaken by {other.id}, which was accepted later")


def _is_from_before(posted: Posted, duty: Duty) -> bool:
    """Recovered, or resent: this run had admitted it before anybody posted it again."""
    is_resent = posted.answered_at is not None and posted.answered_at < posted.first_asked_at
    return duty.is_recovered or is_resent
