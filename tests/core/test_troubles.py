"""What the status page says first: each thing that can be wrong in its sentence, and which of them comes first."""

from itertools import combinations

import msgspec
import pytest
from hookd.core.deadline import Cause, Deadline
from hookd.core.loss import loss_of
from hookd.core.refusals import Spell
from hookd.core.retry import Reason
from hookd.core.run_history import PreviousRun
from hookd.core.situation import AilingEndpoint, Ailment, Group, Pace, Situation
from hookd.core.timestamps import Moment
from hookd.core.troubles import owed, troubles, well

from tests.core.test_loss import line, summary

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DOWN = AilingEndpoint("initech", "default", 61_000, 0.98, NOW - 600, "cannot connect", Ailment.PAUSED)
QUIET = AilingEndpoint("acme", "eu", 0, 0.0, None, None, Ailment.PAUSED_BY_OPERATOR)

SICK = AilingEndpoint("globex", "default", 60, 0.01, NOW - 12, "answered 404")
SLOW = AilingEndpoint("acme", "eu", 78, 0.01, None, "no answer within 2 s")


def of(ailment: Ailment, count: int = 1, **changes: object) -> dict[Ailment, Group]:
    fields = {"unsettled": 40, "budget_used": 0.2, "since": NOW - 60, "last_error": "answered 404"} | changes
    return {ailment: Group(count, AilingEndpoint("acme", "eu", ailment=ailment, **fields))}  # type: ignore[arg-type]


def headline(situation: Situation) -> str:
    """The first line: the worst trouble, or that there is none."""
    found = troubles(situation)
    return found[0].sentence if found else well(situation)


def spell(count: int, *, began: float = -300, last: float = -1, limit: str = "intake.unsettled_events_max") -> Spell:
    """Of requests; seconds before now."""
    return Spell(count, 0, NOW + began, Moment(1000 + last, NOW + last), ((limit, count),))


FULL = {"unsettled_events": 100_000, "unsettled_events_max": 100_000}

