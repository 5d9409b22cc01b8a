"""Durations and sizes as people write them."""

import pytest
from hookd.core.units import approximate_size, format_duration, format_size, parse_duration, parse_size
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.5s", 1.5), ("250ms", 0.25), ("2m", 120.0), ("1h", 3600.0), ("7d", 604800.0), ("0s", 0.0), ("0.1h", 360.0)],
)
def test_duration_with_a_unit_is_its_seconds(text: str, seconds: float) -> None:
    """Every unit counts, decimals are exact."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "+1s", "1 s", " 1s", "1s\n", "1e3s", ".5s", "1.s", "\uff11s", "\u0663s", "1w", "1S"]
)
def test_duration_in_any_other_form_is_refused_with_an_example(text: str) -> None:
    """What is no duration is named as such, with one to copy."""
    with pytest.raises(ValueError, match='"15s"'):
        parse_duration(text)


def test_duration_without_a_unit_is_refused_with_the_likely_one() -> None:
    """A bare number is a mistake, and the message shows the number with a unit."""
    with pytest.raises(ValueError, match='write "15s"'):
        parse_duration("15")


def test_duration_of_absurd_length_is_refused() -> None:
    """A thousand digits are no duration, rather than infinity."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("9" * 1000 + "s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1.5, "1.5s"),
        (90, "90s"),
        (120, "2m"),
        (3600, "1h"),
        (86400, "1d"),
        (0.1 + 0.2, "0.3s"),
        (1234567890123456, "1234567890123456s"),  # more digits than can be parsed
    ],
)
def test_duration_is_shown_in_its_shortest_form(seconds: float, text: str) -> None:
    """The shortest text wins, and float noise is rounded away."""
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**13))
def test_duration_shown_and_parsed_is_the_same(microseconds: int) -> None:
    """Anything down to a microsecond survives the round trip."""
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0B", 0), ("512B", 512), ("256KiB", 262144), ("16MiB", 16777216), ("1GiB", 2**30), ("1.5KiB", 1536)],
)
def test_size_with_a_unit_is_its_bytes(text: str, size_bytes: int) -> None:
    """Every unit counts."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "B", "-1B", "1 KiB", "1KB", "1kib", "1M", "\uff11B"])
def test_size_in_any_other_form_is_refused_with_an_example(text: str) -> None:
    """What is no size is named as such, with one to copy."""
    with pytest.raises(ValueError, match='"256KiB"'):
        parse_size(text)


def test_size_without_a_unit_or_of_half_a_byte_is_refused() -> None:
    """A bare number shows the units it may have meant; a fraction of a byte is none."""
    with pytest.raises(ValueError, match='write "64B" or "64KiB"'):
        parse_size("64")
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("1.5B")


@given(st.integers(min_value=0, max_value=2**40 - 1))
def test_size_shown_and_parsed_is_the_same(size_bytes: int) -> None:
    """The text is exact to the byte."""
    assert parse_size(format_size(size_bytes)) == size_bytes


def test_size_for_reading_is_rounded() -> None:
    """A sum of many parts is shown to a tenth."""
    assert [approximate_size(size) for size in (0, 1000, 1536, 2**30, 1_500_000_000)] == [
        "0B",
        "1000B",
        "1.5KiB",
        "1GiB",
        "1.4GiB",
    ]
