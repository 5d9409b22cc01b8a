"""The outbox in PostgreSQL: two platforms share a daemon, one has two relays, and daemon and relay are killed.

The server is a real one, of the test's own, on a unix socket. Skips where none is installed.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.harness import Daemon, Received, Receiver, wait_until
from tests.acceptance.outbox_relay import Relay
from tests.acceptance.test_outbox import SECRET, SETTINGS, port_for_good

psycopg = pytest.importorskip("psycopg", reason="no psycopg here")

from tests.examples import outbox_postgres  # noqa: E402 - it takes psycopg

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), default=None)
# Each platform has clients of its own, and one daemon with the other.
CLIENTS = {"shop": ("shop-a", "shop-b"), "bank": ("bank-a",)}
EVENTS = 200
KILLS = 2

pytestmark = pytest.mark.skipif(PROGRAMS is None or shutil.which("setpriv") is None, reason="no PostgreSQL server here")


def as_its_user(*command: str) -> list[str]:
    """The server refuses to run as root: then as the user that its package made."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@contextmanager
def server() -> Iterator[str]:
    """The folder of its socket. It syncs nothing: it is not what is killed here."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data, log = f"{folder}/data", Path(folder, "log")
        initdb = as_its_user(f"{PROGRAMS}/initdb", "-D", data, "-A", "trust", "-U", "outbox", "--no-sync")
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with log.open("wb") as output:
            command = as_its_user(f"{PROGRAMS}/postgres", "-D", data, *options)
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
        try:
            wait_until(lambda: b"ready to accept" in log.read_bytes(), seconds=30, what="PostgreSQL")
            yield folder
        finally:
            process.terminate()
            process.wait(30)


def place_orders(db: "psycopg.Connection", platform: str, numbers: Sequence[int]) -> None:
    """Each in a transaction with its event; every tenth is rolled back."""
    for number in numbers:
        client_id = CLIENTS[platform][number % len(CLIENTS[platform])]
        with db.transaction():
            order = {"order": number, "note": "Zoë"}
            outbox_postgres.add_event(db, client_id, f"{platform}-{number}", "order.paid", order)
            if number % 10 == 0:
                raise psycopg.Rollback


def owed(db: "psycopg.Connection") -> int:
    return int(db.execute("SELECT count(*) FROM outbox WHERE status IS NULL").fetchone()[0])


def flaky(received: Received) -> int:
    """Every seventh event fails once."""
    return 500 if received.number == 1 and int(received.event_id.partition("-")[2]) % 7 == 0 else 200


@contextmanager
def databases(folder: str) -> Iterator[dict[str, "psycopg.Connection"]]:
    """An empty one of each platform."""
    with ExitStack() as stack:
        base = f"host={folder} user=outbox dbname="
        main = stack.enter_context(psycopg.connect(f"{base}postgres", autocommit=True))
        found = {}
        for platform in CLIENTS:
            main.execute(f"CREATE DATABASE {platform}")
            found[platform] = stack.enter_context(psycopg.connect(base + platform, autocommit=True))
        yield found


def has_tables(db: "psycopg.Connection") -> bool:
    """The relay makes them, at its first start."""
    return db.execute("SELECT to_regclass('feed') IS NOT NULL").fetchone() == (True,)


def test_two_platforms_lose_nothing_by_kills_of_daemon_and_relay(tmp_path: Path) -> None:
    """All that was committed is delivered and ticked off, once by each daemon at most, and nothing else is."""
    port = port_for_good()
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver(flaky))
        dbs = stack.enter_context(databases(folder := stack.enter_context(server())))
        relays = {}
        for name, platform in (("shop-1", "shop"), ("shop-2", "shop"), ("bank-1", "bank")):
            conninfo = f"host={folder} user=outbox dbname={platform}"
            clients = tmp_path / f"{platform}.json"
            arguments = conninfo, f"127.0.0.1:{port}", str(clients)
            relays[name] = Relay(tmp_path / f"{name}.stderr", "tests.examples.outbox_postgres", *arguments)
        for run in range(KILLS + 1):
            endpoint = {"url": f"{receiver.url}/{run}", "secret": SECRET}
            for platform, client_ids in CLIENTS.items():
                (tmp_path / f"{platform}.json").write_text(json.dumps(dict.fromkeys(client_ids, endpoint)))
            if run == 0:
                for name, relay in relays.items():
                    stack.enter_context(relay)
                    db = dbs[name.partition("-")[0]]
                    wait_until(partial(has_tables, db), seconds=30, what="the tables")
            with Daemon(tmp_path / "hookd", settings=SETTINGS, bind=f"127.0.0.1:{port}"):
                for platform, db in dbs.items():
                    place_orders(db, platform, range(run * EVENTS, (run + 1) * EVENTS))
                enough = (run + 1) * EVENTS // 2
                wait_until(lambda least=enough: len(receiver.log) >= least, seconds=60, what="requests")
                relays["shop-1"].kill_and_start_again()
                if run == KILLS:
                    wait_until(lambda: not any(map(owed, dbs.values())), seconds=120, what="all ticked off")
        committed = {row for db in dbs.values() for row in db.execute("SELECT id, status FROM outbox")}
    taken = [one for one in receiver.log if one.status == 200]
    wanted = {f"{name}-{number}" for name in CLIENTS for number in range((KILLS + 1) * EVENTS) if number % 10}
    assert committed == {(event_id, "delivered") for event_id in wanted}
    assert {one.event_id for one in taken} == wanted
    assert all(json.loads(one.body)["note"] == "Zoë" for one in taken)
    in_one_run = Counter((one.path, one.event_id) for one in taken)
    assert max(in_one_run.values()) == 1, "one daemon delivered an event twice"
    repeats = Counter(Counter(one.event_id for one in taken).values())
    print(f"{len(wanted)} events through {KILLS} kills of the daemon, times received: {dict(repeats)}")


def test_two_relays_never_post_the_same_row(tmp_path: Path) -> None:
    """What one has locked, the other passes over, and takes what is next."""
    with server() as folder, databases(folder) as dbs:
        dbs["bank"].execute(outbox_postgres.SCHEMA)
        place_orders(dbs["bank"], "bank", range(200))
        conninfo = f"host={folder} user=outbox dbname=bank"
        with psycopg.connect(conninfo) as one, psycopg.connect(conninfo) as other:
            first, second = (db.execute(outbox_postgres.OWED).fetchall() for db in (one, other))
        assert [len(first), len(second)] == [50, 50]
        assert not {number for number, _ in first} & {number for number, _ in second}