# The worst first, as a person at night would look: kind, what is so, and the sentence.
SAID = [
    (
        "draining",
        {"is_draining": True, "unsettled": 1},
        (
            "Producers are refused (503): hookd is stopping, 1 delivery is not settled yet; what is left at the end "
            "stands in the report."
        ),
    ),
    (
        "full",
        {**FULL, "largest": DOWN, "refused": spell(1234)},
        (
            "Producers are refused (503) for all clients, 1,234 requests since 07:55:00Z: the budget is full; "
            "initech/default holds 61 % of it, down since 07:50:00Z (cannot connect)."
        ),
    ),
    (
        "client-full",
        {"full_clients": 3, "fullest": DOWN, "fullest_refused": spell(12, began=-60)},
        (
            "Events of initech are refused (429), 12 requests since 07:59:00Z: its budget is full, and so are those of "
            "2 more clients; initech/default holds 98 % of it, down since 07:50:00Z (cannot connect)."
        ),
    ),
    (
        "run-before",
        {"previous_run": PreviousRun("9f0c", "crash", 4997, 0)},
        "The run before was killed and left 4,997 deliveries undelivered. hookd sends none of them by itself.",
    ),
    ("unclaimed", {"unclaimed_reports": 1}, "1 report lists undelivered deliveries that nobody took up."),
    (
        "given-up",
        {"given_up": 2, "given_up_last": "acme/eu", "given_up_why": Reason.GONE},
        "2 deliveries were given up in the last 15 minutes, the latest for acme/eu (it answered 410).",
    ),
    (
        "bug",
        {"crashed_couriers": 2},
        "A courier crashed 2 times, which is a bug in hookd: the log has the traceback.",
    ),
    (
        "recorder",
        {"recorder_failure": "no space"},
        "The flight recorder failed (no space): a kill now would leave no list.",
    ),
    ("report", {"reports_problem": "read-only"}, "A report could not be written now: read-only."),
    (
        "overdue",
        {"overdue_seconds": 95.0, "ready_seconds": 95.0},
        "Deliveries are overdue by 1m 35s, and nothing but hookd makes them wait.",
    ),
    (
        "disabled",
        {"ailing": of(Ailment.DISABLED, last_error="answered 410", gone=37)},
        (
            "acme/eu answered 410 and is disabled since 07:59:00Z: whatever comes for it is given up at once, 37 "
            "deliveries so far; 40 deliveries are unsettled, 20 % of its client's budget."
        ),
    ),
    (
        "paused",
        {"ailing": of(Ailment.PAUSED, 12, last_error="cannot connect")},
        (
            "acme/eu is down since 07:59:00Z (cannot connect) and only probed; 40 deliveries are unsettled, 20 % of "
            "its client's budget. 11 more endpoints are down."
        ),
    ),
    (
        "failing",
        {"ailing": of(Ailment.FAILING, 2, unsettled=1)},
        (
            "acme/eu fails each attempt since 07:59:00Z (answered 404); 1 delivery is unsettled, 20 % of its client's "
            "budget. 1 more endpoint is failing."
        ),
    ),
    (
        "held_up",
        {"ailing": of(Ailment.HELD_UP, held_up_by="evt_1")},
        (
            "acme/eu has strict order, and evt_1 fails and holds up the others since 07:59:00Z (answered 404); 40 "
            "deliveries are unsettled, 20 % of its client's budget."
        ),
    ),
    (
        "throttled",
        {"ailing": of(Ailment.THROTTLED, last_error="answered 429", budget_used=0.001)},
        (
            "acme/eu asked for less and is throttled since 07:59:00Z (answered 429); 40 deliveries are unsettled, less "
            "than 1 % of its client's budget."
        ),
    ),
    (
        "paused_by_operator",
        {"ailing": of(Ailment.PAUSED_BY_OPERATOR, unsettled=0, since=None)},
        (
            "acme/eu is paused by an operator: nothing is sent, nothing expires, and its backlog grows until someone "
            "resumes it; nothing waits for it."
        ),
    ),
    ("lag", {"loop_lag_seconds": 0.4}, "The event loop lags by 0.4s: everything is late by that."),
    (
        "slow",
        {"overdue_seconds": 95.0, "slowest": SLOW, "slowest_seconds": 95.0},
        (
            "acme/eu takes less than what comes for it (its last answer: no answer within 2 s): the first that waits "
            "there has been due for 1m 35s; 78 deliveries are unsettled, 1 % of its client's budget."
        ),
    ),
    (
        "waiting-for-client",
        {"waiting_for_client": 1200},
        "1,200 recovered deliveries are waiting for a client that is not registered: PUT the client, and they go on.",
    ),
    (
        "filling",
        {"unsettled_bytes": 85, "unsettled_bytes_max": 100},
        "The budget is 85 % full; when the budget is full, producers get 503.",
    ),
    (
        "client-filling",
        {"fullest": QUIET._replace(budget_used=0.8, unsettled=5)},
        "acme/eu holds 80 % of its client's budget, paused by operator; when the budget is full, its events get 429.",
    ),
]
IDS = [kind for kind, _, _ in SAID]


@pytest.mark.parametrize(("kind", "fields", "sentence"), SAID, ids=IDS)
def test_trouble_is_said_in_one_sentence_and_alone(kind: str, fields: dict[str, object], sentence: str) -> None:
    """What is so is said, and nothing else is."""
    [found] = troubles(Situation(NOW, endpoints=5, **fields))  # type: ignore[arg-type]
    assert (found.kind, found.sentence) == (kind, sentence)
    assert headline(Situation(NOW, endpoints=5, **fields)) == sentence  # type: ignore[arg-type]


def test_report_of_the_run_before_is_told_once() -> None:
    """With its run; only those of others are counted beside it."""
    killed = PreviousRun("9f0c", "crash", 4997, 0)
    assert [one.kind for one in troubles(Situation(NOW, previous_run=killed, unclaimed_reports=1))] == ["run-before"]
    [_, others] = troubles(Situation(NOW, previous_run=killed, unclaimed_reports=3))
    assert others.sentence == "2 more reports list undelivered deliveries that nobody took up."


