"""`paused` in a definition: held from its registration on, as by an operator."""

from hookd.core.client import Client, Endpoint
from hookd.core.delivery import Status

from tests.flow.harness import URL, Flow, at, endpoint, now


async def flow_with(nursery, *endpoints: Endpoint) -> Flow:
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", *endpoints)
    return flow


def by_config(flow: Flow, paused: bool | None) -> None:
    one = endpoint(paused=paused)
    flow.registration.take_config([Client(id="file", endpoints=(one,), managed_by_config=True)])


async def test_endpoint_registered_paused_gets_nothing_until_it_is_resumed(autojump_clock, nursery) -> None:
    """No attempt, no expiry; its sibling is not held."""
    flow = await flow_with(nursery, endpoint("a", f"{URL}/a", paused=True), endpoint("b", f"{URL}/b"))
    event = flow.admit()
    await at(4000)
    assert [one.status for one in event.deliveries] == [Status.PENDING, Status.DELIVERED]
    assert [sent.request.url for sent in flow.sender.transcript] == [f"{URL}/b"]
    flow.registration.resume("acme", "a")
    await now()
    assert event.status is Status.DELIVERED


async def test_put_says_what_is_meant_each_time(autojump_clock, nursery) -> None:
    """true pauses again after a resume, false resumes; without a word the pause stays as it is."""
    flow = await flow_with(nursery, endpoint(paused=True))
    flow.registration.resume("acme", "default")
    flow.put("acme", endpoint(paused=True))
    assert flow.ledger.ensure_health("acme", "default").is_held
    flow.put("acme", endpoint())
    assert flow.ledger.ensure_health("acme", "default").is_held
    flow.put("acme", endpoint(paused=False))
    assert not flow.ledger.ensure_health("acme", "default").is_held
    flow.put("acme", endpoint())
    assert not flow.ledger.ensure_health("acme", "default").is_held


async def test_false_ends_no_other_hold(autojump_clock, nursery) -> None:
    """An endpoint that answered 410 stays disabled."""
    flow = await flow_with(nursery, endpoint())
    flow.sender.script(URL, 410)
    flow.admit()
    await now()
    flow.put("acme", endpoint(paused=False))
    assert flow.ledger.is_disabled("acme", "default")


async def test_reload_does_not_undo_an_operators_hand(autojump_clock, nursery) -> None:
    """The file's word counts where it is new in the file."""
    flow = Flow()
    await flow.start(nursery)
    by_config(flow, True)
    assert flow.ledger.ensure_health("file", "default").is_held
    flow.registration.resume("file", "default")
    by_config(flow, True)
    assert not flow.ledger.ensure_health("file", "default").is_held
    by_config(flow, False)
    flow.registration.pause("file", "default")
    by_config(flow, False)
    assert flow.ledger.ensure_health("file", "default").is_held
    by_config(flow, True)
    by_config(flow, False)
    assert not flow.ledger.ensure_health("file", "default").is_held


async def test_declaration_pauses_what_has_not_changed_otherwise(autojump_clock, nursery) -> None:
    flow = await flow_with(nursery, endpoint(paused=True))
    flow.registration.resume("acme", "default")
    await flow.declaration.declare({"acme": Client(id="acme", endpoints=(endpoint(paused=True),))})
    assert flow.ledger.ensure_health("acme", "default").is_held
