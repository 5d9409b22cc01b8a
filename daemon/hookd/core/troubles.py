"""Owns what is wrong with the daemon now, the worst first, each in a sentence: what the status page says first.

Rules:
 1. A sentence says who is hurt, since when and why. Its first words are what a producer or a client feels.
 2. The order is the order in which a person at night would look: refused producers, what is lost, what hookd alone
    does wrong, then endpoints. A loop that lags comes after these: by itself it hurts less than any of them.
 3. An endpoint counts once, by the worst that ails it. One endpoint of a kind is named, the one that holds the most.
What to press first is core/first_steps's.
Pure: the situation comes in as a value; `flow/rounds` and the totals fill it.
"""

import enum
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hookd.core.deadline import Deadline
from hookd.core.loss import Loss
from hookd.core.plurals import are, counted
from hookd.core.refusals import Spell
from hookd.core.retry import Reason
from hookd.core.run_history import PreviousRun
from hookd.core.time_text import moment, span
from hookd.core.timestamps import rfc3339

FILLING_SHARE = 0.8
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


class Ailment(enum.Enum):
    """What ails an endpoint, the worst first; each is a state of its own on the page."""

    DISABLED = "disabled"
    PAUSED = "paused"
    FAILING = "failing"
    HELD_UP = "held_up"
    THROTTLED = "throttled"
    PAUSED_BY_OPERATOR = "paused_by_operator"


class AilingEndpoint(NamedTuple):
    client_id: str
    endpoint_id: str
    unsettled: int
    budget_used: float  # its share of its client's budget
    since: float | None  # wall
    last_error: str | None
    ailment: Ailment | None = None  # None: it only has a backlog
    held_up_by: str | None = None  # of strict order: the event that fails, and is first
    deadline: Deadline | None = None  # of the oldest that is unsettled for it
    gone: int = 0  # deliveries given up since it is disabled

    @property
    def name(self) -> str:
        return f"{self.client_id}/{self.endpoint_id}"

    @property
    def weight(self) -> tuple[float, int]:
        """Of those with one ailment the heaviest is named; who is disabled holds nothing, and loses what comes."""
        return self.budget_used, self.gone


class Group(NamedTuple):
    """Endpoints with the same ailment; `worst` holds the most of its client's budget."""

    endpoint_count: int
    worst: AilingEndpoint


class Situation(NamedTuple):
    """What the sentences are made from. Times are wall."""

    now: float
    is_draining: bool = False
    endpoints: int = 0
    in_flight: int = 0
    unsettled: int = 0  # deliveries
    unsettled_events: int = 0
    unsettled_events_max: int = 1
    unsettled_bytes: int = 0
    unsettled_bytes_max: int = 1
    refused: Spell | None = None  # with 503 `full`, of late
    refused_client: tuple[str | None, Spell] | None = None  # with 429 `client-full`, the last; None: a token's share
    given_up: int = 0  # deliveries in the last fifteen minutes, but for what a person ended
    given_up_last: str | None = None  # CLIENT/ENDPOINT of the newest that is held
    given_up_why: Reason | None = None  # and its reason
    ailing: Mapping[Ailment, Group] = {}
    largest: AilingEndpoint | None = None  # who holds most of the whole budget
    full_clients: int = 0
    fullest: AilingEndpoint | None = None  # the endpoint that holds most of its client's budget
    fullest_refused: Spell | None = None  # its client, with 429
    crashed_couriers: int = 0
    recorder_failure: str | None = None
    reports_problem: str | None = None
    overdue_seconds: float = 0.0  # due, and no state of its endpoint holds it back
    ready_seconds: float = 0.0  # of these: what waits for hookd alone
    slowest: AilingEndpoint | None = None  # nothing ails it, and what is due longest of all waits for it
    slowest_seconds: float = 0.0
    loop_lag_seconds: float = 0.0
    previous_run: PreviousRun | None = None
    run_before_lost: Loss | None = None  # as its report lists it
    is_run_before_taken_up: bool = False  # someone has sent what its report lists
    unclaimed_reports: int = 0
    waiting_for_client: int = 0

    @property
    def used(self) -> float:
        """The whole budget's share that is taken, of events or of bytes, whichever is more."""
        events = self.unsettled_events / max(1, self.unsettled_events_max)
        return max(events, self.unsettled_bytes / max(1, self.unsettled_bytes_max))


