"""What a port raises is counted and said, and goes no further."""

import pytest
from hookd.core.guard import FEED, LOG, Guard, said_of


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


def test_what_was_raised_is_said_in_one_line() -> None:
    """Its kind and its words; one that cannot say them is named all the same."""
    assert said_of(OSError("the disk is full")) == "OSError: the disk is full"
    assert said_of(ValueError()) == "ValueError"
    assert "Unspeakable" in said_of(Unspeakable())
    broken = SyntaxError("bad", ("file", 1, 1, "text", 1, 2))
    assert "\n" not in said_of(broken)
    assert "bad" in said_of(broken)


def test_port_that_raises_is_counted_and_told_and_stays_without_effect() -> None:
    """Each time, by its own name, with what it was called with and what it raised."""
    told: list[tuple[str, str]] = []
    got: list[object] = []
    guard = Guard(lambda port, error: told.append((port, str(error))))

    def tell(*args: object) -> None:
        got.append(args)
        raise OSError("no")

    for port in (FEED, FEED, LOG):
        guard.around(port, tell)("event", 1)
    assert guard.failures == {FEED: 2, LOG: 1}
    assert told == [(FEED, "no"), (FEED, "no"), (LOG, "no")]
    assert got == [("event", 1)] * 3


def test_whoever_is_told_may_raise_or_be_absent() -> None:
    """It is counted, and nothing more happens."""

    def fail(port: str, error: Exception) -> None:
        raise RuntimeError

    for guard in (Guard(fail), Guard(None)):
        guard.note(LOG, OSError())
        assert guard.failures == {LOG: 1}


def test_what_is_no_exception_passes() -> None:
    """The process ends by it."""

    def end() -> None:
        raise KeyboardInterrupt

    guard = Guard(None)
    with pytest.raises(KeyboardInterrupt):
        guard.around(LOG, end)()
    assert not guard.failures
