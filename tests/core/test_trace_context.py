"""What of a `traceparent` field is taken over, by the examples and rules of W3C Trace Context."""

import pytest
from hookd.core.trace_context import TRACEPARENT_CHARS, traceparent_from

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize("flags", ["00", "01", "03", "ff"])
def test_version_00_goes_on_as_it_came(flags: str) -> None:
    """Flags that are not known are the next one's to ignore."""
    value = f"00-{TRACE}-{PARENT}-{flags}"
    assert traceparent_from(value) == value
    assert len(value) == TRACEPARENT_CHARS


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"01-{TRACE}-{PARENT}-01", "01"),
        (f"cc-{TRACE}-{PARENT}-03", "01"),
        (f"fe-{TRACE}-{PARENT}-fe", "00"),
        (f"01-{TRACE}-{PARENT}-01-what-the-future-will-be-like", "01"),
        (f"01-{TRACE}-{PARENT}-01-", "01"),
    ],
)
def test_later_version_goes_on_as_version_00(value: str, flags: str) -> None:
    """Its known part, and of its flags the one that is known."""
    assert traceparent_from(value) == f"00-{TRACE}-{PARENT}-{flags}"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        VALID[:-1],
        VALID + "-",
        VALID + "-more",
        VALID + "0",
        f" {VALID}",
        f"{VALID}\n",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}0-01",
        f"00-{TRACE}-{PARENT}-0x",
        f"00_{TRACE}_{PARENT}_01",
        f"01-{TRACE}-{PARENT}-01.more",
        f"01-{TRACE}-{PARENT}-01more",
        "\u0660\u0660" + VALID[2:],
    ],
)
def test_what_is_not_valid_is_ignored(value: str) -> None:
    assert traceparent_from(value) is None