class Trouble(NamedTuple):
    kind: str
    sentence: str
    is_bad: bool = True  # someone is hurt or something is lost; else it should be looked at
    endpoint: AilingEndpoint | None = None  # where to look, if it is about one
    ailment: Ailment | None = None  # where to look, if it is about several


def well(situation: Situation) -> str:
    """What is said where nothing is wrong."""
    if not situation.endpoints:
        return "Nothing is wrong, and nobody is served yet: no client is registered."
    takes = "the 1 endpoint takes" if situation.endpoints == 1 else f"all {situation.endpoints:,} endpoints take"
    late = "" if situation.overdue_seconds < 1 else f" for longer than {span(situation.overdue_seconds)}"
    return f"All is well: {takes} what comes; {are(situation.unsettled, 'delivery')} unsettled, none overdue{late}."


def troubles(situation: Situation) -> list[Trouble]:
    """The worst first."""
    return [
        *_refusing(situation),
        *_lost(situation),
        *_ours(situation),
        *_endpoints(situation),
        *_to_watch(situation),
    ]


def _refusing(now: Situation) -> Iterator[Trouble]:
    """What producers feel."""
    if now.is_draining:
        left = f"{are(now.unsettled, 'delivery')} not settled yet; what is left at the end stands in the report"
        yield Trouble("draining", f"Producers are refused (503): hookd is stopping, {left}.")
    held = _held(now.largest, now)
    if now.used >= 1:
        said = f"Producers are refused (503) for all clients{_so_far(now.refused, now)}: the budget is full{held}."
        yield Trouble("full", said, endpoint=now.largest)
    elif now.refused is not None and _is_of_late(now.refused, now):
        times, limit = _from_to(now.refused, now), now.refused.limit
        if limit in OF_MOMENTS:
            yield Trouble("full", f"Requests were refused (503){times}: {OF_MOMENTS[limit]} were at {limit}.")
        else:
            said = f"Producers were refused (503) for all clients{times}: {limit} was used up{held}."
            yield Trouble("full", said, endpoint=now.largest)
    yield from _refusing_clients(now)


def _refusing_clients(now: Situation) -> Iterator[Trouble]:
    fullest = now.fullest
    if now.full_clients and fullest is not None:
        rest = now.full_clients - 1
        more = f", and so are those of {counted(rest, 'more client')}" if rest else ""
        alone = "" if rest or now.used >= 1 else " alone"
        whose = f"; {fullest.name} holds {_share(fullest.budget_used)} of it{_why(fullest, now)}"
        if now.used >= 1 and now.largest is not None and now.largest.name == fullest.name:
            whose = ""  # it is told with the whole budget
        refused = f"are refused (429){_so_far(now.fullest_refused, now)}"
        said = f"Events of {fullest.client_id}{alone} {refused}: its budget is full{more}{whose}."
        yield Trouble("client-full", said, endpoint=fullest)
    elif now.refused_client is not None and _is_of_late(now.refused_client[1], now):
        client_id, spell = now.refused_client
        whose = "Requests" if client_id is None else f"Events of {client_id}"
        share = "a token's share of " if client_id is None else "its share of "
        why = spell.limit if spell.limit.startswith("intake.client_") else f"{share}{spell.limit}"
        said = f"{whose} were refused (429){_from_to(spell, now)}: {why} was used up."
        is_named = fullest is not None and fullest.client_id == client_id
        yield Trouble("client-full", said, endpoint=fullest if is_named else None)


def _is_of_late(spell: Spell | None, now: Situation) -> bool:
    return spell is not None and now.now - spell.last.wall <= OF_LATE_SECONDS


def _so_far(spell: Spell | None, now: Situation) -> str:
    """Of what goes on; nothing where nobody has asked."""
    if spell is None:
        return ""
    began = moment(rfc3339(spell.began_at), now.now)
    return f", once, at {began}" if spell.count == 1 else f", {spell.count:,} times since {began}"


