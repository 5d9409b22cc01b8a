"""`hookd relay` between a real Redis and a real daemon: what is acknowledged when, and what becomes of the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Daemon, Receiver, wait_until
from tests.relay.harness import STREAM, RedisServer, Relay, definitions, needs_redis

pytestmark = needs_redis


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as redis:
        yield redis


def test_entry_is_acknowledged_once_its_event_is_settled(tmp_path: Path, redis: RedisServer) -> None:
    """Not when it is posted: while the endpoint hangs it stays pending."""
    from tests.acceptance.harness import HANG

    redis.add("acme", [f"e{n}" for n in range(5)])
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with Relay(tmp_path, redis.url, daemon.url, "--clients", clients) as relay:
            wait_until(lambda: receiver.hanging >= 1, what="one is attempted")
            wait_until(lambda: relay.metrics().get('owed{state="posted"}') == 5, what="all are posted")
            assert redis.pending() == 5
            receiver.release()
            wait_until(redis.is_done, what="all are acknowledged")
            assert set(receiver.ids()) == {f"e{n}" for n in range(5)}
            assert relay.metrics()["delivered_total"] == 5
            assert relay.is_ready()
            assert relay.stop() == 0
    assert redis.ask("XLEN", STREAM) == 5
