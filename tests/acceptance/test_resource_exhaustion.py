"""The machine misbehaves: the process is stopped and goes on, the clock jumps, descriptors run out, DNS hangs.

Nothing is lost, nothing is sent twice for it, and it ends in time.
"""

import ctypes
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import pytest
from hookd.edge.server.api_server import spare_connections

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    Daemon,
    Received,
    Receiver,
    event_body,
    limited,
    read_report,
    wait_until,
)

# Longer, by hand: HOOKD_TEST_STOPPED_SECONDS=60 pytest -n 0 --timeout 0 -k stopped_process tests
STOPPED_SECONDS = float(os.environ.get("HOOKD_TEST_STOPPED_SECONDS", "5"))
DRAIN_SECONDS = 0.5
# drain.timeout + 2 s is the promise; the rest is for a machine that has other things to do.
STOP_SECONDS_MAX = DRAIN_SECONDS + 2 + 8
DRAIN = {"drain.timeout": f"{DRAIN_SECONDS:g}s"}
EXIT_UNDELIVERED = 3
HOUR_SECONDS = 3600


def wait_until_time(moment: float) -> None:
    """Of the monotonic clock: where the fault itself takes a while."""
    wait_until(lambda: time.monotonic() >= moment, seconds=moment - time.monotonic() + 60)


def processor_seconds(daemon: Daemon) -> float:
    """What all of its threads have had."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(daemon: Daemon) -> str:
    return Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


# --- a process that is stopped ----------------------------------------------------------------------------------------


def test_stopped_process_goes_on_without_a_storm_of_duplicates(tmp_path: Path) -> None:
    """SIGSTOP for longer than every deadline, then SIGCONT: an answer that came meanwhile counts, what hung times out
    once, what was due is attempted once, and what is signed bears the time of now."""
    settings = {"retry.schedule": ["1s", "10m"], "retry.jitter": 0, "delivery.timeout": "4s", **DRAIN}
    with ExitStack() as stack:
        failing, hung, slow = (stack.enter_context(Receiver(one)) for one in (404, HANG, HANG))
        daemon = stack.enter_context(Daemon(tmp_path, settings=settings))
        api = stack.enter_context(daemon.api)
        for client_id, receiver in (("failing", failing), ("hung", hung), ("slow", slow)):
            api.put_client(
                client_id, {"url": receiver.url, "schedule": ["1s", "10m"] if receiver is failing else ["10m"]}
            )
        for client_id, events in (("failing", 10), ("hung", 2), ("slow", 2)):
            for n in range(events):
                assert api.post(client_id, f"{client_id}-{n}").status == 202
        wait_until(lambda: hung.hanging == slow.hanging == 2 and len(failing.log) >= 10)
        daemon.signal(signal.SIGSTOP)
        wait_until(lambda: state(daemon) == "T", what="a stopped process")
        before = {receiver: len(receiver.log) for receiver in (failing, hung, slow)}
        slow.release()
        wait_until(lambda: slow.hanging == 0, what="answers that nobody reads yet")
        wait_until_time(time.monotonic() + STOPPED_SECONDS)
        resumed = time.time()
        daemon.signal(signal.SIGCONT)
        expected = {"delivered": 2, "failed": 12, "in_flight": 0, "pending": 0}
        wait_until(lambda: len(failing.log) == 20 and expected.items() <= api.deliveries().items(), what=f"{expected}")
        assert failing.ids() == {f"failing-{n}": 2 for n in range(10)}
        assert hung.ids() == {"hung-0": 1, "hung-1": 1}
        assert slow.ids() == {"slow-0": 1, "slow-1": 1}
        for receiver, known in before.items():
            assert all(int(one.header["webhook-timestamp"]) >= int(resumed) for one in receiver.log[known:])
        (attempt,) = api.get("/v1/clients/hung/events/hung-0")["deliveries"][0]["attempts"]
        assert attempt["outcome"] == "timed_out"
        assert daemon.stop(STOP_SECONDS_MAX + 10) == EXIT_UNDELIVERED
        summary, lines = read_report(daemon.report())
    assert summary["balanced"] is True
    assert Counter(line["class"] for line in lines) == {"attempted_failed": 10, "outcome_unknown": 2}


# --- a wall clock that jumps ------------------------------------------------------------------------------------------


def faketime() -> str:
    """The library that lies about the time to a process that is started with it."""
    for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"):
        return str(path)
    pytest.skip("libfaketime is not installed here (Debian: faketime)")


class WallClock:
    """The daemon's, as far off from ours as a file says."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faketime"
        self._offset_seconds = 0
        self._jumps: list[tuple[float, int]] = []  # when, by our monotonic clock, and how far off since then
        self.jump(0)
        self.environ = {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        self._offset_seconds += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._offset_seconds:+d}")
        new.rename(self._file)
        self._jumps.append((time.monotonic(), self._offset_seconds))

    def of(self, received: Received) -> float:
        """What it said when the request came."""
        offset_seconds = next(offset for at, offset in reversed(self._jumps) if at <= received.at)
        return time.time() - (time.monotonic() - received.at) + offset_seconds


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS])
def test_wall_clock_that_jumps_moves_no_attempt_and_is_what_is_signed(tmp_path: Path, seconds: int) -> None:
    """By an hour, between two attempts: the waits are as long as before, nothing expires, and the timestamp jumps.

    One wait goes on across the jump, and one begins after it.
    """
    settings = {"retry.schedule": ["1s", "1s"], "retry.jitter": 0, "retry.age_max": "30m", **DRAIN}
    clock = WallClock(tmp_path)

    def until_second_retry(received: Received) -> int:
        return 200 if received.number == 3 else 503

    with Receiver(until_second_retry) as receiver, Daemon(tmp_path, settings=settings, env=clock.environ) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            assert api.post("acme", "e1").status == 202
            wait_until(lambda: receiver.log, what="the first attempt")
            first = receiver.log[0]
            assert abs(int(first.header["webhook-timestamp"]) - clock.of(first)) < 60
            clock.jump(seconds)
            wait_until(lambda: api.deliveries()["delivered"] == 1, seconds=30, what="delivered on schedule")
        assert daemon.stop(STOP_SECONDS_MAX + 10) == 0
    times = [one.at for one in receiver.log]
    assert len(times) == 3
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(times)), times
    for received in receiver.log[1:]:
        assert abs(int(received.header["webhook-timestamp"]) - clock.of(received)) < 60


