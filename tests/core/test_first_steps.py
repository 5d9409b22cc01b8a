"""What the page says to press first: a step for each trouble, as short as can be, of what exists."""

import re

import pytest
from hookd.core.first_steps import endpoint_step, first_step
from hookd.core.loss import loss_of
from hookd.core.run_history import PreviousRun
from hookd.core.situation import AilingEndpoint, Ailment, Group, Pace, Situation
from hookd.core.troubles import troubles
from hookd.edge.api.page.actions import DOES

from tests.core.test_loss import line, summary
from tests.core.test_troubles import BUSY, FULL, NOW, SAID, of, spell

CHARACTERS_MAX = 160
DOWN = AilingEndpoint("initech", "default", 61_000, 0.98, NOW - 600, "cannot connect", Ailment.PAUSED)


def step(**fields: object) -> str:
    situation = Situation(NOW, endpoints=5, **fields)  # type: ignore[arg-type]
    return first_step(troubles(situation)[0], situation)


@pytest.mark.parametrize(("kind", "fields"), [said[:2] for said in SAID], ids=[said[0] for said in SAID])
def test_each_trouble_has_a_step_that_is_short_and_exists(kind: str, fields: dict[str, object]) -> None:
    """What it says to press is a button."""
    said = step(**fields)
    assert 0 < len(said) <= CHARACTERS_MAX, kind
    assert set(re.findall(r"[Pp]ress ([a-z-]+)", said)) <= DOES.keys(), said
    assert "cancel" not in said  # what gives something up is no choice among others
    assert "timeout" not in said  # below its answer time each attempt would fail


@pytest.mark.parametrize(
    ("ailment", "words"),
    [
        (
            Ailment.DISABLED,
            "ask its owner whether the events are wanted. To hold what comes meanwhile: resume, then pause.",
        ),
        (
            Ailment.PAUSED,
            "tell its owner; it is probed by itself. If that takes long, press pause: nothing is given up then.",
        ),
        (
            Ailment.FAILING,
            "tell its owner what it answers. Meanwhile press pause: nothing is given up then. Once mended:",
        ),
        (Ailment.THROTTLED, "nothing to press"),
        (Ailment.PAUSED_BY_OPERATOR, "press resume, unless the pause is still wanted"),
    ],
)
def test_step_is_by_what_ails_the_endpoint(ailment: Ailment, words: str) -> None:
    """Of one on its own page; of several on each one's."""
    assert step(ailing=of(ailment)).startswith(words)
    assert step(ailing=of(ailment, 2)).startswith(f"on the page of each: {words}")


@pytest.mark.parametrize("ailment", [Ailment.FAILING, Ailment.HELD_UP])
def test_event_that_holds_up_others_is_retried_and_not_cancelled(ailment: Ailment) -> None:
    """It is named."""
    said = step(ailing=of(ailment, held_up_by="evt_1"))
    assert "evt_1" in said
    assert "press retry" in said
    assert "cancel" not in said


@pytest.mark.parametrize("ailment", [Ailment.PAUSED, Ailment.FAILING])
def test_where_nothing_waits_what_was_given_up_is_replayed(ailment: Ailment) -> None:
    """There is nothing to retry."""
    said = step(ailing=of(ailment, unsettled=0))
    assert "retry-all" not in said
    assert said.endswith("replay.")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"previous_run": PreviousRun("9f0c", "crash", None, 0)},
            "post again what your own records do not show as settled, under the same ids.",
        ),
        ({"previous_run": PreviousRun("9f0c", "crash", 5, 0)}, "hookd report says what it left."),
        (
            {
                "previous_run": PreviousRun("9f0c", "crash", 5, 0),
                "run_before_lost": loss_of(summary(line("acme", 5))),
            },
            "hookd resend sends them, once their clients are registered: the steps under What earlier runs left.",
        ),
        (
            {
                "previous_run": PreviousRun("9f0c", "crash", 5, 0),
                "run_before_lost": loss_of(summary(line("acme", 5), payloads=False)),
            },
            "post them again from your own records, under the same ids: the steps under What earlier runs left.",
        ),
        (
            {
                "previous_run": PreviousRun("9f0c", "crash", 5, 0),
                "run_before_lost": loss_of(summary(line("acme", 5), payloads=False)),
                "run_before_missing": ("acme/default", "acme/eu", "globex/default"),
            },
            (
                "register acme/default and 2 more again. Then post them again from your own records, under the same "
                "ids: the steps under What earlier runs left."
            ),
        ),
        ({"unclaimed_reports": 1}, "the steps under What earlier runs left."),
    ],
)
def test_numbered_steps_are_promised_only_where_there_are_some(fields: dict[str, object], words: str) -> None:
    """A killed run may have left no list, or one that cannot be read."""
    assert step(**fields) == words


