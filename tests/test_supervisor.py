"""The supervisor: how a run starts, reloads, drains and ends, on every channel."""

import json
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hookd.core.settings import DEFAULTS, LogSettings, RecoverySettings, Settings
from hookd.edge.reports import READ_BYTES
from hookd.process.exit_codes import ExitCode
from hookd.process.reloading import ReloadRefused
from hookd.process.stopping import SECOND_SIGNAL_SECONDS

from tests.edge.test_reports import write_report
from tests.flow.test_resend import written
from tests.in_the_way import put_file_in_place_of
from tests.supervised import Daemon, NotedDiscard, ScriptedSender, _start, make_settings, until  # noqa: F401 - a fixture


async def test_clean_stop_reports_that_nothing_was_left(start):
    """An event delivered, then SIGTERM: exit 0 and a balanced report that says so, on every channel."""
    daemon = await start()
    assert (await daemon.post()).status_code == 202
    await until(lambda: bool(daemon.sender.sent))
    assert await daemon.stop() is ExitCode.CLEAN
    (summary,) = daemon.report()
    assert summary["balanced"] is True
    assert summary["trigger"] == "SIGTERM"
    assert summary["events"]["delivered"] == 1
    assert "Nothing was left undelivered." in daemon.log.texts[0]
    assert daemon.log.of("report")


async def test_undelivered_event_is_reported_and_the_exit_code_says_so(start):
    """A hung attempt is cut at the drain's deadline: exit 3, class outcome_unknown, outcome null."""
    daemon = await start()
    await daemon.hang(id="e1", payload={"a": [1, 2]})
    assert await daemon.stop("SIGINT") is ExitCode.UNDELIVERED
    summary, line = daemon.report()
    assert summary["undelivered"] == {"never_attempted": 0, "attempted_failed": 0, "outcome_unknown": 1}
    assert (line["event_id"], line["class"], line["payload"]) == ("e1", "outcome_unknown", {"a": [1, 2]})
    assert line["last_outcome"]["outcome"] is None
    assert summary["drain_seconds"] >= 0.3


async def test_reads_stay_up_while_it_drains_and_intake_is_refused(start):
    """On-call can watch the drain: status and events are read, known ids answered, new events refused."""
    daemon = await start(make_settings(timeout_seconds=30.0))
    await daemon.hang(id="e1")
    daemon.signal("SIGTERM")
    await until(lambda: bool(daemon.log.of("drain.started")))
    assert (await daemon.get("/v1/status"))["state"] == "draining"
    refused = await daemon.post(id="e2")
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/draining")
    assert refused.headers["retry-after"]
    assert (await daemon.post(id="e1")).status_code == 200
    drain_started = trio.current_time()
    await until(lambda: trio.current_time() - drain_started > SECOND_SIGNAL_SECONDS)  # no echo of the first
    await daemon.stop()
    summary, _ = daemon.report()
    assert summary["forced"] is True


async def test_signals_that_come_together_are_one(start):
    """Two signals within 250 ms do not force the stop."""
    daemon = await start()
    daemon.sender.hangs = True
    await daemon.post()
    daemon.signal("SIGTERM")
    await daemon.stop("SIGINT")
    summary = daemon.report()[0]
    assert (summary["forced"], summary["trigger"]) == (False, "SIGTERM")


async def test_signals_that_came_together_are_one_however_late_the_loop_hears_of_them(start):
    """A loop that was busy for longer than 250 ms hears of the second so much later: it still came with the first."""
    daemon = await start(make_settings(timeout_seconds=5.0))
    daemon.sender.hangs = True
    await daemon.post()
    daemon.signal("SIGTERM")
    await trio.sleep(2 * SECOND_SIGNAL_SECONDS)
    daemon.signal("SIGTERM", late_seconds=2 * SECOND_SIGNAL_SECONDS - 0.01)
    await daemon.end()
    assert daemon.report()[0]["forced"] is False


async def test_crash_of_dispatch_ends_in_a_report_and_exit_1(start):
    """A bug in dispatch is not contained: everything unsettled is reported, and the exit code says bug."""
    daemon = await start()
    await daemon.hang(id="e1")
    daemon.supervisor._intake._arrivals.send_nowait(SimpleNamespace())  # what no event of ours can be
    assert await daemon.end() is ExitCode.BUG
    summary, line = daemon.report()
    assert (summary["trigger"], line["event_id"]) == ("error", "e1")
    assert "AttributeError" in daemon.log.of("flow.crashed")[0]["traceback"]


