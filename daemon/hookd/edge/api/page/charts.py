"""Owns how the last fifteen minutes become lines of an SVG: the points, and the words for those who do not see them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hookd.core.time_text import span
from hookd.flow.quarter_hour import NOTHING_YET, SAMPLES_MAX, Sample, rates

WIDTH, HEIGHT = 300, 60

Text = Callable[[float], str]


class Chart(NamedTuple):
    name: str
    points: str  # of a polyline in WIDTH x HEIGHT; "" while there is nothing to draw
    words: str


def charts(samples: Sequence[Sample], started: float) -> list[Chart]:
    """Each of 181 points at most. `started` is monotonic: what came before the first sample was taken counts as well.

    A lag is a bucket's upper bound; none is longer than the run.
    """
    lags = [min(one.lag_seconds or 0.0, max(0.0, one.monotonic - started)) for one in samples]
    if samples and len(samples) < SAMPLES_MAX:
        samples = [NOTHING_YET._replace(monotonic=min(started, samples[0].monotonic)), *samples]
    return [
        _chart("accepted a second", rates(samples, lambda one: one.accepted), "{:,.1f}".format),
        _chart("delivered a second", rates(samples, lambda one: one.delivered), "{:,.1f}".format),
        _chart("failed attempts a second", rates(samples, lambda one: one.failed), "{:,.1f}".format),
        _chart("unsettled events", [one.unsettled for one in samples], "{:,.0f}".format),
        _chart("from acceptance to delivery, p99 rounded up", lags, span),
    ]


def _chart(name: str, values: Sequence[float], text: Text) -> Chart:
    if len(values) < 2:
        return Chart(name, "", "nothing yet")
    most = max(values)
    step, height = WIDTH / (len(values) - 1), HEIGHT / (most or 1)
    points = " ".join(f"{index * step:.1f},{HEIGHT - value * height:.1f}" for index, value in enumerate(values))
    return Chart(name, points, f"{text(values[-1])}, at most {text(most)}")
