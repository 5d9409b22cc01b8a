"""One request, cut at each of its checkpoints in turn: nothing of it stays, and the next one works."""

import os
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.resolver import Resolver
from hookd.edge.egress.transport import Transport, open_transport

from tests.edge.egress.peers import OK, Progress, Server, post, read_request, serving
from tests.edge.egress.test_tls import HOST, TRUSTING, server_context


class CutAt(trio.abc.Instrument):
    """Cancels a scope at the n-th step that any task takes, ours, the server's or a look-up's.

    As the step begins, so that the cancel meets a result that just came in, or as it ends, so that what waits is cut.
    """

    def __init__(self, scope: trio.CancelScope, number: int, *, is_begun: bool) -> None:
        self._scope = scope
        self._left = number
        self._is_begun = is_begun

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._is_begun:
            self._count()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self._is_begun:
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


class Sweep:
    """Cuts requests one step later each time, until one ends by itself."""

    def __init__(self, server: Server, transport: Transport, *, content: bytes, is_kept: bool, is_begun: bool) -> None:
        self.server = server
        self.transport = transport
        self.content = content
        self.is_kept = is_kept
        self.is_begun = is_begun
        self.received = 0  # requests that the server read whole

    async def run(self) -> int:
        """How often it was cut."""
        await self.settle()
        idle = self.footprint()
        for number in count(1):
            if self.is_kept:
                await self.check_next_request()
            was_cut = await self.cut(number)
            await self.settle()
            assert self.footprint() == idle
            await self.check_next_request()
            if not was_cut:
                return number - 1
            await self.settle()
            assert self.footprint() == idle
        raise AssertionError

    async def cut(self, number: int) -> bool:
        scope, progress = trio.CancelScope(), Progress()
        received = self.received
        was_cut = True

        trio.lowlevel.add_instrument(cut := CutAt(scope, number, is_begun=self.is_begun))
        with scope:
            assert await self.post(progress) == (200, b"ok")
            was_cut = False
        trio.lowlevel.remove_instrument(cut)
        statistics = self.transport.statistics()
        assert statistics.connections_open == statistics.connections_idle
        is_sent = progress.request_sent  # as it is when an attempt is recorded
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert is_sent or self.received == received, "the client has it and we do not know"
        assert progress.sending_started or not progress.request_sent
        return was_cut

    async def post(self, progress: Progress) -> tuple[int, bytes]:
        return await post(self.transport, self.server.url, content=self.content, exchange=progress)

    async def check_next_request(self) -> None:
        with trio.fail_after(5):
            assert await self.post(Progress()) == (200, b"ok")

    async def settle(self) -> None:
        """Idle connections closed, and the server has noticed, of all of them."""
        self.transport.close_idle()
        assert self.transport.statistics().connections_open == 0
        await self.server.wait_open_connections(0)
        with trio.fail_after(5):
            while self.transport.statistics().look_ups_in_flight:  # noqa: ASYNC110 - of a thread there is no event
                await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked()

    def footprint(self) -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living


def getaddrinfo(host: bytes, port: int, **_: Any) -> Sequence[tuple[Any, ...]]:
    return [(2, 1, 6, "", ("127.0.0.1", port))]


@pytest.mark.parametrize("is_begun", [True, False], ids=["as_it_wakes", "while_it_waits"])
@pytest.mark.parametrize("is_kept", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("size", [2, 300_000], ids=["short", "long"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_request_cut_at_any_checkpoint_leaves_nothing_behind(
    scheme: str, size: int, is_kept: bool, is_begun: bool
) -> None:
    """From the look-up in its thread over connect and handshake to the last byte of the body: no socket, slot or task
    stays, the server sees the end, and what the server got is never more than what we know we sent."""

    async def handle(stream: trio.abc.Stream) -> None:
        while await read_request(stream) is not None:
            sweep.received += 1
            await stream.send_all(OK[:-1])
            await trio.lowlevel.checkpoint()
            await stream.send_all(OK[-1:])

    context = server_context() if scheme == "https" else None
    async with serving(handle, context=context) as server, trio.open_nursery() as nursery:
        server.url = f"{scheme}://{HOST}:{server.port}/hook"
        resolve = Resolver(nursery, getaddrinfo=getaddrinfo, ttl_seconds=0)
        policy = AddressPolicy(allow_private=True)
        async with open_transport(policy=policy, resolve=resolve, ssl_context=TRUSTING) as transport:
            sweep = Sweep(server, transport, content=b"x" * size, is_kept=is_kept, is_begun=is_begun)
            cut_count = await sweep.run()
        assert cut_count > (2 if is_kept else 8)
        nursery.cancel_scope.cancel()
