"""Owns what is wrong with the daemon now, the worst first, each in a sentence: what the status page says first.

Rules:
 1. A sentence says who is hurt, since when and why. Its first words are what a producer or a client feels.
 2. The order is the order in which a person at night would look: refused producers, what is lost, what hookd alone
    does wrong, then endpoints. A loop that lags comes after these: by itself it hurts less than any of them.
 3. An endpoint counts once, by the worst that ails it. Of a kind that one is told which holds the most.
 4. One trouble is told once. Whoever is named as the cause of refusals or of what was given up has no line of its own.
 5. Where something is refused, it is said that hookd holds none of it.
What to press first is core/first_steps's.
Pure: the situation comes in as a value; `flow/rounds` and the totals fill it.
"""

from collections.abc import Iterator, Set
from typing import NamedTuple

from hookd.core.health import FAILING_AFTER_SECONDS
from hookd.core.loss import Loss
from hookd.core.plurals import are, counted
from hookd.core.refusals import Spell
from hookd.core.retry import Reason
from hookd.core.situation import AilingEndpoint, Ailment, Group, Situation
from hookd.core.time_text import moment, span
from hookd.core.timestamps import rfc3339
from hookd.core.trouble_words import FILLING_SHARE, ailing, error, holding, pace_words, share, since, times, why

OVERDUE_SECONDS_MAX = 30.0
LOOP_LAG_SECONDS_MAX = 0.25
# By so much each request and each delivery is late: producers may no longer wait for their answer.
LOOP_LAG_SECONDS_BAD = 1.0
# A refusal no longer ago is told, though there is room again.
OF_LATE_SECONDS = 60.0
# What is held for as long as a request takes, and no producer's fault.
OF_MOMENTS = {
    "http.sending_bytes_max": "answers that their readers had not taken",
    "intake.receiving_bytes_max": "bodies that were being received",
}
# Of those that a run before lost deliveries of; the page lists more of them below.
LOSERS_NAMED = 3


class Trouble(NamedTuple):
    kind: str
    sentence: str
    is_bad: bool = True  # someone is hurt or something is lost; else it should be looked at
    endpoint: AilingEndpoint | None = None  # where to look, if it is about one
    ailment: Ailment | None = None  # where to look, if it is about several
    lost: str = ""  # what is lost by it, or may be
    is_told: bool = False  # its endpoint has a line of its own above, with what to press first


def well(situation: Situation) -> str:
    """What is said where nothing is wrong."""
    if not situation.endpoints:
        return "Nothing is wrong, and nobody is served yet: no client is registered."
    takes = "the 1 endpoint takes" if situation.endpoints == 1 else f"all {situation.endpoints:,} endpoints take"
    late = "" if situation.overdue_seconds < 1 else f" for longer than {span(situation.overdue_seconds)}"
    waits = f"{are(situation.unsettled, 'delivery')} unsettled, none overdue{late}"
    failed = situation.failed_last
    if failed is None:
        return f"All is well: {takes} what comes; {waits}."
    rest = situation.failed_last_count - 1
    more = f", and so {'has' if rest == 1 else 'have'} {counted(rest, 'more endpoint')}" if rest else ""
    long = f"it counts as trouble once that lasts {span(FAILING_AFTER_SECONDS)}"
    return f"{failed.name} has failed{since(failed, situation)}{error(failed)}{more}; {long}. {waits}."


def troubles(situation: Situation) -> list[Trouble]:
    """The worst first."""
    found, told = list(_refusing(situation)), set[str]()
    for more in (_lost, _ours, _endpoints, _to_watch):
        told |= {one.endpoint.name for one in found if one.endpoint is not None}
        found += more(situation, told)
    return found


def _refusing(now: Situation) -> Iterator[Trouble]:
    """What producers feel."""
    if now.is_draining:
        left = f"{are(now.unsettled, 'delivery')} not settled yet; what is left at the end stands in the report"
        yield Trouble("draining", f"Producers are refused (503): hookd is stopping, {left}.", lost=_REFUSED)
    held = _held(now.largest, now)
    if now.used >= 1:
        full = f"the budget is full{held}{_client_too(now)}"
        said = f"Producers are refused (503) for all clients{_so_far(now.refused, now)}: {full}."
        yield Trouble("full", said, endpoint=now.largest, lost=_REFUSED)
    elif now.refused is not None and _is_of_late(now.refused, now):
        yield _full_of_late(now.refused, held, now)
    yield from _refusing_clients(now)


