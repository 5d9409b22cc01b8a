"""Owns the tasks that make attempts, whichever endpoint they go to: each makes one after the other.

A task and a cancel scope for each attempt would cost as much as to sign it and to log it.
Rules:
 1. A task has one alarm for all its attempts. Each attempt has the whole of its own time.
 2. One that is idle takes the next attempt; only where none is, another task begins.
 3. One that has been idle for about as long as an attempt may take is ended by its alarm. Where that rang, or was not
    set, the task ends with its attempt.
 4. The one that was busy last is the first to be taken: the others come to their end.
Limits: as many tasks as attempts were in flight at once.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from hookd.flow.alarm import Alarm
from hookd.flow.timer import Timer

Work = TypeVar("Work")


class FlightTasks(Generic[Work]):
    """`do` does one piece of work. The `timer` of all alarms is run by whoever has the nursery."""

    def __init__(self, do: Callable[[Work, Alarm], Awaitable[None]], timer: Timer | None = None) -> None:
        self._do = do
        self._timer = timer
        self._idle: dict[trio.lowlevel.Task, None] = {}
        self._handed: dict[trio.lowlevel.Task, Work] = {}

    def begin(self, work: Work, nursery: trio.Nursery) -> None:
        if self._idle:
            task, _ = self._idle.popitem()
            self._handed[task] = work
            trio.lowlevel.reschedule(task)
        else:
            nursery.start_soon(self._keep_doing, work)

    async def _keep_doing(self, first: Work) -> None:
        task = trio.lowlevel.current_task()
        work = first

        def stop_waiting(_: object) -> trio.lowlevel.Abort:
            """Cancelled while idle, by its alarm or with its nursery. One that was handed work is idle no more."""
            del self._idle[task]
            return trio.lowlevel.Abort.SUCCEEDED

        with Alarm(self._timer) as alarm:
            while True:
                alarm.renew()
                await self._do(work, alarm)
                if not alarm.is_set:
                    return  # nothing would end its waiting
                self._idle[task] = None
                await trio.lowlevel.wait_task_rescheduled(stop_waiting)
                work = self._handed.pop(task)
