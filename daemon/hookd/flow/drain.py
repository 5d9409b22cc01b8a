"""Owns the wait between the stop signal and the report: what can still finish before the deadline does.

Intake is closed before; reads stay up. The drain ends at the deadline, or when it is forced, or once nothing is in
flight and nothing may begin before the deadline. What is being given up is given up then, so that the report says so.
The caller cancels what is left and reports it.
"""

import trio

from hookd.flow.adoption import Adoption
from hookd.flow.dispatch import Dispatch
from hookd.flow.endings import Endings
from hookd.flow.pacer import Pacer

# A delivery that is due and not begun yet (its courier is about to) is looked at again after this.
LOOK_AGAIN_SECONDS = 0.01


async def drain(
    *,
    dispatch: Dispatch,
    pacer: Pacer,
    adoption: Adoption,
    endings: Endings,
    timeout_seconds: float,
    forced: trio.Event,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when, forced, nursery.cancel_scope)
        deadline = trio.current_time() + timeout_seconds
        with trio.move_on_at(deadline):
            await adoption.finish()
            await _settle(dispatch, pacer, deadline)
        pacer.close()  # a probe that is due in this very tick would begin, and be cut with its outcome unknown
        nursery.cancel_scope.cancel()
    await endings.finish()


async def _settle(dispatch: Dispatch, pacer: Pacer, deadline: float) -> None:
    while True:
        await pacer.wait_idle()
        next_begin = dispatch.next_begin()
        if next_begin > deadline:
            return
        await trio.sleep_until(max(next_begin, trio.current_time() + LOOK_AGAIN_SECONDS))


async def _cancel_when(forced: trio.Event, scope: trio.CancelScope) -> None:
    await forced.wait()
    scope.cancel()
