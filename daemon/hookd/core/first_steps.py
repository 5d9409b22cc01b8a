"""Owns what to press first about each trouble: one step that exists, a button's name, a command or a setting.

Rules: it is as short as can be, and stands alone: a person at night does it without reading on. Where nothing helps but
to wait, it says so. What frees room by giving something up comes last, and says what it costs.
"""

from hookd.core.plurals import are
from hookd.core.troubles import AilingEndpoint, Ailment, Situation, Trouble


def first_step(trouble: Trouble, now: Situation) -> str:
    if trouble.kind in ("full", "filling"):
        return _room_for_all(trouble, now)
    if trouble.kind == "client-full" and now.used >= 1 and _is_same(trouble.endpoint, now.largest):
        return "as above."
    if trouble.kind in ("client-full", "client-filling"):
        return _room_for_client(trouble, now)
    if trouble.kind == "given-up":
        return f"see why below. Once {now.given_up_last or 'it'} takes events again, press replay on its page."
    if trouble.kind == "run-before":
        return _run_before(now)
    if trouble.endpoint is not None and trouble.endpoint.ailment is not None:
        return f"{'on the page of each: ' if trouble.ailment else ''}{endpoint_step(trouble.endpoint)}"
    return _STEPS[trouble.kind]


def endpoint_step(endpoint: AilingEndpoint) -> str:
    """On its page, of one that something ails."""
    match endpoint.ailment:
        case Ailment.DISABLED:
            return "ask its owner whether the events are wanted. If so, press resume, then replay."
        case Ailment.PAUSED:
            again = "press retry-all" if endpoint.unsettled else "its next event probes it; press replay"
            return f"nothing until its owner has mended it: it is probed by itself. Then {again}."
        case Ailment.FAILING if endpoint.held_up_by:
            return f"look at what it answers to {endpoint.held_up_by}. Retry it once that is mended, or cancel it."
        case Ailment.FAILING:
            again = "retry-all" if endpoint.unsettled else "replay"
            return f"look at what it answers, and tell its owner. Once mended, press test, then {again}."
        case Ailment.HELD_UP:
            return f"open {endpoint.held_up_by}. Retry it once its owner has mended that, or cancel it."
        case Ailment.THROTTLED:
            return "nothing to press: it goes on by itself, as it asked."
        case Ailment.PAUSED_BY_OPERATOR:
            return "press resume, unless the pause is still wanted: admin.acted in the log says who made it."
        case None:
            return ""


def _run_before(now: Situation) -> str:
    if now.previous_run is not None and now.previous_run.undelivered is None:
        return "post again what your own records do not show as settled, under the same ids."
    return "hookd report says what it left." if now.run_before_lost is None else _STEPS["unclaimed"]


def _is_same(one: AilingEndpoint | None, other: AilingEndpoint | None) -> bool:
    return one is not None and other is not None and one.name == other.name


def _room_for_all(trouble: Trouble, now: Situation) -> str:
    limit = now.refused.limit if now.used < 1 and now.refused is not None and trouble.kind == "full" else ""
    if limit == "http.sending_bytes_max":
        return f"look who asks for long answers and reads them slowly. Else raise {limit} and restart."
    is_bytes = now.unsettled_bytes / now.unsettled_bytes_max > now.unsettled_events / now.unsettled_events_max
    return _room(trouble.endpoint, limit or f"intake.unsettled_{'bytes' if is_bytes else 'events'}_max")


def _room_for_client(trouble: Trouble, now: Situation) -> str:
    """Where it is full no more, at the limit that was."""
    is_over = trouble.kind == "client-full" and not now.full_clients and now.refused_client is not None
    if now.refused_client is None or not is_over:
        return _room(trouble.endpoint, "the client's limit in [intake]")
    client_id, spell = now.refused_client
    if client_id is None:
        return f"have who uses that token ask for less at once, or raise {spell.limit}."
    return _room(trouble.endpoint, spell.limit)


def _room(endpoint: AilingEndpoint | None, setting: str) -> str:
    """Who holds it goes first, then who comes."""
    more = f"raise {setting} and {'restart' if setting == 'recorder.bytes_max' else 'send SIGHUP'}"
    if endpoint is None or endpoint.ailment is None:
        return f"{more}, or hold back the producer that sends most."
    if endpoint.ailment is Ailment.PAUSED_BY_OPERATOR:
        return f"on {endpoint.name}: press resume, unless the pause is still wanted. Else {more}."
    given_up = are(endpoint.unsettled, "delivery")
    return f"tell the owner of {endpoint.name}. Meanwhile {more}, or press cancel there: {given_up} given up."


_STEPS = {
    "draining": "nothing to press: its successor takes events. Once it has stopped, hookd report says what was left.",
    "unclaimed": "the numbered steps below.",
    "bug": "keep the log's courier.crashed and report it. Nothing is lost by that: what was accepted is still held.",
    "recorder": "give its directory room (df /dev/shm), and restart at a quiet moment: a stop writes a report.",
    "report": "give the report directory room and rights, before anyone stops hookd.",
    "overdue": "look at loop lag and connections below. If neither is high, keep hookd status --json and report it.",
    "lag": "look at what else runs on this machine. If nothing does, spread the clients over two daemons.",
    "slow": "tell its owner, or give it a higher concurrency or a shorter timeout.",
    "waiting-for-client": "PUT the client, or have the platform do it. Else they are given up at retry.age_max.",
}
