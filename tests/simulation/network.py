"""Names, addresses and links in memory, and the tap that sees every byte the daemon sends or reads.

The real transport runs on it: `resolve` and `dial` are the two seams that it has for production too. Which attempt an
act on the network belongs to is told by the task that does it. Receivers are in faults.py; here only looking up and
connecting can go wrong.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from random import Random
from typing import Protocol

import httpx
import trio

from tests.simulation.model import Attempt, Exchange, ForwardProxy, Host, Wired
from tests.simulation.plan import chance
from tests.simulation.proxies import addresses_of, noted
from tests.simulation.wire import End, pair

# What a name may be pointed at: nothing of it may ever be dialled.
FORBIDDEN = ("127.0.0.1", "169.254.169.254", "10.0.0.7", "::1", "192.168.1.1", "::ffff:10.0.0.1", "100.100.100.200")


class Tap(Protocol):
    """Who is told; invariants.py."""

    def begun(self, host: Host) -> Attempt: ...

    def sent(self, exchange: Exchange, data: bytes) -> None: ...

    def sent_more(self, exchange: Exchange, data: bytes) -> None: ...

    def sent_after(self, before: Exchange, received_bytes: int) -> None: ...

    def read(self, exchange: Exchange) -> None: ...

    def over(self, exchange: Exchange) -> None: ...

    def looked_up(self, attempt: Attempt) -> None: ...

    def dialled(self, attempt: Attempt, address: str, proxy: ForwardProxy | None) -> None: ...

    def taken(self, attempt: Attempt, wired: Wired) -> None: ...

    def tunnelled(self, wired: Wired, data: bytes) -> None: ...

    def fail(self, rule: str, message: str) -> None: ...


class Listener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Where producers connect."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[End](1000)
        self._ends: list[End] = []  # the daemon's
        self.is_closed = False

    async def accept(self) -> End:
        try:
            return await self._receiver.receive()
        except (trio.ClosedResourceError, trio.EndOfChannel):
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        self.is_closed = True
        self._receiver.close()
        await trio.lowlevel.checkpoint()

    def kill(self) -> None:
        """The process is gone: what it has sent can still be read, and nothing more comes."""
        self.is_closed = True
        for end in self._ends:
            end.die()

    def connect(self, capacity: int, draw: Random) -> End:
        """The producer's end; raises ConnectionRefusedError."""
        if self.is_closed:
            raise ConnectionRefusedError
        ours, theirs = pair(draw, capacity=capacity)
        self._ends.append(theirs)
        self._sender.send_nowait(theirs)
        return ours


class NetworkStream:
    """What the transport gets: `hookd.edge.egress.network_streams.Link`."""

    def __init__(self, network: "Network", wired: Wired) -> None:
        self._network = network
        self._wired = wired

    @property
    def stream(self) -> End:
        return self._wired.end

    def close(self) -> None:
        self._wired.end.close()

    def has_input(self) -> bool:
        """Asked by the task that wants to use the link again: an attempt begins."""
        if self._network.is_dead:
            return True
        self._network.taken(self._wired)
        return self._wired.end.has_news


