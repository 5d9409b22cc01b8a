"""Owns the deadline of an endpoint's backlog: when the oldest that is unsettled for it is given up, and what for.

Rules: the oldest is what was accepted first. A status of give_up_on, a 410 or a cancel can end it before. An operator's
pause and Retry-After put it off.
Limit: it is looked for among the client's first `LOOKED_AT_MAX` unsettled events: 2 ms with 16 deliveries each.
"""

from hookd.core.deadline import Deadline
from hookd.core.ledger import Ledger
from hookd.core.timestamps import Moment

LOOKED_AT_MAX = 1000


def oldest_deadline(ledger: Ledger, client_id: str, endpoint_id: str, now: Moment) -> Deadline | None:
    """None where nothing is unsettled, where nothing of it ages, and where others stand before it."""
    health = ledger.health(client_id, endpoint_id)
    if health is None or not health.unsettled:
        return None
    for event in next(ledger.unsettled_slices(client_id, LOOKED_AT_MAX), ()):
        delivery = event.delivery_to(endpoint_id)
        if delivery is not None and not delivery.is_settled:
            return ledger.terms.deadline(event, delivery, now=now)
    return None