async def test_report_directory_that_was_removed_is_made_again(start):
    """For the report alone, and for its owner alone; the exit code says what the report says."""
    daemon = await start()
    await daemon.hang(id="e1")
    shutil.rmtree(daemon.directory)
    assert await daemon.stop() is ExitCode.UNDELIVERED
    assert [line.get("event_id") for line in daemon.report()] == [None, "e1"]
    assert stat.S_IMODE(daemon.directory.stat().st_mode) == 0o700


async def test_report_that_cannot_be_written_is_said_and_the_summary_stays(start):
    """With a file in the directory's place the summary is in the log and on stderr all the same. The exit code is 1:
    3 would say that a report names what was left."""
    daemon = await start()
    await daemon.hang()
    put_file_in_place_of(daemon.directory)
    assert await daemon.stop() is ExitCode.BUG
    assert daemon.log.of("report.not_written")
    assert "UNDELIVERED: 1" in daemon.log.texts[0]
    assert "COULD NOT BE WRITTEN" in daemon.log.texts[1]


@pytest.mark.parametrize("report_is_written", [True, False])
async def test_recorder_goes_once_the_report_is_on_disk_and_not_before(start, report_is_written):
    """Without the file, what the recorder holds is all that the next start has; the marker stays with it."""
    recorder = NotedDiscard()
    daemon = await start(recorder=recorder)
    (marker,) = daemon.directory.glob("run-*.open")
    assert json.loads(marker.read_text())["run_id"] == "run1"
    if not report_is_written:
        put_file_in_place_of(daemon.directory)
    await daemon.stop()
    assert recorder.discards == report_is_written
    assert not marker.exists()


async def test_reload_takes_the_configuration_whole_or_not_at_all(start):
    """SIGHUP: good settings are in force at once, bad ones change nothing, what needs a restart is named."""
    settings = make_settings()
    better = msgspec.structs.replace(
        settings,
        clients=(),
        intake=msgspec.structs.replace(DEFAULTS.intake, unsettled_events_max=7),
        http=msgspec.structs.replace(DEFAULTS.http, bind=("127.0.0.1:1",)),
        log=LogSettings(level="error"),
    )
    chosen: list[LogSettings] = []
    answers: list[Any] = [ReloadRefused(["hookd.toml:3: retry.jitter: must be below 1"]), better]

    def reload() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def number(text: str, name: str) -> float:
        return float(text.partition(f"\n{name} ")[2].partition("\n")[0])

    daemon = await start(settings, reload=reload, choose_lines=chosen.append)
    successful, at = "hookd_config_last_reload_successful", "hookd_config_last_reload_success_timestamp_seconds"
    at_start = await daemon.metrics()
    assert (number(at_start, successful), number(at_start, at)) == (1, daemon.started_at)
    daemon.signal("SIGHUP")
    refused = await daemon.metrics()
    assert (number(refused, successful), number(refused, at)) == (0, daemon.started_at)
    assert daemon.log.of("config.refused")[0]["mistakes"] == ("hookd.toml:3: retry.jitter: must be below 1",)
    assert (await daemon.get("/v1/status"))["clients"] == 1
    assert chosen == []
    daemon.signal("SIGHUP")
    status = await daemon.get("/v1/status")
    assert (status["clients"], status["memory"]["unsettled_events_max"]) == (0, 7)
    assert daemon.log.of("config.reloaded") == [
        {"clients": 0, "deliveries_ended": 0, "tokens": [], "restart_needed_for": ["http"]}
    ]
    assert chosen == [LogSettings(level="error")]
    reloaded = await daemon.metrics()
    assert number(reloaded, successful) == 1
    assert number(reloaded, at) > daemon.started_at
    await daemon.stop()


