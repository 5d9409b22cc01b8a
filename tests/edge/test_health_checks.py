"""`/livez` and `/readyz`: plain for orchestrators, in lines for people, and which line decides."""

import threading
from collections.abc import Callable, Sequence

import pytest
import trio
from hookd.core.settings import IntakeSettings, Settings
from hookd.edge.reports import CannotWriteReports
from hookd.edge.reports_watch import PROVE_EVERY_SECONDS, PROVE_SECONDS_MAX, ReportsWatch
from hookd.flow.ports import Unclaimed
from hookd.process.outside import in_own_thread

from tests.edge.test_api import Api, event, refused_as, started
from tests.flow.harness import URL, Hang, Lines, at, now


async def lines(api: Api, path: str, status: int = 200) -> list[str]:
    response = await api.client.get(path)
    assert (response.status_code, response.content_type) == (status, "text/plain; charset=utf-8")
    return (await response.get_data(as_text=True)).splitlines()


@pytest.mark.parametrize("query", ["?verbose", "?verbose=true", "?verbose="])
async def test_ready_daemon_says_each_check_in_a_line(autojump_clock, nursery, query: str) -> None:
    """In the form of Kubernetes' own servers."""
    api = await started(nursery)
    assert await lines(api, f"/readyz{query}") == [
        "[+]accepting ok",
        "[+]budget ok",
        "[+]report-directory ok",
        "[+]recorder ok",
        "[+]loop-lag ok",
        "readyz check passed",
    ]
    assert await lines(api, f"/livez{query}") == ["[+]ping ok", "[+]loop-lag ok", "livez check passed"]


async def test_draining_daemon_is_alive_and_not_ready(autojump_clock, nursery) -> None:
    """503 either way: a problem for who asks plainly, lines for who asks why. It is no reason to be restarted."""
    api = await started(nursery)
    api.flow.intake.close()
    assert int(refused_as(await api.get("/readyz"), 503, "draining").headers["retry-after"]) > 0
    verbose = await lines(api, "/readyz?verbose", 503)
    assert verbose[0].startswith("[-]accepting failed: draining")
    assert verbose[-1] == "readyz check failed"
    assert await lines(api, "/livez") == ["ok"]
    assert (await lines(api, "/livez?verbose"))[-1] == "livez check passed"


@pytest.mark.parametrize(
    ("intake", "words"),
    [
        (IntakeSettings(unsettled_events_max=2), "2 of 2 unsettled events"),
        (IntakeSettings(unsettled_bytes_max=2100), "2,050 of 2,100 unsettled bytes"),
    ],
)
async def test_full_daemon_says_so_and_stays_ready(autojump_clock, nursery, intake, words: str) -> None:
    """To take it out of service would cure nothing; nor do hung receivers make it any less alive."""
    api = await started(nursery, Settings(intake=intake))
    api.flow.sender.script(URL, Hang())
    for _ in range(2):
        assert (await api.post("/v1/events", event(payload=1))).status == 202
    await now()
    assert (await api.post("/v1/events", event())).status == 503
    verbose = await lines(api, "/readyz?verbose")
    assert f"[-]budget failed: {words}" in verbose
    assert verbose[-1] == "readyz check passed"
    assert await lines(api, "/readyz") == ["ok"]
    assert await lines(api, "/livez") == ["ok"]


async def test_report_directory_is_what_was_last_seen_of_it(autojump_clock, nursery) -> None:
    """The system's own words."""
    api = await started(nursery, reports_problem=lambda: "/reports: No space left on device")
    assert "[-]report-directory failed: /reports: No space left on device" in await lines(api, "/readyz?verbose")


async def test_late_loop_is_said_and_no_reason_to_be_restarted(autojump_clock, nursery) -> None:
    """A tick that came half a second late is in the lines for the ten ticks after it."""
    api = await started(nursery)
    await at(1)
    api.flow.housekeeping._lags.append(0.5)  # nothing in virtual time is ever late
    for path in ("/readyz", "/livez"):
        verbose = await lines(api, f"{path}?verbose")
        assert any(line.startswith("[-]loop-lag failed: 0.500 s") for line in verbose)
        assert verbose[-1] == f"{path[1:]} check passed"
    await at(12)
    assert "[+]loop-lag ok" in await lines(api, "/readyz?verbose")


