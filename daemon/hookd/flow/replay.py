"""Owns replay: reopening what is still held as exhausted of one client, up to the budgets (contract section 5).

Rules:
 1. A delivery matches by the time it was given up, both ends included, to the millisecond that people are shown.
 2. A delivery whose endpoint is removed or disabled does not match.
 3. The oldest is reopened first, a slice at a time; others have a turn in between. The first that has no room ends it.
 4. Nothing is expedited: a paused endpoint gets its one probe, a throttled one its wait.
 5. A caller that resets its connection half way ends the rest. What was reopened stays so, and the log has the count.
Limits: one replay at a time, others wait; it lists every event held of its client, 8 B each, and what matched, 72 B.
"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import trio

from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.refusal import ClientFull, Full
from hookd.core.registry import Registry
from hookd.flow.dispatch import Dispatch
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log
from hookd.flow.reopening import Reopening

# About 3 ms each; then others have a turn.
LOOKED_AT_AT_ONCE = 2000
REOPENED_AT_ONCE = 100


class Span(NamedTuple):
    """From when to when (wall), both included; None: no bound."""

    since: float | None = None
    until: float | None = None

    def holds(self, wall: float) -> bool:
        milliseconds = round(wall * 1000)
        return (self.since is None or milliseconds >= round(self.since * 1000)) and (
            self.until is None or milliseconds <= round(self.until * 1000)
        )


class Match(NamedTuple):
    event: Event
    delivery: Delivery
    settled_at: float  # wall: another one by now means that it was reopened, by others, and given up again


class Replayed(NamedTuple):
    """Deliveries. Fewer reopened than matched: there was no room for the rest, or hookd began to drain."""

    matched: int
    reopened: int


class Replay:
    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        dispatch: Dispatch,
        intake: Intake,
        reopening: Reopening,
        clock: Clock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._dispatch = dispatch
        self._intake = intake
        self._reopening = reopening
        self._clock = clock
        self._log = log
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def replay(self, client_id: str, given_up: Span, *, dry_run: bool = False) -> Replayed:
        """Raises UnknownClient or Draining with nothing changed. A dry run only counts."""
        self._registry.get(client_id)
        self._intake.refuse_if_draining()
        async with self._one_at_a_time:
            matched = await self._match(client_id, given_up)
            if dry_run:
                return Replayed(len(matched), 0)
            return Replayed(len(matched), await self._reopen(client_id, matched))

    async def _match(self, client_id: str, given_up: Span) -> list[Match]:
        """In order of admission."""
        matched: list[Match] = []
        events = iter(list(self._ledger.of_client(client_id)))  # what settles meanwhile is not looked for
        while looked_at := list(islice(events, LOOKED_AT_AT_ONCE)):
            for event in looked_at:
                for delivery in event.deliveries:
                    settled_at = delivery.settled_at
                    if settled_at is not None and self._is_reopenable(event, delivery) and given_up.holds(settled_at):
                        matched.append(Match(event, delivery, settled_at))
            await trio.lowlevel.checkpoint()
        return matched

    async def _reopen(self, client_id: str, matched: Sequence[Match]) -> int:
        reopened = 0
        try:
            for number, match in enumerate(matched, start=1):
                if self._intake.is_draining:
                    break
                if match.delivery.settled_at == match.settled_at and self._is_reopenable(match.event, match.delivery):
                    self._reopen_one(match)
                    reopened += 1
                if number % REOPENED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
        except (ClientFull, Full):
            pass  # the rest stays as it is: fewer reopened than matched says so
        finally:
            self._log("client.replayed", client_id=client_id, matched=len(matched), reopened=reopened)
        return reopened

    def _reopen_one(self, match: Match) -> None:
        """Raises ClientFull or Full."""
        now = self._clock.now()
        self._reopening.refuse_if_no_room(match.event, now)
        self._reopening.reopen(match.event, match.delivery, now)
        self._dispatch.add(match.event, match.delivery)

    def _is_reopenable(self, event: Event, delivery: Delivery) -> bool:
        """It may have been forgotten, and its endpoint removed or disabled, since it was matched."""
        held = self._ledger.find(event.client_id, event.id) is event
        return held and self._reopening.is_possible(event, delivery)