async def test_reload_that_gives_up_what_waits_says_how_much(start):
    """Nobody is asked, as a PUT would ask; so the line of the reload has the sum, as a warning."""
    settings = make_settings()
    daemon = await start(settings, reload=lambda: msgspec.structs.replace(settings, clients=()))
    daemon.supervisor._registration.pause("acme", "default")
    for number in range(3):
        assert (await daemon.post(id=f"e{number}")).status_code == 202
    daemon.signal("SIGHUP")
    (removed,), (reloaded,) = daemon.log.of("endpoint.removed"), daemon.log.of("config.reloaded")
    assert (removed["level"], removed["deliveries_ended"]) == ("warning", 3)
    assert (reloaded["level"], reloaded["deliveries_ended"]) == ("warning", 3)
    assert await daemon.stop() is ExitCode.CLEAN


async def test_reload_that_cannot_read_for_a_bug_changes_nothing_and_the_run_goes_on(start):
    """Whatever reading raises is a refusal: the loop would end by it, with no report."""

    def reload() -> Settings:
        raise MemoryError("no room for a file of 256 MiB")

    daemon = await start(reload=reload)
    daemon.signal("SIGHUP")
    (refused,) = daemon.log.of("config.refused")
    assert refused["mistakes"] == ["hookd could not read it: MemoryError: no room for a file of 256 MiB"]
    assert "in reload" in refused["traceback"]
    assert (await daemon.post()).status_code == 202
    assert await daemon.stop() is ExitCode.CLEAN


async def test_reload_that_crashes_half_way_ends_in_a_report_and_exit_1(start):
    """Half a configuration must not stay in force, and a signal's crash must not end the loop with no report."""

    def choose_lines(settings: LogSettings) -> None:
        raise MemoryError

    daemon = await start(make_settings(timeout_seconds=3600.0), choose_lines=choose_lines)
    await daemon.hang(id="e1")
    daemon.signal("SIGHUP")
    assert await daemon.end() is ExitCode.BUG
    summary, line = daemon.report()
    assert (summary["trigger"], line["event_id"]) == ("error", "e1")
    assert "MemoryError" in daemon.log.of("signal.crashed")[0]["traceback"]


async def test_peer_that_holds_its_connection_does_not_hold_the_exit(start):
    """Half a request and an idle connection are cut once the report is written."""
    daemon = await start()
    host, port = daemon.urls[0].removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as half, await trio.open_tcp_stream(host, int(port)):
        await half.send_all(
            b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
        )
        await daemon.stop()
    assert daemon.exit_code is ExitCode.CLEAN


async def test_connection_outlives_a_refusal_that_comes_before_the_body(start):
    """The answer waits for a small body that nobody reads, so that the producer's next request is not cut."""
    daemon = await start()
    host, port = daemon.urls[0].removeprefix("http://").split(":")
    head = b"POST /nope HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        for _ in range(3):
            await stream.send_all(head)
            await daemon.get("/v1/status")  # by the time this is answered, the head has long been read
            await stream.send_all(b"null")
            received = b""
            with trio.fail_after(10):
                while b"/problems/not-found" not in received:
                    chunk = await stream.receive_some()
                    assert chunk, "the connection was closed"
                    received += chunk
            assert b"connection: close" not in received.lower()
    await daemon.stop()


async def test_large_body_that_nobody_reads_ends_the_connection_after_the_answer(start):
    """What is announced as more than is worth reading is answered at once, and said to be the last answer."""
    daemon = await start()
    host, port = daemon.urls[0].removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(b"POST /nope HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n")
        received = b""
        with trio.fail_after(10):
            while chunk := await stream.receive_some():
                received += chunk
    assert received.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in received.lower()
    await daemon.stop()


