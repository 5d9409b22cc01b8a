"""Must-shown 4: hookd, the relay and Redis are killed at random, some together, under load, and nothing is lost.

Two witnesses that know nothing of each other are held against what Redis confirmed to the producer: the receiver's own
log, and the streams. Where one daemon sent an event twice, its own log must say that it read no answer the time before.
`HOOKD_TEST_RELAY_KILLS=60 pytest tests/relay/test_relay_kills.py -s` is the full run.
"""

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from tests.acceptance.harness import HANG, Daemon, Received, Receiver, wait_until
from tests.acceptance.test_outbox import port_for_good
from tests.relay.harness import Redis, RedisError, RedisServer, Relay, added, definitions, needs_redis

KILLS = int(os.environ.get("HOOKD_TEST_RELAY_KILLS", "5"))
CLIENTS = [f"client{number}" for number in range(5)]
GIVES_UP = "client4"  # its endpoint answers 400, and that is final
UNANSWERED_EVERY = 97  # one of so many is taken, and its first attempt has no answer
UNSETTLED_MAX = 300
SETTLED_MAX_SECONDS = 120
SETTINGS = {"retry.schedule": ["50ms"] * 5, "retry.jitter": 0, "delivery.timeout": "2s", "drain.timeout": "5s"}


class Producer(threading.Thread):
    """Adds entries in small batches for as long as it is let; `confirmed` are those that Redis said yes to."""

    def __init__(self, redis: RedisServer, received: list[Received]) -> None:
        super().__init__()
        self._redis = redis
        self._received = received
        self._stopping = threading.Event()
        self.confirmed: dict[str, str] = {}
        self.added = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError, RedisError), Redis(self._redis.port) as redis:
                while not self._stopping.wait(0.005):
                    if len(self.confirmed) - len(self._received) < UNSETTLED_MAX:
                        self._add(redis)
            self._stopping.wait(0.02)

    def _add(self, redis: Redis) -> None:
        for _ in range(5):
            number = self.added
            self.added += 1
            client_id, event_id = CLIENTS[number % len(CLIENTS)], f"e{number}"
            redis(*added(client_id, event_id, f'{{"order": "{event_id}"}}'))
            self.confirmed[event_id] = client_id