class Network:
    def __init__(
        self,
        seed: int,
        tap: Tap,
        nursery: trio.Nursery,
        receive: Callable[[Wired, End], Awaitable[None]],
        *,
        capacity: int,
    ) -> None:
        self._seed = seed
        self._tap = tap
        self._nursery = nursery
        self._receive = receive
        self._capacity = capacity
        self._hosts: dict[str, Host] = {}
        self._by_address: dict[str, Host] = {}
        self._proxies: dict[str, ForwardProxy] = {}
        self._proxies_by_address: dict[str, ForwardProxy] = {}
        self._targets: dict[trio.lowlevel.Task, str] = {}  # which host a task posts to, where there are proxies
        self._attempts: dict[trio.lowlevel.Task, Attempt] = {}
        self._network_streams = 0
        self._moves = 0
        self.is_dead = False  # the daemon's process
        self.ends: dict[End, Wired] = {}  # the daemon's, of this run
        self._draw = chance(seed, "network")

    def add_host(self, name: str, key: tuple[str, str], *, is_tls: bool = False) -> Host:
        number = len(self._hosts) + 1
        addresses = (f"5.0.{number >> 8}.{number & 255}", f"2a00::{number:x}")
        host = self._hosts[name] = Host(name, key, addresses, is_tls)
        for address in addresses:
            self._by_address[address] = host
        return host

    def add_proxy(self, name: str, *addresses: str) -> None:
        proxy = self._proxies[name] = ForwardProxy(name, addresses)
        self._proxies_by_address |= dict.fromkeys(addresses, proxy)

    def posting_to(self, url: str) -> AbstractContextManager[None]:
        """The task that acts does, until the end of the block."""
        return noted(self._targets, httpx.URL(url).host)

    def _target(self) -> Host:
        """Of the task that acts, or of the one that it tries an address for."""
        task = trio.lowlevel.current_task()
        nursery = task.parent_nursery
        name = self._targets.get(task) or self._targets[nursery.parent_task if nursery is not None else task]
        return self._hosts[name]

    def kill(self) -> None:
        """The daemon's process is gone: nothing of it goes out any more, and its peers see resets."""
        self.is_dead = True
        for end, wired in self.ends.items():
            if wired.exchange is not None:
                wired.exchange.was_killed = wired.exchange.read_at is None
            end.peer.reset()
            end.is_reset = True

    def begin_run(self) -> None:
        self.is_dead = False
        self.ends.clear()
        self._attempts.clear()

    def _attempt(self, host: Host) -> Attempt:
        """The attempt of the task that acts, or of the one that it tries an address for; its first act begins it."""
        task = trio.lowlevel.current_task()
        parent = task.parent_nursery.parent_task if task.parent_nursery is not None else task
        if task not in self._attempts and parent in self._attempts:
            task = parent
        attempt = self._attempts.get(task)
        if attempt is None or attempt.host is not host:
            attempt = self._attempts[task] = self._tap.begun(host)
            if attempt.fault == "moves":
                self._move(host)
        return attempt

    def _move(self, host: Host) -> None:
        """The name points to another machine; the old one goes on answering."""
        self._moves += 1
        host.left.update(dict.fromkeys(host.addresses, trio.current_time()))
        host.addresses = (f"5.1.{self._moves >> 8}.{self._moves & 255}", f"2a00:1::{self._moves:x}")
        for address in host.addresses:
            self._by_address[address] = host

    def attempt_ended(self) -> None:
        """The task that acts has made its attempt; it may make another one."""
        self._attempts.pop(trio.lowlevel.current_task(), None)

    def attempt_of_task(self) -> Attempt | None:
        return self._attempts.get(trio.lowlevel.current_task())

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        await self._effective()
        if (proxy := self._proxies.get(name)) is not None:
            return await self._resolve_proxy(proxy)
        host = self._hosts[name]
        attempt = self._attempt(host)
        self._tap.looked_up(attempt)
        attempt.pending += 1
        try:
            match attempt.fault:
                case "dns_slow":
                    await trio.sleep(self._draw.uniform(0.5, 20))
                case "dns_hangs":
                    await trio.sleep_forever()
                case "dns_fails":
                    raise httpx.ConnectError("the name cannot be looked up")
                case "rebound":
                    mixed = [self._draw.choice(FORBIDDEN), *host.addresses[: self._draw.choice((0, 1))]]
                    self._draw.shuffle(mixed)
                    return mixed
                case "other_family":
                    await trio.sleep(0.001)
                    return host.addresses[::-1]
                case _:
                    await trio.sleep(self._draw.choice((0, 0, 0.001)))
            return host.addresses
        finally:
            self._over(attempt)

    async def _resolve_proxy(self, proxy: ForwardProxy) -> Sequence[str]:
        attempt = self._attempt(self._target())
        attempt.pending += 1
        try:
            await trio.lowlevel.checkpoint()
            return addresses_of(proxy, attempt.proxy_fault, self._draw, FORBIDDEN)
        finally:
            self._over(attempt)

    async def dial(self, address: str, port: int) -> NetworkStream:
        await self._effective()
        proxy = self._proxies_by_address.get(address)
        host = self._by_address.get(address) if proxy is None else self._target()
        if host is None:
            self._tap.fail("S10", f"{address} was dialled")
            raise OSError(101, "unreachable")
        attempt = self._attempt(host)
        self._tap.dialled(attempt, address, proxy)
        attempt.pending += 1
        try:
            await self._connect(attempt, address)
            self._network_streams += 1
            ours, theirs = pair(chance(self._seed, "link", self._network_streams), capacity=self._capacity)
            wired = Wired(self._network_streams, host, ours, attempt, address=address, proxy=proxy)
            self._watch(wired)
            self._nursery.start_soon(self._receive, wired, theirs)
            return NetworkStream(self, wired)
        finally:
            self._over(attempt)

    async def _effective(self) -> None:
        if self.is_dead:
            await trio.sleep_forever()

    async def _connect(self, attempt: Attempt, address: str) -> None:
        match attempt.met if attempt.proxy_fault or not attempt.way else "ok":
            case "refused" | "proxy_down":
                await trio.sleep(0.001)
                raise OSError(111, "refused")
            case "black_hole":
                await trio.sleep_forever()
            case "one_family" if "." in address:
                await trio.sleep_forever()
            case "other_family" if ":" in address:
                await trio.sleep_forever()
            case "connects_slowly":
                await trio.sleep(self._draw.uniform(0.1, 5))
            case _:
                await trio.lowlevel.checkpoint()

    def _over(self, attempt: Attempt) -> None:
        """A look-up or dial is; if nothing comes of it the attempt may be, and if something does it says so."""
        attempt.pending -= 1
        attempt.failed_at = trio.current_time()

    def taken(self, wired: Wired) -> None:
        wired.attempt = self._attempt(wired.host)
        self._tap.taken(wired.attempt, wired)

    def _watch(self, wired: Wired) -> None:
        end = wired.end
        self.ends[end] = wired

        def on_send(data: bytes) -> None:
            if self.is_dead:
                return
            if not wired.host.is_tls:
                self._sent(wired, data)
            elif wired.proxy is not None:
                self._tap.tunnelled(wired, data)

        def on_sent() -> None:
            if wired.exchange is not None and not wired.exchange.lacks_bytes:
                wired.exchange.written_at = trio.current_time()

        def on_consumed() -> None:
            exchange = wired.exchange
            if exchange is None or exchange.answer is None:
                return
            if exchange.read_at is None and end.incoming.consumed >= exchange.answer.head_end:
                exchange.read_at = trio.current_time()
                self._tap.read(exchange)
            if exchange.over_at is None and end.incoming.consumed >= exchange.answer.end:
                exchange.over_at = trio.current_time()
                self._tap.over(exchange)

        def on_close() -> None:
            self.ends.pop(end, None)
            exchange = wired.exchange
            if exchange is not None and exchange.closed_at is None:
                exchange.closed_at = trio.current_time()
                if exchange.over_at is None:
                    self._tap.over(exchange)

        end.on_send, end.on_sent, end.on_close = on_send, on_sent, on_close
        end.incoming.on_consumed = on_consumed

    def _sent(self, wired: Wired, data: bytes) -> None:
        """A request begins with the first bytes after an answer; the transport sends a long body as a second piece."""
        if wired.exchange is not None and wired.exchange.lacks_bytes:
            wired.exchange.sent_bytes += len(data)
            return self._tap.sent_more(wired.exchange, data)
        exchange = Exchange(wired, wired.attempt, trio.current_time(), wired.end.outgoing.written)
        exchange.is_kept = wired.exchange is not None
        if wired.exchange is not None:
            self._tap.sent_after(wired.exchange, wired.end.incoming.written)
        wired.exchange = exchange
        wired.attempt.exchanges.append(exchange)
        exchange.sent_bytes = len(data)
        return self._tap.sent(exchange, data)
