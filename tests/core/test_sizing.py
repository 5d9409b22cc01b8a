"""The sums over the settings."""

import pytest
from hookd.core.settings import DEFAULTS, RecorderSettings
from hookd.core.sizing import horizon_seconds, worst_case_bytes
from msgspec.structs import replace


def test_worst_case_is_the_sum_of_what_each_key_allows() -> None:
    """The parts follow the keys, and the default is about a gibibyte."""
    parts = worst_case_bytes(DEFAULTS)
    assert parts["unsettled events"] == DEFAULTS.intake.unsettled_bytes_max
    assert parts["rows of settled events"] == 250_000 * 600
    assert parts["settlement feed"] == 140_000_000
    assert parts["responses being read"] == 4096 * 16 * 1024
    assert parts["bodies being received"] == (64 + 2 * 16) * 2**20
    assert parts["connections of the API"] == 1000 * 96 * 1024
    assert sum(parts.values()) < 1.2 * 2**30


def test_worst_case_counts_no_recorder_that_is_off() -> None:
    """An empty directory switches the recorder and its memory off."""
    off = replace(DEFAULTS, recorder=RecorderSettings(directory=""))
    assert worst_case_bytes(off)["flight recorder (shared memory)"] == 0


def test_horizon_is_the_sum_of_the_delays_with_jitter() -> None:
    """The default spreads six attempts over about 43 minutes."""
    earliest, latest = horizon_seconds(DEFAULTS.retry.schedule_seconds, 0.0)
    assert earliest == latest == 2555
    assert horizon_seconds((10.0, 20.0), 0.2) == pytest.approx((24, 36))
    assert horizon_seconds((), 0.2) == (0, 0)
