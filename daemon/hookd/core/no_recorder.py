"""Owns the recorder that records nothing: `recorder.directory = ""`, and what is left of one that has failed."""

import sys
from collections.abc import Callable, Sequence

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event


class NoRecorder:
    """As core/recorder's `Recorder`."""

    def attach(self, find: Callable[[int], Event | None]) -> None:
        pass

    def row_bytes(self, payload_bytes: int, urls: Sequence[str]) -> int:  # noqa: ARG002 - the port's
        return 0

    def refuse_if_full(self, row_bytes: int) -> None:
        pass

    def client_room(self, client_id: str, *, share: float) -> tuple[int, int]:  # noqa: ARG002 - the port's
        return 0, sys.maxsize

    def fill(self) -> tuple[int, int]:
        return 0, 0

    def admitted(self, event: Event, *, recovered: bool) -> None:
        pass

    def added(self, event: Event, was: Status) -> None:
        pass

    def reopened(self, event: Event, was: Status, delivery_was: Status) -> None:
        pass

    def restated(self, event: Event) -> None:
        pass

    def begun(self, event: Event, delivery: Delivery) -> None:
        pass

    def ended(self, event: Event, delivery: Delivery) -> None:
        pass

    def cancelled(self, event: Event, delivery: Delivery) -> None:
        pass

    def settled(self, event: Event, delivery: Delivery, event_status: Status) -> None:
        pass

    def prove(self) -> None:
        pass

    def break_off(self) -> None:
        pass

    def discard(self) -> None:
        pass


NOTHING_RECORDED = NoRecorder()
