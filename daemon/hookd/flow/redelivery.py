"""Owns redelivery: one event's settled deliveries are sent once more, by a whole schedule, under the same id.

Rules:
 1. What is unsettled is left alone: it is attempted anyway.
 2. To an endpoint that was added or subscribed later a new delivery is opened.
 3. Nothing is expedited: a paused endpoint gets its probe first, a throttled one its wait.
 4. Everything that can refuse is asked before anything is changed.
What sending again takes is flow/reopening's.
"""

from typing import NamedTuple

from hookd.core.client import Endpoint
from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.ledger import Ledger
from hookd.core.mistakes import Mistake
from hookd.core.quoting import quoted
from hookd.core.refusal import EndpointDisabled, InvalidQuery, NoPayload
from hookd.core.registry import Registry
from hookd.flow.intake import Intake
from hookd.flow.ports import Clock, Log
from hookd.flow.reopening import Reopening


class _Again(NamedTuple):
    settled: list[Delivery]
    later: list[Endpoint]

    def endpoint_ids(self) -> list[str]:
        return [*(one.endpoint_id for one in self.settled), *(one.id for one in self.later)]


class Redelivery:
    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        intake: Intake,
        reopening: Reopening,
        clock: Clock,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._intake = intake
        self._reopening = reopening
        self._clock = clock
        self._log = log

    def redeliver(self, event: Event, endpoint_id: str | None = None) -> bool:
        """True if anything is sent again; to one endpoint, or to all.

        Raises Refused with nothing changed: Draining; UnknownClient, NotFound or InvalidQuery for what was named;
        NoPayload, EndpointDisabled, ClientFull or Full.
        """
        self._intake.refuse_if_draining()
        wanted = self._wanted(event, endpoint_id)
        if event.payload is None:
            raise NoPayload(f"event {event.id!r} was delivered, and its payload was dropped to keep within [retention]")
        again = _Again(
            [one for one in wanted.settled if self._reopening.takes(event, one.endpoint_id)],
            [one for one in wanted.later if self._reopening.takes(event, one.id)],
        )
        endpoint_ids = again.endpoint_ids()
        if not endpoint_ids:
            self._refuse_if_disabled(event, wanted)
            return False
        self._reopening.send_again(event, again.settled, again.later, now=self._clock.now())
        self._log("event.redelivered", event_id=event.id, client_id=event.client_id, endpoints=endpoint_ids)
        return True

    def _wanted(self, event: Event, endpoint_id: str | None) -> _Again:
        """Raises UnknownClient, NotFound or InvalidQuery, of an endpoint that was named and cannot be meant."""
        settled = [one for one in event.deliveries if one.is_settled]
        later = self._reopening.came_later(event)
        if endpoint_id is None:
            return _Again(settled, later)
        self._registry.get_endpoint(event.client_id, endpoint_id)
        named = _Again(
            [one for one in settled if one.endpoint_id == endpoint_id], [one for one in later if one.id == endpoint_id]
        )
        if not named.endpoint_ids() and event.delivery_to(endpoint_id) is None:
            detail = f"does not subscribe to {event.type}"
            raise InvalidQuery(
                f"this cannot be redelivered: endpoint {quoted(endpoint_id)} {detail}",
                mistakes=[Mistake("/endpoint_id", detail)],
            )
        return named

    def _refuse_if_disabled(self, event: Event, wanted: _Again) -> None:
        if any(self._ledger.is_disabled(event.client_id, one) for one in wanted.endpoint_ids()):
            raise EndpointDisabled(
                f"every endpoint that event {event.id!r} could be sent to again answered 410 and is disabled; "
                "resume it or register another URL first"
            )
