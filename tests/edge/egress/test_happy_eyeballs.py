"""Which of a name's addresses is connected to, when, and what becomes of the others. In virtual time."""

import errno
import socket
from collections.abc import Sequence

import httpx
import pytest
import trio
import trio.testing
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.happy_eyeballs import ADDRESSES_TRIED_MAX, AT_ONCE_MAX, STAGGER_SECONDS, by_turns, dial_first
from hookd.edge.egress.transport import AddressDenied, open_transport

from tests.edge.egress import peers
from tests.edge.egress.peers import OK, FakeDial, FakeNetworkStream, answering, faked, post, resolving, serving

REFUSED = OSError(errno.ECONNREFUSED, "Connection refused")
Act = float | OSError


class Addresses:
    """A dial: each address refuses, or connects after some seconds, never if they are infinite."""

    def __init__(self, acts: dict[str, Act]) -> None:
        self.acts = acts
        self.begun_at: dict[str, float] = {}
        self.given_up_at: dict[str, float] = {}
        self.opened: dict[str, FakeNetworkStream] = {}

    async def __call__(self, address: str, port: int) -> FakeNetworkStream:
        self.begun_at[address] = trio.current_time()
        act = self.acts[address]
        try:
            await trio.sleep(0 if isinstance(act, OSError) else act)
        except trio.Cancelled:
            self.given_up_at[address] = trio.current_time()
            raise
        if isinstance(act, OSError):
            raise act
        opened = self.opened[address] = FakeNetworkStream(OK)
        return opened

    async def connect(self) -> str:
        """To which; what else was opened must be closed."""
        winner = await dial_first(self, list(self.acts), 80)
        (address,) = [address for address, opened in self.opened.items() if opened is winner]
        assert all(opened.is_closed == (opened is not winner) for opened in self.opened.values())
        return address


NEVER = float("inf")


async def test_black_hole_costs_a_quarter_second(autojump_clock: trio.testing.MockClock) -> None:
    """The second address is tried beside the first, which is given up when the second answers."""
    addresses = Addresses({"2606:4700::1": NEVER, "1.1.1.1": 0.01})
    started_at = trio.current_time()
    assert await addresses.connect() == "1.1.1.1"
    assert trio.current_time() - started_at == pytest.approx(STAGGER_SECONDS + 0.01)
    assert list(addresses.given_up_at) == ["2606:4700::1"]


async def test_first_address_goes_on_beside_the_next_and_may_still_win(autojump_clock: trio.testing.MockClock) -> None:
    addresses = Addresses({"2606:4700::1": 0.3, "1.1.1.1": 9.0})
    assert await addresses.connect() == "2606:4700::1"
    assert list(addresses.begun_at) == ["2606:4700::1", "1.1.1.1"]


async def test_quick_first_address_is_the_only_one_tried(autojump_clock: trio.testing.MockClock) -> None:
    addresses = Addresses({"2606:4700::1": 0.2, "1.1.1.1": 0.0})
    assert await addresses.connect() == "2606:4700::1"
    assert list(addresses.begun_at) == ["2606:4700::1"]


async def test_refusal_has_the_next_tried_at_once(autojump_clock: trio.testing.MockClock) -> None:
    addresses = Addresses({"2606:4700::1": REFUSED, "1.1.1.1": REFUSED, "2606:4700::2": 0.1})
    started_at = trio.current_time()
    assert await addresses.connect() == "2606:4700::2"
    assert trio.current_time() - started_at == pytest.approx(0.1)


async def test_every_address_is_tried_and_the_seventh_may_be_the_one(autojump_clock: trio.testing.MockClock) -> None:
    """In the time of a short attempt; also behind more black holes than may be tried at the same time."""
    for count in (6, 40):
        addresses = Addresses({f"1.1.1.{number}": NEVER for number in range(count)} | {"1.1.2.1": 0.01})
        started_at = trio.current_time()
        assert await addresses.connect() == "1.1.2.1"
        assert trio.current_time() - started_at == pytest.approx(count * STAGGER_SECONDS + 0.01)