class ManagerSocket:
    """What systemd would read."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}

    def messages(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(name="manager")
def _manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagerSocket]:
    manager = ManagerSocket(tmp_path_factory.mktemp("run") / "notify")
    yield manager
    manager.close()


async def test_service_manager_hears_of_every_step(start, manager):
    """Ready once it listens, alive and the counts meanwhile, stopping with the time that it may take."""
    daemon = await start(environ=manager.environ)
    heard = []

    def has(message: str) -> bool:
        heard.extend(manager.messages())
        return message in heard

    await daemon.post(id="e1")
    await until(lambda: has("READY=1") and has("WATCHDOG=1"))
    await until(lambda: has("STATUS=running: 1 accepted, 0 undelivered, 0 in flight"))
    assert not any(message.startswith("STOPPING") for message in heard)
    daemon.signal("SIGTERM")
    await until(lambda: has("STOPPING=1\nEXTEND_TIMEOUT_USEC=34000000"))
    await daemon.end()
    assert heard.index("READY=1") < heard.index("STOPPING=1\nEXTEND_TIMEOUT_USEC=34000000")


async def test_turn_that_comes_too_late_does_not_say_that_the_loop_is_alive(start, manager, mock_clock):
    """Late by more than a period: two such in a row, and systemd's watchdog acts."""
    await start(environ=manager.environ | {"WATCHDOG_USEC": "20000000"})  # a period of 5 s
    heard: list[str] = []

    def turns(what: str) -> int:
        heard.extend(manager.messages())
        return sum(message.startswith(what) for message in heard)

    for seconds, beats in ((0, 1), (5, 2), (11, 2), (5, 3)):
        before = turns("STATUS=") if seconds else 0
        mock_clock.jump(seconds)
        await until(lambda before=before: turns("STATUS=") > before)
        await trio.testing.wait_all_tasks_blocked()
        assert turns("WATCHDOG=1") == beats


async def test_termination_log_has_the_summary_and_its_failure_is_only_logged(start, tmp_path):
    """At most 4 KiB, whole lines; a path that cannot be written costs neither the report nor the exit code."""
    path = tmp_path / "termination-log"
    daemon = await start(make_settings(termination_log=str(path)))
    await daemon.stop()
    assert path.read_text() == daemon.log.texts[0]

    path.unlink()
    path.mkdir()
    for old in tmp_path.glob("shutdown-*"):
        old.unlink()
    daemon = await start(make_settings(termination_log=str(path)))
    assert await daemon.stop() is ExitCode.CLEAN
    assert daemon.log.of("termination_log.not_written")
    assert daemon.report()


async def test_old_reports_go_at_the_start_and_after_a_report_and_what_is_held_is_said(start, tmp_path):
    """reports_kept = 2: the newest two stay, the one that lists something undelivered too."""
    for number, undelivered in enumerate((1, 0, 0, 0)):
        write_report(tmp_path, f"shutdown-2026010{number + 1}T000000Z-old.jsonl", undelivered=undelivered)
    daemon = await start(make_settings(reports_kept=2))
    assert [path.name[9:17] for path in sorted(tmp_path.glob("shutdown-*"))] == ["20260101", "20260103", "20260104"]
    assert daemon.log.of("reports.held") == [{"level": "warning", "unclaimed": 1, "reports_kept": 2}]
    await daemon.stop()
    assert [path.name[9:17] for path in sorted(tmp_path.glob("shutdown-*"))][:2] == ["20260101", "20260104"]


async def test_recovery_that_a_second_signal_cuts_attempts_nothing(tmp_path, nursery):
    """Its report stays unclaimed, so whatever was sent now would be sent again by the next start."""
    lines = b"".join(written(f"e{n}", payload="x" * READ_BYTES) for n in range(4))
    write_report(tmp_path, "shutdown-20260101T000000Z-old.jsonl", undelivered=4)
    with (tmp_path / "shutdown-20260101T000000Z-old.jsonl").open("ab") as file:
        file.write(lines)
    settings = msgspec.structs.replace(make_settings(timeout_seconds=30.0), recovery=RecoverySettings(enabled=True))
    daemon = Daemon(tmp_path, settings)
    stopping = daemon.supervisor._stopping
    in_thread, slices = daemon.supervisor._recovery._in_thread, 0

    async def cutting(work: Callable[..., Any], *args: Any) -> Any:
        nonlocal slices
        slices += work is next
        if slices == 5 + 2:  # the second of the second pass
            stopping.request("SIGTERM", late_seconds=0.0)
            stopping.forced.set()
        return await in_thread(work, *args)

    daemon.supervisor._recovery._in_thread = cutting
    await daemon.run()
    assert daemon.exit_code is ExitCode.UNDELIVERED
    assert daemon.sender.sent == []
    assert not list(tmp_path.glob("*.claimed-by-*"))
    (path,) = tmp_path.glob("shutdown-*-run1.jsonl")
    listed = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert 0 < len(listed) < 4
    assert {line["class"] for line in listed} == {"never_attempted"}
