"""Owns the words that several troubles share: since when, why, what it holds, until when, how fast it goes.

Rules: a deadline is spoken of only where attempts fail: where all succeed, it would frighten for nothing. What ailed an
endpoint as this run began may be older, which is said: the run before is not known.
Pure: the situation comes in as a value.
"""

from hookd.core.plurals import are, counted
from hookd.core.situation import AilingEndpoint, Ailment, Pace, Situation
from hookd.core.time_text import moment, span
from hookd.core.timestamps import rfc3339

FILLING_SHARE = 0.8
# A failure no longer after the start may be of a trouble that is older than the run.
START_SECONDS = 10.0


def ailing(endpoint: AilingEndpoint, now: Situation) -> str:
    """Who, and what ails it, since when and with what error. Something does."""
    name, began, failed = endpoint.name, since(endpoint, now), error(endpoint)
    match endpoint.ailment:
        case Ailment.DISABLED:
            lost = f", {counted(endpoint.gone, 'delivery')} so far" if endpoint.gone else ""
            return f"{name} answered 410 and is disabled{began}: whatever comes for it is given up at once{lost}"
        case Ailment.PAUSED:
            return f"{name} is down{began}{failed} and only probed"
        case Ailment.FAILING:
            order = f"; it has strict order, and {endpoint.held_up_by} holds up the others" * bool(endpoint.held_up_by)
            return f"{name} fails each attempt{began}{failed}{order}"
        case Ailment.HELD_UP:
            return f"{name} has strict order, and {endpoint.held_up_by} fails and holds up the others{began}{failed}"
        case Ailment.THROTTLED:
            return f"{name} asked for less and is throttled{began}{failed}"
        case Ailment.PAUSED_BY_OPERATOR:
            waits = "nothing is sent, nothing expires, and its backlog grows until someone resumes it"
            return f"{name} is paused by an operator{began}: {waits}"
        case None:
            return name


def since(endpoint: AilingEndpoint, now: Situation) -> str:
    if endpoint.since is None:
        return ""
    is_known = endpoint.ailment in (Ailment.PAUSED_BY_OPERATOR, Ailment.DISABLED) or now.started_at is None
    is_early = not is_known and endpoint.since - (now.started_at or 0.0) <= START_SECONDS
    return f" since {moment(rfc3339(endpoint.since), now.now)}{' or before this run' * is_early}"


def error(endpoint: AilingEndpoint) -> str:
    return f" ({endpoint.last_error})" if endpoint.last_error else ""


def why(endpoint: AilingEndpoint, now: Situation) -> str:
    """Why it holds so much."""
    if endpoint.pace is not None:
        return f": it {pace_words(endpoint.pace)}, and more comes"
    if endpoint.ailment is None:
        return deadline(endpoint, now)
    return f", {endpoint.ailment.words}{since(endpoint, now)}{error(endpoint)}{deadline(endpoint, now)}"


def pace_words(pace: Pace) -> str:
    """What keeps it from taking more."""
    takes = f"takes {pace.at_once:,} at a time"
    if not pace.answer_seconds:
        return takes
    return f"answers in {span(pace.answer_seconds)} and {takes}, {pace.at_once / pace.answer_seconds:.1f} a second"


def deadline(endpoint: AilingEndpoint, now: Situation) -> str:
    if endpoint.deadline is None or endpoint.last_error is None:
        return ""
    return f"; the oldest {endpoint.deadline.within(now.now)}"


def holding(endpoint: AilingEndpoint, now: Situation) -> str:
    if not endpoint.unsettled:
        return _HOLDS_NOTHING.get(endpoint.ailment, "; nothing waits for it")
    held = f"{are(endpoint.unsettled, 'delivery')} unsettled, {share(endpoint.budget_used)} of its client's budget"
    if endpoint.budget_used >= FILLING_SHARE or endpoint.ailment is Ailment.PAUSED_BY_OPERATOR:
        held += "; when that is full, its events get 429"
    return f"; {held}{deadline(endpoint, now)}"


# Of what is lost, or has failed, it would sound as if all were well.
_HOLDS_NOTHING: dict[Ailment | None, str] = {
    Ailment.DISABLED: "",
    Ailment.PAUSED: "; what failed is given up",
    Ailment.FAILING: "; what failed is given up",
}


def share(part: float) -> str:
    if 0 < part < 0.01:
        return "less than 1 %"
    return f"{min(1.0, part) * 100:.0f} %"


def times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
