"""Owns the bytes of long answers that are held, over all connections, from when they are made until they are taken.

A peer that asks and does not read keeps its answer here, once the system's buffers are full. So each long answer counts
until it is sent or its peer is gone. Half of `http.sending_bytes_max` is for what reads, such as pages: who reads
slowly holds up no producer. Beyond its share a request is Full before anything of it is done. A probe never is, and
neither is a new event: its answer is short.

Answers up to SHORT_BYTES_MAX do not count; a connection is reckoned to hold as much.
Worst case: `http.sending_bytes_max`, and one answer more while it is made.
"""

from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import Full
from hookd.core.units import format_size

SHORT_BYTES_MAX = 16 * 1024
# A peer that reads takes its answer in moments; one that does not is cut within ten seconds.
RETRY_AFTER_SECONDS = 1


class AnswerBudget:
    """One for the daemon."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self.held_bytes = 0

    def refuse_if_full(self, more_bytes: int, *, reads: bool) -> None:
        """Raises Full where so much more has no room in the share of what reads, or in the whole."""
        bytes_max = self._effective.settings.http.sending_bytes_max
        if self.held_bytes + more_bytes > (bytes_max // 2 if reads else bytes_max):
            detail = "answers that their readers have not taken yet are at "
            detail += f"{'half of ' if reads else ''}http.sending_bytes_max, {format_size(bytes_max)}"
            raise Full(detail, retry_after_seconds=RETRY_AFTER_SECONDS)


class CountedAnswer:
    """One request's answer, as far as it is made and held."""

    def __init__(self, budget: AnswerBudget, *, reads: bool) -> None:
        self._budget = budget
        self._reads = reads
        self._held_bytes = 0

    def refuse_if_full(self) -> None:
        """To be called before anything is done whose answer may be long. Raises Full."""
        self._budget.refuse_if_full(SHORT_BYTES_MAX, reads=self._reads)

    def grow(self, count: int) -> None:
        """Counts a part that is made, of an answer that nothing but reading came before. Raises Full."""
        self._budget.refuse_if_full(count, reads=self._reads)
        self._hold(self._held_bytes + count)

    def settle(self, length: int) -> None:
        """The answer is made, and this is its length."""
        self._hold(length if length > SHORT_BYTES_MAX else 0)

    def drop(self) -> None:
        """It is taken, or nobody takes it any more."""
        self._hold(0)

    def _hold(self, count: int) -> None:
        self._budget.held_bytes += count - self._held_bytes
        self._held_bytes = count
