"""Owns the reading of a short batch in one pass, as nearly all batches come: a third of what event by event takes.

Rules:
 1. It makes the same of a body as the general way (core/batch, then core/event), check by check. A property test holds
    both together.
 2. It refuses nothing. What is wrong, or may be, is left to the general way, which says what and where. So are batches
    with events that have an expiry, as few do.
Limits: of BODY_BYTES at most. An event has 25 bytes at least, so that 2,700 of them, about 0.6 MB, are built before
they are counted.
"""

import msgspec
from msgspec import UNSET

from hookd.core.event import ClientEventBody, Submission
from hookd.core.ids import is_event_type, is_id
from hookd.core.json_depth import may_be_deep
from hookd.core.refusal import Malformed
from hookd.core.text_check import check_text

BODY_BYTES = 64 * 1024
# Outside its payload an event has two quotes for each name and each text, so six for `type` and `payload`.
_QUOTES = 6
# What another field adds: a text, a null, none.
_QUOTES_OF: dict[type, int] = {str: 4, type(None): 2, msgspec.UnsetType: 0}

_decoder = msgspec.json.Decoder(list[ClientEventBody])


def read_short_batch(
    body: bytes, *, client_id: str | None, payload_bytes_max: int, items_max: int
) -> list[Submission] | None:
    """The events of a JSON array; `client_id` is the path's, where the path names one. None: read the general way."""
    if len(body) > BODY_BYTES:
        return None
    try:
        check_text(body)
        events = _decoder.decode(body)
    except (Malformed, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(events) > items_max:
        return None
    is_suspect = may_be_deep(body)
    owners = set() if client_id is None else {client_id}  # those that were found good, and so the types
    types: set[str] = set()
    submissions, quotes = [], _QUOTES * len(events)
    for event in events:
        payload, event_type = bytes(event.payload), event.type
        if len(payload) > payload_bytes_max or (is_suspect and may_be_deep(payload)) or event.expires_at is not UNSET:
            return None
        if event_type not in types:
            if not is_event_type(event_type):
                return None
            types.add(event_type)
        owner, event_id = event.client_id, event.id
        quotes += payload.count(b'"') + _QUOTES_OF[type(owner)] + _QUOTES_OF[type(event_id)]
        if owner is None or owner is UNSET:
            owner = client_id or ""
        if owner not in owners:
            if client_id is not None or not is_id(owner):
                return None
            owners.add(owner)
        if event_id is UNSET:
            event_id = None
        elif event_id is not None and not is_id(event_id):
            return None
        submissions.append(Submission(owner, event_type, payload, event_id))
    return submissions if quotes == body.count(b'"') else None  # else a field stands twice in one of them