# And who can mend it.
_REFUSED = "nothing yet of what hookd accepted. What it refuses it does not hold: producers must send that again."


def _client_too(now: Situation) -> str:
    """Where the whole budget is full, and who holds most of it has filled its client's as well."""
    if not now.full_clients or now.fullest is None or now.largest is None or now.fullest.name != now.largest.name:
        return ""
    return f"; {now.fullest.client_id}'s own budget is full too (429)"


def _refusing_clients(now: Situation) -> Iterator[Trouble]:
    fullest = now.fullest
    if now.full_clients and fullest is not None:
        rest = now.full_clients - 1
        if now.used >= 1 and _client_too(now):
            return  # it is told with the whole budget
        more = f", and so are those of {counted(rest, 'more client')}" if rest else ""
        alone = "" if rest or now.used >= 1 else " alone"
        whose = f"; {fullest.name} holds {share(fullest.budget_used)} of it{why(fullest, now)}"
        refused = f"are refused (429){_so_far(now.fullest_refused, now)}"
        said = f"Events of {fullest.client_id}{alone} {refused}: its budget is full{more}{whose}."
        yield Trouble("client-full", said, endpoint=fullest, lost=_REFUSED)
    elif now.refused_client is not None and _is_of_late(now.refused_client[1], now):
        yield _client_of_late(*now.refused_client, now)


def _full_of_late(spell: Spell, held: str, now: Situation) -> Trouble:
    """With 503 in the last minute, and there is room at this moment."""
    limit = spell.limit
    if limit in OF_MOMENTS:
        said = f"Callers were refused (503){_from_to(spell, now)}: {OF_MOMENTS[limit]} were at {limit}."
        is_of_intake = any(name.startswith("intake.") for name, _ in spell.limits)
        return Trouble("full", said, lost=_REFUSED if is_of_intake else "")
    if now.used >= FILLING_SHARE and limit.startswith("intake.unsettled_"):
        said = f"are refused (503) for all clients{_so_far(spell, now)}: the budget is full again and again"
    else:
        said = f"were refused (503) for all clients{_from_to(spell, now)}: {limit} was used up"
    return Trouble("full", f"Producers {said}{held}.", endpoint=now.largest, lost=_REFUSED)


def _client_of_late(client_id: str | None, spell: Spell, now: Situation) -> Trouble:
    """A client, or a token, that was refused in the last minute and has room at this moment."""
    holder = now.fullest if now.fullest is not None and now.fullest.client_id == client_id else None
    whose = "Callers" if client_id is None else f"Events of {client_id}"
    is_own, used = spell.limit.startswith("intake.client_"), 0.0 if holder is None else holder.budget_used
    goes_on = is_own and used >= FILLING_SHARE
    budget = "it" if goes_on else "its budget"
    held = "" if holder is None else f"; {holder.name} holds {share(used)} of {budget}{why(holder, now)}"
    if goes_on:
        said = f"are refused (429){_so_far(spell, now)}: its budget is full again and again{held}"
    else:
        of = "" if is_own else "a token's share of " if client_id is None else "its share of "
        said = f"were refused (429){_from_to(spell, now)}: {of}{spell.limit} was used up{held}"
    return Trouble("client-full", f"{whose} {said}.", endpoint=holder, lost=_REFUSED)


def _is_of_late(spell: Spell | None, now: Situation) -> bool:
    return spell is not None and now.now - spell.last.wall <= OF_LATE_SECONDS


def _so_far(spell: Spell | None, now: Situation) -> str:
    """Of what goes on; nothing where nobody has asked."""
    if spell is None:
        return ""
    began = moment(rfc3339(spell.began_at), now.now)
    return f", {_counted(spell)}{', at' if spell.count == 1 else ' since'} {began}{_at_limits(spell)}"


def _from_to(spell: Spell | None, now: Situation) -> str:
    """Of what is over, or pauses."""
    if spell is None:
        return ""
    first, last = (moment(rfc3339(at), now.now) for at in (spell.began_at, spell.last.wall))
    when = f"from {first} to {last}" if first != last else f"at {last}"
    return f", {_counted(spell)} {when}{_at_limits(spell)}"


def _counted(spell: Spell) -> str:
    """What was refused: requests are one thing, events of batches that went on without them another."""
    requests = counted(spell.requests, "request") if spell.requests else ""
    batches = "a partial batch" if spell.events == 1 else "partial batches"
    events = f"{counted(spell.events, 'event')} of {batches}" if spell.events else ""
    return " and ".join(one for one in (requests, events) if one)


