"""Must-shown 5: behind the outbox, every event reaches its receiver, whatever is killed or wiped; and what may repeat.

The platform, the relay and the daemon are processes of their own; the relay is tests/examples/outbox.py as it stands.
Two witnesses that know nothing of each other are held against what was committed: the receiver's own log, and the
outbox's table. `OUTBOX_KILLS=50 pytest tests/acceptance/test_outbox.py -s` is the full run.
"""

import json
import os
import random
import shutil
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tests.acceptance.harness import Daemon, Received, Receiver, wait_until
from tests.acceptance.outbox_relay import Relay
from tests.examples import outbox

KILLS = int(os.environ.get("OUTBOX_KILLS", "6"))
RELAY_KILLED_EVERY = 4
WIPED_EVERY = 2
OWED_MAX = 1000
CLIENTS = [f"client{number}" for number in range(5)]
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = {"retry.schedule": ["50ms"] * 5, "retry.jitter": 0, "delivery.timeout": "2s", "drain.timeout": "5s"}


class Platform(threading.Thread):
    """Business as usual: each order and its event in one transaction, of which every tenth is rolled back.

    No new orders while 1,000 are owed: a slow machine would not come to an end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._stopping = threading.Event()
        self.rolled_back: set[str] = set()

    def __enter__(self) -> Self:
        with database(self._path) as db:
            db.executescript(outbox.SCHEMA)
            db.execute("CREATE TABLE orders (id TEXT PRIMARY KEY)")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        with database(self._path) as db:
            number = 0
            while not self._stopping.wait(0.002):
                if number % 100 == 0 and owed(db) > OWED_MAX:
                    continue
                number += 1
                self._order(db, f"order-{number}", CLIENTS[number % len(CLIENTS)], is_refused=number % 10 == 0)

    def _order(self, db: sqlite3.Connection, order_id: str, client_id: str, *, is_refused: bool) -> None:
        db.execute("INSERT INTO orders VALUES (?)", (order_id,))
        outbox.add_event(db, client_id, order_id, "order.paid", {"order": order_id, "note": "Zoë"})
        if is_refused:
            self.rolled_back.add(order_id)
            db.rollback()
        else:
            db.commit()


class Kill(NamedTuple):
    """What was known when the daemon had just died."""

    received: int  # requests in the receiver's log
    ticked_off: set[str]  # settled, as the relay had read it from the feed


class Trial:
    """Daemons in a row on one port, each under a path of its own at the receiver, so that its requests are told apart.

    Chance is seeded: the seed is printed and a failure can be run again, as far as processes can be.
    """

    def __init__(self, directory: Path, receiver: Receiver, seed: int) -> None:
        self.directory = directory
        self.receiver = receiver
        self.port = port_for_good()
        self.chance = random.Random(seed)
        self.kills: list[Kill] = []

    @property
    def path(self) -> Path:
        return self.directory / "outbox.db"

    def relay(self) -> Relay:
        files = str(self.path), f"127.0.0.1:{self.port}", str(self.directory / "clients.json")
        return Relay(self.directory / "relay.stderr", "tests.examples.outbox", *files)

    @contextmanager
    def daemon(self, run: int) -> Iterator[Daemon]:
        """Killed at the end, by `Daemon` itself; every second host is lost with all that hookd had written."""
        endpoint = {"url": f"{self.receiver.url}/{run}", "secret": SECRET}
        written = self.directory / "clients.new"
        written.write_text(json.dumps(dict.fromkeys(CLIENTS, endpoint)))
        written.replace(self.directory / "clients.json")
        home = self.directory / "hookd"
        recorder = {"recorder.directory": str(home / "recorder")}  # all of it in one place, to be lost in one go
        with Daemon(home, settings={**SETTINGS, **recorder}, bind=f"127.0.0.1:{self.port}") as daemon:
            yield daemon
        self.kills.append(Kill(len(self.receiver.log), self.ticked_off()))
        if run % WIPED_EVERY == 0:
            shutil.rmtree(home)

    def ticked_off(self) -> set[str]:
        with database(self.path) as db:
            return {event_id for (event_id,) in db.execute("SELECT id FROM outbox WHERE status IS NOT NULL")}


def test_an_error_page_of_a_proxy_is_no_end_of_the_relay() -> None:
    """It is no JSON. The loop takes it as hookd being away, and posts again."""
    with Receiver(502) as proxy, closing(sqlite3.connect(":memory:")) as db:
        relay = outbox.Relay(db, proxy.url.removeprefix("http://").removesuffix("/hook"), "clients.json")
        with pytest.raises(ConnectionError, match="502 ok"):
            relay.ask("POST", "/v1/events/batch", "{}")
        relay.hookd.close()


def test_every_event_reaches_its_receiver_through_kills_and_lost_hosts(tmp_path: Path) -> None:
    """Daemon and relay killed at random under load, every second time hookd's files wiped: nothing missing; and what
    arrived twice had not been ticked off when the daemon that brought it first was killed."""
    seed = random.randrange(1_000_000)
    print(f"{seed=}")
    with Receiver(flaky) as receiver:
        trial = Trial(tmp_path, receiver, seed)
        with Platform(trial.path) as platform, trial.relay() as relay:
            for run in range(KILLS):
                with trial.daemon(run):
                    let_it_work(trial)
                if run % RELAY_KILLED_EVERY == 1:
                    relay.kill_and_start_again()
            with trial.daemon(KILLS):
                platform.__exit__()
                with database(trial.path) as db:
                    wait_until(lambda: owed(db) == 0, seconds=60, what="everything is ticked off")
    committed = orders(trial.path)
    figures = check(trial, committed)
    assert not platform.rolled_back & set(figures.received)
    print(f"{KILLS} kills, {len(committed)} events, {figures}")


def let_it_work(trial: Trial) -> None:
    """Until so many more requests were received, a number by chance, which may be none."""
    enough = len(trial.receiver.log) + trial.chance.randrange(300)
    wait_until(lambda: len(trial.receiver.log) >= enough, seconds=30, what=f"{enough} requests received")


class Figures(NamedTuple):
    received: Counter[str]  # how often each event was taken with a 200

    def __str__(self) -> str:
        repeated = [count for count in self.received.values() if count > 1]
        return f"{len(repeated)} received more than once, at most {max(repeated, default=1)} times"


def check(trial: Trial, committed: dict[str, str]) -> Figures:
    """Holds the receiver's log and the outbox's table against what was committed."""
    log = trial.receiver.log
    taken = [one for one in log if one.status == 200]
    received = Counter(one.event_id for one in taken)
    assert committed == dict.fromkeys(received, "delivered"), "missing, or not ticked off as delivered"
    assert all(json.loads(one.body) == {"order": one.event_id, "note": "Zoë"} for one in taken)
    in_one_run = Counter((one.path, one.event_id) for one in taken)
    assert max(in_one_run.values()) == 1, "one daemon delivered an event twice"
    for kill in trial.kills:
        again = {one.event_id for one in log[kill.received :]} & kill.ticked_off
        assert not again, f"arrived again after they were ticked off: {sorted(again)[:5]}"
    assert len({one.path for one in taken}) > KILLS / 2, "too many were killed before they delivered anything"
    return Figures(received)


def orders(path: Path) -> dict[str, str]:
    """The status of the event of each order that was committed: read off the business table, not off the outbox."""
    with database(path) as db:
        return dict(db.execute("SELECT orders.id, status FROM orders LEFT JOIN outbox ON outbox.id = orders.id"))


def flaky(received: Received) -> int:
    """Every seventh event fails once."""
    return 500 if received.number == 1 and int(received.event_id.removeprefix("order-")) % 7 == 0 else 200


def owed(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM outbox WHERE status IS NULL").fetchone()[0])


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(path, timeout=30)
    try:
        yield db
    finally:
        db.close()


def port_for_good() -> int:
    """Below those that the system gives to connections: nobody takes it while no daemon listens on it."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")
