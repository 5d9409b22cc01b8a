"""Which connections are kept, for how long, and which is used next. In virtual time."""

import pytest
import trio
import trio.testing
from hookd.edge.egress.connection import Connection
from hookd.edge.egress.pool import Pool

from tests.edge.egress.peers import FakeNetworkStream


def pool(nursery: trio.Nursery, **options: int) -> Pool:
    return Pool(
        nursery, **({"idle_seconds": 20, "idle_per_key_max": 4, "idle_max": 100, "connections_max": 100} | options)
    )


def idle(kept: Pool, key: object, count: int = 1) -> list[Connection]:
    connections = [kept.adopt(FakeNetworkStream(), key, looked_up_at=trio.current_time()) for _ in range(count)]
    for connection in connections:
        kept.give_back(connection)
    return connections


async def test_last_given_back_is_taken_first(nursery: trio.Nursery) -> None:
    kept = pool(nursery)
    first, second = idle(kept, "a", 2)
    assert kept.take("a") is second
    assert kept.take("a") is first
    assert kept.take("a") is None
    assert (kept.open_count, kept.idle_count) == (2, 0)
    nursery.cancel_scope.cancel()


async def test_one_key_never_gets_anothers_connection(nursery: trio.Nursery) -> None:
    kept = pool(nursery)
    idle(kept, "a")
    assert kept.take("b") is None
    nursery.cancel_scope.cancel()


async def test_idle_connection_is_closed_in_time_by_its_owner(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Each after its own 20 s, with nobody asking; a use in between starts them anew."""
    kept = pool(nursery)
    (first,) = idle(kept, "a")
    await trio.sleep(10)
    (second,) = idle(kept, "b")
    assert kept.take("a") is first
    kept.give_back(first)
    await trio.sleep(19.9)
    assert (first.is_closed, second.is_closed) == (False, False)
    await trio.sleep(0.2)
    assert (first.is_closed, second.is_closed) == (True, True)
    assert (kept.open_count, kept.idle_count) == (0, 0)
    nursery.cancel_scope.cancel()


async def test_janitor_wakes_once_for_each_that_is_due(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    kept = pool(nursery)
    await trio.testing.wait_all_tasks_blocked()
    started_at, jumps = trio.current_time(), 0

    class Jumps(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            nonlocal jumps
            jumps += timeout > 0

    for number in range(3):
        idle(kept, number)
    trio.lowlevel.add_instrument(watch := Jumps())
    await trio.sleep(1000)
    trio.lowlevel.remove_instrument(watch)
    assert kept.idle_count == 0
    assert trio.current_time() - started_at == 1000
    assert jumps < 10
    nursery.cancel_scope.cancel()


async def test_idle_connections_of_a_key_are_bounded_and_the_oldest_goes(nursery: trio.Nursery) -> None:
    kept = pool(nursery, idle_per_key_max=2)
    connections = idle(kept, "a", 3)
    assert [connection.is_closed for connection in connections] == [True, False, False]
    nursery.cancel_scope.cancel()


async def test_idle_connections_are_bounded_in_all_and_the_oldest_goes(nursery: trio.Nursery) -> None:
    kept = pool(nursery, idle_max=2)
    connections = [idle(kept, key)[0] for key in "abc"]
    assert [connection.is_closed for connection in connections] == [True, False, False]
    nursery.cancel_scope.cancel()


async def test_room_is_made_by_closing_idle_ones_only(nursery: trio.Nursery) -> None:
    kept = pool(nursery, connections_max=3)
    used = kept.adopt(FakeNetworkStream(), "a", looked_up_at=trio.current_time())
    connections = idle(kept, "b", 2)
    kept.make_room()
    assert [connection.is_closed for connection in (used, *connections)] == [False, True, False]
    kept.adopt(FakeNetworkStream(), "c", looked_up_at=trio.current_time())
    kept.adopt(FakeNetworkStream(), "c", looked_up_at=trio.current_time())
    kept.make_room()  # three in use: over the limit is the caller's business
    assert (kept.open_count, kept.idle_count) == (3, 0)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ends", [True, False], ids=["end", "bytes"])
async def test_connection_on_which_something_came_in_is_not_used_again(nursery: trio.Nursery, ends: bool) -> None:
    kept = pool(nursery)
    quiet, loud = FakeNetworkStream(), FakeNetworkStream(*([] if ends else [b"HTTP/1.1 200 OK\r\n\r\n"]), ends=ends)
    connections = [
        kept.adopt(network_stream, "a", looked_up_at=trio.current_time()) for network_stream in (quiet, loud)
    ]
    for connection in connections:
        kept.give_back(connection)
    assert kept.take("a") is connections[0]
    assert loud.is_closed
    assert kept.open_count == 1
    nursery.cancel_scope.cancel()


async def test_close_idle_spares_those_in_use_and_close_does_not(nursery: trio.Nursery) -> None:
    kept = pool(nursery)
    used = kept.adopt(FakeNetworkStream(), "a", looked_up_at=trio.current_time())
    (waiting,) = idle(kept, "a")
    kept.close_idle()
    assert (used.is_closed, waiting.is_closed) == (False, True)
    kept.close()
    assert used.is_closed
    assert kept.open_count == 0
    nursery.cancel_scope.cancel()
