"""Look-ups: threads of their own, one a name, a cache; hung ones stop nobody else."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hookd.edge.egress.look_up_threads import SLOW_SECONDS
from hookd.edge.egress.resolver import AT_ONCE_MAX, HANGING_MAX, THREADS_MAX, Resolver, Standing


class Dns:
    """getaddrinfo from a table; a name that begins with `hung` answers when the test is over."""

    def __init__(self) -> None:
        self.table: dict[bytes, list[str]] = {}
        self.asked: list[bytes] = []
        self.hanging: set[bytes] = set()
        self.release = threading.Event()

    def __call__(self, host: bytes, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host.startswith(b"hung"):
            self.hanging.add(host)
            self.release.wait(60)
            self.hanging.discard(host)
        if host not in self.table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.table[host]]


@pytest.fixture
def dns() -> Iterator[Dns]:
    dns = Dns()
    yield dns
    dns.release.set()


def resolver(nursery: trio.Nursery, dns: Dns, **options: Any) -> Resolver:
    return Resolver(nursery, getaddrinfo=dns, **options)


async def all_hang(resolve: Resolver, dns: Dns) -> None:
    """Until each look-up that has a place hangs in its thread, which begins when the machine lets it."""
    await trio.testing.wait_all_tasks_blocked()
    while sum(threads._places.borrowed_tokens for threads in resolve._threads.values()) != len(dns.hanging):
        await trio.testing.wait_all_tasks_blocked(0.01)


class Waiter:
    """A task that waits for a name; its scope is its caller's deadline."""

    def __init__(self, nursery: trio.Nursery, resolve: Resolver, host: str) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.outcome: object = None
        nursery.start_soon(self.run, resolve, host)

    async def run(self, resolve: Resolver, host: str) -> None:
        with self.scope:
            try:
                self.outcome = await resolve(host, 443)
            except httpx.ConnectError as error:
                self.outcome = str(error)
        self.ended.set()


async def test_name_is_looked_up_once_and_kept(nursery: trio.Nursery, dns: Dns) -> None:
    dns.table[b"a.example"] = ["1.1.1.1", "1.1.1.2", "1.1.1.1"]
    resolve = resolver(nursery, dns)
    for _ in range(3):
        assert await resolve("a.example", 443) == ("1.1.1.1", "1.1.1.2")
    assert dns.asked == [b"a.example"]
    nursery.cancel_scope.cancel()


async def test_bytes_str_and_case_are_one_name(nursery: trio.Nursery, dns: Dns) -> None:
    dns.table[b"a.example"] = ["1.1.1.1"]
    resolve = resolver(nursery, dns)
    assert await resolve(b"a.example", 443) == await resolve("A.Example", 80) == ("1.1.1.1",)
    assert dns.asked == [b"a.example"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("host", "seconds"), [("a.example", 30), ("none.example", 5)])