def test_step_that_stands_above_is_not_told_twice() -> None:
    """One endpoint holds the whole budget and its client's."""
    situation = Situation(NOW, largest=DOWN, full_clients=1, fullest=DOWN, **FULL)  # type: ignore[arg-type]
    [full] = troubles(situation)
    assert "; initech's own budget is full too (429)." in full.sentence
    assert first_step(full, situation).startswith("tell the owner of initech/default.")


def test_full_budget_is_emptied_where_it_is_held() -> None:
    """By its owner; what gives something up is no choice beside that. The limit is named, with its value."""
    assert step(largest=DOWN, **FULL) == (
        "tell the owner of initech/default. Meanwhile raise intake.unsettled_events_max (now 100,000) and reload "
        "(systemctl reload hookd, or SIGHUP)."
    )
    held = DOWN._replace(ailment=Ailment.PAUSED_BY_OPERATOR)
    assert step(largest=held, **FULL).startswith("on initech/default: press resume, unless the pause is still wanted.")
    by_bytes = {"unsettled_bytes": 100, "unsettled_bytes_max": 100}
    assert step(**by_bytes) == (
        "raise intake.unsettled_bytes_max (now 100B) and reload (systemctl reload hookd, or SIGHUP), or hold back the "
        "producer that sends most."
    )
    limit = "intake.client_events_max (now 40)"
    assert f"raise {limit} and reload" in step(full_clients=1, fullest=DOWN, client_limit=limit)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("recorder.bytes_max", "raise recorder.bytes_max and restart, or hold back the producer that sends most."),
        (
            "intake.receiving_bytes_max",
            "raise intake.receiving_bytes_max and reload (systemctl reload hookd, or SIGHUP), or hold back",
        ),
        ("http.sending_bytes_max", "look who asks for long answers and reads them slowly."),
    ],
)
def test_step_is_about_the_limit_that_was_used_up(limit: str, words: str) -> None:
    """Where the budget has room it is not the budget."""
    assert step(refused=spell(1, limit=limit)).startswith(words)


def test_step_of_a_share_that_was_used_up_names_its_limit() -> None:
    """A client's of the recorder, or a token's: neither is mended in [intake]."""
    assert step(refused_client=("acme", spell(1, limit="recorder.bytes_max"))).startswith("raise recorder.bytes_max")
    assert step(refused_client=(None, spell(1, limit="http.connections_max"))) == (
        "have who uses that token ask for less at once, or raise http.connections_max."
    )


def test_endpoint_that_nothing_ails_has_no_step() -> None:
    """There is nothing to press."""
    assert endpoint_step(DOWN._replace(ailment=None)) == ""


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (Pace(1, 1, 3.5), "raise delivery.concurrency (now 1) and reload (systemctl reload hookd, or SIGHUP): soylent"),
        (Pace(4, 4, 3.5, is_own=True), "PUT soylent with a higher concurrency for default (now 4)."),
        (Pace(8, 1, 3.5), "tell the owner of soylent/default that it answers too slowly for what comes."),
    ],
)
def test_slow_endpoint_has_one_step_whatever_it_leads_to(pace: Pace, words: str) -> None:
    """What is refused for it, and what it holds, is one trouble with it."""
    busy = BUSY._replace(pace=pace)
    slow = {"slowest": busy, "slowest_seconds": 95.0, "fullest": busy}
    refused = {**slow, "full_clients": 1, "fullest": busy._replace(budget_used=1.0)}
    for fields in (slow, refused, {"largest": busy, "slowest": busy, **FULL}):
        assert step(**fields).startswith(words)


def test_trouble_that_is_told_above_has_no_second_step() -> None:
    """Of what the endpoint that fills the budget lost as well."""
    lost = {"given_up": 3, "given_up_last": "initech/default", "given_up_endpoint": DOWN}
    situation = Situation(NOW, largest=DOWN, **lost, **FULL)  # type: ignore[arg-type]
    assert [first_step(one, situation) != "" for one in troubles(situation)] == [True, False]
    filling = {"unsettled_events": 90, "unsettled_events_max": 100, "ailing": {Ailment.PAUSED: Group(1, DOWN)}}
    situation = Situation(NOW, largest=DOWN, **filling)  # type: ignore[arg-type]
    [_, filling_step] = (first_step(one, situation) for one in troubles(situation))
    assert filling_step == (
        "raise intake.unsettled_events_max (now 100) and reload (systemctl reload hookd, or SIGHUP) before that."
    )


def test_what_was_given_up_for_who_takes_events_again_is_replayed() -> None:
    """The endpoint that lost it is named."""
    lost = {"given_up": 3, "given_up_last": "initech/default", "given_up_endpoint": DOWN._replace(ailment=None)}
    assert step(**lost) == "open initech/default, and look whether it takes events again. Then press replay."
