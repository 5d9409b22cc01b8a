"""Names to addresses: threads of its own, a cache, one look-up at a time for each name.

`Resolve` is all that the transport knows of it; tests and simulations pass a function instead.

Why its own: trio runs getaddrinfo on its 40 shared threads, and a cancelled look-up keeps its thread until the system
gives up, 10 to 20 s with glibc's defaults. 45 hung look-ups then stall whatever in the process uses a thread.

Rules:
 * Threads are bounded here (look_up_threads.py) and never taken from trio's default limiter.
 * A look-up is a task of the resolver's nursery. Whoever wants the name waits for its end, may stop waiting at once,
   and takes nothing from the others that wait. A name that hangs holds one thread, however many ask for it.
 * Names queue among their like: those whose last look-up was prompt and found something, those whose last one hung and
   found nothing, and all others: new ones, and those that failed at once or answered late. However many names hang,
   one that resolved before does not wait behind them.
 * A look-up that hangs gives its place to the next name of its kind.
 * Found addresses are kept for `ttl_seconds`, failures for `failure_ttl_seconds`: getaddrinfo does not tell the
   records' own. None is given that was looked up `age_seconds_max` ago, or longer. The time is trio's.
 * An IP literal is its own answer and needs no thread. The name goes to getaddrinfo as the bytes of the URL: nobody
   after the URL parser applies IDNA to it again.
 * A name that cannot be looked up is `httpx.ConnectError`, made anew for each that waits.

Does not judge addresses (addresses.py), and has no timeout: a look-up ends when getaddrinfo does. Only waiting is a
checkpoint; a cached answer returns at once.

Known limits: 256 threads at most, about 22 KiB each. Over `names_max` look-ups under way or waiting for a thread a
new name fails at once. `entries_max` names are remembered, about 400 B each. 160 names that were never seen before and
hang all at once hold up further new ones until the first of them give up; so do 64 that resolved before those that did.
A name that hung and answers again waits behind those that hang still: 32 of them at a time.
"""

import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import httpx
import trio

from hookd.edge.egress.look_up_threads import SLOW_SECONDS, LookUpThreads

# Host and port to at least one address, in the order to try them; raises httpx.ConnectError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
GetAddrInfo = Callable[..., Sequence[tuple[Any, ...]]]


class Standing(Enum):
    """What a name's last look-up was like."""

    GOOD = auto()  # prompt, and it found something
    NEW = auto()  # there was none, or it failed at once, or answered late
    HUNG = auto()  # late, and it found nothing


AT_ONCE_MAX = {Standing.GOOD: 16, Standing.NEW: 64, Standing.HUNG: 8}
HANGING_MAX = {Standing.GOOD: 48, Standing.NEW: 96, Standing.HUNG: 24}
THREADS_MAX = sum(AT_ONCE_MAX.values()) + sum(HANGING_MAX.values())


class Addresses(tuple[str, ...]):  # noqa: SLOT001 - a tuple's subclass cannot have any
    """What a look-up found, and when it was begun, by trio's clock."""

    looked_up_at: float

    @classmethod
    def found(cls, addresses: Sequence[str], *, looked_up_at: float) -> "Addresses":
        made = cls(addresses)
        made.looked_up_at = looked_up_at
        return made


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: Addresses  # none: it failed, and `reason` says why
    reason: str
    standing: Standing
    expires_at: float

    def given(self) -> Addresses:
        if not self.addresses:
            raise httpx.ConnectError(self.reason)
        return self.addresses


class _LookUp:
    """One under way. Without an answer when it ends: the resolver was closed."""

    __slots__ = ("answer", "ended")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.answer: _Answer | None = None