@pytest.mark.parametrize("years", [-1, -60])
def test_wall_clock_that_is_years_off_spoils_no_age_and_no_report(tmp_path: Path, years: int) -> None:
    """Set back while it runs, also to before 1970: what is waited and aged is as long as it took; the stop reports."""
    clock = WallClock(tmp_path)
    with Receiver(503) as receiver, Daemon(tmp_path, settings={**NO_RETRY_SOON, **DRAIN}, env=clock.environ) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            assert api.post("acme", "e1").status == 202
            wait_until(lambda: api.deliveries()["failed"] == 1)
            clock.jump(years * 366 * 24 * HOUR_SECONDS)
            assert api.post("acme", "e2").status == 202
            wait_until(lambda: api.deliveries()["failed"] == 2)
            status = api.status()
            [endpoint] = api.get("/v1/clients/acme")["endpoints"]
            for name, seconds in (
                ("uptime", status["uptime_seconds"]),
                ("oldest", status["oldest_unsettled_seconds"]),
                ("the client's oldest", endpoint["health"]["oldest_unsettled_seconds"]),
            ):
                assert 0 <= seconds < 300, name
            attempts = [event["deliveries"][0]["attempts"][0] for event in api.listed()]
            assert all(0 <= attempt["duration_seconds"] < 60 for attempt in attempts)
        assert daemon.stop(STOP_SECONDS_MAX + 10) == EXIT_UNDELIVERED
    summary, lines = read_report(daemon.report())
    assert (summary["balanced"], 0 <= summary["drain_seconds"] < 60) == (True, True)
    assert {line["event_id"] for line in lines} == {"e1", "e2"}


# --- descriptors ------------------------------------------------------------------------------------------------------


def descriptors(daemon: Daemon) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd")}


