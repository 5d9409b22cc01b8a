"""A restart under load, while somebody else holds the listening socket: this test, in systemd's place."""

import os
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.harness import HANG, Api, Daemon, Receiver, socket_activated, wait_until

REQUESTS = 150
EVERY_SECONDS = 0.01
PRODUCERS = 3
STATUSES_EXPECTED = {202, 503}


class SteadyProducer:
    """Posts one event each hundredth of a second: by a connection of its own each, or by one that is kept.

    A 503 is repeated at once. What is neither 202 nor that, and every broken or refused connection, is a failure.
    """

    def __init__(self, port: int, name: str, *, keeps: bool) -> None:
        self.statuses: Counter[int] = Counter()
        self.posted: list[str] = []
        self.failure: BaseException | None = None
        self._port, self._name, self._keeps = port, name, keeps
        self._thread = threading.Thread(target=self._post_all)
        self._thread.start()

    def _post_all(self) -> None:
        pause = threading.Event()
        api: Api | None = None
        try:
            for number in range(REQUESTS):
                event_id = f"{self._name}-{number}"
                status = 0
                while status != 202:
                    api = api or Api(self._port)
                    answer = api.post("acme", event_id)
                    status = answer.status
                    assert status in STATUSES_EXPECTED, answer
                    assert (status == 503) <= (answer.headers.get("connection") == "close"), answer
                    self.statuses[status] += 1
                    if not self._keeps or answer.headers.get("connection") == "close":
                        api.__exit__()
                        api = None
                self.posted.append(event_id)
                pause.wait(EVERY_SECONDS)
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            if api is not None:
                api.__exit__()

    def join(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert self.failure is None


@pytest.mark.parametrize("keeps", [False, True], ids=["connection_each", "kept_connections"])
def test_restart_under_load_refuses_no_connection_and_loses_nothing(keeps: bool, tmp_path: Path) -> None:
    """Every event gets a 202 within its producer's retries, and is delivered once."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as held, Receiver() as receiver:
        port, fd = held.getsockname()[1], os.dup(held.fileno())

        def daemon() -> Daemon:
            client = ("--client", f"acme={receiver.url}")
            return Daemon(tmp_path, *client, bind=None, through=socket_activated(fd), pass_fds=[fd])

        with daemon() as first:
            assert first.port == port
            producers = [SteadyProducer(port, f"p{n}", keeps=keeps) for n in range(PRODUCERS)]
            wait_until(lambda: all(len(one.posted) > 20 for one in producers), what="the load")
            assert first.stop() == 0
            assert not any(len(one.posted) == REQUESTS for one in producers), "the restart came after the load"
        with daemon() as second:
            for one in producers:
                one.join()
            assert second.stop() == 0
        os.close(fd)
    posted = [event_id for one in producers for event_id in one.posted]
    assert len(posted) == PRODUCERS * REQUESTS
    assert receiver.ids() == Counter(posted)
    refused = sum(one.statuses[503] for one in producers)
    print(f"{len(posted)} events over a restart, {refused} of them 503 once")
    assert refused <= PRODUCERS  # one that was under way when the drain began, at most


def test_kept_connections_get_a_last_answer_in_a_drain(tmp_path: Path) -> None:
    """On each the last thing heard is an answer that closes it, while one delivery holds the drain open."""
    with Receiver(HANG) as receiver, Daemon(tmp_path, "--client", f"acme={receiver.url}") as daemon:
        producers = [Api(daemon.port) for _ in range(40)]
        for number, api in enumerate(producers):
            assert api.post("acme", f"e{number}").status == 202
        wait_until(lambda: receiver.hanging, what="an attempt in flight")
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: "drain.started" in daemon.stderr, what="the drain")
        answers = [api.post("acme", f"late-{number}") for number, api in enumerate(producers)]
        assert {(one.status, one.slug, one.headers.get("connection")) for one in answers} == {
            (503, "draining", "close")
        }
        for api in producers:
            api.__exit__()
        receiver.release()
        assert daemon.wait(30) == 0