class Trial:
    """The three, each started anew after it was killed; each daemon delivers under a path of its own."""

    def __init__(self, folder: Path, redis: RedisServer, receiver: Receiver) -> None:
        self.folder = folder
        self.redis = redis
        self._receiver = receiver
        self._port = port_for_good()
        self._run = 0
        self.daemon = self._next_daemon()
        arguments = ["--clients", str(folder / "clients.json")]
        to = f"http://127.0.0.1:{self._port}"
        self.relays = [Relay(folder, redis.url, to, *arguments, name=f"relay{number}") for number in range(2)]

    def _next_daemon(self) -> Daemon:
        self._run += 1
        urls = {name: f"{self._receiver.url}/{self._run}/{name}" for name in CLIENTS}
        definitions(self.folder, urls, give_up_on=[400])
        bind = f"127.0.0.1:{self._port}"
        with self._log_of(self._run).open("wb") as log:
            return Daemon(self.folder / "hookd", settings=SETTINGS, bind=bind, stderr=log.fileno())

    def _log_of(self, run: int) -> Path:
        return self.folder / f"hookd{run}.stderr"

    def unanswered(self) -> set[tuple[str, str, str]]:
        """Attempts without an answer, by the daemons' logs: the path, the event, and the attempt's number."""
        found: set[tuple[str, str, str]] = set()
        for run in range(1, self._run + 1):
            for line in map(json_of, self._log_of(run).read_bytes().splitlines()):
                if line.get("event") == "delivery.attempted" and line["status_code"] is None and line["request_sent"]:
                    found.add((urlsplit(line["url"]).path, line["event_id"], str(line["attempt"])))
        return found

    def __enter__(self) -> Self:
        self.daemon.__enter__()
        for relay in self.relays:
            relay.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self.relays:
            relay.kill()
        self.daemon.__exit__(None, None, None)

    def check_runs(self) -> None:
        for relay in self.relays:
            relay.check_runs()

    def wait_until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Fails at once, and says why, where a relay has ended by itself."""

        def is_met() -> bool:
            self.check_runs()
            return condition()

        wait_until(is_met, seconds=seconds, what=what)

    def kill(self, victims: list[str]) -> None:
        """All of them first, and then each is started again."""
        self.check_runs()
        if "hookd" in victims:
            self.daemon.kill()
        relays = [relay for number, relay in enumerate(self.relays) if f"relay{number}" in victims]
        for relay in relays:
            relay.kill()
        if "redis" in victims:
            self.redis.kill()
            self.redis.__enter__()
        if "hookd" in victims:
            self.daemon.__exit__(None, None, None)
            self.daemon = self._next_daemon()
            self.daemon.__enter__()
        for relay in relays:
            relay.__enter__()


@pytest.mark.timeout(120 + 30 * KILLS)
@needs_redis
def test_nothing_is_lost_through_kills_of_all_three(tmp_path: Path) -> None:
    """Every confirmed entry is delivered or exhausted with its line, none is pending at the end; what arrived twice was
    counted as posted again."""
    seed = int(os.environ.get("HOOKD_TEST_RELAY_SEED", random.randrange(1_000_000)))
    print(f"{seed=}")
    chance = random.Random(seed)
    victims = ["hookd", "relay0", "relay1", "redis"]
    with Receiver(answer) as receiver, RedisServer(tmp_path) as redis, Trial(tmp_path, redis, receiver) as trial:
        killed: Counter[str] = Counter()
        with Producer(redis, receiver.log) as producer:
            for _ in range(KILLS):
                let_it_work(trial, receiver, chance.randrange(1, 150))
                chosen = chance.sample(victims, chance.choices([1, 2, 3, 4], [6, 3, 2, 1])[0])
                killed.update(chosen)
                trial.kill(chosen)
        trial.wait_until(redis.is_done, seconds=SETTLED_MAX_SECONDS, what="everything is acknowledged")
        again = check(redis, receiver, producer.confirmed, trial.unanswered())
        print(f"{KILLS} kills {dict(killed)}, {len(producer.confirmed)} entries, {again}")


def let_it_work(trial: Trial, receiver: Receiver, count: int) -> None:
    enough = len(receiver.log) + count
    trial.wait_until(lambda: len(receiver.log) >= enough, seconds=60, what=f"{enough} requests")


def answer(received: Received) -> Any:
    """Every seventh event fails once, and a few are taken once without an answer."""
    if received.path.endswith(GIVES_UP):
        return 400
    number = int(received.event_id.removeprefix("e"))
    if received.number == 1 and number % UNANSWERED_EVERY == 0:
        return HANG
    return 500 if received.number == 1 and number % 7 == 0 else 200


def json_of(line: bytes) -> dict[str, Any]:
    """What a kill has cut off is no line."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def check(
    redis: RedisServer, receiver: Receiver, confirmed: dict[str, str], unanswered: set[tuple[str, str, str]]
) -> str:
    """Holds the receiver's log and the streams against what was confirmed."""
    taken = Counter(one.event_id for one in receiver.log if one.status == 200)
    exhausted = {line["id"]: line for line in redis.lines("exhausted")}
    wanted = {event_id for event_id, client_id in confirmed.items() if client_id != GIVES_UP}
    assert not wanted - set(taken), f"lost: {sorted(wanted - set(taken))[:10]}"
    given_up = set(confirmed) - wanted
    assert given_up <= set(exhausted), f"not exhausted: {sorted(given_up - set(exhausted))[:10]}"
    assert {line["reason"] for line in exhausted.values()} == {"refused"}
    assert len(exhausted) == len(redis.lines("exhausted")), "written twice"
    assert not redis.lines("refused")
    for one in receiver.log:
        assert one.body == f'{{"order": "{one.event_id}"}}'.encode()
    timed_out = attempted_again(receiver.log, unanswered)
    tries = Counter((one.path, one.event_id) for one in receiver.log)
    repeated = (
        sum(Counter(event_id for _, event_id in tries).values()) - len(taken) - len(given_up & receiver.ids().keys())
    )
    assert repeated <= redis.posted_again(), f"{repeated} repetitions, {redis.posted_again()} counted"
    return f"{repeated} repeated, {redis.posted_again()} posted again, {timed_out} attempted again without an answer"


def attempted_again(log: list[Received], unanswered: set[tuple[str, str, str]]) -> int:
    """How often one daemon sent again what may have been taken, and its log says that it read no answer.

    Admitted twice, an event would have two first attempts.
    """
    taken: dict[tuple[str, str], list[str]] = {}
    for one in log:
        if one.status in (200, None):
            taken.setdefault((one.path, one.event_id), []).append(one.header["hookd-attempt"])
    for (path, event_id), attempts in taken.items():
        assert len(set(attempts)) == len(attempts), f"{event_id} was admitted twice at {path}: attempts {attempts}"
        read = [one for one in sorted(attempts, key=int)[:-1] if (path, event_id, one) not in unanswered]
        assert not read, f"{event_id} at {path} was sent again after attempt {read}, which had its answer"
    return sum(len(attempts) - 1 for attempts in taken.values())


def test_event_that_came_twice_is_explained_by_its_daemon_or_fails() -> None:
    """Witnesses of three cases: no answer was read; one was; and two first attempts."""

    def seen(attempt: str) -> Received:
        headers = [("webhook-id", "e1"), ("hookd-attempt", attempt)]
        return Received("/hook/1/client0", headers, b"{}", 1, 0.0, 200)

    unanswered = {("/hook/1/client0", "e1", "1")}
    assert attempted_again([seen("1"), seen("2")], unanswered) == 1
    with pytest.raises(AssertionError, match="which had its answer"):
        attempted_again([seen("1"), seen("2")], set())
    with pytest.raises(AssertionError, match="admitted twice"):
        attempted_again([seen("1"), seen("1")], unanswered)
