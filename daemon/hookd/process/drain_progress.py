"""Owns what a person at a terminal is told while the daemon drains: a line each second, once a second is over.

Does not: draw over lines. Those of the log come in between.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

EVERY_SECONDS = 1.0


@asynccontextmanager
async def telling_progress(tell: Callable[[str], object] | None, line: Callable[[], str]) -> AsyncIterator[None]:
    """As long as the block lasts; where there is nobody to tell, nothing is done at all."""
    if tell is None:
        yield
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_telling, tell, line)
        yield
        nursery.cancel_scope.cancel()


async def _keep_telling(tell: Callable[[str], object], line: Callable[[], str]) -> None:
    while True:
        await trio.sleep(EVERY_SECONDS)
        tell(line())
