"""Peers that mean harm, in a process of their own, so that what they cost is not what the measuring one is charged for.

    python -m tests.acceptance.flood PORT TIMES RARELY

holds slow peers while it sends each famous probe TIMES times and the others RARELY times, a few at once, and prints as
JSON how often each was answered with what.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack

import trio

from tests.edge.server.probes import EVENT, FAMOUS, LENGTH, PROBES, Probe, post, status_of

AT_ONCE = 2  # beside the slow peers; more only queue up before the one loop
SLOW_PEERS = 250  # of each kind
ANSWER_SECONDS_MAX = 20.0

HELD = (post(LENGTH)[:40], post(LENGTH, EVENT[:10]))  # of a head, and of a body


async def main(port: int, times: int, rarely: int) -> None:
    seen: dict[str, Counter[int]] = defaultdict(Counter)
    async with AsyncExitStack() as stack:
        for sent in HELD:
            for _ in range(SLOW_PEERS):
                stream = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
                await stream.send_all(sent)
        waiting = iter([name for turn in range(times) for name in PROBES if name in FAMOUS or turn < rarely])
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(work, port, waiting, seen)
    print(json.dumps(seen))


async def work(port: int, waiting: Iterator[str], seen: dict[str, Counter[int]]) -> None:
    for name in waiting:
        seen[name][await probe(port, PROBES[name])] += 1


async def probe(port: int, one: Probe) -> int:
    """The status that it got; -1 where the stream did not end."""
    received = b""
    with trio.move_on_after(ANSWER_SECONDS_MAX):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(send, stream, one)
            try:
                async for data in stream:
                    received += data
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()
            return status_of(received)
    return -1


async def send(stream: trio.SocketStream, one: Probe) -> None:
    try:
        await stream.send_all(one.sent)
        if one.ends:
            await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