class Resolver:
    """`nursery` is where look-ups live; cancelling it abandons them."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        ttl_seconds: float = 30.0,
        failure_ttl_seconds: float = 5.0,
        names_max: int = 4096,
        entries_max: int = 10_000,
    ) -> None:
        self._nursery = nursery
        self._getaddrinfo = getaddrinfo
        self._ttl_seconds = ttl_seconds
        self._failure_ttl_seconds = failure_ttl_seconds
        self._names_max = names_max
        self._entries_max = entries_max
        self.age_seconds_max = math.inf
        self._threads = {
            standing: LookUpThreads(nursery, at_once_max=AT_ONCE_MAX[standing], hanging_max=HANGING_MAX[standing])
            for standing in Standing
        }
        self._answers: dict[str, _Answer] = {}  # the oldest first; expired ones stay for their standing
        self._under_way: dict[str, _LookUp] = {}

    async def __call__(self, host: str | bytes, port: int) -> Sequence[str]:
        """A name is looked up once for all its ports: DNS knows none."""
        name = (host.decode("latin-1") if isinstance(host, bytes) else host).lower()
        if is_literal(name):
            return (name,)
        answer = self._answers.get(name)
        if answer is not None and self._is_fresh(answer):
            return answer.given()
        look_up = self._under_way.get(name) or self._begin(name, port)
        await look_up.ended.wait()
        if look_up.answer is None:
            raise httpx.ConnectError("the resolver is closed")
        return look_up.answer.given()

    def _is_fresh(self, answer: _Answer) -> bool:
        now = trio.current_time()
        return now < answer.expires_at and now - answer.addresses.looked_up_at < self.age_seconds_max

    @property
    def look_ups_in_flight(self) -> int:
        return len(self._under_way)

    def _begin(self, name: str, port: int) -> _LookUp:
        if len(self._under_way) >= self._names_max:
            raise httpx.ConnectError(f"{self._names_max} names are being looked up already")
        look_up = self._under_way[name] = _LookUp()
        self._nursery.start_soon(self._run, name, port, look_up)
        return look_up

    async def _run(self, name: str, port: int, look_up: _LookUp) -> None:
        known = self._answers.get(name)
        threads = self._threads[known.standing if known is not None else Standing.NEW]
        try:
            async with threads.place():
                started_at = trio.current_time()
                found = await self._find(name, port)
            look_up.answer = self._remember(name, found, started_at)
        finally:
            del self._under_way[name]
            look_up.ended.set()

    async def _find(self, name: str, port: int) -> tuple[str, ...] | str:
        try:
            return await trio.to_thread.run_sync(
                self._in_thread,
                name,
                port,
                abandon_on_cancel=True,  # the nursery ends: nobody is left to wait for the system
                limiter=trio.CapacityLimiter(1),  # the caller has its place: that wait is not the look-up's time
            )
        except RuntimeError:  # the system gives us no thread: that must fail a look-up and not the daemon
            return "the name cannot be looked up: no thread can be started"

    def _in_thread(self, name: str, port: int) -> tuple[str, ...] | str:
        """The addresses, or why there are none."""
        try:
            # Bytes, so that Python's IDNA codec stays out of it, with its UnicodeError for a label of 64.
            found = self._getaddrinfo(name.encode("ascii"), port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except OSError as error:
            return f"the name cannot be looked up: {error.strerror or error}"
        except ValueError:  # not ASCII, a NUL: no name that DNS knows
            return "the name cannot be looked up: it is not a host name"
        addresses = tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        return addresses or "the name has no address"

    def _remember(self, name: str, found: tuple[str, ...] | str, started_at: float) -> _Answer:
        texts, reason = ((), found) if isinstance(found, str) else (found, "")
        addresses = Addresses.found(texts, looked_up_at=started_at)
        now = trio.current_time()
        ttl_seconds = self._ttl_seconds if addresses else self._failure_ttl_seconds
        is_late = now - started_at > SLOW_SECONDS
        answer = _Answer(addresses, reason, _standing(bool(addresses), is_late=is_late), now + ttl_seconds)
        self._answers.pop(name, None)  # to the end of the order
        self._answers[name] = answer
        if len(self._answers) > self._entries_max:
            del self._answers[next(iter(self._answers))]
        return answer


def _standing(has_addresses: bool, *, is_late: bool) -> Standing:
    if has_addresses:
        return Standing.NEW if is_late else Standing.GOOD
    return Standing.HUNG if is_late else Standing.NEW


def is_literal(host: str) -> bool:
    """Whether the host is an IP address as written; with a colon it can be nothing else."""
    if ":" in host:
        return True
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True
