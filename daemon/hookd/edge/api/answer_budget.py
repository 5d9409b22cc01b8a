"""Owns the bytes of long answers that are held, over all connections, from when they are made until they are taken.

A peer that asks and does not read keeps its answer here, once the system's buffers are full. So each long answer counts
until it is sent or its peer is gone. Half of `http.sending_bytes_max` is for what reads, such as pages: who reads
slowly holds up no producer.

 * What only reads is Full where its answer is long and has no room, and its answer is thrown away.
 * What changes something asks before it does, and is Full then; but for a new event, whose answer is short.
 * Of each of the two a caller has its share (callers.py), and beyond that gets ClientFull in place of Full.
 * Answers up to SHORT_BYTES_MAX do not count: probes, totals and metrics are always answered.

Worst case: `http.sending_bytes_max`, one answer more while it is made, and a short one for each connection.
"""

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import Full
from hookd.core.units import format_size
from hookd.edge.api.callers import Caller

SHORT_BYTES_MAX = 32 * 1024
# One caller's share at least: a page, which ends there.
SHARE_BYTES_MIN = 2**20
# A peer that reads takes its answer in moments; one that does not is cut within ten seconds.
RETRY_AFTER_SECONDS = 1


class AnswerBudget:
    """One for the daemon."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self.held_bytes = 0

    def refuse_if_full(self, more_bytes: int, caller: Caller | None, *, reads: bool) -> None:
        """Raises ClientFull or Full where so much more has no room in the share of what reads, or in the whole."""
        bytes_max = self._effective.settings.http.sending_bytes_max
        room_bytes = bytes_max // 2 if reads else bytes_max
        if caller is not None:
            caller.refuse_answer_over_share(more_bytes, bytes_max=room_bytes, least=SHARE_BYTES_MIN)
        if self.held_bytes + more_bytes > room_bytes:
            detail = "answers that their readers have not taken yet are at "
            detail += f"{'half of ' if reads else ''}http.sending_bytes_max, {format_size(bytes_max)}"
            raise Full(detail, retry_after_seconds=RETRY_AFTER_SECONDS).at("http.sending_bytes_max")


class CountedAnswer:
    """One request's answer, as far as it is made and held."""

    def __init__(self, budget: AnswerBudget) -> None:
        self._budget = budget
        self._held_bytes = 0
        self.caller: Caller | None = None  # whose it is, before anything of it is held; None: nobody's in particular

    def refuse_if_full(self) -> None:
        """To be called before anything is changed whose answer may be long. Raises ClientFull or Full."""
        self._budget.refuse_if_full(0, self.caller, reads=False)

    def grow(self, count: int) -> None:
        """Counts a part of a page. Raises ClientFull or Full where the page is long already and has no room."""
        if self._held_bytes + count > SHORT_BYTES_MAX:
            self._budget.refuse_if_full(count, self.caller, reads=True)
        self._hold(self._held_bytes + count)

    def settle(self, length: int, *, was_read: bool = False) -> None:
        """The answer is made, and this is its length. One that was only read is refused where it has no room.

        Raises ClientFull or Full.
        """
        if was_read and length > max(SHORT_BYTES_MAX, self._held_bytes):
            self._budget.refuse_if_full(length - self._held_bytes, self.caller, reads=True)
        self._hold(length if length > SHORT_BYTES_MAX else 0)

    def drop(self) -> None:
        """It is taken, or nobody takes it any more."""
        self._hold(0)

    def _hold(self, count: int) -> None:
        self._budget.held_bytes += count - self._held_bytes
        if self.caller is not None:
            self.caller.answer_bytes += count - self._held_bytes
        self._held_bytes = count
