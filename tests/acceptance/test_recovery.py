"""With `[recovery]` on, a start takes back what the run before it left: nothing is lost that shared memory survives.

The judge is independent: the producer's own list of 202s, the receivers' own logs, and the sums of the reports.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import (
    HANG,
    WITHOUT_RECORDER,
    Daemon,
    Received,
    Receiver,
    always,
    read_report,
    runtime_directory,
    wait_until,
    write_shutdown_report,
)
from tests.acceptance.producing import Producer, answers_of

# In full, by hand: HOOKD_TEST_RESTARTS=20 HOOKD_TEST_KILLS=200 pytest -n 0 --timeout 0 -k under_load
RESTARTS = int(os.environ.get("HOOKD_TEST_RESTARTS", "8"))
KILLS = int(os.environ.get("HOOKD_TEST_KILLS", "20"))
RECOVERING = {
    "recovery.enabled": True,
    "recorder.payloads": True,
    "retry.schedule": ["100ms", "200ms", "500ms", "1s", "2s", "5s", "10m"],
    "drain.timeout": "200ms",
    "drain.reports_kept": 1000,
}
CLIENTS = ("kept", "put", "flaky")


def fails_first(received: Received) -> int:
    return 503 if received.number == 1 else 200


class Platform:
    """Three clients, one of them in the configuration, and everything that was answered 202 to its producer."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        behaviours = {"kept": 200, "put": 200, "flaky": fails_first}
        self.receivers = {name: stack.enter_context(Receiver(behaviour)) for name, behaviour in behaviours.items()}
        self.accepted: set[tuple[str, str]] = set()
        self.sent: set[tuple[str, str]] = set()
        self.run_ids: list[str] = []
        self._config = directory / "hookd.toml"
        endpoint = f'[[clients.endpoints]]\nurl = "{self.receivers["kept"].url}"\nsecret = "whsec_{"A" * 32}"\n'
        self._config.write_text(f'[[clients]]\nid = "kept"\n{endpoint}')

    def start(self) -> Daemon:
        return Daemon(self.directory, "--config", str(self._config), settings=RECOVERING)

    def register(self, daemon: Daemon) -> None:
        """What a platform does at its own start."""
        with daemon.api as api:
            self.run_ids.append(api.status()["run_id"])
            for name in ("put", "flaky"):
                api.put_client(name, {"url": self.receivers[name].url})

    def produce(self, daemon: Daemon, run: int, enough: int) -> Producer:
        """Goes on when so many were accepted; it still posts."""
        producer = Producer(daemon.port, run, CLIENTS)
        wait_until(lambda: len(producer.accepted) >= enough, seconds=30, what=f"{enough} accepted")
        return producer

    def note(self, producer: Producer) -> None:
        producer.join()
        self.accepted |= producer.accepted
        self.sent |= producer.sent

    def settle(self) -> None:
        """One more run, to the end of everything that is owed."""
        with self.start() as daemon, daemon.api as api:
            self.register(daemon)
            # A run takes in more than it delivers before it is killed: after 200 of them about 20,000 events are owed.
            seconds = 60 + 2 * KILLS
            wait_until(lambda: not api.status()["memory"]["unsettled_events"], seconds=seconds, what="all to settle")
            assert api.status()["waiting_for_client"] == 0
            assert daemon.stop() == 0

    def reports(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """In the order of the runs."""
        for run_id in self.run_ids:
            (path,) = (self.directory / "reports").glob(f"*-{run_id}.jsonl")
            yield read_report(path)

    def mistakes(self) -> list[str]:
        found = []
        answers = answers_of(self.receivers)
        reports = list(self.reports())
        lines = [line for _, listed in reports for line in listed]
        unknown = {(one["client_id"], one["event_id"]) for one in lines if one.get("class") == "outcome_unknown"}
        for key in self.accepted:
            if 200 not in answers.get(key, []):
                found.append(f"{key} was answered 202 and never delivered: {answers.get(key)}")
        for key, statuses in answers.items():
            if key not in self.sent:
                found.append(f"{key} was never posted")
            again = statuses[statuses.index(200) + 1 :] if 200 in statuses else []
            if again and key not in unknown:
                found.append(f"{key} was sent again after its 200, and no report said outcome_unknown: {statuses}")
        summaries = [summary for summary, _ in reports]
        new = sum(one["events"]["accepted"] - one["events"]["recovered"] for one in summaries)
        settled = sum(one["events"]["delivered"] + one["events"]["exhausted"] for one in summaries)
        if new != settled + summaries[-1]["events"]["undelivered"]:
            found.append(f"{new} events were accepted anew, {settled} settled, and the last run left {summaries[-1]}")
        for before, after in pairwise(summaries):
            if before["events"]["undelivered"] != after["events"]["recovered"]:
                found.append(
                    f"{before['run_id']} left {before['events']}, {after['run_id']} took back {after['events']}"
                )
        found += [f"{one['run_id']} does not balance" for one in summaries if not one["balanced"]]
        return found


def test_restarts_under_load_lose_nothing(tmp_path: Path) -> None:
    """SIGTERM and start, again and again: each event reaches its receiver, and across runs the sums are one sum."""
    moments = random.Random(RESTARTS)
    with ExitStack() as stack:
        platform = Platform(tmp_path, stack)
        for run in range(RESTARTS):
            with platform.start() as daemon:
                platform.register(daemon)
                producer = platform.produce(daemon, run, moments.randrange(100, 1000))
                assert daemon.stop() in (0, 3)
                platform.note(producer)
        platform.settle()
        assert platform.mistakes() == []
        assert sum(summary["events"]["recovered"] for summary, _ in platform.reports()) > 0


@pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")
def test_kills_under_load_lose_nothing_with_payloads_recorded(tmp_path: Path) -> None:
    """SIGKILL at random; every third stop is a SIGTERM, since three crashes in a row hold recovery back."""
    seed = random.randrange(10**6)
    print(f"seed {seed}, {KILLS} kills")
    moments = random.Random(seed)
    with ExitStack() as stack:
        platform = Platform(tmp_path, stack)
        for run in range(KILLS * 3 // 2):
            with platform.start() as daemon:
                platform.register(daemon)
                producer = platform.produce(daemon, run, moments.choice([1, moments.randrange(1, 800)]))
                if run % 3 == 2:
                    assert daemon.stop() in (0, 3)
                else:
                    daemon.kill()
                platform.note(producer)
        platform.settle()
        assert platform.mistakes() == []
        triggers = [summary["trigger"] for summary, _ in platform.reports()]
        assert triggers.count("crash") == KILLS
        assert not list((tmp_path / "reports").glob("*.open"))


@pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")
def test_event_in_flight_at_three_crashes_is_suspected_of_them(tmp_path: Path) -> None:
    """Three kills in a row: the next start recovers nothing and says so; the one after gives the event up, and the
    others come back. `previous_run` tells each time what became of the run before.
    """
    with Receiver(HANG) as hung, Receiver(503) as moody:
        settings = {**RECOVERING, "retry.schedule": ["10m"] * 7, "delivery.timeout": "30s"}
        config = tmp_path / "hookd.toml"
        endpoints = [("bad", hung.url), ("good", moody.url)]
        config.write_text('[[clients]]\nid = "acme"\n' + "".join(endpoint_toml(*one) for one in endpoints))

        def start() -> Daemon:
            return Daemon(tmp_path, "--config", str(config), settings=settings)

        for kills in range(3):
            with start() as daemon, daemon.api as api:
                if kills == 0:
                    assert api.status()["previous_run"] is None
                    assert api.post("acme", "poison", event_type="bad").status == 202
                    assert api.post("acme", "innocent", event_type="good").status == 202
                else:
                    previous = api.status()["previous_run"]
                    assert (previous["ended"], previous["undelivered"], previous["recovered"]) == ("crash", 2, 2)
                wait_until(lambda: hung.hanging == kills + 1 and api.deliveries()["failed"] == 1)  # noqa: B023
                daemon.kill()
        with start() as daemon, daemon.api as api:
            held_back = "NOTHING IS RECOVERED: the last 3 runs crashed within 10 minutes"
            wait_until(lambda: held_back in daemon.stderr)
            status = api.status()
            assert (status["events"]["accepted"], status["previous_run"]["recovered"]) == (0, 0)
            assert daemon.stop() == 0
        assert not list(daemon.reports.glob(f"crash-*-{status['previous_run']['run_id']}.jsonl.claimed-by-*"))
        moody.behaviour = hung.behaviour = always(200)
        with start() as daemon, daemon.api as api:
            wait_until(lambda: api.get("/v1/clients/acme/events/innocent")["status"] == "delivered")
            poison = api.get("/v1/clients/acme/events/poison")
            assert (poison["status"], poison["deliveries"][0]["reason"]) == ("exhausted", "crashed")
            assert poison["deliveries"][0]["attempt_count"] == 3
            status = api.status()
            assert status["events"]["recovered"] == 2
            previous = status["previous_run"]
            assert (previous["ended"], previous["undelivered"], previous["recovered"]) == ("clean", 0, 0)
            assert daemon.stop() == 0


def endpoint_toml(endpoint_id: str, url: str) -> str:
    """Which wants events of the type that is called like it."""
    secret = f"whsec_{'A' * 32}"
    lines = [f'id = "{endpoint_id}"', f'url = "{url}"', f'secret = "{secret}"', f'event_types = ["{endpoint_id}"]']
    return "\n".join(["[[clients.endpoints]]", *lines, ""])


@pytest.mark.parametrize("signals", [1, 2])
def test_stop_during_recovery_reports_everything(tmp_path: Path, signals: int) -> None:
    """SIGTERM before it listens: the report and the reports that are still unclaimed name every event between them."""
    count = 20_000
    old = write_shutdown_report(tmp_path / "reports", count, "http://127.0.0.1:9/")
    daemon = Daemon(tmp_path, settings={**RECOVERING, "drain.timeout": "0s"})
    try:
        wait_until(daemon.obeys_signals)
        wait_until(lambda: '"descriptors"' in daemon.stderr)
        for _ in range(signals):
            daemon.signal(signal.SIGTERM)
            at = time.monotonic()
            wait_until(lambda: time.monotonic() - at > 0.3)  # closer together they are one  # noqa: B023
        assert daemon.wait(20) in (0, 3)
    finally:
        daemon.__exit__(None, None, None)
    (path,) = set(daemon.reports.glob("shutdown-*.jsonl")) - {old}
    summary, lines = read_report(path)
    assert summary["balanced"]
    claims = list(daemon.reports.glob("*.claimed-by-*"))
    listed = {line["event_id"] for line in lines} | ({f"e{n}" for n in range(count)} if not claims else set())
    assert len(listed) == count
    assert summary["events"]["recovered"] == summary["events"]["undelivered"] == len(lines)


def segments(directory: Path) -> set[str]:
    """Of recorders, whoever's."""
    return {path.name for path in runtime_directory(directory / "reports").rglob("*.segment")}


@pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")
def test_kills_during_recovery_neither_lose_nor_double(tmp_path: Path) -> None:
    """Wherever a start is killed, the next one finds the old report, or its own crash report, or both."""
    count = 10_000
    write_shutdown_report(tmp_path / "reports", count, "http://127.0.0.1:9/")
    moments = random.Random(5)
    for kills in range(8):
        before = segments(tmp_path)
        daemon = Daemon(tmp_path, settings=RECOVERING)
        try:
            enough = moments.randrange(9)
            wait_until(lambda: len(segments(tmp_path) - before) >= enough or daemon.has_line(), seconds=20)  # noqa: B023
            if kills % 3 == 2:
                daemon.first_line()
                daemon.stop()
            else:
                daemon.kill()
        finally:
            daemon.__exit__(None, None, None)
    with Daemon(tmp_path, settings=RECOVERING) as daemon, daemon.api as api:
        status = api.status()
        assert status["events"]["pending"] == status["waiting_for_client"] == count
        assert status["events"]["recovered"] == count
        assert daemon.stop() == 3
    newest = max(daemon.reports.glob("shutdown-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    assert Counter(line["event_id"] for line in read_report(newest)[1]) == Counter(f"e{n}" for n in range(count))