def test_small_descriptor_limit_is_shared_and_leaves_the_report_its_own(tmp_path: Path) -> None:
    """`ulimit -n 64`: hung endpoints and a crowd at the API each get their share; the stop has its report."""
    with ExitStack() as stack:
        hung = stack.enter_context(Receiver(HANG))
        daemon = stack.enter_context(Daemon(tmp_path, settings={**NO_RETRY_SOON, **DRAIN}, through=limited("-n 64")))
        api = stack.enter_context(daemon.api)
        for n in range(40):
            api.put_client(f"c{n}", {"url": hung.url})
            assert api.post(f"c{n}", f"e{n}").status == 202
        wait_until(lambda: hung.hanging == api.deliveries()["in_flight"] > 10, what="as many in flight as may be")
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port))) for _ in range(60)]

        def are_served_or_turned_away() -> bool:
            with daemon.api as another:  # ours of before was idle, and made room
                answer = another.ask("GET", "/v1/status")
            if answer.status == 503:  # those of the crowd that brought nothing make room after a second
                return False
            connections = answer.json["connections"]
            turned_away, _, _ = select.select(crowd, [], [], 0)  # who is served hears nothing before it asks
            left = 61 - len(turned_away)
            most = connections["max"] + spare_connections(connections["max"])
            return connections["open"] == connections["max"] <= left <= most

        wait_until(are_served_or_turned_away, what="each served or turned away")
        assert len(descriptors(daemon)) < 64
        assert daemon.stop(STOP_SECONDS_MAX + 10) == EXIT_UNDELIVERED
        _, lines = read_report(daemon.report())
    assert len(lines) == 40
    assert {line["event_id"] for line in lines if line["class"] == "outcome_unknown"} == set(hung.ids())
    assert {line["class"] for line in lines} == {"outcome_unknown", "never_attempted"}
    assert "Too many open files" not in daemon.stderr


def test_exhausted_descriptors_pause_it_and_lose_nothing(tmp_path: Path) -> None:
    """Not one more may be had: no connection is accepted and none is made, at next to no processor time; then all is
    made up for."""
    settings = {"retry.schedule": ["1s"] * 30, "retry.jitter": 0, **DRAIN}
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver(200))
        daemon = stack.enter_context(Daemon(tmp_path, settings=settings))
        api = stack.enter_context(daemon.api)
        api.put_client("acme", {"url": receiver.url})
        before = descriptors(daemon)
        limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        lowest_free = min(set(range(len(before) + 1)) - before)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port))) for _ in range(5)]
        for n in range(20):
            assert api.post("acme", f"e{n}").status == 202
        wait_until(lambda: api.deliveries()["failed"] == 20, what="attempts that found no descriptor")
        began, worked = time.monotonic(), processor_seconds(daemon)
        wait_until_time(began + 1.5)
        assert processor_seconds(daemon) - worked < 0.5 * (time.monotonic() - began)
        assert not receiver.log
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limits)
        wait_until(lambda: api.deliveries()["delivered"] == 20, seconds=20, what="everything delivered")
        for peer in waiting:
            peer.settimeout(20)
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert peer.recv(12) == b"HTTP/1.1 200"
        assert receiver.ids() == {f"e{n}": 1 for n in range(20)}
        assert daemon.stop(STOP_SECONDS_MAX + 10) == 0
    assert daemon.stderr.count("retrying in") <= 2  # of ten times a second


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mebibytes", [10, 40])
def test_want_of_memory_is_refused_whole_or_ends_in_an_account(tmp_path: Path, mebibytes: int) -> None:
    """Batches of 12 MiB, six at a time, where so much is left: each is admitted or not there, none by half. Should want
    of memory strike where nothing contains it, the exit code is 1, and there is a report of what was left."""
    answers: list[int] = []

    def post(batch: int) -> None:
        try:
            with daemon.api as own:
                answers.append(own.ask("POST", "/v1/events/batch", large_batch(batch)).status)
        except (OSError, HTTPException):
            answers.append(0)

    with Receiver(200) as receiver, Daemon(tmp_path, settings=DRAIN) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        assert api.post("acme", "first").status == 202
        pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[0])
        limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_AS)
        most = pages * os.sysconf("SC_PAGE_SIZE") + mebibytes * 2**20
        resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, (most, limits[1]))
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(post, range(6)))
        assert set(answers) <= {202, 500, 503, 0}
        if daemon.process.poll() is None:
            resource.prlimit(daemon.process.pid, resource.RLIMIT_AS, limits)
            with daemon.api as after:
                assert after.post("acme", "last").status == 202
                accepted = after.status()["events"]["accepted"] - 2
                assert accepted % BATCH == 0
                assert BATCH * answers.count(202) <= accepted <= BATCH * (answers.count(202) + answers.count(0))
                wait_until(lambda: after.deliveries()["delivered"] == accepted + 2, seconds=30)
            assert daemon.stop(STOP_SECONDS_MAX + 10) == 0
            assert len(receiver.ids()) == accepted + 2
        else:
            assert daemon.wait(1) == 1
        assert read_report(daemon.report())[0]["balanced"] is True


