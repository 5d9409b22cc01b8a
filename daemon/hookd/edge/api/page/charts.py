"""Owns how the last fifteen minutes become lines of an SVG: the points, and the words for those who do not see them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hookd.core.time_text import span
from hookd.flow.quarter_hour import Sample, rates

WIDTH, HEIGHT = 300, 60

Text = Callable[[float], str]


class Chart(NamedTuple):
    name: str
    points: str  # of a polyline in WIDTH x HEIGHT; "" while there is nothing to draw
    words: str


def charts(samples: Sequence[Sample]) -> list[Chart]:
    """Each of 180 points at most."""
    lags = [one.lag_seconds for one in samples]
    return [
        _chart("accepted a second", rates(samples, lambda one: one.accepted), "{:,.1f}".format),
        _chart("delivered a second", rates(samples, lambda one: one.delivered), "{:,.1f}".format),
        _chart("failed attempts a second", rates(samples, lambda one: one.failed), "{:,.1f}".format),
        _chart("unsettled events", [one.unsettled for one in samples], "{:,.0f}".format),
        _chart("from acceptance to delivery, p99", [lag or 0.0 for lag in lags], span),
    ]


def _chart(name: str, values: Sequence[float], text: Text) -> Chart:
    if len(values) < 2:
        return Chart(name, "", "nothing yet")
    most = max(values)
    step, height = WIDTH / (len(values) - 1), HEIGHT / (most or 1)
    points = " ".join(f"{index * step:.1f},{HEIGHT - value * height:.1f}" for index, value in enumerate(values))
    return Chart(name, points, f"{text(values[-1])}, at most {text(most)}")
