"""Which reports list something undelivered: each summary is read once, since that can hold the loop."""

from pathlib import Path

from hookd.core.report import Summary
from hookd.flow.unclaimed_reports import LOSSES_MAX, UnclaimedReports

from tests.core.test_loss import line, summary


class Shelf:
    """Reports by path, and how often each was read."""

    def __init__(self, **reports: Summary | None) -> None:
        self.reports = {Path(name): report for name, report in reports.items()}
        self.read: list[str] = []

    def summary_of(self, path: Path) -> Summary | None:
        self.read.append(path.name)
        return self.reports[path]


def test_summary_that_was_read_is_not_read_again() -> None:
    """At each look after the first, only what could not be read is tried again."""
    shelf = Shelf(clean=summary(), owing=summary(line("acme", 3)), bad=None)
    reports = UnclaimedReports(shelf.summary_of)
    found = reports.among(shelf.reports)
    assert [one.path for one in found] == ["bad", "owing"]
    assert [one.loss and one.loss.deliveries for one in found] == [None, 3]
    shelf.read.clear()
    assert reports.among(shelf.reports) == found
    assert shelf.read == ["bad"]
    shelf.reports[Path("bad")] = summary(line("initech", 1))
    assert [one.run_id for one in reports.among(shelf.reports)] == ["9f0c", "9f0c"]


def test_only_the_newest_are_held_in_short() -> None:
    """As many as the page lists; an older one is read again once it is among them."""
    owing = [f"r{number}" for number in range(LOSSES_MAX + 2)]
    shelf = Shelf(**{name: summary(line("acme", 1)) for name in owing})
    reports = UnclaimedReports(shelf.summary_of)
    assert [one.loss is not None for one in reports.among(shelf.reports)] == [False] * 2 + [True] * LOSSES_MAX
    newest = Path(owing[-1])
    shelf.read.clear()
    assert all(one.loss is not None for one in reports.among(set(shelf.reports) - {newest, Path("r0")}))
    assert shelf.read == ["r1"]
