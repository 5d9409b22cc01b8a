"""Connects to the first of a name's addresses that answers, as RFC 8305 has it, section 5.

Rules:
 * The two families by turns, the resolver's first one first; otherwise in the resolver's order, which is the system's
   (RFC 6724).
 * The next address is tried STAGGER_SECONDS after the one before, beside it, or at once when one failed. The first
   connection wins, the others are given up, and no socket of theirs stays.
 * Where all fail, the error of the one that failed first is told: of the address that the system likes best.
 * At most AT_ONCE_MAX are tried at the same time: then the longest under way gives way to the next. At most
   ADDRESSES_TRIED_MAX are tried at all: a name with thousands of addresses is no way to have us scan a network.

Does not judge addresses: all of them were, before any is tried. Has no deadline, the caller's scope ends it.

Known limits: AT_ONCE_MAX descriptors for one attempt, at an endpoint that does not answer, where `connections_max`
counts one. A receiver that answers the connect and then nothing is no failed address.
"""

import os
from collections import deque
from collections.abc import Sequence
from itertools import zip_longest

import httpx
import trio

from hookd.edge.egress.network_streams import Dial, NetworkStream

STAGGER_SECONDS = 0.25
AT_ONCE_MAX = 8
ADDRESSES_TRIED_MAX = 64


async def dial_first(dial: Dial, addresses: Sequence[str], port: int) -> NetworkStream:
    """Raises httpx.ConnectError. `addresses` are literals, each once, at least one."""
    if len(addresses) > 1:
        return await _Race(dial, addresses, port).run()
    try:
        return await dial(addresses[0], port)
    except OSError as error:
        raise httpx.ConnectError(_reason(addresses[0], error)) from None


def by_turns(addresses: Sequence[str]) -> list[str]:
    """IPv4 and IPv6 by turns, the first one's family first, otherwise in the resolver's order."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    other = [each for each in addresses if (":" in each) != (":" in addresses[0])]
    return [each for pair in zip_longest(first, other) for each in pair if each is not None]


class _Race:
    def __init__(self, dial: Dial, addresses: Sequence[str], port: int) -> None:
        self._dial = dial
        self._port = port
        self._left = deque(by_turns(addresses)[:ADDRESSES_TRIED_MAX])
        self._under_way: dict[str, trio.CancelScope] = {}  # the longest under way first
        self._one_failed = trio.Event()
        self._winner: NetworkStream | None = None
        self._reason = ""

    async def run(self) -> NetworkStream:
        try:
            async with trio.open_nursery() as nursery:
                while self._left:
                    self._one_failed = trio.Event()
                    nursery.start_soon(self._try, self._left.popleft(), nursery.cancel_scope)
                    with trio.move_on_after(STAGGER_SECONDS):
                        await self._one_failed.wait()
                    if self._left and len(self._under_way) >= AT_ONCE_MAX:
                        next(iter(self._under_way.values())).cancel()
        except BaseException:
            if self._winner is not None:  # won, and the caller was cancelled before it could be told
                self._winner.close()
            raise
        if self._winner is None:
            raise httpx.ConnectError(self._reason)
        return self._winner

    async def _try(self, address: str, race: trio.CancelScope) -> None:
        with trio.CancelScope() as scope:
            self._under_way[address] = scope
            try:
                network_stream = await self._dial(address, self._port)
            except OSError as error:
                self._reason = self._reason or _reason(address, error)
                self._one_failed.set()
            else:
                self._finish(network_stream, race)
            finally:
                del self._under_way[address]
        if scope.cancelled_caught:
            self._reason = self._reason or f"{address}: no answer within {AT_ONCE_MAX * STAGGER_SECONDS:g} s"

    def _finish(self, network_stream: NetworkStream, race: trio.CancelScope) -> None:
        if self._winner is None:
            self._winner = network_stream
            race.cancel()
        else:  # two at the same moment
            network_stream.close()


def _reason(address: str, error: OSError) -> str:
    return f"{address}: {os.strerror(error.errno) if error.errno else error}"