def _at_limits(spell: Spell) -> str:
    """How often at which, where it was more than one; the one with most first."""
    if len(spell.limits) == 1:
        return ""
    return f" ({', '.join(f'{count:,} at {limit}' for limit, count in spell.limits)})"


def _lost(now: Situation, told: Set[str]) -> Iterator[Trouble]:
    """What earlier runs left, and what this one gave up."""
    run, unclaimed, more = now.previous_run, now.unclaimed_reports, ""
    if run is not None and run.ended != "clean":
        ended = "was killed" if run.ended == "crash" else "stopped"
        if run.undelivered is None:
            yield Trouble("run-before", f"The run before {ended} and left no list of what it lost.")
        elif run.undelivered > run.recovered and not now.is_run_before_taken_up:
            took = f", of which this run took back {run.recovered:,}" if run.recovered else ""
            left = f"left {counted(run.undelivered, 'delivery')} undelivered{took}{_whose(now.run_before_lost, now)}"
            yield Trouble("run-before", f"The run before {ended} and {left}. {who_sends(now.run_before_lost)}")
            unclaimed, more = unclaimed - 1, "more "  # its own report is told
    if unclaimed > 0:
        lists = "report lists" if unclaimed == 1 else "reports list"
        said = f"{unclaimed:,} {more}{lists} undelivered deliveries that nobody took up."
        yield Trouble("unclaimed", said)
    if now.given_up:
        yield _given_up(now, told)


def who_sends(loss: Loss | None) -> str:
    """Of what an earlier run left: hookd only what it has payloads of, and that not by itself."""
    if loss is None:
        return "hookd sends none of them by itself."
    if loss.has_payloads:
        return "Their payloads are kept: one command sends them."
    return "hookd cannot send them: it has no payloads of them."


def owed(name: str, undelivered: int, loss: Loss) -> Trouble:
    """What an earlier run left of one endpoint, for its page."""
    ended = "was killed" if loss.was_killed else "stopped"
    said = f"A run before {ended} and left {counted(undelivered, 'delivery')} for {name} undelivered."
    return Trouble("run-before", f"{said} {who_sends(loss)}")


def _given_up(now: Situation, told: Set[str]) -> Trouble:
    """Why, and whether it goes on: where the endpoint that lost the newest is ailing, it is told with it."""
    were = "was" if now.given_up == 1 else "were"
    is_told_below = now.given_up_endpoint is not None and now.given_up_endpoint.ailment is Ailment.DISABLED
    reason = "" if now.given_up_why is None or is_told_below else f" ({_GIVEN_UP[now.given_up_why]})"
    last = "" if now.given_up_last is None else f", the latest for {now.given_up_last}{reason}"
    said = f"{counted(now.given_up, 'delivery')} {were} given up in the last 15 minutes{last}."
    whose = now.given_up_endpoint
    if whose is None or whose.name in told:
        return Trouble("given-up", said, lost=now.given_up_kept, is_told=whose is not None)
    if whose.ailment is not None:
        said += f" {ailing(whose, now)}{holding(whose, now)}."
    return Trouble("given-up", said, endpoint=whose, lost=now.given_up_kept)


_GIVEN_UP = {
    Reason.ATTEMPTS_USED: "every attempt was used",
    Reason.EXPIRED: "too old",
    Reason.GONE: "it answered 410",
    Reason.REFUSED: "it answered a status of its give_up_on",
    Reason.CRASHED: "in flight at three crashes",
    Reason.CANCELLED: "cancelled",
    Reason.ENDPOINT_REMOVED: "its endpoint was removed",
}


def _whose(loss: Loss | None, now: Situation) -> str:
    """Who is owed most of it, and since when the oldest waits."""
    if loss is None or not loss.largest:
        return ""
    named = [f"{line.client_id}/{line.endpoint_id} {line.undelivered:,}" for line in loss.largest[:LOSERS_NAMED]]
    if more := len(loss.largest) - len(named) + loss.more_endpoints:
        named.append(counted(more, "more endpoint"))
    oldest = loss.oldest_accepted_at
    since = "" if oldest is None else f", the oldest of {moment(oldest, now.now)}"
    return f": {', '.join(named)}{since}"