def test_run_before_names_who_is_owed_most_and_since_when() -> None:
    """Three at most; the page lists more below."""
    killed = PreviousRun("9f0c", "crash", 15, 0)
    owed = [line(client_id, 5 - number) for number, client_id in enumerate(["acme", "initech", "hooli", "umbrella"])]
    lost = loss_of(summary(*owed, line("soylent", 1, "2027-01-15T07:35:02.000Z")))
    said = headline(Situation(NOW, previous_run=killed, run_before_lost=lost))
    assert said == (
        "The run before was killed and left 15 deliveries undelivered: acme/default 5, initech/default 4, "
        "hooli/default 3, 2 more endpoints, the oldest of 2026-11-30 02:00:00Z. Their payloads are kept: one command "
        "sends them."
    )
    alone = loss_of(summary(line("soylent", 1, "2027-01-15T07:35:02.000Z")))
    said = headline(Situation(NOW, previous_run=killed, run_before_lost=alone))
    assert "undelivered: soylent/default 1, the oldest of 07:35:02Z. Their payloads" in said


def test_what_fails_in_strict_order_names_the_event_that_is_first() -> None:
    """Nothing else of it is attempted, so the event may be at fault, or the endpoint."""
    said = headline(Situation(NOW, endpoints=1, ailing=of(Ailment.FAILING, held_up_by="evt_1")))
    assert said.startswith(
        "acme/eu fails each attempt since 07:59:00Z (answered 404); it has strict order, and evt_1 holds up the others;"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"ailing": of(Ailment.PAUSED, deadline=Deadline(NOW + 3000, Cause.AGE))},
            (
                "acme/eu is down since 07:59:00Z (answered 404) and only probed; 40 deliveries are unsettled, 20 % of "
                "its client's budget; the oldest is given up for its age at 08:50:00Z."
            ),
        ),
        (
            {**FULL, "largest": DOWN._replace(deadline=Deadline(NOW + 60 * 60 * 20, Cause.EXPIRY))},
            (
                "Producers are refused (503) for all clients: the budget is full; initech/default holds 61 % of it, "
                "down since 07:50:00Z (cannot connect); the oldest is given up by its own expires_at at 2027-01-16 "
                "04:00:00Z."
            ),
        ),
        (
            {"fullest": SLOW._replace(budget_used=0.9, deadline=Deadline(NOW + 60, Cause.ATTEMPTS, False))},
            (
                "acme/eu holds 90 % of its client's budget; the oldest is given up about 08:01:00Z, if all its "
                "attempts fail; when the budget is full, its events get 429."
            ),
        ),
    ],
)
def test_endpoint_that_is_named_has_its_deadline(fields: dict[str, object], sentence: str) -> None:
    """Where it is known: until when a person has time."""
    assert headline(Situation(NOW, endpoints=5, **fields)) == sentence  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "is_bad"), [(1.0, False), (1.1, True)])
def test_loop_that_lags_is_bad_only_where_it_hurts(seconds: float, is_bad: bool) -> None:
    """Up to a second it is to be watched; an outage stands above it either way."""
    [outage, lag] = troubles(Situation(NOW, loop_lag_seconds=seconds, ailing=of(Ailment.PAUSED)))
    assert (outage.kind, lag.kind, lag.is_bad) == ("paused", "lag", is_bad)


def test_given_up_names_nobody_where_none_is_held() -> None:
    """Its event may be forgotten by then."""
    assert headline(Situation(NOW, given_up=1)) == "1 delivery was given up in the last 15 minutes."


