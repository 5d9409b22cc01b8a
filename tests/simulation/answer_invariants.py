"""What the daemon says of itself, against what is known from outside: events, status, reports, exit codes."""

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation import cancel_invariants, log_invariants, proxy_invariants, terms_invariants, trait_invariants
from tests.simulation.model import Duty, Posted, Registered, same

if TYPE_CHECKING:
    from tests.simulation.world import Run, World

SETTLED = ("delivered", "exhausted")
EVENT_COST = DELIVERY_COST = 512
CRASHES_MAX = 3


def check_event(world: "World", view: dict[str, Any], asked_at: float) -> None:
    """An event as the API shows it; `asked_at` is when the question was sent."""
    posted = world.checks.posted_as(view["client_id"], view["id"])
    if posted is None:
        return world.fail("S8", f"event {view['id']} was never posted")
    statuses = [delivery["status"] for delivery in view["deliveries"]]
    if view["status"] != event_status(statuses) or view["unrouted"] is not (not statuses):
        world.fail("S1", f"event {posted.id} is {view['status']} with deliveries {statuses}")
    if (view["settled_at"] is None) != (view["status"] not in SETTLED):
        world.fail("S1", f"event {posted.id} is {view['status']}, settled at {view['settled_at']}")
    cancel_invariants.check_event(world, posted, view)
    if posted.may_be_forgotten:
        return None
    for delivery in view["deliveries"]:
        _check_delivery(world, posted, delivery, asked_at)
    return None


def event_status(statuses: list[str]) -> str:
    for status in ("failed", "pending", "exhausted"):
        if status in statuses:
            return status
    return "delivered"


def _check_delivery(world: "World", posted: Posted, view: dict[str, Any], asked_at: float) -> None:
    duty = posted.duty(view["endpoint_id"])
    what = f"{posted.id} to {posted.client_id}/{view['endpoint_id']}"
    status = view["status"]
    delivered = duty.delivered
    if status == "delivered" and delivered is None and duty.delivered_once is None:
        world.fail("S9", f"{what} is delivered, and no 2xx was read")
    if delivered is not None and duty.is_delivered and status != "delivered" and _is_past(delivered.read_at, asked_at):
        world.fail("S2", f"{what} is {status}, and a 2xx was read at {delivered.read_at:.3f}")
    may_change = duty.redeliveries_sent or (duty.settled_status != "delivered" and duty.retried_at >= 0)
    if duty.settled_status not in (None, status) and not may_change:
        world.fail("S2", f"{what} was {duty.settled_status} and is {status}")
    if status in SETTLED and duty.retried_at < asked_at:
        duty.settled_status = status
    if status == "exhausted":
        endpoint = world.checks.registered[posted.client_id, view["endpoint_id"]]
        check_reason(world, posted, duty, endpoint, view["reason"], what)
        key = (posted.client_id, posted.id, view["endpoint_id"])
        log_invariants.check_exhausted(world, key, view["reason"], view["attempt_count"])
    elif view["reason"] is not None:
        world.fail("S1", f"{what} is {status} with a reason")
    seen = max((number for number, one in duty.attempts.items() if one.begun_at < asked_at), default=0)
    if view["attempt_count"] < seen:
        world.fail("S3", f"{what} has {view['attempt_count']} attempts, and attempt {seen} was seen")
    waits = status not in SETTLED and not view["in_flight"]
    open_since = [one.begun_at for one in duty.attempts.values() if one.is_open]
    if waits and open_since and max(open_since) < asked_at:
        world.fail("S1", f"{what} is in flight and is not said to be")
    endpoint = world.checks.registered[posted.client_id, view["endpoint_id"]]
    terms_invariants.check_attempts_max(world, endpoint, duty, view, asked_at, what)
    cancel_invariants.check_delivery(world, posted, duty, view, asked_at, what)
    if waits and view["ends_as"] is None:
        cancel_invariants.check_not_lapsed(world, posted, endpoint, duty, what, at=world.now())
        terms_invariants.check_not_expired(world, duty, endpoint, what, at=world.now())
        lapses_at = cancel_invariants.lapses_at(world, posted)
        terms_invariants.check_promise(world, endpoint, duty, view, asked_at, what, lapses_at=lapses_at)
    if view["in_flight"] and status in SETTLED:
        world.fail("S1", f"{what} is {status} and in flight")
    for attempt in view["attempts"]:
        _check_attempt(world, duty, attempt, what)


