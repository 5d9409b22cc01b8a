"""`hookd relay` between a real Redis and a real daemon: what is acknowledged when, and what becomes of the rest."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import HANG, Api, Daemon, Received, Receiver, hookd, wait_until
from tests.acceptance.test_outbox import port_for_good
from tests.relay.harness import GROUP, STREAM, RedisServer, Relay, definitions, needs_redis
from tests.relay.proxies import HangingProxy, ShardingProxy

pytestmark = needs_redis
SECONDS_MAX = 60.0  # for what takes a second on a machine that does nothing else


@pytest.fixture(name="redis")
def _redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as redis:
        yield redis


def wait(condition: object, what: str) -> None:
    assert callable(condition)
    wait_until(condition, seconds=SECONDS_MAX, what=what)


@contextmanager
def relayed(folder: Path, redis: RedisServer, daemon: Daemon, *arguments: str) -> Iterator[Relay]:
    with Relay(folder, redis.url, daemon.url, *arguments) as relay:
        yield relay


def owed(relay: Relay, state: str) -> float:
    return relay.metrics()[f'owed{{state="{state}"}}']


def test_entry_is_acknowledged_once_its_event_is_settled(tmp_path: Path, redis: RedisServer) -> None:
    """Not when it is posted: while the endpoint hangs it stays pending. A stop with nothing owed is 0."""
    redis.add("acme", [f"e{n}" for n in range(5)])
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            wait(lambda: owed(relay, "posted") == 5, "all are posted")
            assert redis.pending() == 5
            receiver.release()
            wait(redis.is_done, "all are acknowledged")
            assert set(receiver.ids()) == {f"e{n}" for n in range(5)}
            wait(lambda: relay.metrics()["delivered_total"] == 5, "they are counted")
            assert relay.is_ready()
            assert relay.stop() == 0
    assert redis.ask("XLEN", STREAM) == 5, "the stream is the platform's to trim"


def test_what_is_given_up_or_can_never_be_posted_gets_its_line(tmp_path: Path, redis: RedisServer) -> None:
    """With all its fields and the reason, or the problem; and is acknowledged."""
    redis.add("acme", ["given-up"], '{"n": 1}')
    redis.add("acme", ["conflict"], '{"n": 1}')
    redis.add("acme", ["conflict"], '{"n": 2}')
    redis.add("acme", ["broken"], "[1, 2")
    redis.add("acme", ["injected"], '1},{"id": "x", "type": "t", "payload": 1')
    redis.add("no such client!", ["spaces"])
    redis.ask("XADD", STREAM, "*", "client", "acme", "payload", "1")
    redis.add("acme", ["large"], '"%s"' % ("x" * 300_000))
    redis.add("acme", ["huge"], '"%s"' % ("x" * (17 * 2**20)))
    redis.ask("XADD", STREAM, "*", "client", "acme", "id", "bytes", "type", "t", "payload", b'"\xff"')

    def answer(received: Received) -> int:
        return 400 if received.event_id == "given-up" else 200

    with Receiver(answer) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url}, give_up_on=[400])
        with relayed(tmp_path, redis, daemon, "--clients", clients):
            wait(redis.is_done, "all are acknowledged")
        assert set(receiver.ids()) == {"given-up", "conflict"}
    [exhausted] = redis.lines("exhausted")
    assert exhausted["reason"] == "refused"
    fields = {"client": "acme", "type": "order.paid", "id": "given-up", "payload": '{"n": 1}'}
    assert exhausted.items() >= fields.items()
    problems = {line.get("id", "none"): line["problem"] for line in redis.lines("refused")}
    assert problems == {
        "conflict": "id-conflict",
        "broken": "malformed-json",
        "injected": "malformed-json",
        "spaces": "invalid-event",
        "none": "invalid-event",
        "large": "too-large",
        "huge": "too-large",
        "bytes": "malformed-json",
    }


def test_unknown_client_parks_its_own_entries_until_it_is_registered(tmp_path: Path, redis: RedisServer) -> None:
    """Others are delivered meanwhile; what is over --parked-max stays pending in Redis, and comes in order later."""
    redis.add("unknown", [f"u{n}" for n in range(300)])
    redis.add("known", [f"k{n}" for n in range(20)])
    with Receiver() as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"known": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients, "--parked-max", "25") as relay:
            wait(lambda: set(receiver.ids()) == {f"k{n}" for n in range(20)}, "the known client's are delivered")
            wait(lambda: relay.metrics()["parked_beyond"] == 275, "what is over its share is Redis's")
            wait(lambda: redis.pending() == 300, "the known ones' are acknowledged, and no other")
            assert relay.metrics()["parked"] == 25
            claims = relay.metrics()["taken_back_total"]
            definitions(tmp_path, {"known": receiver.url, "unknown": receiver.url})  # the file is read again
            wait(redis.is_done, "all are acknowledged")
            assert claims <= 275
            assert relay.metrics()["taken_back_total"] <= 275 + claims
        assert len(receiver.ids()) == 320


def test_full_client_goes_on_as_it_has_room(tmp_path: Path, redis: RedisServer) -> None:
    """Its budget is refilled as its events settle, without one being lost or claimed over and over."""
    settings = {"intake.client_events_max": 10}
    redis.add("full", [f"f{n}" for n in range(200)])
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd", settings=settings) as daemon:
        clients = definitions(tmp_path, {"full": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients, "--parked-max", "20") as relay:
            wait(lambda: relay.metrics()['parked_clients{reason="client-full"}'] == 1, "it is parked as full")
            wait(lambda: owed(relay, "posted") == 10, "it has all that its budget takes")
            shown = relay.metrics()
            assert shown["parked"] <= 20
            assert shown["parked"] + shown["parked_beyond"] == 190
            receiver.release()
            wait(redis.is_done, "all are acknowledged")
        assert len(receiver.ids()) == 200
        assert max(receiver.ids().values()) == 1


def test_restarted_daemon_gets_what_it_does_not_know_again(tmp_path: Path, redis: RedisServer) -> None:
    """And each of them is counted before it is posted. What was acknowledged is not posted again."""
    redis.add("acme", [f"old{n}" for n in range(5)])
    port = port_for_good()
    with Receiver() as receiver:
        clients = definitions(tmp_path, {"acme": receiver.url})
        first = Daemon(tmp_path / "hookd", bind=f"127.0.0.1:{port}")
        with first as daemon, relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            wait(redis.is_done, "the first are acknowledged")
            receiver.behaviour = lambda _received: HANG
            redis.add("acme", [f"new{n}" for n in range(7)])
            wait(lambda: owed(relay, "posted") == 7, "the others are posted")
            daemon.kill()
            receiver.behaviour = lambda _received: 200
            with Daemon(tmp_path / "hookd2", bind=f"127.0.0.1:{port}"):
                wait(redis.is_done, "all are acknowledged")
            assert redis.posted_again() == 7
            assert relay.metrics()["posted_again_total"] == 7
            receiver.release()
        assert max(count for name, count in receiver.ids().items() if name.startswith("old")) == 1


def test_relay_takes_over_what_a_dead_one_left(tmp_path: Path, redis: RedisServer) -> None:
    """By what the daemon knows: nothing is posted twice while the daemon lives. So too what any other reader left."""
    redis.ask("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
    redis.add("acme", ["by-hand"])
    redis.ask("XREADGROUP", "GROUP", GROUP, "somebody", "COUNT", 1, "STREAMS", STREAM, ">")
    redis.add("acme", [f"e{n}" for n in range(10)])
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            wait(lambda: owed(relay, "posted") == 11, "they are posted, the other reader's too")
            assert relay.metrics()["taken_over_total"] == 1
            again = redis.posted_again()
            relay.kill()
        with Relay(tmp_path, redis.url, daemon.url, "--clients", clients, name="second") as second:
            wait(lambda: owed(second, "posted") == 11, "the second has taken them over")
            assert redis.posted_again() == again
            receiver.release()
            wait(redis.is_done, "all are acknowledged")
        assert max(receiver.ids().values()) == 1


def test_frozen_relay_that_wakes_up_posts_nothing_that_is_another_ones(tmp_path: Path, redis: RedisServer) -> None:
    """Its lease is over: it looks first at what is still its own."""
    with Receiver() as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as frozen:
            redis.add("acme", [f"e{n}" for n in range(10)])
            wait(lambda: frozen.metrics()["parked"] == 10, "they are parked: the client is unknown")
            frozen.process.send_signal(signal.SIGSTOP)
            definitions(tmp_path, {"acme": receiver.url})
            with Relay(tmp_path, redis.url, daemon.url, "--clients", clients, name="second") as second:
                wait(redis.is_done, "the second has taken them over, and they are delivered")
                frozen.process.send_signal(signal.SIGCONT)
                wait(lambda: frozen.metrics()["lost_total"] == 10, "the first knows that they are not its own")
                assert frozen.metrics()["posted_total"] == 0
                assert second.metrics()["acknowledged_elsewhere_total"] == 0
        assert max(receiver.ids().values()) == 1


def test_stopped_relay_leaves_its_entries_to_the_next_at_once(tmp_path: Path, redis: RedisServer) -> None:
    """Within 5 s, with 3: something is owed. The next one does not wait for a take-over."""
    redis.add("acme", [f"e{n}" for n in range(10)])
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            wait(lambda: owed(relay, "posted") == 10, "they are posted")
            assert relay.stop(5.0) == 3
            assert "10 entries are owed, and pending" in relay.stderr
        assert [name for name in members(redis) if name.startswith("relay:")] == []
        with Relay(tmp_path, redis.url, daemon.url, "--takeover", "1h", name="second") as second:
            wait(lambda: owed(second, "posted") == 10, "the second has them")
            receiver.release()
            wait(redis.is_done, "all are acknowledged")
        assert max(receiver.ids().values()) == 1


def members(redis: RedisServer) -> list[str]:
    return [one[1] for one in redis.ask("XINFO", "CONSUMERS", STREAM, GROUP)]


def test_vanished_group_and_vanished_stream_are_survived(tmp_path: Path, redis: RedisServer) -> None:
    """What is in the stream of a new group is looked up before it is posted: nothing that is known arrives twice."""
    with Receiver() as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            redis.add("acme", [f"a{n}" for n in range(10)])
            wait(redis.is_done, "the first are acknowledged")
            redis.ask("XGROUP", "DESTROY", STREAM, GROUP)
            redis.add("acme", [f"b{n}" for n in range(10)])
            wait(lambda: len(receiver.ids()) == 20 and redis.is_done(), "the second are acknowledged")
            redis.ask("DEL", STREAM)
            redis.add("acme", [f"c{n}" for n in range(10)])
            wait(lambda: len(receiver.ids()) == 30 and redis.is_done(), "the third are acknowledged")
            assert relay.process.poll() is None
            assert "relay.group_gone" in relay.stderr
        assert max(receiver.ids().values()) == 1


def test_trimmed_entry_that_a_daemon_has_is_delivered_all_the_same(tmp_path: Path, redis: RedisServer) -> None:
    """And acknowledged, with no line anywhere."""
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            redis.add("acme", [f"e{n}" for n in range(4)])
            wait(lambda: owed(relay, "posted") == 4, "they are posted")
            redis.ask("XTRIM", STREAM, "MAXLEN", "0")
            receiver.release()
            wait(lambda: redis.pending() == 0, "all are acknowledged")
    assert redis.lines("refused") == []
    assert len(receiver.ids()) == 4


def test_trimmed_entry_that_no_daemon_has_is_told(tmp_path: Path, redis: RedisServer) -> None:
    """It is lost, and stands in STREAM:refused."""
    port = port_for_good()
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd", bind=f"127.0.0.1:{port}") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url})
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            redis.add("acme", [f"f{n}" for n in range(4)])
            wait(lambda: owed(relay, "posted") == 4, "they are posted")
            redis.ask("XTRIM", STREAM, "MAXLEN", "0")
            daemon.kill()
            with Daemon(tmp_path / "hookd2", bind=f"127.0.0.1:{port}"):
                wait(lambda: redis.pending() == 0, "all are acknowledged")
            assert relay.metrics()["trimmed_total"] == 4
    assert {line["id"]: line["problem"] for line in redis.lines("refused")} == {f"f{n}": "trimmed" for n in range(4)}


def test_hung_partition_loses_nothing(tmp_path: Path, redis: RedisServer) -> None:
    """A proxy before Redis takes bytes and passes none on: commands give up, and what is its own is asked for again."""
    with Receiver(HANG) as receiver, Daemon(tmp_path / "hookd") as daemon, HangingProxy(redis.port) as proxy:
        clients = definitions(tmp_path, {"acme": receiver.url})
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with Relay(tmp_path, url, daemon.url, "--clients", clients, "--takeover", "1m") as relay:
            redis.add("acme", [f"e{n}" for n in range(20)])
            wait(lambda: owed(relay, "posted") == 20, "they are posted")
            proxy.hang()
            receiver.release()
            wait(lambda: len(receiver.ids()) == 20, "they are delivered meanwhile")
            wait(lambda: not relay.is_ready(), "Redis is missed")
            redis.add("acme", [f"late{n}" for n in range(20)])
            proxy.go_on()
            wait(redis.is_done, "all are acknowledged")
            wait(relay.is_ready, "it is ready again")
        assert max(receiver.ids().values()) == 1
        assert len(receiver.ids()) == 40


def test_two_daemons_have_a_feed_each(tmp_path: Path, redis: RedisServer) -> None:
    """A proxy hashes the client in the path; one daemon is killed, and what the other one has is not posted again."""
    ports = [port_for_good(), port_for_good()]
    with Receiver(HANG) as receiver:
        daemons = [Daemon(tmp_path / f"hookd{n}", bind=f"127.0.0.1:{port}") for n, port in enumerate(ports)]
        clients = definitions(tmp_path, {"even0": receiver.url, "odd1": receiver.url})
        feeds = [option for port in ports for option in ("--feed", f"http://127.0.0.1:{port}")]
        with daemons[0], daemons[1], ShardingProxy(ports) as proxy:
            to = f"http://127.0.0.1:{proxy.port}"
            with Relay(tmp_path, redis.url, to, *feeds, "--clients", clients) as relay:
                redis.add("even0", [f"e{n}" for n in range(10)])
                redis.add("odd1", [f"o{n}" for n in range(10)])
                wait(lambda: owed(relay, "posted") == 20, "all are posted")
                with daemons[1].api as api:
                    assert api.status()["events"]["accepted"] == 10
                daemons[1].kill()
                with Daemon(tmp_path / "again", bind=f"127.0.0.1:{ports[1]}"):
                    wait(lambda: redis.posted_again() == 10, "those of the killed one are posted again")
                    wait(lambda: owed(relay, "posted") == 20, "all are posted")
                    receiver.release()
                    wait(redis.is_done, "all are acknowledged")
        assert redis.posted_again() == 10


def test_dead_and_full_clients_hold_up_nobody(tmp_path: Path, redis: RedisServer) -> None:
    """One of eleven hangs, one has no room: backlogs of both are many times what they may hold. The nine go on."""
    settings = {"intake.client_events_max": 50, "delivery.timeout": "10m"}
    healthy = [f"healthy{n}" for n in range(9)]

    def answer(received: Received) -> object:
        return HANG if received.path.endswith(("dead", "full")) else 200

    with Receiver(answer) as receiver, Daemon(tmp_path / "hookd", settings=settings) as daemon:  # type: ignore[arg-type]
        clients = definitions(tmp_path, {name: f"{receiver.url}/{name}" for name in ("dead", "full", *healthy)})
        with relayed(tmp_path, redis, daemon, "--clients", clients, "--parked-max", "50") as relay:
            for name in ("dead", "full"):
                redis.add(name, [f"{name}{n}" for n in range(2000)])
            claimed: list[float] = []
            for turn in range(3):
                wanted = {f"{name}-{turn}-{n}" for name in healthy for n in range(20)}
                for name in healthy:
                    redis.add(name, [f"{name}-{turn}-{n}" for n in range(20)])
                wait(lambda wanted=wanted: wanted <= set(receiver.ids()), "the healthy ones' are delivered")
                wait(lambda: redis.unread() == 0 and redis.pending() == 4000, "and acknowledged")
                shown = relay.metrics()
                assert shown["parked"] <= 100
                assert shown["parked"] + shown["parked_beyond"] == 3900
                claimed.append(shown["taken_back_total"])
            before = relay.metrics()
            redis.add("dead", [f"late{n}" for n in range(1000)])
            wait(lambda: relay.metrics()["read_total"] == before["read_total"] + 1000, "they are read")
            assert relay.metrics()["passed_by_total"] == before["passed_by_total"] + 1000, "all stay in Redis"
            assert relay.metrics()["handed_back_total"] == before["handed_back_total"]
            assert claimed[0] < 1000
            assert claimed[2] == claimed[1], "what has no room is claimed over and over"
            receiver.release()


def test_full_redis_still_has_its_entries_delivered(tmp_path: Path, redis: RedisServer) -> None:
    """What needs no memory goes on; what is given up stays pending until its line has room."""
    redis.add("acme", [f"e{n}" for n in range(10)])
    redis.ask("XGROUP", "CREATE", STREAM, GROUP, "0")

    def answer(received: Received) -> int:
        return 400 if received.event_id in ("e8", "e9") else 200

    with Receiver(answer) as receiver, Daemon(tmp_path / "hookd") as daemon:
        clients = definitions(tmp_path, {"acme": receiver.url}, give_up_on=[400])
        redis.ask("CONFIG", "SET", "maxmemory", "500000")
        with relayed(tmp_path, redis, daemon, "--clients", clients) as relay:
            wait(lambda: len(receiver.ids()) == 10, "all are delivered or given up")
            wait(lambda: redis.unread() == 0 and redis.pending() <= 2, "those that are delivered are acknowledged")
            redis.ask("CONFIG", "SET", "maxmemory", "0")
            wait(redis.is_done, "all are acknowledged")
            assert relay.metrics()["exhausted_total"] == 2
    assert sorted(line["id"] for line in redis.lines("exhausted")) == ["e8", "e9"]


def test_relay_says_at_its_start_that_a_proxy_has_no_feed(tmp_path: Path, redis: RedisServer) -> None:
    """Another relay answers 404 there, as the shipped proxies do."""
    with Relay(tmp_path, redis.url, "http://127.0.0.1:9") as proxy:
        wait(lambda: "relay.feed" in proxy.stderr, "its log says that nobody is there, too")
        with Relay(tmp_path, redis.url, f"http://127.0.0.1:{proxy.port}", name="without") as relay:
            wait(lambda: "name each daemon behind it by --feed" in relay.stderr, "its log says what to do")
            assert not relay.is_ready()


def test_relay_without_its_extra_names_it(tmp_path: Path) -> None:
    """Python finds a module in the working directory first."""
    (tmp_path / "coredis.py").write_text("raise ModuleNotFoundError(\"No module named 'coredis'\", name='coredis')\n")
    done = hookd("relay", "--redis", "redis://127.0.0.1:9", "--stream", "s", "--group", "g", cwd=tmp_path)
    assert done.returncode == 69
    assert done.stderr.strip().endswith("the relay needs coredis: pip install 'hookd[redis]'")


def test_probes_and_exit_codes(tmp_path: Path, redis: RedisServer) -> None:
    """Alive always; ready with Redis and the feed. A wrong use is 2, an unreadable file 66, a bad one 78."""
    with Daemon(tmp_path / "hookd") as daemon, relayed(tmp_path, redis, daemon) as relay:
        wait(relay.is_ready, "it is ready")
        with Api(relay.port) as api:
            assert api.ask("GET", "/livez").status == 200
            assert api.ask("GET", "/nothing").status == 404
            assert api.ask("POST", "/metrics").status == 405
        redis.kill()
        wait(lambda: not relay.is_ready(), "Redis is missed")
        with Api(relay.port) as api:
            assert api.ask("GET", "/livez").status == 200
        redis.__enter__()
        wait(relay.is_ready, "it is ready again")
        daemon.kill()
        wait(lambda: not relay.is_ready(), "the feed is missed")
    given = ["relay", "--redis", redis.url, "--stream", "s", "--group", "g"]
    (tmp_path / "bad.json").write_text(json.dumps({"clients": [{"endpoints": []}]}))
    wrong = {
        (*given, "--clients", str(tmp_path / "missing.json")): 66,
        (*given, "--token-file", str(tmp_path / "missing")): 66,
        (*given, "--clients", str(tmp_path / "bad.json")): 78,
        (*given, "--to", "ftp://x"): 2,
        (*given, "--to", "http://two..dots"): 2,
        (*given, "--feed", "http://bücher.example"): 2,
        (*given, "--takeover", "1s"): 2,
        (*given, "--held-bytes-max", "64"): 2,
        (*given[:2], "http://x", *given[3:]): 2,
        (*given[:2], f"{redis.url}?db=first", *given[3:]): 2,
        (*given[:2], f"rediss://127.0.0.1/0?ssl_ca_certs={tmp_path}/missing", *given[3:]): 2,
        (*given, "--stream", os.fsdecode(b"\xff")): 2,
    }
    for arguments, code in wrong.items():
        done = hookd(*arguments)
        assert done.returncode == code, (arguments, done)
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_relay_that_is_not_let_in_says_so(tmp_path: Path, redis: RedisServer) -> None:
    """By hookd or by Redis, at the start: 77. No address to listen at: 69."""
    token = tmp_path / "token"
    token.write_text("secret-token-of-the-daemon")
    other = tmp_path / "other"
    other.write_text("another")
    settings = tmp_path / "hookd.toml"
    settings.write_text(f'[[http.tokens]]\nname = "t"\nscope = "admin"\ntoken_file = "{token}"\n')
    with Daemon(tmp_path / "hookd", "--config", str(settings)) as daemon:
        given = ["relay", "--redis", redis.url, "--stream", STREAM, "--group", GROUP, "--to", daemon.url]
        bind = ["--bind", "127.0.0.1:0"]
        refused = hookd(*given, *bind, "--token-file", str(other))
        assert refused.returncode == 77, refused
        assert "the daemon refuses the token" in refused.stderr
        taken = hookd(*given, "--bind", f"127.0.0.1:{daemon.port}", "--token-file", str(token))
        assert taken.returncode == 69, taken
        redis.ask("CONFIG", "SET", "requirepass", "word")
        refused = hookd(*given, *bind, "--token-file", str(token))
        assert refused.returncode == 77, refused
        assert "Redis refuses the relay" in refused.stderr
        url = f"redis://:word@127.0.0.1:{redis.port}/0"
        with Relay(tmp_path, url, daemon.url, "--token-file", str(token)) as relay:
            wait(relay.is_ready, "it is let in")
            assert "word" not in relay.stderr
