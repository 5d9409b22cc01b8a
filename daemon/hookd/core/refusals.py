"""Owns since when, how often, and at which limit, requests were refused for want of room: with 503, or with 429.

Rules: 503 is of all clients, 429 of one. Refusals that follow each other within SPELL_SECONDS are one spell, with its
beginning, its count, and the limit of the last. A batch that is refused whole counts once. So does each event that a
partial batch went on without.
Limits: the spells of the CLIENTS_MAX clients that were refused last, 40 kB.
"""

import msgspec

from hookd.core.refusal import ClientFull, Full, Refused
from hookd.core.timestamps import Moment

# A producer that obeys Retry-After comes again within a minute.
SPELL_SECONDS = 300.0
CLIENTS_MAX = 100


class Spell(msgspec.Struct, frozen=True, gc=False):
    count: int
    began_at: float  # wall
    last: Moment
    limit: str  # the setting that was used up, at the last


class Refusals:
    def __init__(self) -> None:
        self._full: Spell | None = None
        self._clients: dict[str | None, Spell] = {}  # the one refused last stands last; None: a token's share

    def note(self, refused: Refused, now: Moment) -> None:
        """Any refusal; those that are not for want of room change nothing."""
        if isinstance(refused, Full):
            self._full = _gone_on(self._full, refused.limit, now)
        elif isinstance(refused, ClientFull):
            self._clients[refused.client_id] = _gone_on(self._clients.pop(refused.client_id, None), refused.limit, now)
            if len(self._clients) > CLIENTS_MAX:
                del self._clients[next(iter(self._clients))]

    def full(self, now: float) -> Spell | None:
        """The spell of 503 for all, unless it is over; `now` is monotonic."""
        return _lasting(self._full, now)

    def client_full(self, client_id: str, now: float) -> Spell | None:
        """That of 429 for the client."""
        return _lasting(self._clients.get(client_id), now)

    def last_client_full(self, now: float) -> tuple[str | None, Spell] | None:
        """Of 429, whose was the last; None for a token's share."""
        client_id = next(reversed(self._clients), None)
        spell = _lasting(self._clients.get(client_id), now)
        return None if spell is None else (client_id, spell)


def _gone_on(spell: Spell | None, limit: str, now: Moment) -> Spell:
    lasting = _lasting(spell, now.monotonic)
    if lasting is None:
        return Spell(1, now.wall, now, limit)
    return Spell(lasting.count + 1, lasting.began_at, now, limit)


def _lasting(spell: Spell | None, now: float) -> Spell | None:
    return None if spell is None or now - spell.last.monotonic > SPELL_SECONDS else spell
