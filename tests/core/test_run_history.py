"""How the run before ended, and when a start must not recover."""

import pytest
from hookd.core.run_history import PastRun, PreviousRun, is_crashing_in_a_row, previous_run

NOW = 1_800_000_000.0


def run(run_id: str, ended_ago: float, *, crashed: bool = False, undelivered: int | None = 0) -> PastRun:
    return PastRun(run_id, NOW - ended_ago - 5, NOW - ended_ago, crashed, undelivered)


def crashes(*ended_ago: float) -> list[PastRun]:
    return [run(f"r{index}", seconds, crashed=True, undelivered=1) for index, seconds in enumerate(ended_ago)]


@pytest.mark.parametrize(
    ("last", "ended"),
    [
        (run("b", 10), "clean"),
        (run("b", 10, undelivered=7), "reported"),
        (run("b", 10, crashed=True), "crash"),
        (run("b", 10, crashed=True, undelivered=None), "crash"),
    ],
)
def test_previous_run_is_the_last_that_was_started(last: PastRun, ended: str) -> None:
    """Whatever order they are found in."""
    runs = [run("a", 100, undelivered=3), last, run("c", 1000, crashed=True)]
    assert previous_run(runs, {"a": 3}) == PreviousRun("b", ended, last.undelivered, 0)  # type: ignore[arg-type]


def test_previous_run_says_how_much_of_it_came_back() -> None:
    """And the first run of all has none before it."""
    assert previous_run([run("a", 1, undelivered=3)], {"a": 2, "b": 9}) == PreviousRun("a", "reported", 3, 2)
    assert previous_run([], {}) is None


@pytest.mark.parametrize(
    ("runs", "holds"),
    [
        ([], False),
        (crashes(1, 2), False),
        (crashes(1, 2, 3), True),
        (crashes(1, 2, 600), True),
        (crashes(1, 2, 601), False),
        (crashes(1, 2, 3, 5000), True),
        ([*crashes(10, 20, 30), run("good", 5)], False),
        ([*crashes(10, 20, 30), run("reported", 5, undelivered=4)], False),
        ([*crashes(10, 20), run("good", 15)], False),
        ([*crashes(10, 20, 30), run("old and good", 50)], True),
        ([*crashes(-3500, -3400, -3300), run("since the clock was set back", 60)], False),
    ],
)
def test_three_crashes_in_a_row_within_ten_minutes(runs: list[PastRun], holds: bool) -> None:
    """A run that ended with a complete report ends the row, whatever it listed."""
    assert is_crashing_in_a_row(runs, now=NOW) is holds