def _check_attempt(world: "World", duty: Duty, view: dict[str, Any], what: str) -> None:
    seen = duty.attempts.get(view["number"])
    if seen is None:
        if view["outcome"] == "responded":
            world.fail("S9", f"attempt {view['number']} of {what} was answered, and none was seen")
        return None
    if seen.is_refused_by_proxy:
        return proxy_invariants.check_shown(world, seen, view, what)
    answer = seen.answer
    has_repeated = len(seen.exchanges) > 1
    if view["outcome"] is not None and has_repeated and not view["reconnected"]:
        world.fail("S9", f"attempt {view['number']} of {what} posted twice, and does not say so")
    # What was read in the very moment of the last write may have been read before it.
    has_written = any(
        one.written_at is not None and (one.read_at is None or one.written_at < one.read_at) for one in seen.exchanges
    )
    if view["outcome"] is not None and has_written and not view["request_sent"]:
        world.fail("S9", f"attempt {view['number']} of {what} wrote its whole request, and does not say so")
    if view["reconnected"] and not (seen.exchanges and seen.exchanges[0].is_kept):
        world.fail("S9", f"attempt {view['number']} of {what} is reconnected, and had no kept link")
    if view["outcome"] == "responded" and (answer is None or answer.status != view["status_code"]):
        world.fail("S9", f"attempt {view['number']} of {what}: {view['status_code']}; read was {answer}")
    if view["outcome"] not in (None, "responded") and answer is not None:
        world.fail("S9", f"attempt {view['number']} of {what}: {view['outcome']}; read was {answer.status}")
    return None


def check_reason(world: "World", posted: Posted, duty: Duty, endpoint: Registered, reason: str, what: str) -> None:
    """Whether it is used up or too old is checked when the log says so (log_invariants)."""
    match reason:
        case "attempts_used" | "expired":
            pass
        case "gone":
            if not endpoint.ever_gone:
                world.fail("S2", f"{what} is gone, and nobody answered 410")
        case "endpoint_removed":
            if not endpoint.was_removed and not endpoint.is_changing and endpoint.is_registered:
                world.fail("S2", f"{what} is given up as removed, and nobody removed it")
        case "refused":
            trait_invariants.check_refused(world, duty=duty, endpoint=endpoint, what=what)
        case "cancelled":
            if not cancel_invariants.may_be_cancelled(posted, duty, endpoint.key[1]):
                world.fail("S20", f"{what} is cancelled, and nobody asked for that")
        case "crashed":
            if duty.crashes < CRASHES_MAX:
                world.fail("S2", f"{what} is suspected of crashes, and was in flight at {duty.crashes}")
        case _:
            world.fail("S2", f"{what} is exhausted as {reason}")


def _is_past(moment: float | None, asked_at: float) -> bool:
    return moment is not None and moment < asked_at


