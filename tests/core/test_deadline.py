"""How a deadline is said: when, and for what, in a sentence and with how long that is."""

import pytest
from hookd.core.deadline import Cause, Deadline

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("deadline", "within", "alone"),
    [
        (
            Deadline(NOW + 60, Cause.AGE),
            "is given up for its age at 08:01:00Z",
            "is given up for its age in 1m 0s, at 08:01:00Z",
        ),
        (
            Deadline(NOW + 60, Cause.EXPIRY),
            "is given up by its own expires_at at 08:01:00Z",
            "is given up by its own expires_at in 1m 0s, at 08:01:00Z",
        ),
        (
            Deadline(NOW + 60, Cause.ATTEMPTS),
            "is given up at 08:01:00Z, if all its attempts fail",
            "has its last attempt in 1m 0s, at 08:01:00Z, and is given up if that fails",
        ),
        (
            Deadline(NOW + 60, Cause.ATTEMPTS, is_exact=False),
            "is given up about 08:01:00Z, if all its attempts fail",
            "has its last attempt about in 1m 0s, at 08:01:00Z, and is given up if that fails",
        ),
    ],
)
def test_deadline_says_what_it_is(deadline: Deadline, within: str, alone: str) -> None:
    """Age, own expiry or attempts; what jitter may shift is about."""
    assert (deadline.within(NOW), deadline.alone(NOW)) == (within, alone)
