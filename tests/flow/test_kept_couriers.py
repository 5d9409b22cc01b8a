"""A courier without work is kept for its client's next event: as long as nothing has changed, and only so many."""

from hookd.core.delivery import Status
from hookd.flow import dispatch
from hookd.flow.courier import Courier, Keeper

from tests.flow.harness import URL, Calling, Flow, VirtualClock, at, endpoint, now, only

ELSEWHERE = "https://elsewhere.example/hook"


class Counted(Flow):
    """It counts the couriers that are made."""

    made = 0

    def _new_courier(self, client_id: str, keeper: Keeper) -> Courier:
        self.made += 1
        return super()._new_courier(client_id, keeper)


async def delivered(flow: Flow, client_id: str = "acme") -> str:
    """Where its next event went, once no courier has work."""
    event = flow.admit(client_id)
    await now()
    assert only(event).status is Status.DELIVERED
    assert flow.dispatch.couriers() == []
    return flow.sender.transcript[-1].request.url


async def test_next_event_has_the_courier_of_the_one_before(autojump_clock, nursery) -> None:
    flow = Counted()
    await flow.start(nursery)
    flow.put()
    for _ in range(10):
        await delivered(flow)
    assert flow.made == 1


async def test_another_registration_is_heeded(autojump_clock, nursery) -> None:
    """Another URL, an endpoint that was removed, a client that is gone and comes again."""
    flow = Counted()
    await flow.start(nursery)
    flow.put()
    assert await delivered(flow) == URL
    flow.put("acme", endpoint(url=ELSEWHERE))
    assert await delivered(flow) == ELSEWHERE
    flow.put("acme", endpoint("other", url=URL))
    assert await delivered(flow) == URL
    flow.registration.remove("acme", end_unsettled=False)
    flow.put("acme", endpoint("other", url=ELSEWHERE))
    assert await delivered(flow) == ELSEWHERE
    assert flow.made == 4


async def test_one_that_crashed_is_not_kept(autojump_clock, nursery) -> None:
    clock = VirtualClock()
    flow = Counted(clock=clock)
    await flow.start(nursery)
    flow.put()
    flow.sender.script(URL, Calling(clock.fail_once, 503), 200)
    flow.admit()
    await at(60)
    assert flow.dispatch.crashed_couriers == 1
    assert flow.made == 1
    await delivered(flow)
    assert flow.made == 2


async def test_one_with_many_endpoints_is_not_kept(autojump_clock, nursery) -> None:
    """What it would take is memory for clients that may never have another event."""
    flow = Counted()
    await flow.start(nursery)
    flow.put("acme", endpoint("a"), endpoint("b", url=ELSEWHERE))
    for _ in range(2):
        flow.admit()
        await now()
    assert flow.dispatch.couriers() == []
    assert flow.made == 2


async def test_only_so_many_are_kept(autojump_clock, nursery, monkeypatch) -> None:
    """Those that come first; after so many that found no room the places are given anew."""
    monkeypatch.setattr(dispatch, "KEPT_MAX", 3)
    monkeypatch.setattr(dispatch, "NOT_KEPT_MAX", 5)
    flow = Counted()
    await flow.start(nursery)
    clients = [f"client{number}" for number in range(8)]
    for client_id in clients:
        flow.put(client_id)
        await delivered(flow, client_id)
    assert flow.made == 8
    for client_id in clients[:3]:  # kept before, and let go with the last one: none of them is known
        await delivered(flow, client_id)
    assert flow.made == 11
    for client_id in clients[:3] * 2:
        await delivered(flow, client_id)
    assert flow.made == 11
    await delivered(flow, clients[3])
    await delivered(flow, clients[3])
    assert flow.made == 13