def _from_to(spell: Spell | None, now: Situation) -> str:
    """Of what is over, or pauses."""
    if spell is None:
        return ""
    first, last = (moment(rfc3339(at), now.now) for at in (spell.began_at, spell.last.wall))
    return f", {_times(spell.count)}{f' from {first} to {last}' if first != last else f' at {last}'}"


def _lost(now: Situation) -> Iterator[Trouble]:
    """What earlier runs left, and what this one gave up."""
    run, unclaimed, more = now.previous_run, now.unclaimed_reports, ""
    if run is not None and run.ended != "clean":
        ended = "was killed" if run.ended == "crash" else "stopped"
        if run.undelivered is None:
            yield Trouble("run-before", f"The run before {ended} and left no list of what it lost.")
        elif run.undelivered > run.recovered and not now.is_run_before_taken_up:
            took = f", of which this run took back {run.recovered:,}" if run.recovered else ""
            left = f"left {counted(run.undelivered, 'delivery')} undelivered{took}{_whose(now.run_before_lost, now)}"
            yield Trouble("run-before", f"The run before {ended} and {left}. Nothing sends them until someone does.")
            unclaimed, more = unclaimed - 1, "more "  # its own report is told
    if unclaimed > 0:
        lists = "report lists" if unclaimed == 1 else "reports list"
        said = f"{unclaimed:,} {more}{lists} undelivered deliveries that nobody took up."
        yield Trouble("unclaimed", said)
    if now.given_up:
        were = "was" if now.given_up == 1 else "were"
        why = "" if now.given_up_why is None else f" ({_GIVEN_UP[now.given_up_why]})"
        last = "" if now.given_up_last is None else f", the latest for {now.given_up_last}{why}"
        said = f"{counted(now.given_up, 'delivery')} {were} given up in the last 15 minutes{last}."
        yield Trouble("given-up", said)


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


def _ours(now: Situation) -> Iterator[Trouble]:
    """What is hookd's own fault, or its machine's."""
    if now.crashed_couriers:
        crashes = _times(now.crashed_couriers)
        yield Trouble("bug", f"A courier crashed {crashes}, which is a bug in hookd: the log has the traceback.")
    if now.recorder_failure is not None:
        said = f"The flight recorder failed ({now.recorder_failure}): a kill now would leave no list."
        yield Trouble("recorder", said)
    if now.reports_problem is not None:
        yield Trouble("report", f"A report could not be written now: {now.reports_problem}.")
    if now.ready_seconds > OVERDUE_SECONDS_MAX:
        late = span(now.ready_seconds)
        yield Trouble("overdue", f"Deliveries are overdue by {late}, and nothing but hookd makes them wait.")


def _endpoints(now: Situation) -> Iterator[Trouble]:
    for ailment in Ailment:
        group = now.ailing.get(ailment)
        if group is None:
            continue
        sentence = f"{_ailing(group.worst, ailment, now)}{_holding(group.worst, now)}."
        if group.endpoint_count > 1:
            sentence += f" {are(group.endpoint_count - 1, 'more endpoint')} {_ALSO[ailment]}."
        is_bad = ailment in (Ailment.DISABLED, Ailment.PAUSED, Ailment.FAILING)
        yield Trouble(ailment.value, sentence, is_bad, group.worst, ailment if group.endpoint_count > 1 else None)


_ALSO = {
    Ailment.DISABLED: "disabled",
    Ailment.PAUSED: "down",
    Ailment.FAILING: "failing",
    Ailment.HELD_UP: "held up",
    Ailment.THROTTLED: "throttled",
    Ailment.PAUSED_BY_OPERATOR: "paused by operators",
}


