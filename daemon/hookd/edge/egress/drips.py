"""Owns the waiting for peers that send in drips: they are looked at by turns, where each byte would wake a task.

A wake-up costs 30 us: 800 connections that bring a byte at a time take a whole core, or 25 ms in one turn.
Rules:
 1. Who brought DRIPS_MAX reads of fewer than DRIP_BYTES since it was written to waits here. Everybody else is read as
    it comes: a usual answer is one read.
 2. In each tick a part of those that wait is looked at, the longest waiting first. Who has input reads. So all have had
    their look within LOOK_SECONDS, and a turn of the loop has few of them.
Limits: a slot for each connection. What drips is read up to LOOK_SECONDS late.
"""

from itertools import islice
from typing import Protocol

import trio

DRIPS_MAX = 8
DRIP_BYTES = 512
LOOK_SECONDS = 0.5
TICKS = 8  # in that time


class Dripping(Protocol):
    def has_input(self) -> bool:
        """Whether there are bytes, or an end, to be read right now."""
        ...


class Drips:
    """`nursery` is where the looking is done."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._waiting: dict[Dripping, trio.lowlevel.Task] = {}  # the one to be looked at first is the first
        self._begun = trio.Event()
        nursery.start_soon(self._look_by_turns)

    async def wait(self, stream: Dripping) -> None:
        """Until it has input, or `wake`."""

        def stop_waiting(_: object) -> trio.lowlevel.Abort:
            del self._waiting[stream]
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[stream] = trio.lowlevel.current_task()
        self._begun.set()
        await trio.lowlevel.wait_task_rescheduled(stop_waiting)

    def wake(self, stream: Dripping) -> None:
        """Whoever waits for it, if anybody does."""
        task = self._waiting.pop(stream, None)
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def _look_by_turns(self) -> None:
        while True:
            await self._begun.wait()
            while self._waiting:
                await trio.sleep(LOOK_SECONDS / TICKS)
                for stream in list(islice(self._waiting, -(-len(self._waiting) // TICKS))):
                    if stream.has_input():
                        self.wake(stream)
                    else:
                        self._waiting[stream] = self._waiting.pop(stream)
            self._begun = trio.Event()
