"""The crowd of the traffic act: seven receivers, each with a fault of its own but for the first, and their weather.

Where the traffic goes on, the weather changes, so that each fault is seen to begin and to end. A minute of it:

* `down` refuses connections, and is up for the last quarter. The daemon pauses an endpoint that failed for 30 s.
* `slow` takes 0.45 s for an answer, and is quick in the last quarter.
* `held` is paused by an operator, which is the demo, in each first half of 30 s.
* `gone` answers 410, which disables it; half a minute later an operator resumes it, and it answers 410 again.

`flaky` answers 503 every other time; `busy` answers 429 with Retry-After to each 40th request, all the time.
"""

import time
from typing import NamedTuple

from hookd.demo.pace import RETRY_AFTER_SECONDS, TIMEOUT_SECONDS
from hookd.demo.receivers import Receiver, Reply, broken, busy, flaky, gone, quick
from hookd.demo.stage import Stage

MINUTE_SECONDS = 60.0
BAD_SECONDS = 45.0  # of each minute
HELD_EVERY_SECONDS, HELD_FROM_SECONDS, HELD_TO_SECONDS = 30.0, 1.0, 15.0
GONE_ASKED_SECONDS = 30.0
# What was under way when a receiver asked for a rest, or when an operator paused it, has arrived by then.
UNDER_WAY_SECONDS = TIMEOUT_SECONDS


class Weather(NamedTuple):
    is_bad: bool
    is_held: bool
    resumes: int  # of `gone`, until then

    @classmethod
    def after(cls, seconds: float) -> "Weather":
        held = HELD_FROM_SECONDS <= seconds % HELD_EVERY_SECONDS < HELD_TO_SECONDS
        resumes = int((seconds + MINUTE_SECONDS - GONE_ASKED_SECONDS) // MINUTE_SECONDS)
        return cls(seconds % MINUTE_SECONDS < BAD_SECONDS, held, resumes)


def slow(_number: int, _refused: int) -> Reply:
    return Reply(after_seconds=0.45)


class Crowd:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.receivers: dict[str, Receiver] = {
            "healthy": stage.client("healthy", quick),
            "slow": stage.client("slow", slow),
            "flaky": stage.client("flaky", flaky),
            "down": stage.client("down", quick, up=False),
            "busy": stage.client("busy", busy),
            "held": stage.client("held", quick),
            "gone": stage.client("gone", gone),
        }
        self.weather = Weather(is_bad=True, is_held=False, resumes=0)
        self._pauses: list[tuple[float, float]] = []  # of `held`: from, to
        self._paused_at: float | None = None
        self._mended_at = 0.0

    def change(self, weather: Weather) -> None:
        before, self.weather = self.weather, weather
        if weather.is_bad != before.is_bad:
            self.receivers["slow"].behave = slow if weather.is_bad else quick
            self.receivers["down"].behave = broken if weather.is_bad else quick
            self.receivers["down"].come_up()
        if weather.is_held != before.is_held:
            self._hold() if weather.is_held else self._let_go()
        if weather.resumes != before.resumes:
            self._operate("gone", "resume")

    def mend(self) -> None:
        """All are well but `gone`. Nobody waits for a probe, or for the end of a rest."""
        self._mended_at = time.monotonic()
        for name in ("slow", "down", "busy"):
            self.receivers[name].behave = quick
        self.receivers["down"].come_up()
        self._let_go()
        for name in ("down", "busy"):
            self._operate(name, "resume")
        for event in self._stage.events("down", status="failed")[:100]:  # now, and not when their retry is due
            self._stage.ask(202, 200).post(f"/v1/clients/down/events/{event['id']}/retry", b"")

    @property
    def came_early(self) -> int:
        """Requests that came to `busy` while it rested."""
        busy = self.receivers["busy"]
        rests = [(at + UNDER_WAY_SECONDS, min(at + RETRY_AFTER_SECONDS, self._mended_at)) for at in busy.rests]
        return _arrived_within(busy, rests)

    @property
    def came_paused(self) -> int:
        """Requests that came to `held` while it was paused."""
        return _arrived_within(self.receivers["held"], [(at + UNDER_WAY_SECONDS, to) for at, to in self._pauses])

    def _hold(self) -> None:
        self._operate("held", "pause")
        self._paused_at = time.monotonic()

    def _let_go(self) -> None:
        if self._paused_at is not None:
            self._pauses.append((self._paused_at, time.monotonic()))
            self._paused_at = None
            self._operate("held", "resume")

    def _operate(self, client_id: str, verb: str) -> None:
        self._stage.ask(200).post(f"/v1/clients/{client_id}/endpoints/default/{verb}", b"")


def _arrived_within(receiver: Receiver, spans: list[tuple[float, float]]) -> int:
    return sum(begin < arrival.at < end for arrival in receiver.arrivals for begin, end in spans)
