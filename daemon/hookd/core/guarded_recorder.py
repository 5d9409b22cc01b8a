"""Owns the recorder as the ledger has it: one that fails is off for the rest of the run, and nothing else ends.

Rules:
 1. The ledger and all others reach the recorder through this. It raises Refused where the recorder does, and no more.
 2. A recorder that has failed is told nothing more: what it would say from there on has a hole. What it has noted is
    broken off visibly, so that a report of it claims nothing of what came after.
 3. `prove` asks whether the next start would find what is noted. A mapped file takes records after it was removed.
"""

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.guard import RECORDER, Guard, said_of
from hookd.core.no_recorder import NOTHING_RECORDED, NoRecorder
from hookd.core.recorder import Recorder
from hookd.core.refusal import Refused


class RecorderState(Enum):
    ON = "on"
    OFF = "off"
    FAILED = "failed"


class GuardedRecorder:
    """`failure` says why nothing is recorded any more; None: it has not failed."""

    def __init__(self, recorder: Recorder, guard: Guard) -> None:
        self._begun = recorder
        self._recorder = recorder  # who is told: nobody, once it has failed
        self._guard = guard
        self.failure: str | None = None

    @property
    def state(self) -> RecorderState:
        if self.failure is not None:
            return RecorderState.FAILED
        return RecorderState.OFF if isinstance(self._begun, NoRecorder) else RecorderState.ON

    @property
    def is_on(self) -> bool:
        return self.state is RecorderState.ON

    # As the recorder has them

    def row_bytes(self, payload_bytes: int, urls: Sequence[str]) -> int:
        try:
            return self._recorder.row_bytes(payload_bytes, urls)
        except Refused:
            raise
        except Exception as error:
            self._fail(error)
            return 0

    def refuse_if_full(self, row_bytes: int) -> None:
        try:
            self._recorder.refuse_if_full(row_bytes)
        except Refused:
            raise
        except Exception as error:
            self._fail(error)

    def client_room(self, client_id: str, *, share: float) -> tuple[int, int]:
        try:
            return self._recorder.client_room(client_id, share=share)
        except Exception as error:
            self._fail(error)
            return self._recorder.client_room(client_id, share=share)

    def fill(self) -> tuple[int, int]:
        try:
            return self._recorder.fill()
        except Exception as error:
            self._fail(error)
            return 0, 0

    def admitted(self, event: Event, *, recovered: bool) -> None:
        try:
            self._recorder.admitted(event, recovered=recovered)
        except Exception as error:
            self._fail(error)

    def added(self, event: Event, was: Status) -> None:
        try:
            self._recorder.added(event, was)
        except Exception as error:
            self._fail(error)

    def reopened(self, event: Event, was: Status, delivery_was: Status) -> None:
        try:
            self._recorder.reopened(event, was, delivery_was)
        except Exception as error:
            self._fail(error)

    def restated(self, event: Event) -> None:
        try:
            self._recorder.restated(event)
        except Exception as error:
            self._fail(error)

    def begun(self, event: Event, delivery: Delivery) -> None:
        try:
            self._recorder.begun(event, delivery)
        except Exception as error:
            self._fail(error)

    def ended(self, event: Event, delivery: Delivery) -> None:
        try:
            self._recorder.ended(event, delivery)
        except Exception as error:
            self._fail(error)

    def cancelled(self, event: Event, delivery: Delivery) -> None:
        try:
            self._recorder.cancelled(event, delivery)
        except Exception as error:
            self._fail(error)

    def settled(self, event: Event, delivery: Delivery, event_status: Status) -> None:
        try:
            self._recorder.settled(event, delivery, event_status)
        except Exception as error:
            self._fail(error)

    def prove(self) -> None:
        """Looks once; a recorder whose files are not as it left them has failed."""
        try:
            self._recorder.prove()
        except Exception as error:
            self._fail(error)

    def discard(self) -> None:
        """Of one that has failed, too. What cannot be removed is left to the next start, which finds the report."""
        self._recorder = NOTHING_RECORDED
        try:
            self._begun.discard()
        except Exception as error:
            self._guard.note(RECORDER, error)

    def _fail(self, error: Exception) -> None:
        self._recorder = NOTHING_RECORDED
        self.failure = said_of(error)
        with suppress(Exception):  # where nothing can be marked, nothing is there to be read either
            self._begun.break_off()
        self._guard.note(RECORDER, error)