@pytest.mark.parametrize(("worse", "better"), list(combinations(range(len(SAID)), 2)))
def test_worse_trouble_comes_first(worse: int, better: int) -> None:
    """In the order of the table above, whichever two are so at once."""
    fields = SAID[better][1] | SAID[worse][1]
    if "ailing" in SAID[worse][1] and "ailing" in SAID[better][1]:
        fields["ailing"] = SAID[better][1]["ailing"] | SAID[worse][1]["ailing"]  # type: ignore[operator]
    kinds = [one.kind for one in troubles(Situation(NOW, **fields))]  # type: ignore[arg-type]
    assert kinds[0] == IDS[worse]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Nothing is wrong, and nobody is served yet: no client is registered."),
        ({"endpoints": 1}, "All is well: the 1 endpoint takes what comes; 0 deliveries are unsettled, none overdue."),
        (
            {"endpoints": 5, "unsettled": 12},
            "All is well: all 5 endpoints take what comes; 12 deliveries are unsettled, none overdue.",
        ),
        (
            {"endpoints": 1, "overdue_seconds": 30.0, "ready_seconds": 30.0, "slowest": SLOW, "slowest_seconds": 30.0},
            (
                "All is well: the 1 endpoint takes what comes; 0 deliveries are unsettled, none overdue for longer "
                "than 30s."
            ),
        ),
        (
            {"endpoints": 5, "unsettled": 12, "failed_last": SICK, "failed_last_count": 1},
            (
                "globex/default has failed since 07:59:48Z (answered 404); it counts as trouble once that lasts 30s. "
                "12 deliveries are unsettled, none overdue."
            ),
        ),
        (
            {"endpoints": 5, "failed_last": SICK, "failed_last_count": 3, "overdue_seconds": 2.0},
            (
                "globex/default has failed since 07:59:48Z (answered 404), and so have 2 more endpoints; it counts as "
                "trouble once that lasts 30s. 0 deliveries are unsettled, none overdue for longer than 2s."
            ),
        ),
        (
            {"endpoints": 5, "overdue_seconds": 0.9, "previous_run": PreviousRun("9f0c", "clean", 0, 0)},
            "All is well: all 5 endpoints take what comes; 0 deliveries are unsettled, none overdue.",
        ),
        (
            {"endpoints": 5, "previous_run": PreviousRun("9f0c", "crash", 3, 3)},
            "All is well: all 5 endpoints take what comes; 0 deliveries are unsettled, none overdue.",
        ),
        (
            {"endpoints": 5, "previous_run": PreviousRun("9f0c", "crash", 3, 0), "is_run_before_taken_up": True},
            "All is well: all 5 endpoints take what comes; 0 deliveries are unsettled, none overdue.",
        ),
    ],
)  # fmt: skip
def test_nothing_wrong_is_said_too(fields: dict[str, object], sentence: str) -> None:
    """At the limits nothing is wrong yet; nor after a run of which everything was taken back or sent."""
    assert troubles(Situation(NOW, **fields)) == []  # type: ignore[arg-type]
    assert headline(Situation(NOW, **fields)) == sentence  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (PreviousRun("9f0c", "crash", None, 0), "The run before was killed and left no list of what it lost."),
        (
            PreviousRun("9f0c", "reported", 12, 5),
            (
                "The run before stopped and left 12 deliveries undelivered, of which this run took back 5. hookd "
                "sends none of them by itself."
            ),
        ),
    ],
)
def test_run_before_is_told_by_how_it_ended(run: PreviousRun, sentence: str) -> None:
    """Killed, with or without a list; or stopped, with a report."""
    assert headline(Situation(NOW, previous_run=run)) == sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"refused": spell(34)},
            (
                "Producers were refused (503) for all clients, 34 requests from 07:55:00Z to 07:59:59Z: "
                "intake.unsettled_events_max was used up."
            ),
        ),
        (
            {"refused": spell(1, began=-1, limit="http.sending_bytes_max"), "largest": DOWN},
            (
                "Callers were refused (503), 1 request at 07:59:59Z: answers that their readers had not taken were at "
                "http.sending_bytes_max."
            ),
        ),
        (
            {"refused_client": ("acme", spell(1, began=-1, limit="intake.client_bytes_max"))},
            "Events of acme were refused (429), 1 request at 07:59:59Z: intake.client_bytes_max was used up.",
        ),
        (
            {"refused_client": ("acme", spell(1, began=-1, limit="recorder.bytes_max"))},
            "Events of acme were refused (429), 1 request at 07:59:59Z: its share of recorder.bytes_max was used up.",
        ),
        (
            {"refused_client": (None, spell(2, limit="http.connections_max"))},
            (
                "Callers were refused (429), 2 requests from 07:55:00Z to 07:59:59Z: a token's share of "
                "http.connections_max was used up."
            ),
        ),
    ],
)
def test_refusals_of_the_last_minute_are_told_when_there_is_room_again(
    fields: dict[str, object], sentence: str
) -> None:
    """A budget that is full in bursts is not quiet between them: how often, since when, and whose."""
    assert headline(Situation(NOW, endpoints=1, **fields)) == sentence  # type: ignore[arg-type]


