"""Since when, and how often, producers were refused: what is one spell, whose it is, and what is kept."""

from hookd.core.refusal import ClientFull, Draining, Full
from hookd.core.refusals import CLIENTS_MAX, SPELL_SECONDS, Refusals
from hookd.core.timestamps import Moment

WALL = 1_800_000_000.0


def at(seconds: float) -> Moment:
    return Moment(seconds, WALL + seconds)


def client_full(client_id: str | None) -> ClientFull:
    return ClientFull("no room").at("intake.client_events_max", client_id)


def test_spell_has_its_beginning_and_its_count() -> None:
    """Refusals in a row are one; after a lull another begins. What is no want of room is none."""
    refusals = Refusals()
    refusals.note(Draining("stops"), at(0))
    assert refusals.full(0) is None
    for seconds in (1, 2, 2 + SPELL_SECONDS):
        refusals.note(Full("no room"), at(seconds))
    spell = refusals.full(2 + SPELL_SECONDS)
    assert spell is not None
    assert (spell.count, spell.began_at, spell.last) == (3, WALL + 1, at(2 + SPELL_SECONDS))
    assert refusals.full(2.1 + 2 * SPELL_SECONDS) is None
    refusals.note(Full("no room"), at(3 + 2 * SPELL_SECONDS))
    spell = refusals.full(3 + 2 * SPELL_SECONDS)
    assert spell is not None
    assert (spell.count, spell.began_at) == (1, WALL + 3 + 2 * SPELL_SECONDS)
    assert refusals.last_client_full(3 + 2 * SPELL_SECONDS) is None


def test_each_client_has_a_spell_of_its_own_and_the_last_is_known() -> None:
    """A token's share has one as well, of no client."""
    refusals = Refusals()
    for seconds, client_id in enumerate(["acme", "globex", "acme", None]):
        refusals.note(client_full(client_id), at(seconds))
    acme, last = refusals.client_full("acme", 3), refusals.last_client_full(3)
    assert acme is not None
    assert acme.count == 2
    assert last is not None
    assert (last[0], last[1].count) == (None, 1)
    refusals.note(client_full("acme"), at(4))
    last = refusals.last_client_full(4)
    assert last is not None
    assert (last[0], last[1].count, last[1].began_at) == ("acme", 3, WALL)
    assert refusals.client_full("hooli", 4) is None
    assert refusals.full(4) is None


def test_requests_and_events_of_partial_batches_are_counted_apart() -> None:
    """Together they are how often; each once, at its limit, and the limit with most is first whichever was last."""
    refusals = Refusals()
    for limit, is_event in (("a", False), ("b", True), ("b", True), ("a", False), ("b", False), ("c", False)):
        refusals.note(Full("no room").at(limit), at(0), is_event=is_event)
    spell = refusals.full(0)
    assert spell is not None
    assert (spell.requests, spell.events, spell.count) == (4, 2, 6)
    assert (spell.limits, spell.limit) == ((("b", 3), ("a", 2), ("c", 1)), "b")


def test_so_many_clients_have_a_spell_and_no_more() -> None:
    """Those that were refused last."""
    refusals = Refusals()
    for number in range(CLIENTS_MAX + 1):
        refusals.note(client_full(f"c{number}"), at(0))
    assert refusals.client_full("c0", 0) is None
    assert all(refusals.client_full(f"c{number}", 0) for number in range(1, CLIENTS_MAX + 1))