async def test_answer_and_failure_are_forgotten_in_time(
    host: str, seconds: float, nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """A failure sooner than an answer. The clock jumps by hand: threads take real time, and virtual time stands."""
    dns.table[b"a.example"] = ["1.1.1.1"]
    resolve = resolver(nursery, dns, ttl_seconds=30, failure_ttl_seconds=5)
    for jump_seconds, asked_count in ((0, 1), (seconds - 1, 1), (2, 2)):
        mock_clock.jump(jump_seconds)
        await Waiter(nursery, resolve, host).ended.wait()
        assert len(dns.asked) == asked_count
    nursery.cancel_scope.cancel()


async def test_entries_are_bounded_and_the_oldest_goes(nursery: trio.Nursery, dns: Dns) -> None:
    resolve = resolver(nursery, dns, entries_max=2)
    for host in ("a.example", "b.example", "c.example", "b.example", "a.example"):
        with pytest.raises(httpx.ConnectError):
            await resolve(host, 443)
    assert dns.asked == [b"a.example", b"b.example", b"c.example", b"a.example"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("literal", ["1.2.3.4", "::1", "fe80::1%eth0", "::ffff:1.2.3.4"])
async def test_literal_is_its_own_answer(literal: str, nursery: trio.Nursery, dns: Dns) -> None:
    assert await resolver(nursery, dns)(literal, 443) == (literal,)
    assert dns.asked == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "host", ["none.example", "a" * 64 + ".example", "a..b", ".a", "..", "b\xfccher.example", "a\x00b"]
)
async def test_name_that_cannot_be_looked_up_is_a_connect_error(host: str, nursery: trio.Nursery) -> None:
    """With the real getaddrinfo: no UnicodeError of Python's codec, no ValueError of a NUL."""
    with pytest.raises(httpx.ConnectError, match="the name"):
        await Resolver(nursery)(host, 443)
    nursery.cancel_scope.cancel()


async def test_name_without_addresses_is_a_connect_error(nursery: trio.Nursery, dns: Dns) -> None:
    dns.table[b"empty.example"] = []
    with pytest.raises(httpx.ConnectError, match="no address"):
        await resolver(nursery, dns)("empty.example", 443)
    nursery.cancel_scope.cancel()


async def test_one_look_up_serves_all_that_wait_and_outlives_those_that_stop(nursery: trio.Nursery, dns: Dns) -> None:
    dns.table[b"hung.example"] = ["1.1.1.1"]
    resolve = resolver(nursery, dns)
    waiters = [Waiter(nursery, resolve, "hung.example") for _ in range(5)]
    await trio.testing.wait_all_tasks_blocked()
    waiters[0].scope.cancel()
    await waiters[0].ended.wait()  # at once: the thread still hangs
    assert resolve.look_ups_in_flight == 1
    dns.release.set()
    for waiter in waiters[1:]:
        await waiter.ended.wait()
        assert waiter.outcome == ("1.1.1.1",)
    assert (dns.asked, waiters[0].outcome) == ([b"hung.example"], None)
    nursery.cancel_scope.cancel()


async def test_sixty_hung_look_ups_do_not_hold_up_an_innocent_one(nursery: trio.Nursery, dns: Dns) -> None:
    """Each hung name is asked for by five attempts that gave up: still one thread a name, and none of trio's own."""
    resolve = resolver(nursery, dns)
    waiters = [Waiter(nursery, resolve, f"hung{number % 60}.example") for number in range(300)]
    await trio.testing.wait_all_tasks_blocked()
    for waiter in waiters:
        waiter.scope.cancel()
    for waiter in waiters:
        await waiter.ended.wait()
    assert resolve.look_ups_in_flight == 60
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    took_seconds = []
    for letter in "abcde":
        dns.table[f"{letter}.example".encode()] = ["1.1.1.1"]
        started_at = trio.current_time()
        assert await resolve(f"{letter}.example", 443) == ("1.1.1.1",)
        took_seconds.append(trio.current_time() - started_at)
    assert min(took_seconds) < 0.1  # of five, since other processes share the machine
    nursery.cancel_scope.cancel()


async def test_name_that_resolved_before_does_not_wait_behind_those_that_did_not(
    nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """However many names hang, and whatever they hung up before."""
    dns.table[b"good.example"] = ["1.1.1.1"]
    resolve = resolver(nursery, dns, ttl_seconds=30)
    await resolve("good.example", 443)
    threads_max = AT_ONCE_MAX[Standing.NEW] + HANGING_MAX[Standing.NEW]
    hung_count = 2 * threads_max
    waiters = [Waiter(nursery, resolve, f"hung{number}.example") for number in range(hung_count)]
    mock_clock.jump(31)
    with trio.fail_after(5):
        assert await resolve("good.example", 443) == ("1.1.1.1",)
    assert len(dns.asked) <= 2 + threads_max
    dns.release.set()
    for waiter in waiters:
        await waiter.ended.wait()
    nursery.cancel_scope.cancel()


async def seconds_until_found(
    resolve: Resolver, dns: Dns, host: str, clock: trio.testing.MockClock, nursery: trio.Nursery
) -> float:
    """By the clock, which is set on by SLOW_SECONDS while the name waits; 30 if it takes longer."""
    asked_at = trio.current_time()
    waiter = Waiter(nursery, resolve, host)
    while not waiter.ended.is_set() and trio.current_time() < asked_at + 30:
        await all_hang(resolve, dns)
        if not waiter.ended.is_set():
            clock.jump(SLOW_SECONDS + 0.001)
    assert waiter.outcome in (None, ("1.1.1.1",))
    return trio.current_time() - asked_at


async def test_150_names_that_hang_hold_up_a_new_one_for_a_moment(
    nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """Each gives its place to the next one once it hangs, and its thread goes on aside."""
    dns.table[b"new.example"] = ["1.1.1.1"]
    resolve = resolver(nursery, dns)
    for number in range(150):
        Waiter(nursery, resolve, f"hung{number}.example")
    await all_hang(resolve, dns)
    assert await seconds_until_found(resolve, dns, "new.example", mock_clock, nursery) < 3 * SLOW_SECONDS
    assert resolve.look_ups_in_flight == 150
    dns.release.set()
    nursery.cancel_scope.cancel()


async def test_good_names_that_begin_to_hang_hold_up_no_other_good_one(
    nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """40 customers of one name server that is down."""
    hung = [f"hung{number}.example" for number in range(40)]
    dns.table = {name.encode(): ["1.1.1.1"] for name in ("good.example", *hung)}
    resolve = resolver(nursery, dns, ttl_seconds=30)
    dns.release.set()
    for name in ("good.example", *hung):
        await resolve(name, 443)
    dns.release.clear()
    mock_clock.jump(31)
    for name in hung:
        Waiter(nursery, resolve, name)
    await all_hang(resolve, dns)
    assert await seconds_until_found(resolve, dns, "good.example", mock_clock, nursery) < 4 * SLOW_SECONDS
    dns.release.set()
    nursery.cancel_scope.cancel()


async def test_threads_are_bounded_however_many_names_hang(
    nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """Those that hang and find no room aside keep their places."""
    resolve = resolver(nursery, dns)
    for number in range(300):
        Waiter(nursery, resolve, f"hung{number}.example")
    for _ in range(6):
        await all_hang(resolve, dns)
        mock_clock.jump(SLOW_SECONDS + 0.001)
    await all_hang(resolve, dns)
    assert len(dns.asked) == AT_ONCE_MAX[Standing.NEW] + HANGING_MAX[Standing.NEW] == 160
    assert THREADS_MAX == 256
    dns.release.set()
    nursery.cancel_scope.cancel()


async def test_places_come_back_once_names_hang_no_more(
    nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """There are as many as before, and none more: what was aside is counted out again."""
    resolve = resolver(nursery, dns)
    for turn in range(2):
        dns.release.clear()
        dns.asked.clear()
        waiters = [Waiter(nursery, resolve, f"hung{turn}-{number}.example") for number in range(100)]
        await all_hang(resolve, dns)
        assert len(dns.asked) == AT_ONCE_MAX[Standing.NEW]
        mock_clock.jump(SLOW_SECONDS + 0.001)
        await all_hang(resolve, dns)
        assert len(dns.asked) == 100
        dns.release.set()
        for waiter in waiters:
            await waiter.ended.wait()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("hangs", "is_found", "at_once_max"),
    [(True, False, AT_ONCE_MAX[Standing.HUNG]), (True, True, 20), (False, False, 20), (False, True, 16)],
)
async def test_names_that_hung_and_found_nothing_share_few_threads(
    hangs: bool, is_found: bool, at_once_max: int, nursery: trio.Nursery, dns: Dns, mock_clock: trio.testing.MockClock
) -> None:
    """So that dead names leave most threads to others. What failed at once, or answered late, is not among the dead."""
    resolve = resolver(nursery, dns, ttl_seconds=30)
    names = [f"hung{number}.example" for number in range(20)]
    dns.table = {name.encode(): ["1.1.1.1"] for name in names} if is_found else {}
    for is_again in (False, True):
        dns.asked.clear()
        dns.release.clear()
        waiters = [Waiter(nursery, resolve, name) for name in names]
        await all_hang(resolve, dns)
        assert len(dns.asked) == (at_once_max if is_again else 20)
        if hangs:
            mock_clock.jump(SLOW_SECONDS + 0.1)
        dns.release.set()
        for waiter in waiters:
            await waiter.ended.wait()
            assert is_found == (waiter.outcome == ("1.1.1.1",))
        mock_clock.jump(31)
    nursery.cancel_scope.cancel()


async def test_look_up_without_a_thread_fails_and_takes_nothing_down(
    nursery: trio.Nursery, dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process at its limit of threads: trio raises what threading raises."""

    async def no_thread(*_: Any, **__: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(trio.to_thread, "run_sync", no_thread)
        with pytest.raises(httpx.ConnectError, match="no thread"):
            await resolver(nursery, dns)("a.example", 443)
    nursery.cancel_scope.cancel()


async def test_names_under_way_are_bounded(nursery: trio.Nursery, dns: Dns) -> None:
    dns.table[b"good.example"] = ["1.1.1.1"]
    resolve = resolver(nursery, dns, names_max=2)
    await resolve("good.example", 443)
    for number in range(2):
        Waiter(nursery, resolve, f"hung{number}.example")
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(httpx.ConnectError, match="2 names"):
        await resolve("one-more.example", 443)
    assert await resolve("good.example", 443) == ("1.1.1.1",)
    nursery.cancel_scope.cancel()


async def test_end_of_the_resolver_ends_those_that_wait(dns: Dns) -> None:
    """At once, whatever the threads do."""
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            resolve = resolver(nursery, dns)
            waiter = Waiter(outer, resolve, "hung.example")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await waiter.ended.wait()
        assert waiter.outcome == "the resolver is closed"
        assert resolve.look_ups_in_flight == 0
