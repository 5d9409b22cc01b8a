"""Owns the app's task for each request, as hypercorn's `TaskGroup` does, and the channel to it.

One thing is other than hypercorn's: a message that can be handed over at once is, without a turn of the loop. There are
two or three of them in each request, and a turn of the loop costs as much as an event's signature.

Limit: `max_app_queue_size` messages a request, of what one read brings each; then the reader waits.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

Send = Callable[[ASGISendEvent | None], Awaitable[None]]


class AppTasks(TaskGroup):
    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Scope, send: Send
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        to_app, from_server = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)

        async def put(message: ASGIReceiveEvent) -> None:
            try:
                to_app.send_nowait(message)
            except trio.WouldBlock:
                await to_app.send(message)

        async def receive() -> ASGIReceiveEvent:
            try:
                return from_server.receive_nowait()
            except trio.WouldBlock:
                return await from_server.receive()

        self.spawn(_answer, app, config, scope, receive, send)
        return put


async def _answer(app: AppWrapper, config: Config, scope: Scope, receive: Any, send: Send) -> None:
    """One request. What the app raises ends it; hypercorn answers 500 where nothing was answered."""
    try:
        await app(scope, receive, send, trio.to_thread.run_sync, trio.from_thread.run)
    except* Exception:
        await config.log.exception("the app failed")
    finally:
        await send(None)