class Directory:
    """Proves as its script says; counts how often it was asked."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.asked = 0
        self.left: Sequence[Unclaimed] = []
        self.unreadable = False

    def prove_writable(self, room_bytes: int = 0) -> None:
        self.asked += 1
        self.room_bytes = room_bytes
        if self.error is not None:
            raise CannotWriteReports(self.error)

    def unclaimed(self) -> Sequence[Unclaimed]:
        if self.unreadable:
            raise PermissionError(13, "Permission denied")
        return self.left


async def test_watch_notes_and_logs_what_has_changed() -> None:
    """Each minute; a full disk is said once, and so is that it has room again."""
    directory, log = Directory(), Lines()
    watch = ReportsWatch(directory, log=log, in_thread=in_own_thread, room_bytes=lambda: 4711)
    await watch.look()
    assert directory.room_bytes == 4711
    assert (watch.problem, log.lines) == (None, [])
    directory.error = "/reports: No space left on device"
    await watch.look()
    await watch.look()
    assert watch.problem == directory.error
    directory.error = None
    await watch.look()
    assert watch.problem is None
    assert [line["event"] for line in log.lines] == ["reports.not_writable", "reports.writable"]
    assert log.lines[0]["level"] == "error"
    assert directory.asked == 4


async def test_watch_lists_the_unclaimed_reports_at_each_look() -> None:
    """As they were at the start, until the first; a directory that cannot be read changes nothing."""
    directory = Directory()
    left = [Unclaimed("/reports/shutdown-1.jsonl", "9f0c"), Unclaimed("/reports/crash-2.jsonl", None)]
    watch = ReportsWatch(directory, log=Lines(), in_thread=in_own_thread, unclaimed=left)
    assert watch.unclaimed == left
    directory.left = left[:1]
    await watch.look()
    assert watch.unclaimed == left[:1]
    directory.left, directory.unreadable = [], True
    await watch.look()
    assert (watch.unclaimed, watch.problem) == (left[:1], None)
    directory.unreadable = False
    await watch.look()
    assert watch.unclaimed == []


async def test_watch_looks_at_once_and_then_each_minute(autojump_clock, nursery) -> None:
    """What recovery took up at the start is not listed for a minute more."""

    async def at_once(work: Callable[..., None], *given: object) -> None:
        work(*given)

    directory = Directory()
    left = [Unclaimed("/reports/shutdown-1.jsonl", "9f0c")]
    watch = ReportsWatch(directory, log=Lines(), in_thread=at_once, unclaimed=left)
    nursery.start_soon(watch.run)
    await trio.sleep(1)
    assert (watch.unclaimed, directory.asked) == ([], 1)
    await trio.sleep(PROVE_EVERY_SECONDS)
    assert directory.asked == 2
    nursery.cancel_scope.cancel()


async def test_watch_on_a_file_system_that_hangs_says_so_and_waits_no_longer(mock_clock, nursery) -> None:
    """The thread is left behind; the next look does not add another."""
    entered, released = threading.Event(), threading.Event()

    class Hanging(Directory):
        def prove_writable(self, room_bytes: int = 0) -> None:
            super().prove_writable(room_bytes)
            entered.set()
            released.wait()

    directory = Hanging()
    watch = ReportsWatch(directory, log=Lines(), in_thread=in_own_thread)
    nursery.start_soon(watch.run)
    try:
        for _ in range(2):
            await trio.to_thread.run_sync(entered.wait)
            await now()
            mock_clock.jump(PROVE_SECONDS_MAX)
            await now()
            assert watch.problem == "no answer of the file system within 10 s"
            assert directory.asked == 1
            mock_clock.jump(PROVE_EVERY_SECONDS)
            await now()
    finally:
        released.set()
        nursery.cancel_scope.cancel()