def _ailing(endpoint: AilingEndpoint, ailment: Ailment, now: Situation) -> str:
    name, error = endpoint.name, f" ({endpoint.last_error})" if endpoint.last_error else ""
    since = _since(endpoint, now)
    match ailment:
        case Ailment.DISABLED:
            lost = f", {counted(endpoint.gone, 'delivery')} so far" if endpoint.gone else ""
            return f"{name} answered 410 and is disabled{since}: whatever comes for it is given up at once{lost}"
        case Ailment.PAUSED:
            return f"{name} is down{since}{error} and only probed"
        case Ailment.FAILING:
            order = f"; it has strict order, and {endpoint.held_up_by} holds up the others" * bool(endpoint.held_up_by)
            return f"{name} fails each attempt{since}{error}{order}"
        case Ailment.HELD_UP:
            return f"{name} has strict order, and {endpoint.held_up_by} fails and holds up the others{since}{error}"
        case Ailment.THROTTLED:
            return f"{name} asked for less and is throttled{since}{error}"
        case Ailment.PAUSED_BY_OPERATOR:
            return (
                f"{name} is paused by an operator{since}: nothing is sent and nothing expires until someone resumes it"
            )


def _to_watch(now: Situation) -> Iterator[Trouble]:
    if now.loop_lag_seconds > LOOP_LAG_SECONDS_MAX:
        said = f"The event loop lags by {span(now.loop_lag_seconds)}: everything is late by that."
        yield Trouble("lag", said, is_bad=now.loop_lag_seconds > LOOP_LAG_SECONDS_BAD)
    slowest = now.slowest
    if slowest is not None and now.slowest_seconds > OVERDUE_SECONDS_MAX >= now.ready_seconds:
        error = f" (its last answer: {slowest.last_error})" if slowest.last_error else ""
        late = f"the first that waits there has been due for {span(now.slowest_seconds)}"
        said = f"{slowest.name} takes less than what comes for it{error}: {late}{_holding(slowest, now)}."
        yield Trouble("slow", said, is_bad=False, endpoint=slowest)
    if now.waiting_for_client:
        waits = f"{are(now.waiting_for_client, 'recovered delivery')} waiting for a client that is not registered"
        yield Trouble("waiting-for-client", f"{waits}: PUT the client, and they go on.", is_bad=False)
    if FILLING_SHARE <= now.used < 1:
        held = _held(now.largest, now)
        said = f"The budget is {_share(now.used)} full{held}; when the budget is full, producers get 503."
        yield Trouble("filling", said, is_bad=False, endpoint=now.largest)
    fullest = now.fullest
    if fullest is not None and not now.full_clients and fullest.budget_used >= FILLING_SHARE:
        whose = f"{fullest.name} holds {_share(fullest.budget_used)} of its client's budget{_why(fullest, now)}"
        yield Trouble("client-filling", f"{whose}; when the budget is full, its events get 429.", False, fullest)


def _held(largest: AilingEndpoint | None, now: Situation) -> str:
    """Who holds most of the whole budget, and why."""
    if largest is None or not now.unsettled_events:
        return ""
    return f"; {largest.name} holds {_share(largest.unsettled / now.unsettled_events)} of it{_why(largest, now)}"


def _why(endpoint: AilingEndpoint, now: Situation) -> str:
    if endpoint.ailment is None:
        return _deadline(endpoint, now)
    words = "down" if endpoint.ailment is Ailment.PAUSED else endpoint.ailment.value.replace("_", " ")
    return f", {words}{_since(endpoint, now)}{_deadline(endpoint, now)}"


def _deadline(endpoint: AilingEndpoint, now: Situation) -> str:
    return "" if endpoint.deadline is None else f"; the oldest {endpoint.deadline.within(now.now)}"


def _since(endpoint: AilingEndpoint, now: Situation) -> str:
    return "" if endpoint.since is None else f" since {moment(rfc3339(endpoint.since), now.now)}"


def _holding(endpoint: AilingEndpoint, now: Situation) -> str:
    if not endpoint.unsettled:
        return _HOLDS_NOTHING.get(endpoint.ailment, "; nothing waits for it")
    held = f"{are(endpoint.unsettled, 'delivery')} unsettled, {_share(endpoint.budget_used)} of its client's budget"
    return f"; {held}{_deadline(endpoint, now)}"


# Of what is lost, or has failed, it would sound as if all were well.
_HOLDS_NOTHING: dict[Ailment | None, str] = {
    Ailment.DISABLED: "",
    Ailment.PAUSED: "; what failed is given up",
    Ailment.FAILING: "; what failed is given up",
}


def _share(share: float) -> str:
    if 0 < share < 0.01:
        return "less than 1 %"
    return f"{min(1.0, share) * 100:.0f} %"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
