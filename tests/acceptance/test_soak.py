"""Real time, real sockets, steady traffic: descriptors, threads and memory come back to what they were."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.harness import (
    Api,
    Daemon,
    Received,
    Receiver,
    event_body,
    read_report,
    refusing_url,
    wait_until,
)

# In full, by hand: HOOKD_TEST_SOAK_SECONDS=1800 pytest -n 0 --timeout 0 -k steady_traffic tests
SECONDS = float(os.environ.get("HOOKD_TEST_SOAK_SECONDS", "12"))
ROUND_SECONDS = 0.25
ROUND_EVENTS = 30
# Of a process whose allocator keeps pages for the next events; a leak of 1 KiB an event is 200 MiB in half an hour.
RSS_GROWTH_BYTES_MAX = 12 * 2**20
SETTINGS = {
    "retry.schedule": ["100ms", "200ms"],
    "retry.age_max": "20s",
    "retention.delivered_events_max": 300,
    "retention.exhausted_events_max": 100,
    "retention.settlements_max": 1000,
    "drain.timeout": "2s",
}


class Resources(NamedTuple):
    descriptors: int
    threads: int
    resident_bytes: int


def resources(daemon: Daemon) -> Resources:
    process = Path(f"/proc/{daemon.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return Resources(
        len(os.listdir(process / "fd")), len(os.listdir(process / "task")), pages * os.sysconf("SC_PAGE_SIZE")
    )


class Traffic:
    """So many events a round for clients that are well, flaky and wrong, one for one that is down (soon it is paused,
    and its events expire), and what else users of the API do."""

    def __init__(self, daemon: Daemon, api: Api, url: str) -> None:
        self._daemon, self._api, self._url = daemon, api, url
        self.rounds = 0

    def run(self, seconds: float) -> Resources:
        """Then until all is settled, and no more is open than there was to begin with."""
        end = time.monotonic() + seconds
        while (due := time.monotonic() + ROUND_SECONDS) < end:
            self._round()
            wait_until(lambda due=due: time.monotonic() >= due, seconds=60)
        wait_until(lambda: self._unsettled() == 0, seconds=60, what="all settled")
        wait_until(lambda: self._api.status()["connections"]["open"] == 1, seconds=60, what="other connections closed")
        return resources(self._daemon)

    def _round(self) -> None:
        self.rounds += 1
        clients = ("up", "flaky", "wrong")
        body = [event_body(clients[n % 3], f"e{self.rounds}-{n}", b'{"x": "%0500d"}' % n) for n in range(ROUND_EVENTS)]
        body.append(event_body("down", f"e{self.rounds}"))
        assert self._api.ask("POST", "/v1/events/batch", b"[" + b",".join(body) + b"]").status == 202
        guest = f"guest-{self.rounds}"
        with self._daemon.api as other:  # a connection of its own
            other.put_client(guest, {"url": self._url})
            assert other.post(guest, "e1").status == 202
            assert other.ask("GET", "/v1/events?limit=100").status == 200
            assert other.ask("GET", "/metrics").status == 200
            assert other.ask("POST", "/v1/events", b"{").status == 400
            assert other.ask("DELETE", f"/v1/clients/{guest}?end_unsettled=true").status == 204
        wait_until(lambda: self._unsettled() < 10 * ROUND_EVENTS, seconds=60, what="no backlog")

    def _unsettled(self) -> int:
        deliveries = self._api.deliveries()
        return deliveries["pending"] + deliveries["failed"]


def flaky(received: Received) -> int:
    return 503 if received.number == 1 and int(received.event_id.rpartition("-")[2]) % 2 else 200


def test_steady_traffic_leaves_nothing_behind(tmp_path: Path) -> None:
    """After three times as long the daemon is as large as after the first quarter, and what it counts is what was."""
    with (
        Receiver(200) as up,
        Receiver(flaky) as failing,
        Receiver(404) as wrong,
        refusing_url() as refusing,
        Daemon(tmp_path, settings=SETTINGS) as daemon,
        daemon.api as api,
    ):
        for client_id, url in (("up", up.url), ("flaky", failing.url), ("wrong", wrong.url), ("down", refusing)):
            api.put_client(client_id, {"url": url})
        traffic = Traffic(daemon, api, up.url)
        before = traffic.run(SECONDS / 4)
        first_rounds = traffic.rounds
        after = traffic.run(3 * SECONDS / 4)
        print(f"{traffic.rounds} rounds; before {before}, after {after}")
        assert traffic.rounds > 2 * first_rounds
        assert after.descriptors <= before.descriptors + 2  # a look at the report directory may be under way
        assert after.threads <= before.threads + 4
        assert after.resident_bytes <= before.resident_bytes + RSS_GROWTH_BYTES_MAX
        events = api.status()["events"]
        assert events["accepted"] == traffic.rounds * (ROUND_EVENTS + 2)
        assert events["exhausted"] >= traffic.rounds * ROUND_EVENTS // 3
        assert daemon.stop() == 0
    assert read_report(daemon.report())[0]["balanced"] is True
    assert "Traceback" not in daemon.stderr