def check_status(world: "World", view: dict[str, Any], asked_at: float) -> None:
    events, deliveries, memory = view["events"], view["deliveries"], view["memory"]
    for name, counts, total in (("events", events, "accepted"), ("deliveries", deliveries, "opened")):
        parts = sum(counts[status] for status in ("pending", "failed", "delivered", "exhausted"))
        if counts[total] != parts:
            world.fail("S1", f"{name}: {counts}")
    if memory["unsettled_events"] != events["pending"] + events["failed"]:
        world.fail("S6", f"budget is taken for {memory['unsettled_events']} events of {events}")
    limits = world.settings.intake
    events_max = max(limits.unsettled_events_max, events["recovered"])  # which come in over the budgets if need be
    is_over = memory["unsettled_bytes"] > limits.unsettled_bytes_max and not events["recovered"]
    if memory["unsettled_events"] > events_max or is_over:
        world.fail("S6", f"over the budget: {memory}")
    if (memory["unsettled_events"] == 0) != (memory["unsettled_bytes"] == 0):
        world.fail("S6", f"budget that nobody holds: {memory}")
    posted = [one for one in world.checks.posted.values() if one.admitted]
    maybe = sum(one.maybe for one in (*world.checks.posted.values(), *world.checks.nameless.values()))
    if not world.plan.retention_is_tiny and not len(posted) <= events["accepted"] <= len(posted) + maybe:
        world.fail("S1", f"{events['accepted']} accepted; {len(posted)} are known, and {maybe} may be")
    # One that began in the moment of the question may have begun behind the look, and before the answer was read.
    in_flight = sum(one.is_open and one.begun_at < asked_at for one in world.checks.open_attempts)
    own_in_flight = view["operations"]["in_flight"]
    if deliveries["in_flight"] + own_in_flight < in_flight and not _tests(world):
        world.fail("S1", f"{deliveries['in_flight']} in flight, of which {in_flight} were seen")
    overdue = view["oldest_overdue_seconds"]
    if (
        overdue is not None
        and overdue > 1
        and not deliveries["in_flight"] + own_in_flight
        and view["state"] == "running"
    ):
        world.fail("L3", f"something is overdue for {overdue} s and nothing is in flight")


def check_budget_used(world: "World", client_id: str, health: dict[str, Any]) -> None:
    """No endpoint has more than all of its client's budget. What is recovered comes in over it, hookd's own beside."""
    if health["budget_used"] <= 1 + 1e-6 or client_id == world.settings.operations.client:
        return
    events = [one for one in world.checks.posted.values() if one.client_id == client_id]
    if not any(duty.is_recovered for posted in events for duty in posted.duties.values()):
        world.fail("S6", f"{client_id} has more than its budget: {health}")


def _tests(world: "World") -> int:
    return sum(one.tests_open for one in world.checks.registered.values())


def check_end(world: "World", run: "Run", code: int | None, report: bytes) -> None:
    """The report and the exit code of a run that was stopped; None where it was killed once the report was there."""
    lines = [msgspec.json.decode(line) for line in report.splitlines()]
    summary, undelivered = lines[0], [line for line in lines[1:] if line["kind"] == "undelivered"]
    if run.ports.shaken_at is not None:
        return _check_shaken_end(world, run, code, lines)
    _check_drained(world, run, undelivered)
    if run.stop_asked_at is None:
        return world.fail("S12", f"the daemon ended by itself with {code}")
    if code is not None and code != (3 if undelivered else 0):
        world.fail("S12", f"exit code {code} with {len(undelivered)} undelivered")
    listed = _check_balance(world, run, lines)
    for key, line in listed.items():
        _check_line(world, key, line)
    trait_invariants.check_listed(world, world.checks.posted_as, undelivered, "the report")
    _check_complete(world, summary, listed)
    _check_attempts_made(world, listed)
    return None


