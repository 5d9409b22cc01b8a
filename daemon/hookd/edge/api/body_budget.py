"""Owns the bytes of request bodies that are held, over all connections: it counts, limits and frees them.

Quart takes into memory whatever the server reads, whether a route reads it or not. So each body counts what it holds,
from its first byte to the end of its request. Once it is refused it holds nothing more:

 * A body over `intake.body_bytes_max` is TooLarge. One that takes all bodies over `intake.receiving_bytes_max` is Full,
   before anything of it is admitted, and ClientFull where it takes one caller's over their share (callers.py). What it
   held is free at once, so that the others can end.
 * A GET, HEAD, DELETE or OPTIONS, whose body no route reads, holds at most DISCARD_BYTES_MAX.

What has come is counted, not what a head announces: four heads could announce the whole budget.
Worst case: `receiving_bytes_max`, and one body more while its request takes it apart. Of long ones one at a time is
taken apart (`long_bodies`), and takes BODY_MULTIPLE times its size beside it.
"""

import trio

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import Full, Refused, TooLarge
from hookd.core.units import format_size
from hookd.edge.api.callers import Caller

# What taking a body apart may take beside it: the payloads, which the ledger keeps; and of one item its text, which has
# four bytes a character. tests/edge/test_long_bodies.py measures it.
BODY_MULTIPLE = 2
# Of a body that no route reads. Reading more would cost more than another connection.
DISCARD_BYTES_MAX = 64 * 1024
# The others end in moments.
RETRY_AFTER_SECONDS = 1


class BodyBudget:
    """One for the daemon."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self.held_bytes = 0
        self.long_bodies = trio.Lock()

    def take(self, count: int, *, held_bytes: int, caller: Caller | None = None) -> Refused | None:
        """Counts `count` more bytes of a body that holds `held_bytes`, or returns why they are not taken."""
        intake = self._effective.settings.intake
        if held_bytes + count > intake.body_bytes_max:
            return too_large(intake.body_bytes_max)
        if caller is not None and (refusal := caller.body_over_share(count)) is not None:
            return refusal
        if self.held_bytes + count > intake.receiving_bytes_max:
            bytes_max = format_size(intake.receiving_bytes_max)
            detail = f"all bodies being received are at intake.receiving_bytes_max, {bytes_max}"
            return Full(detail, retry_after_seconds=RETRY_AFTER_SECONDS).at("intake.receiving_bytes_max")
        self._hold(count, caller)
        return None

    def free(self, count: int, *, caller: Caller | None = None) -> None:
        self._hold(-count, caller)

    def _hold(self, count: int, caller: Caller | None) -> None:
        self.held_bytes += count
        if caller is not None:
            caller.body_bytes += count


class CountedBody:
    """One request's body, as far as it has come and is held."""

    def __init__(self, body_budget: BodyBudget, *, is_read: bool) -> None:
        self._body_budget = body_budget
        self._is_read = is_read
        self._data = bytearray()
        self._held_bytes = 0
        self._refusal: Refused | None = None
        self._is_dropping = False
        self.caller: Caller | None = None  # whose it is, before anything of it is held; None: nobody's in particular
        self.arrived_bytes = 0
        self.is_complete = False

    @property
    def long_bodies(self) -> trio.Lock:
        """To be held while a long body is taken apart."""
        return self._body_budget.long_bodies

    @property
    def is_decided(self) -> bool:
        """Whether the body is all here, or refused."""
        return self.is_complete or self._refusal is not None

    def take(self) -> bytes:
        """What has come. It still counts until `drop`. Raises TooLarge, ClientFull or Full."""
        if self._refusal is not None:
            raise self._refusal
        data = bytes(self._data)
        self._data.clear()
        return data

    def drop(self) -> None:
        """Frees what is held; what still comes is thrown away."""
        self._is_dropping = True
        self._data.clear()
        self._body_budget.free(self._held_bytes, caller=self.caller)
        self._held_bytes = 0

    def append(self, data: bytes) -> None:
        self.arrived_bytes += len(data)
        if self._is_dropping:
            return
        if not self._is_read and self.arrived_bytes > DISCARD_BYTES_MAX:
            self.drop()
        else:
            self._hold(data)

    def _hold(self, data: bytes) -> None:
        self._refusal = self._body_budget.take(len(data), held_bytes=self._held_bytes, caller=self.caller)
        if self._refusal is not None:
            self.drop()
        else:
            self._held_bytes += len(data)
            self._data += data


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"the body is larger than intake.body_bytes_max, {format_size(bytes_max)}")


def too_large_here(bytes_max: int) -> TooLarge:
    return TooLarge(f"the body is larger than {format_size(bytes_max)}, which is more than this route has a use for")