def test_what_is_counted_is_said_and_which_limits_it_was() -> None:
    """Requests are no events; of several limits the one with most comes first, and is what it is about."""
    limits = ("http.sending_bytes_max", 31), ("intake.unsettled_events_max", 2)
    mixed = msgspec.structs.replace(spell(31), events=2, limits=limits)
    at_limits = "(31 at http.sending_bytes_max, 2 at intake.unsettled_events_max)"
    what = "31 requests and 2 events of partial batches"
    [found] = troubles(Situation(NOW, refused=mixed))
    assert found.sentence == (
        f"Callers were refused (503), {what} from 07:55:00Z to 07:59:59Z {at_limits}: answers that their readers had "
        "not taken were at http.sending_bytes_max."
    )
    assert found.lost  # of the two events
    assert headline(Situation(NOW, refused=mixed, **FULL)) == (  # type: ignore[arg-type]
        f"Producers are refused (503) for all clients, {what} since 07:55:00Z {at_limits}: the budget is full."
    )
    events = msgspec.structs.replace(spell(0), events=1, limits=limits[1:])
    assert headline(Situation(NOW, refused=events)).startswith(
        "Producers were refused (503) for all clients, 1 event of a partial batch from 07:55:00Z"
    )


def test_refusal_of_more_than_a_minute_ago_is_over() -> None:
    """Where there is room again."""
    old = spell(34, last=-61)
    assert troubles(Situation(NOW, refused=old, refused_client=("acme", old))) == []


def test_one_client_that_is_refused_alone_is_said_to_be_alone() -> None:
    """Whoever reads it knows that the others are served; where nobody is, it is not said."""
    said = headline(Situation(NOW, full_clients=1, fullest=DOWN))
    assert said.startswith("Events of initech alone are refused (429): its budget is full;")
    [_, said] = (one.sentence for one in troubles(Situation(NOW, full_clients=1, fullest=DOWN, **FULL)))
    assert said.startswith("Events of initech are refused (429): its budget is full")


def test_one_refusal_is_no_span_of_time() -> None:
    """It has a moment."""
    said = headline(Situation(NOW, refused=spell(1), **FULL))  # type: ignore[arg-type]
    assert said == "Producers are refused (503) for all clients, 1 request, at 07:55:00Z: the budget is full."


@pytest.mark.parametrize(
    ("ailment", "words"),
    [
        (Ailment.DISABLED, "whatever comes for it is given up at once, 1 delivery so far."),
        (Ailment.PAUSED, "and only probed; what failed is given up."),
        (Ailment.FAILING, "(answered 404); what failed is given up."),
        (Ailment.THROTTLED, "(answered 404); nothing waits for it."),
    ],
)
def test_nothing_unsettled_does_not_sound_as_if_all_were_well(ailment: Ailment, words: str) -> None:
    """Where an endpoint fails and nothing is left, it was lost."""
    assert headline(Situation(NOW, endpoints=1, ailing=of(ailment, unsettled=0, gone=1))).endswith(words)


BUSY = AilingEndpoint("soylent", "default", 39, 0.975, None, None, pace=Pace(1, 1, answer_seconds=3.5))


def test_slow_endpoint_says_how_fast_it_goes_and_has_one_line() -> None:
    """Not a second for its backlog, and no deadline where nothing fails."""
    busy = BUSY._replace(deadline=Deadline(NOW + 60, Cause.ATTEMPTS, False))
    [slow] = troubles(Situation(NOW, slowest=busy, slowest_seconds=70.0, fullest=busy))
    assert slow.sentence == (
        "soylent/default answers in 3.5s and takes 1 at a time, 0.3 a second, and more comes: the first that waits "
        "there has been due for 1m 10s; 39 deliveries are unsettled, 98 % of its client's budget; when that is full, "
        "its events get 429."
    )


def test_refusals_that_go_on_are_not_told_as_over_and_have_their_cause() -> None:
    """A budget that has room for a moment at 98 % is full again in the next; which one it was is known then."""
    fields = {
        "refused_client": ("soylent", spell(42, limit="intake.client_events_max")),
        "slowest": BUSY,
        "slowest_seconds": 70.0,
        "fullest": BUSY,
    }
    [found] = troubles(Situation(NOW, **fields))  # type: ignore[arg-type]
    assert (found.kind, found.endpoint) == ("client-full", BUSY)
    assert found.sentence == (
        "Events of soylent are refused (429), 42 requests since 07:55:00Z: its budget is full again and again; "
        "soylent/default holds 98 % of it: it answers in 3.5s and takes 1 at a time, 0.3 a second, and more comes."
    )
    whole = {"unsettled_events": 98, "unsettled_events_max": 100, "refused": spell(3)}
    [found] = troubles(Situation(NOW, **whole))  # type: ignore[arg-type]
    assert found.sentence == (
        "Producers are refused (503) for all clients, 3 requests since 07:55:00Z: the budget is full again and again."
    )


