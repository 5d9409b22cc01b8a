"""Owns the app's lifespan: its startup before the first connection, its shutdown after the last."""

from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

LIFESPAN_SECONDS_MAX = 10.0


class AppFailed(Exception):
    """The app's own startup or shutdown failed; the message is the app's."""


class Lifespan:
    """The app's lifespan task. When it crashes, hypercorn goes on as a zombie that answers 200; this ends it."""

    def __init__(self, app: "ASGIFramework") -> None:
        self.failure: str | None = None
        self._app: Any = app  # the messages are plain dicts here; hypercorn types each one
        self._to_app, self._inbox = trio.open_memory_channel[dict[str, str]](1)
        self._answered = trio.Event()
        self._is_ending = False

    async def run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"spec_version": "2.0", "version": "3.0"}, "state": {}}
        await self._app(scope, self._inbox.receive, self._take_answer)
        if not self._is_ending:
            raise RuntimeError("the app's lifespan ended while the server was running")

    async def start(self) -> bool:
        return await self._ask("startup")

    async def end(self) -> bool:
        self._is_ending = True
        return await self._ask("shutdown")

    async def _ask(self, phase: str) -> bool:
        self._answered = trio.Event()
        self._to_app.send_nowait({"type": f"lifespan.{phase}"})
        with trio.move_on_after(LIFESPAN_SECONDS_MAX) as scope:
            await self._answered.wait()
        if scope.cancelled_caught:
            self.failure = f"no answer to {phase} within {LIFESPAN_SECONDS_MAX:g} s"
        return self.failure is None

    async def _take_answer(self, message: dict[str, str]) -> None:
        if message["type"].endswith(".failed"):
            self.failure = f"{message['type']}: {message.get('message', '')}"
        self._answered.set()