BATCH = 60


def large_batch(number: int) -> bytes:
    payload = b'"' + b"x" * 200_000 + b'"'
    return b"[" + b",".join(event_body("acme", f"b{number}-{n}", payload) for n in range(BATCH)) + b"]"


# --- ports ------------------------------------------------------------------------------------------------------------


needs_ip = pytest.mark.skipif(
    not (shutil.which("ip") and shutil.which("sysctl")), reason="ip and sysctl are not installed here"
)


def in_own_network(show: Callable[[], None]) -> None:
    """In a thread that has a network of its own, where its sockets and processes are: a loopback, and nothing else."""

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x40000000):  # CLONE_NEWNET, of this thread alone
            pytest.skip(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        show()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(enter).result()


def set_ports(first: int, last: int) -> None:
    subprocess.run(["sysctl", "-qw", f"net.ipv4.ip_local_port_range={first} {last}"], check=True)


@needs_ip
def test_exhausted_ports_are_said_and_lose_nothing(tmp_path: Path) -> None:
    """Four local ports towards one receiver that hangs: who finds none fails, says why and is tried again."""

    def show() -> None:
        with Receiver(HANG) as receiver, Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
            for n in range(12):
                api.put_client(f"c{n}", {"url": receiver.url})
            set_ports(40000, 40003)
            for n in range(12):
                assert api.post(f"c{n}", f"e{n}").status == 202
            wait_until(lambda: receiver.hanging == 4 and api.deliveries()["failed"] == 8, what="four that have a port")
            failed = [event for event in api.listed() if event["status"] == "failed"]
            errors = {event["deliveries"][0]["attempts"][0]["error"] for event in failed}
            assert all("Cannot assign requested address" in error for error in errors), errors
            receiver.release()
            set_ports(32768, 60999)
            wait_until(lambda: api.deliveries()["delivered"] == 12, seconds=30, what="everything delivered")
            assert receiver.ids() == {f"e{n}": 1 for n in range(12)}
            assert daemon.stop(STOP_SECONDS_MAX + 10) == 0

    settings = {"retry.schedule": ["1s"] * 30, "retry.jitter": 0, **DRAIN}
    in_own_network(show)


# --- DNS --------------------------------------------------------------------------------------------------------------


@needs_ip
def test_hung_look_ups_do_not_hold_the_stop(tmp_path: Path) -> None:
    """A name server that never answers, in a network and with a resolv.conf of the daemon's own: forty names hang, a
    literal address is delivered to, and the stop is in time with a true list."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    through = ["unshare", "--mount", "sh", "-c", f'mount --bind {resolv} /etc/resolv.conf && exec "$@"', "sh"]
    if subprocess.run([*through, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process can be given another resolv.conf here")
    settings = {**NO_RETRY_SOON, **DRAIN, "delivery.timeout": "60s"}

    def show() -> None:
        with ExitStack() as stack:
            server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind(("127.0.0.1", 53))
            receiver = stack.enter_context(Receiver(200))
            daemon = stack.enter_context(Daemon(tmp_path, settings=settings, through=through))
            api = stack.enter_context(daemon.api)
            api.put_client("up", {"url": receiver.url})
            for n in range(40):
                api.put_client(f"c{n}", {"url": f"http://name-{n}.example.test/hook"})
                assert api.post(f"c{n}", "e1").status == 202
            wait_until(lambda: api.deliveries()["in_flight"] == 40, what="all looked up")
            server.settimeout(20)
            assert b"example" in server.recv(512)
            assert api.post("up", "e1").status == 202
            wait_until(lambda: receiver.log, what="one that needs no name")
            began = time.monotonic()
            assert daemon.stop(STOP_SECONDS_MAX + 10) == EXIT_UNDELIVERED
            assert time.monotonic() - began < STOP_SECONDS_MAX
            summary, lines = read_report(daemon.report())
        assert summary["deliveries"] == {"opened": 41, "delivered": 1, "exhausted": 0, "undelivered": 40}
        assert {(line["class"], line["attempt_count"]) for line in lines} == {("attempted_failed", 1)}

    in_own_network(show)