def test_endpoint_that_is_the_cause_has_no_second_line() -> None:
    """Of those that are down the next is told, and the others are named."""
    down = [DOWN, *(DOWN._replace(client_id=name, budget_used=0.3) for name in ("hooli", "globex"))]
    both = {"ailing": {Ailment.PAUSED: Group(3, down[0], tuple(down[1:]))}, "largest": DOWN, **FULL}
    [full, others] = troubles(Situation(NOW, **both))  # type: ignore[arg-type]
    assert (full.kind, full.endpoint, others.endpoint) == ("full", DOWN, down[1])
    assert others.sentence.startswith("hooli/default is down since 07:50:00Z (cannot connect) and only probed;")
    assert others.sentence.endswith(" 1 more is down: globex/default.")
    alone = {"ailing": {Ailment.PAUSED: Group(1, DOWN)}, "largest": DOWN, **FULL}
    assert [one.kind for one in troubles(Situation(NOW, **alone))] == ["full"]  # type: ignore[arg-type]


def test_group_names_those_that_hold_the_most() -> None:
    """Three; the rest is counted."""
    group = Group(1, DOWN._replace(client_id="a", budget_used=0.1))
    for name, used in (("b", 0.4), ("c", 0.2), ("d", 0.3), ("e", 0.05)):
        group = group.joined_by(DOWN._replace(client_id=name, budget_used=used))
    assert [one.client_id for one in (group.worst, *group.others)] == ["b", "d", "c"]
    said = headline(Situation(NOW, ailing={Ailment.PAUSED: group}))
    assert said.endswith(" 4 more are down: d/default, c/default and 2 more.")


def test_what_was_given_up_is_told_with_the_endpoint_that_goes_on_losing() -> None:
    """Why, and that it goes on, in one line; how long it can be replayed."""
    gone = of(Ailment.DISABLED, unsettled=0, gone=33)
    fields = {"given_up": 33, "given_up_last": "acme/eu", "given_up_why": Reason.GONE, "ailing": gone}
    whose = {"given_up_endpoint": gone[Ailment.DISABLED].worst, "given_up_kept": "these, unless they are replayed."}
    [found] = troubles(Situation(NOW, **fields, **whose))  # type: ignore[arg-type]
    assert found.sentence == (
        "33 deliveries were given up in the last 15 minutes, the latest for acme/eu. "
        "acme/eu answered 410 and is disabled since 07:59:00Z: whatever comes for it is given up at "
        "once, 33 deliveries so far."
    )
    assert (found.endpoint, found.lost) == (gone[Ailment.DISABLED].worst, "these, unless they are replayed.")


@pytest.mark.parametrize(
    ("ailment", "started", "is_early"),
    [
        (Ailment.FAILING, -65, True),
        (Ailment.FAILING, -80, False),
        (Ailment.PAUSED_BY_OPERATOR, -65, False),
        (Ailment.DISABLED, -65, False),
    ],
)
def test_failure_that_is_as_old_as_the_run_may_be_older(ailment: Ailment, started: int, is_early: bool) -> None:
    """What ailed it before is not known; a pause and a 410 have their moment."""
    said = headline(Situation(NOW, started_at=NOW + started, ailing=of(ailment)))
    assert ("since 07:59:00Z or before this run" in said) == is_early


def test_what_an_earlier_run_left_of_an_endpoint_says_who_can_send_it() -> None:
    """hookd only what it has payloads of."""
    lost = loss_of(summary(line("acme", 5), trigger="crash", payloads=False))
    assert owed("acme/default", 5, lost).sentence == (
        "A run before was killed and left 5 deliveries for acme/default undelivered. hookd cannot send them: it has no "
        "payloads of them."
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"is_draining": True},
        {**FULL, "refused": spell(2)},
        {"refused": spell(34)},
        {"full_clients": 1, "fullest": DOWN},
        {"refused_client": ("acme", spell(1))},
    ],
)
def test_who_holds_what_is_refused_is_said(fields: dict[str, object]) -> None:
    """Not hookd: whoever reads it knows who has to send again."""
    [found] = troubles(Situation(NOW, **fields))  # type: ignore[arg-type]
    assert found.lost.endswith("What it refuses it does not hold: producers must send that again.")
