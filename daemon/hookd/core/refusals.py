"""Owns since when, how often, and at which limit, requests were refused for want of room: with 503, or with 429.

Rules: 503 is of all clients, 429 of one. Refusals that follow each other within SPELL_SECONDS are one spell, with its
beginning, its counts, and how often each limit was reached. Requests are counted apart from events: a batch that is
refused whole is one request, at the limit of the first of its events that is refused. Each event that a partial batch
went on without is one event.
Limits: the spells of the CLIENTS_MAX clients that were refused last, 60 kB; the settings that can be used up are few.
"""

import msgspec

from hookd.core.refusal import ClientFull, Full, Refused
from hookd.core.timestamps import Moment

# A producer that obeys Retry-After comes again within a minute.
SPELL_SECONDS = 300.0
CLIENTS_MAX = 100


class Spell(msgspec.Struct, frozen=True, gc=False):
    requests: int
    events: int  # of partial batches
    began_at: float  # wall
    last: Moment
    limits: tuple[tuple[str, int], ...]  # the settings that were used up, each with how often; most often first

    @property
    def count(self) -> int:
        return self.requests + self.events

    @property
    def limit(self) -> str:
        """That which was used up most often."""
        return self.limits[0][0]


class Refusals:
    def __init__(self) -> None:
        self._full: Spell | None = None
        self._clients: dict[str | None, Spell] = {}  # the one refused last stands last; None: a token's share

    def note(self, refused: Refused, now: Moment, *, is_event: bool = False) -> None:
        """Any refusal: of a request, or of an event of a partial batch. Those not for want of room change nothing."""
        if isinstance(refused, Full):
            self._full = _gone_on(self._full, refused.limit, now, is_event=is_event)
        elif isinstance(refused, ClientFull):
            before = self._clients.pop(refused.client_id, None)
            self._clients[refused.client_id] = _gone_on(before, refused.limit, now, is_event=is_event)
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


def _gone_on(spell: Spell | None, limit: str, now: Moment, *, is_event: bool) -> Spell:
    lasting = _lasting(spell, now.monotonic)
    if lasting is None:
        return Spell(1 - is_event, int(is_event), now.wall, now, ((limit, 1),))
    requests, events = lasting.requests + (not is_event), lasting.events + is_event
    return Spell(requests, events, lasting.began_at, now, _reached(lasting.limits, limit))


def _reached(limits: tuple[tuple[str, int], ...], limit: str) -> tuple[tuple[str, int], ...]:
    """Once more; of two that are as often the one that was before the other stays so."""
    (first, count), *others = limits
    if first == limit:  # as nearly always
        return ((first, count + 1), *others)
    counts = dict(limits)
    counts[limit] = counts.get(limit, 0) + 1
    return tuple(sorted(counts.items(), key=lambda one: -one[1]))


def _lasting(spell: Spell | None, now: float) -> Spell | None:
    return None if spell is None or now - spell.last.monotonic > SPELL_SECONDS else spell
