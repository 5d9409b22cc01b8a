"""Owns what to press first about each trouble: one step that exists, a button's name, a command or a setting.

Rules: it is as short as can be, and stands alone: a person at night does it without reading on. One trouble has one
first step, on the overview as on the endpoint's page. Where nothing helps but to wait, it says so. What gives something
up is no choice among others: it is left out, or named as the last resort. A setting is named with its value now.
"""

from hookd.core.loss import Loss
from hookd.core.situation import AilingEndpoint, Ailment, Pace, Situation
from hookd.core.troubles import Trouble
from hookd.core.units import approximate_size

STEPS = "the steps under What earlier runs left"
RELOAD = "and reload (systemctl reload hookd, or SIGHUP)"


def first_step(trouble: Trouble, now: Situation) -> str:
    """Empty where its endpoint has one already."""
    if trouble.is_told:
        return f"raise {_whole_limit(now)} {RELOAD} before that." if trouble.kind == "filling" else ""
    if trouble.kind in ("full", "filling"):
        return _room_for_all(trouble, now)
    if trouble.kind in ("client-full", "client-filling"):
        return _room_for_client(trouble, now)
    if trouble.kind == "run-before":
        return _run_before(now)
    if trouble.kind == "slow" and trouble.endpoint is not None and trouble.endpoint.pace is not None:
        return _faster(trouble.endpoint, trouble.endpoint.pace)
    if trouble.endpoint is not None and trouble.endpoint.ailment is not None:
        return f"{'on the page of each: ' if trouble.ailment else ''}{endpoint_step(trouble.endpoint)}"
    if trouble.kind == "given-up":
        return f"open {now.given_up_last or 'each below'}, and look whether it takes events again. Then press replay."
    return _STEPS[trouble.kind]


def endpoint_step(endpoint: AilingEndpoint) -> str:
    """Of one that something ails."""
    match endpoint.ailment:
        case Ailment.DISABLED:
            hold = "To hold what comes meanwhile: resume, then pause"
            return f"ask its owner whether the events are wanted. {hold}. If they are: test, resume, replay."
        case Ailment.PAUSED if endpoint.unsettled:
            pause = "If that takes long, press pause: nothing is given up then"
            return f"tell its owner; it is probed by itself. {pause}. Once it answers, press retry-all."
        case Ailment.PAUSED:
            return "tell its owner. Once mended, its next event probes it; then press replay."
        case Ailment.FAILING | Ailment.HELD_UP if endpoint.held_up_by:
            return f"tell its owner what it answers to {endpoint.held_up_by}. Once mended, open that and press retry."
        case Ailment.FAILING:
            again = "retry-all" if endpoint.unsettled else "replay"
            pause = "Meanwhile press pause: nothing is given up then"
            return f"tell its owner what it answers. {pause}. Once mended: test, resume, {again}."
        case Ailment.THROTTLED:
            return "nothing to press: it goes on by itself, as it asked."
        case Ailment.PAUSED_BY_OPERATOR:
            return f"press resume, unless the pause is still wanted. Who paused it: {_who_acted(endpoint)}."
        case _:
            return ""


def _who_acted(endpoint: AilingEndpoint) -> str:
    return f"the log's line admin.acted with /{endpoint.client_id}/endpoints/{endpoint.endpoint_id}/pause"


def _run_before(now: Situation) -> str:
    if now.previous_run is not None and now.previous_run.undelivered is None:
        return "post again what your own records do not show as settled, under the same ids."
    if now.run_before_lost is None:
        return "hookd report says what it left."
    step = owed_step(now.run_before_lost)
    missing, rest = now.run_before_missing, len(now.run_before_missing) - 1
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"register {missing[0]}{more} again. Then {step}" if missing else step


def owed_step(loss: Loss) -> str:
    """Of a report that can be read; the steps stand on the overview."""
    if loss.has_payloads:
        return f"hookd resend sends them, once their clients are registered: {STEPS}."
    return f"post them again from your own records, under the same ids: {STEPS}."


def _room_for_all(trouble: Trouble, now: Situation) -> str:
    limit = now.refused.limit if now.used < 1 and now.refused is not None and trouble.kind == "full" else ""
    if limit == "http.sending_bytes_max":
        return f"look who asks for long answers and reads them slowly. Else raise {limit} and restart."
    is_budget = not limit or limit.startswith("intake.unsettled_")
    return _room(trouble.endpoint, _whole_limit(now) if is_budget else limit)


def _room_for_client(trouble: Trouble, now: Situation) -> str:
    """Where it is full no more, at the limit that was."""
    is_over = trouble.kind == "client-full" and not now.full_clients and now.refused_client is not None
    if now.refused_client is None or not is_over:
        return _room(trouble.endpoint, now.client_limit)
    client_id, spell = now.refused_client
    if client_id is None:
        return f"have who uses that token ask for less at once, or raise {spell.limit}."
    return _room(trouble.endpoint, now.client_limit if now.client_limit.startswith(spell.limit) else spell.limit)


def _whole_limit(now: Situation) -> str:
    if now.unsettled_bytes / now.unsettled_bytes_max > now.unsettled_events / now.unsettled_events_max:
        return f"intake.unsettled_bytes_max (now {approximate_size(now.unsettled_bytes_max)})"
    return f"intake.unsettled_events_max (now {now.unsettled_events_max:,})"


def _room(endpoint: AilingEndpoint | None, limit: str) -> str:
    """Who holds it goes first, then who comes."""
    more = f"raise {limit} {'and restart' if limit.startswith('recorder.') else RELOAD}"
    if endpoint is not None and endpoint.pace is not None:
        return _faster(endpoint, endpoint.pace)
    if endpoint is None or endpoint.ailment is None:
        return f"{more}, or hold back the producer that sends most."
    if endpoint.ailment is Ailment.PAUSED_BY_OPERATOR:
        return f"on {endpoint.name}: press resume, unless the pause is still wanted. Else {more}."
    return f"tell the owner of {endpoint.name}. Meanwhile {more}."


def _faster(endpoint: AilingEndpoint, pace: Pace) -> str:
    """What makes it take more."""
    if pace.at_once < pace.concurrency:
        return f"tell the owner of {endpoint.name} that it answers too slowly for what comes."
    if pace.is_own:
        return (
            f"PUT {endpoint.client_id} with a higher concurrency for {endpoint.endpoint_id} (now {pace.concurrency})."
        )
    return f"raise delivery.concurrency (now {pace.concurrency}) {RELOAD}: {endpoint.name} then takes more at a time."


_STEPS = {
    "draining": "nothing to press: its successor takes events. Once it has stopped, hookd report says what was left.",
    "unclaimed": f"{STEPS}.",
    "bug": "keep the log's courier.crashed and report it. Nothing is lost by that: what was accepted is still held.",
    "recorder": "give its directory room (df /dev/shm), and restart at a quiet moment: a stop writes a report.",
    "report": "give the report directory room and rights, before anyone stops hookd.",
    "overdue": "look at loop lag and connections below. If neither is high, keep hookd status --json and report it.",
    "lag": "look at what else runs on this machine. If nothing does, spread the clients over two daemons.",
    "slow": "tell its owner that it answers too slowly for what comes.",
    "waiting-for-client": "PUT the client, or have the platform do it. Else they are given up at retry.age_max.",
}