def _ours(now: Situation, _: Set[str]) -> Iterator[Trouble]:
    """What is hookd's own fault, or its machine's."""
    if now.crashed_couriers:
        crashes = times(now.crashed_couriers)
        yield Trouble("bug", f"A courier crashed {crashes}, which is a bug in hookd: the log has the traceback.")
    if now.recorder_failure is not None:
        said = f"The flight recorder failed ({now.recorder_failure}): a kill now would leave no list."
        yield Trouble("recorder", said)
    if now.reports_problem is not None:
        yield Trouble("report", f"A report could not be written now: {now.reports_problem}.")
    if now.ready_seconds > OVERDUE_SECONDS_MAX:
        late = span(now.ready_seconds)
        yield Trouble("overdue", f"Deliveries are overdue by {late}, and nothing but hookd makes them wait.")


def _endpoints(now: Situation, told: Set[str]) -> Iterator[Trouble]:
    for ailment in Ailment:
        group = now.ailing.get(ailment)
        if group is not None and (found := _of_group(group, ailment, now, told)) is not None:
            yield found


def _of_group(group: Group, ailment: Ailment, now: Situation, told: Set[str]) -> Trouble | None:
    """None where all of them are told already."""
    named = [one for one in (group.worst, *group.others) if one.name not in told]
    left = group.endpoint_count - (1 + len(group.others) - len(named))
    if not named:
        return None
    worst, others = named[0], ", ".join(one.name for one in named[1:])
    sentence = f"{ailing(worst, now)}{holding(worst, now)}."
    if left > 1:
        more = f"{left - 1:,} more {'is' if left == 2 else 'are'}" if others else f"{are(left - 1, 'more endpoint')}"
        rest = left - len(named)
        whose = f": {others}{f' and {rest:,} more' if rest else ''}" if others else ""
        sentence += f" {more} {_ALSO[ailment]}{whose}."
    return Trouble(ailment.value, sentence, ailment.is_bad, worst, ailment if left > 1 else None)


_ALSO = {
    Ailment.DISABLED: "disabled",
    Ailment.PAUSED: "down",
    Ailment.FAILING: "failing",
    Ailment.HELD_UP: "held up",
    Ailment.THROTTLED: "throttled",
    Ailment.PAUSED_BY_OPERATOR: "paused by operators",
}


def _to_watch(now: Situation, told: Set[str]) -> Iterator[Trouble]:
    if now.loop_lag_seconds > LOOP_LAG_SECONDS_MAX:
        said = f"The event loop lags by {span(now.loop_lag_seconds)}: everything is late by that."
        yield Trouble("lag", said, is_bad=now.loop_lag_seconds > LOOP_LAG_SECONDS_BAD)
    slowest = now.slowest
    is_slow = slowest is not None and now.slowest_seconds > OVERDUE_SECONDS_MAX >= now.ready_seconds
    if slowest is not None and is_slow and slowest.name not in told:
        told = {*told, slowest.name}
        yield Trouble("slow", _slow(slowest, now), is_bad=False, endpoint=slowest)
    if now.waiting_for_client:
        waits = f"{are(now.waiting_for_client, 'recovered delivery')} waiting for a client that is not registered"
        yield Trouble("waiting-for-client", f"{waits}: PUT the client, and they go on.", is_bad=False)
    if FILLING_SHARE <= now.used < 1 and not any(one.kind == "full" for one in _refusing(now)):
        held = _held(now.largest, now)
        said = f"The budget is {share(now.used)} full{held}; when the budget is full, producers get 503."
        is_told = now.largest is not None and now.largest.name in told
        yield Trouble("filling", said, is_bad=False, endpoint=now.largest, is_told=is_told)
    fullest = now.fullest
    is_filling = fullest is not None and not now.full_clients and fullest.budget_used >= FILLING_SHARE
    if fullest is not None and is_filling and fullest.name not in told:
        whose = f"{fullest.name} holds {share(fullest.budget_used)} of its client's budget{why(fullest, now)}"
        yield Trouble("client-filling", f"{whose}; when the budget is full, its events get 429.", False, fullest)


def _slow(slowest: AilingEndpoint, now: Situation) -> str:
    late = f"the first that waits there has been due for {span(now.slowest_seconds)}"
    if slowest.pace is None:
        error = f" (its last answer: {slowest.last_error})" if slowest.last_error else ""
        return f"{slowest.name} takes less than what comes for it{error}: {late}{holding(slowest, now)}."
    return f"{slowest.name} {pace_words(slowest.pace)}, and more comes: {late}{holding(slowest, now)}."


def _held(largest: AilingEndpoint | None, now: Situation) -> str:
    """Who holds most of the whole budget, and why."""
    if largest is None or not now.unsettled_events:
        return ""
    return f"; {largest.name} holds {share(largest.unsettled / now.unsettled_events)} of it{why(largest, now)}"
