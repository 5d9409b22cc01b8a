"""Owns who may have how much of the log's buffer, and how many lines found no room.

Rules:
 1. Lines that name a client are that client's. Those about requests and connections of the API (`CALLERS_EVENTS`) are
    the callers', whichever client they name: a caller can name any.
 2. One client has a quarter of the buffer at most, and all callers have. Who is over it loses its own lines. So whoever
    fails or is refused all the time leaves room for everyone else's.
 3. Up to an eighth of the buffer, which a reader that keeps up never lets it pass, nothing is counted: each line would
    pay for it. The other eighth of a share is of lines that came since.
 4. What is left out is counted by whose it was, and is said once.
Threads: the event loop and others take room, the writer frees it. So each step has a lock round it.
Limits: one number for each client with lines that are counted; seven at most are over their share at once.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

# An eighth of 10,000 lines: what a client at 100 attempts a second writes while its reader is away for 12 s.
SHARES = 8
CALLERS = "callers"
CALLERS_EVENTS = {"event.refused", "request.refused", "request.failed", "request.crashed"}
CALLERS_EVENTS |= {"connection.cut", "connection.failed", "handshake.failed"}
OWNER_CHARACTERS_MAX = 64  # of a client's id

# Whose a line is: ("client_id", "acme"), ("of", "callers"). None: the daemon's own, or not counted.
Owner = tuple[str, str] | None


class LogRoom:
    def __init__(self, lines_max: int) -> None:
        self.lines_max = lines_max
        self._share = max(1, lines_max // SHARES)
        self._lock = threading.Lock()
        self._waiting: dict[Owner, int] = {}  # lines that are counted
        self._unsaid: Counter[Owner] = Counter()
        self.dropped = 0  # since the start

    def is_plenty(self, waiting: int) -> bool:
        """Whether a line finds room beside so many that wait, as nobody's."""
        return waiting < self._share and waiting < self.lines_max

    def take(self, waiting: int, event: str, fields: Mapping[str, object]) -> tuple[bool, Owner]:
        """Whether a line finds room beside so many that wait, and as whose it is to be freed."""
        if self.is_plenty(waiting):
            return True, None
        share = self._share
        owner = _owner_of(event, fields)
        with self._lock:
            if waiting >= self.lines_max:
                self._count(None, 1)
                return False, None
            if owner is not None:
                counted = self._waiting.get(owner, 0)
                if counted >= share:
                    self._count(owner, 1)
                    return False, None
                self._waiting[owner] = counted + 1
            return True, owner

    def free(self, owners: Sequence[Owner]) -> None:
        """Lines that wait no longer."""
        if not any(owners):
            return
        with self._lock:
            for owner in owners:
                if owner is None:
                    continue
                left = self._waiting[owner] - 1
                if left:
                    self._waiting[owner] = left
                else:
                    del self._waiting[owner]

    def drop(self, lines: int = 1) -> None:
        """Lines that could not be made, or written; they are nobody's."""
        with self._lock:
            self._count(None, lines)

    def take_unsaid(self) -> Counter[Owner]:
        """How many were dropped since the last call, by whose they were."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, Counter()
        return unsaid

    def unsay(self, unsaid: Counter[Owner]) -> None:
        """What `take_unsaid` gave could not be said; the next call gives it again."""
        with self._lock:
            self._unsaid.update(unsaid)

    def _count(self, owner: Owner, lines: int) -> None:
        self.dropped += lines
        self._unsaid[owner] += lines


def _owner_of(event: str, fields: Mapping[str, object]) -> Owner:
    if event in CALLERS_EVENTS:
        return "of", CALLERS
    client_id = fields.get("client_id")
    return ("client_id", client_id[:OWNER_CHARACTERS_MAX]) if isinstance(client_id, str) else None