async def test_addresses_at_once_and_in_all_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """The longest under way gives way, and a name with thousands is no way to have us scan a network."""
    acts = {f"1.1.{number >> 8}.{number & 255}": NEVER for number in range(1000)}
    addresses = Addresses(acts)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(addresses.begun_at) - len(addresses.given_up_at))
            await trio.sleep(STAGGER_SECONDS / 2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        with trio.move_on_after(100) as scope:
            await addresses.connect()
        nursery.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert most == AT_ONCE_MAX
    assert len(addresses.begun_at) == len(addresses.given_up_at) == ADDRESSES_TRIED_MAX


async def test_first_error_is_told_when_all_fail(autojump_clock: trio.testing.MockClock) -> None:
    """It is that of the address that the system likes best, not of a family that this machine may not even have."""
    unreachable = OSError(errno.ENETUNREACH, "Network is unreachable")
    for acts in ({"1.1.1.1": REFUSED, "2606:4700::1": unreachable}, {"1.1.1.1": REFUSED}):
        with pytest.raises(httpx.ConnectError, match=r"^1\.1\.1\.1: Connection refused$"):
            await Addresses(dict(acts)).connect()


async def test_two_that_answer_at_the_same_moment_leave_one_open(autojump_clock: trio.testing.MockClock) -> None:
    addresses = Addresses({"2606:4700::1": STAGGER_SECONDS + 0.1, "1.1.1.1": 0.1})
    await addresses.connect()  # checks that the other one is closed
    await trio.testing.wait_all_tasks_blocked()
    assert len([opened for opened in addresses.opened.values() if not opened.is_closed]) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.25, 0.26, 0.6, 1.1])
async def test_cancel_at_any_time_leaves_nothing_open(seconds: float, autojump_clock: trio.testing.MockClock) -> None:
    addresses = Addresses({"2606:4700::1": NEVER, "1.1.1.1": NEVER, "1.1.1.2": 0.5})
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.move_on_after(seconds) as scope:
        await addresses.connect()
    assert scope.cancelled_caught == (seconds < 1.1)
    assert trio.lowlevel.current_statistics().tasks_living == before
    if scope.cancelled_caught:
        assert not addresses.opened
        assert addresses.given_up_at.keys() == addresses.begun_at.keys()


async def test_winner_is_closed_if_the_caller_is_cancelled_before_it_hears(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The cancel comes in the same turn of the loop as the connection."""
    opened: list[FakeNetworkStream] = []
    scope = trio.CancelScope()

    async def dial(address: str, port: int) -> FakeNetworkStream:
        await trio.lowlevel.checkpoint()
        opened.append(FakeNetworkStream())
        scope.cancel()
        return opened[-1]

    with scope:
        await dial_first(dial, ["1.1.1.1", "1.1.1.2"], 80)
    assert [each.is_closed for each in opened] == [True]


async def test_one_denied_address_denies_all_before_any_is_tried(autojump_clock: trio.testing.MockClock) -> None:
    """Also where it stands far behind."""
    addresses = [f"1.1.1.{number}" for number in range(20)] + ["10.0.0.1"]
    async with faked(dial := FakeDial(), *addresses) as transport:
        with pytest.raises(AddressDenied, match=r"10\.0\.0\.1"):
            await post(transport)
    assert dial.dialled == []


def test_families_take_turns() -> None:
    assert by_turns(["::1", "::2", "::3", "1.1.1.1"]) == ["::1", "1.1.1.1", "::2", "::3"]
    assert by_turns(["1.1.1.1", "::1"]) == ["1.1.1.1", "::1"]
    assert by_turns([]) == []


async def test_real_black_hole_is_passed_by() -> None:
    """A listener whose backlog is full lets nobody in, as a filter that drops packets does."""
    with socket.socket() as full:
        full.bind(("127.0.0.2", 0))
        port = full.getsockname()[1]
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, answering(OK), listeners)
            policy = AddressPolicy(allow_private=True)
            resolve = resolving("127.0.0.2", "127.0.0.1")
            async with open_transport(policy=policy, resolve=resolve, ssl_context=peers.TLS) as transport:
                started_at = trio.current_time()
                with trio.fail_after(30):  # the system gives the first address up after two minutes
                    assert await post(transport, f"http://hook.example:{port}/") == (200, b"ok")
                assert trio.current_time() - started_at >= STAGGER_SECONDS
            nursery.cancel_scope.cancel()
        for filler in fillers:
            filler.close()


async def test_real_dead_address_is_passed_by_at_once() -> None:
    async with serving(answering(OK)) as server:
        policy = AddressPolicy(allow_private=True)
        addresses: Sequence[str] = ("127.0.0.9", "127.0.0.1")
        async with open_transport(policy=policy, resolve=resolving(*addresses), ssl_context=peers.TLS) as transport:
            assert await post(transport, f"http://hook.example:{server.port}/") == (200, b"ok")