def _check_balance(
    world: "World", run: "Run", lines: list[dict[str, Any]]
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The sums are right, and each delivery stands there once; returns the lines by client, event and endpoint."""
    summary, undelivered = lines[0], [line for line in lines[1:] if line["kind"] == "undelivered"]
    exhausted = [line for line in lines[1:] if line["kind"] == "exhausted"]
    if not summary["balanced"]:
        world.fail("S13", f"the summary is {summary}")
    check_sums(world, summary, undelivered, exhausted)
    _check_recorder(world, run, summary)
    listed = {(line["client_id"], line["event_id"], line["endpoint_id"]): line for line in lines[1:]}
    if len(listed) != len(lines) - 1:
        world.fail("S13", "a delivery stands in the report twice")
    return listed


def _check_shaken_end(world: "World", run: "Run", code: int | None, lines: list[dict[str, Any]]) -> None:
    """The clock has raised. The books balance, the exit code is true, and nothing that was admitted is forgotten."""
    summary, undelivered = lines[0], [line for line in lines[1:] if line["kind"] == "undelivered"]
    world.count("reports after the clock raised")
    if code is not None and code != (1 if run.ports.has_crashed else 3 if undelivered else 0):
        world.fail("S12", f"exit code {code} with {len(undelivered)} undelivered; crashed: {run.ports.has_crashed}")
    listed = _check_balance(world, run, lines)
    _check_complete(world, summary, listed)


def _check_drained(world: "World", run: "Run", undelivered: list[dict[str, Any]]) -> None:
    """What was in flight had the drain's whole time."""
    cut = [line for line in undelivered if line["last_outcome"] and line["last_outcome"]["outcome"] is None]
    early = 0.0 if run.no_attempts_after is None else run.no_attempts_after - world.now()
    if cut and early > 1e-6:
        world.fail("S12", f"{cut[0]['event_id']} was cut {early:.3f} s before the drain's end")


def _check_recorder(world: "World", run: "Run", summary: dict[str, Any]) -> None:
    """Whether it failed stands in the file, and in the text for people."""
    has_failed = run.ports.recorder_failed_at is not None
    if ("recorder_failure" in summary) is not has_failed or run.ports.has_text_of_recorder is not has_failed:
        world.fail("S15", f"the recorder failed at {run.ports.recorder_failed_at}, and the report says {summary}")


def check_sums(
    world: "World", summary: dict[str, Any], undelivered: list[dict[str, Any]], exhausted: list[dict[str, Any]]
) -> None:
    events, deliveries = summary["events"], summary["deliveries"]
    counted = {name: sum(line["class"] == name for line in undelivered) for name in summary["undelivered"]}
    if summary["kind"] != "summary" or summary["undelivered"] != counted:
        world.fail("S13", f"the summary is {summary}, counted are {counted}")
    if events["accepted"] != events["delivered"] + events["exhausted"] + events["undelivered"]:
        world.fail("S13", f"events do not balance: {events}")
    if deliveries["opened"] != deliveries["delivered"] + deliveries["exhausted"] + deliveries["undelivered"]:
        world.fail("S13", f"deliveries do not balance: {deliveries}")
    if deliveries["undelivered"] != len(undelivered) or summary["exhausted_held"] != len(exhausted):
        world.fail("S13", f"{len(undelivered)} and {len(exhausted)} lines; the summary says {summary}")
    if events["undelivered"] != len({(line["client_id"], line["event_id"]) for line in undelivered}):
        world.fail("S13", f"the undelivered events are not {events['undelivered']}")


def _check_line(world: "World", key: tuple[str, str, str], line: dict[str, Any]) -> None:
    client_id, event_id, endpoint_id = key
    what = f"{event_id} to {client_id}/{endpoint_id}"
    posted = world.checks.posted_as(client_id, event_id) or _named_by_value(world, key, line)
    if posted is None or not (posted.admitted or posted.maybe):
        return world.fail("S13", f"{what} is in the report and was never admitted")
    if not is_payload(posted, line):
        world.fail("S13", f"the payload of {what} is not what was posted")
    if posted.may_be_forgotten:
        return None
    duty = posted.duty(endpoint_id)
    if duty.delivered is not None and duty.is_delivered:
        return world.fail("S13", f"{what} is {line['kind']}, and a 2xx was read at {duty.delivered.read_at:.3f}")
    endpoint = world.checks.registered[client_id, endpoint_id]
    if line["kind"] == "exhausted":
        check_maybe_received(world, duty, line, what)
        log_invariants.check_exhausted(world, key, line["reason"], line["attempt_count"])
        return check_reason(world, posted, duty, endpoint, line["reason"], what)
    if duty.settled_status is not None and duty.retried_at < 0:
        world.fail("S2", f"{what} was {duty.settled_status} and is undelivered")
    in_flight = any(one.was_cut for one in duty.attempts.values())
    if endpoint.was_removed and not endpoint.is_registered and not endpoint.is_changing and not in_flight:
        world.fail("S2", f"{what} is undelivered, and its endpoint was removed")
    _check_class(world, duty, line, what)
    cancel_invariants.check_reported(world, posted, duty, line, what)
    terms_invariants.check_not_expired(world, duty, endpoint, what, at=world.now())
    return None


def is_payload(posted: Posted, line: dict[str, Any]) -> bool:
    """The value, and the very bytes where they hold line breaks."""
    encoded = line.get("payload_base64")
    text = posted.payload.decode()
    is_whole = encoded is not None or text.splitlines() == [text]
    return is_whole and same(posted.payload, line.get("payload")) and encoded in (None, _base64(posted.payload))


def _base64(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def _named_by_value(world: "World", key: tuple[str, str, str], line: dict[str, Any]) -> Posted | None:
    for (client_id, payload), posted in list(world.checks.nameless.items()):
        if client_id == key[0] and same(payload, line.get("payload")):
            del world.checks.nameless[client_id, payload]
            posted.id = key[1]
            world.checks.posted[client_id, posted.id] = posted
            return posted
    return None


def check_maybe_received(world: "World", duty: Duty, line: dict[str, Any], what: str) -> None:
    is_unknown = duty.carried_unknown or any(one.has_sent for one in duty.attempts.values() if one.answer is None)
    is_unknown |= any(one.was_sent_in_vain for one in duty.attempts.values())
    if is_unknown and not line["maybe_received"]:
        world.fail("S13", f"{what} may have been received, and is said not to have been")


def _check_class(world: "World", duty: Duty, line: dict[str, Any], what: str) -> None:
    """By what went over the wire."""
    unanswered = [one for one in duty.attempts.values() if one.answer is None]
    is_unknown = duty.carried_unknown or any(one.has_sent for one in unanswered)
    is_unknown |= any(one.was_sent_in_vain for one in duty.attempts.values())
    may_be_unknown = is_unknown or any(one.may_have_sent for one in unanswered)
    may_be_unknown |= any(one.may_have_been_sent_in_vain for one in duty.attempts.values())
    said = line["class"]
    if is_unknown:
        allowed = {"outcome_unknown"}
    elif line["attempt_count"] == 0:
        allowed = {"never_attempted"}
    else:
        allowed = {"attempted_failed", "outcome_unknown"} if may_be_unknown else {"attempted_failed"}
    if said not in allowed or line["attempt_count"] < max(duty.attempts, default=duty.carried):
        world.fail("S13", f"{what} is {said} after {line['attempt_count']} attempts; known is {sorted(allowed)}")


def _check_complete(world: "World", summary: dict[str, Any], listed: dict[tuple[str, str, str], Any]) -> None:
    """Every duty has one fate: a 2xx was read, or it stands in the report."""
    if summary["exhausted_forgotten"]:
        return
    for posted in world.checks.posted.values():
        if not posted.admitted or posted.may_be_forgotten:
            continue
        for endpoint_id in posted.endpoints:
            key = (posted.client_id, posted.id, endpoint_id)
            duty = posted.duty(endpoint_id)
            if (duty.delivered is None or duty.is_owed_again) and key not in listed:
                world.fail("S13", f"{posted.id} to {posted.client_id}/{endpoint_id} has no fate")


def _check_attempts_made(world: "World", listed: dict[tuple[str, str, str], Any]) -> None:
    """All attempts that began on the network are accounted for, endpoint by endpoint."""
    if world.plan.retention_is_tiny:
        return
    said: dict[tuple[str, str], int] = {}
    carried: dict[tuple[str, str], int] = {}
    for posted in world.checks.posted.values():
        for endpoint_id, duty in posted.duties.items():
            key = (posted.client_id, endpoint_id)
            line = listed.get((posted.client_id, posted.id, endpoint_id))
            if line is None and duty.delivered is None:
                continue
            count = line["attempt_count"] if line is not None else int(duty.delivered.head["hookd-attempt"])  # type: ignore[union-attr]
            said[key] = said.get(key, 0) + count - duty.carried
            carried[key] = carried.get(key, 0) + duty.carried
    for key, endpoint in world.checks.registered.items():
        if endpoint.tests_ever:
            continue
        least, most = endpoint.begun_for_posted(gets_notices=key[0] == world.settings.operations.client)
        if not least <= said.get(key, 0) <= most:
            world.fail("S3", f"{least} to {most} attempts began at {key}; the daemon accounts for {said.get(key, 0)}")
