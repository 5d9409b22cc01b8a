"""The command line: exit codes, messages, reloading, and that secrets stay out of the log."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    WITHOUT_RECORDER,
    Daemon,
    Receiver,
    environment,
    hookd,
    hookd_each,
    mounted,
    refusing_url,
    wait_until,
)

SECRET = "whsec_" + "Y2FuYXJ5LXNlY3JldC1vZi10aGUtY29uZmlnLWZpbGU="


def test_check_of_the_shown_config_says_what_it_can_cost() -> None:
    """Memory, attempts and horizon; exit 0, all of it on stdout."""
    done = hookd("check", "config/hookd.toml")
    assert done.returncode == 0, done.stderr
    for words in ("memory", "6 attempts over 34m 4s to 51m 6s", "horizon"):
        assert words in done.stdout
    assert done.stderr == ""


def test_check_says_one_number_for_a_container_and_what_it_is_the_sum_of(tmp_path: Path) -> None:
    """In whole MiB, as a container takes it; it follows the settings as its parts do."""
    file = tmp_path / "hookd.toml"
    found = {}
    for key in ("16MiB", "216MiB"):
        file.write_text(f'[retention]\ndelivered_bytes_max = "{key}"\n')
        said = hookd("check", str(file)).stdout
        [limit] = re.findall(r"^limit for a container: (\d+)MiB, the sum of these", said, re.MULTILINE)
        parts = re.findall(r"^ +([\d.]+)(GiB|MiB|KiB|B)  .+$", said, re.MULTILINE)
        units = {"GiB": 1024, "MiB": 1, "KiB": 1 / 1024, "B": 1 / 2**20}
        total = sum(float(size) * units[unit] for size, unit in parts if unit)
        assert len(parts) == 23
        assert abs(int(limit) - total) < 2
        assert re.search(r"the program at rest \(64\S+\), the recorder's files \(64\S+\) and budgets \(", said)
        assert re.search(r"^disk for reports: \S+ for one, \S+ for 20 of them$", said, re.MULTILINE)
        found[key] = int(limit)
    assert found["216MiB"] - found["16MiB"] == 200


@pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")
def test_check_says_how_many_events_the_recorder_has_room_for(tmp_path: Path) -> None:
    """A full recorder refuses events whatever the budget says; off, a kill leaves no list."""
    file = tmp_path / "hookd.toml"
    for text, said in (
        ("", r"flight recorder: about 1\d\d,\d{3} unsettled events of one delivery, without payloads"),
        ("[recorder]\npayloads = true\n", r"flight recorder: about 1\d,\d{3} .*, with payloads of 1 KiB"),
        ('[recorder]\ndirectory = ""\n', "flight recorder: off"),
    ):
        file.write_text(text)
        assert re.search(said, hookd("check", str(file)).stdout)


def test_check_warns_of_a_place_that_is_smaller_than_the_recorder_may_grow(tmp_path: Path) -> None:
    """As /dev/shm is in a container, where nobody says otherwise."""
    place, file = tmp_path / "shm", tmp_path / "hookd.toml"
    file.write_text("")
    with mounted(place, size="16m"):
        done = hookd("check", str(file), env=environment(RUNTIME_DIRECTORY=str(place)))
    assert done.returncode == 0
    assert f"recorder.directory: {place} has 16MiB, less than recorder.bytes_max (64MiB)" in done.stderr


def test_check_names_every_mistake_at_once(tmp_path: Path) -> None:
    """FILE:LINE: key: what is wrong; exit 78."""
    bad = tmp_path / "bad.toml"
    bad.write_text(
        """[http]
bind = ["127.0.0.1:99999"]
[delivery]
timeout = 15
concurency = 8
[retry]
schedule = ["5s", "soon"]
jitter = 2.0
[[clients]]
id = "acme"
[[clients.endpoints]]
url = "http://127.0.0.1/hook"
"""
    )
    done = hookd("check", str(bad))
    assert done.returncode == 78
    assert done.stdout == ""
    for line, key in (
        (2, "http.bind"),
        (4, "delivery.timeout"),
        (5, "delivery.concurency"),
        (7, "retry.schedule"),
        (8, "retry.jitter"),
        (12, "clients"),
    ):
        assert re.search(rf"^{re.escape(str(bad))}:{line}: {re.escape(key)}\S*: .+", done.stderr, re.M), (line, key)
    assert "concurrency" in done.stderr  # the suggestion
    assert hookd("run", "--config", str(bad)).returncode == 78


NO_CONFIG = ["[http", "nonsense = 1\n", "http = 3\n", "\ud800"]
WRONG_USAGE = [
    ["nonsense"],
    ["run", "--nonsense"],
    ["run", "--client", "no-equals-sign"],
    ["run", "--dev", "--client", "b@d=http://127.0.0.1:9/"],
    ["run", "--client", "acme=http://127.0.0.1:9/without-dev"],
    ["send", "acme"],
    ["send", "acme", "order.paid", "{no json"],
    ["resend"],
]


def test_check_of_what_is_no_config_is_78(tmp_path: Path) -> None:
    """Not TOML, unknown sections, a section that is none, not UTF-8: a line each, never a traceback."""
    commands = {}
    for n, content in enumerate(NO_CONFIG):
        bad = tmp_path / f"{n}.toml"
        bad.write_bytes(content.encode("utf-8", "surrogatepass"))
        commands[str(bad)] = ["check", str(bad)]
    for path, done in hookd_each(commands, tmp_path).items():
        assert done.returncode == 78, done
        assert f"{path}:" in done.stderr
        assert "Traceback" not in done.stderr


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    """And says so on stderr; a plain http endpoint without --dev is one of them."""
    commands = {" ".join(arguments): arguments for arguments in WRONG_USAGE}
    for done in hookd_each(commands, tmp_path).values():
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr


def test_daemon_that_cannot_start_says_why_by_exit_code(tmp_path: Path) -> None:
    """A port taken, none handed over: 69. A report directory or a recorder's that even root cannot make, a bind for all
    without tokens: 78. Each says what to do about it."""
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        commands = {
            "taken": ["run", "--bind", bind],
            "received there": ["receive", "--port", bind.rpartition(":")[2]],
            "not handed over": ["run", "--bind", "fd://77"],
            "unwritable": ["run", "--bind", "127.0.0.1:0", "--reports", "file/reports"],
            "open to all": ["run", "--bind", "0.0.0.0:0"],
        }
        done = hookd_each(commands, tmp_path)
    settings = {"recorder.directory": "file/recorder"}
    done["unrecorded"] = hookd("run", "--bind", "127.0.0.1:0", env=environment(settings), cwd=tmp_path)
    assert {one.stdout for one in done.values()} == {""}
    unavailable = ("taken", "received there", "not handed over")
    assert {name: one.returncode for name, one in done.items()} == {
        name: 69 if name in unavailable else 78 for name in done
    }
    for name, words in {
        "taken": f"hookd: cannot bind {bind}: Address already in use; another process listens there, maybe another "
        "hookd: stop it, or name another address with --bind, HOOKD_HTTP__BIND or http.bind\n",
        "received there": "Address already in use; name another with --port\n",
        "not handed over": "cannot bind fd://77: Bad file descriptor; nobody handed over a socket of that number",
        "unwritable": "drain.report_directory cannot be used: ",
        "open to all": "; bind to 127.0.0.1, or add tokens",
        "unrecorded": "Not a directory; name another recorder.directory, or switch the recorder off with",
    }.items():
        assert words in done[name].stderr, done[name]
    assert done["unwritable"].stderr.endswith("Not a directory; --reports names another\n")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Daemon]:
    """Two clients by flag: one whose receiver answers, one that refuses; two attempts."""
    with refusing_url() as refusing:
        clients = ["--client", f"good={receiver.url}?token=canary-query", "--client", f"down={refusing}"]
        settings = {"retry.schedule": ["20ms"], "retry.jitter": 0}
        with Daemon(tmp_path_factory.mktemp("cli"), *clients, settings=settings) as daemon:
            yield daemon


def test_send_follows_to_the_end(daemon: Daemon, receiver: Receiver) -> None:
    """0 delivered, 3 exhausted; data on stdout, the attempts on stderr."""
    sent = hookd("send", "good", "order.paid", '{"n": 1}', "--url", daemon.url, "--json")
    assert sent.returncode == 0, sent.stderr
    event = json.loads(sent.stdout)
    assert event["status"] == "delivered"
    assert [one.body for one in receiver.log if one.event_id == event["id"]] == [b'{"n": 1}']
    failed = hookd("send", "down", "order.paid", "-", stdin=b"[1]", env=environment(None, HOOKD_URL=daemon.url))
    assert (failed.returncode, failed.stdout) == (3, "exhausted\n")
    assert "attempt 2" in failed.stderr


def test_send_takes_a_payload_that_looks_like_an_option(daemon: Daemon, receiver: Receiver) -> None:
    """A negative number is JSON, before and behind the options."""
    for payload, arguments in (("-1", ("-1", "--url", daemon.url)), ("-2.5e3", ("--url", daemon.url, "-2.5e3"))):
        sent = hookd("send", "good", "order.paid", *arguments)
        assert (sent.returncode, sent.stdout) == (0, "delivered\n"), sent.stderr
        assert receiver.log[-1].body == payload.encode()


def test_send_without_a_daemon_is_69() -> None:
    """Nobody answers there."""
    with refusing_url() as url:
        done = hookd("send", "good", "order.paid", "--url", url.removesuffix("/hook"))
    assert done.returncode == 69
    assert done.stdout == ""


def test_secrets_payloads_and_query_values_stay_out_of_the_log(daemon: Daemon, receiver: Receiver) -> None:
    """The secret of a --client is shown once, and is no log line; payloads and query values are shown nowhere."""
    with daemon.api as api:
        assert api.post("good", "canary", b'{"text": "canary-payload"}').status == 202
        assert api.post("good", "canary", b'{"text": "canary-payload-2"}').status == 409
        assert api.ask("POST", "/v1/events", b'{"type": "canary-payload').status == 400
        assert api.ask("POST", "/v1/events/batch", b'[{"payload": "canary-payload"}]').status == 422
        wait_until(lambda: "canary" in receiver.ids(), what="delivery")
        made = api.put_client("put", {"url": receiver.url, "headers": {"x-key": "canary-header"}})["default"]
        shown = json.dumps([api.get("/v1/clients"), api.listed(), api.status()])
        wait_until(lambda: '"canary"' in daemon.stderr, what="the attempt's line in the log")
    assert "--dev" in daemon.stderr
    assert any(received.path == "/hook?token=canary-query" for received in receiver.log)  # sent, and shown nowhere
    secrets = re.findall(r"whsec_[A-Za-z0-9+/=]+", daemon.stderr)
    assert len(secrets) == len(set(secrets)) == 2
    lines = daemon.stderr.splitlines()
    assert not [line for line in lines if line.startswith("{") and "whsec_" in line]
    assert all(json.loads(line) for line in lines if line.startswith("{"))
    for text in ("canary-payload", "canary-query", "canary-header", made, made.removeprefix("whsec_")):
        assert text not in daemon.stderr
        assert text not in shown
    for secret in secrets:
        assert secret.removeprefix("whsec_") not in shown


def config_text(receiver: Receiver, *client_ids: str, more: str = "") -> str:
    clients = "".join(
        f'[[clients]]\nid = "{client_id}"\n[[clients.endpoints]]\nurl = "{receiver.url}?key=canary-query"\n'
        f'secret_env = "CANARY_SECRET"\n'
        for client_id in client_ids
    )
    return f"{more}\n{clients}"


def test_sighup_takes_a_config_whole_or_not_at_all(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good one replaces the clients; of one with a mistake nothing counts, the mistake is said and it goes on."""
    monkeypatch.setenv("CANARY_SECRET", SECRET)
    config = tmp_path / "hookd.toml"
    config.write_text(config_text(receiver, "one"))
    with Daemon(tmp_path, "--config", str(config), settings=NO_RETRY_SOON) as daemon, daemon.api as api:

        def clients() -> set[str]:
            return {client["id"] for client in api.get("/v1/clients")["clients"]}

        def attempts_max(event_id: str) -> int:
            answer = api.post("one", event_id)
            assert answer.status == 202
            return int(answer.json["deliveries"][0]["attempts_max"])

        assert clients() == {"one"}
        config.write_text(config_text(receiver, "one", "two"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: clients() == {"one", "two"}, what="the new client")
        config.write_text(config_text(receiver, "one", "three", more="[intake]\nbatch_events_max = 1\ncolour = 1"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "intake.colour" in daemon.stderr, what="the mistake in the log")
        assert f"{config}:3: intake.colour: " in daemon.stderr
        assert clients() == {"one", "two"}
        two_events = b'[{"type": "a", "payload": 1}, {"type": "a", "payload": 2}]'
        assert api.ask("POST", "/v1/clients/two/events", two_events).status == 202
        config.write_text(config_text(receiver, "two", more="[intake]\nbatch_events_max = 1"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: clients() == {"two"}, what="the third config")
        assert api.ask("POST", "/v1/clients/two/events", two_events).status == 413
        wait_until(lambda: api.deliveries()["delivered"] == 2, what="both delivered")
        assert daemon.stop() == 0
        assert SECRET.removeprefix("whsec_") not in daemon.stderr
        assert "canary-query" not in daemon.stderr


def test_sighup_refuses_a_config_that_allows_no_client_of_the_command_line(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start with it would exit with 2. The daemon that runs says so, changes nothing, and goes on."""
    monkeypatch.setenv("CANARY_SECRET", SECRET)
    config = tmp_path / "hookd.toml"
    config.write_text("")
    port = receiver.url.rstrip("/").rpartition(":")[2].partition("/")[0]
    refused = {
        f"[egress]\ndeny_ports = [{port}]": "--client acme: ",
        config_text(receiver, "acme"): "--client acme: the configuration has this client already",
    }
    with Daemon(tmp_path, "--config", str(config), "--client", f"acme={receiver.url}") as daemon, daemon.api as api:
        for number, (text, said) in enumerate(refused.items(), start=1):
            config.write_text(text)
            daemon.signal(signal.SIGHUP)
            wait_until(lambda number=number: daemon.stderr.count("config.refused") == number, what="a refusal")
            assert said in daemon.stderr
        assert api.post("acme", "e1").status == 202
        wait_until(lambda: api.deliveries()["delivered"] == 1, what="its delivery")
        assert daemon.stop() == 0


def test_clients_of_the_config_are_read_only_in_the_api(daemon: Daemon, receiver: Receiver) -> None:
    """409 managed-by-config for those of flags and file."""
    with daemon.api as api:
        for method, body in (("PUT", {"url": receiver.url}), ("DELETE", None)):
            refused = api.ask(method, "/v1/clients/good", body)
            assert (refused.status, refused.slug) == (409, "managed-by-config")


def test_flag_wins_over_environment_over_file(tmp_path: Path) -> None:
    """Precedence: flag, environment, file, default."""
    (tmp_path / "hookd.toml").write_text('[retry]\nschedule = ["10m"]\n[delivery]\nconcurrency = 3\n')
    settings = {"retry.schedule": ["10m"] * 4, "http.bind": ["127.0.0.1:1"]}
    with Receiver(HANG) as hung:
        config = ["--config", str(tmp_path / "hookd.toml"), "--client", f"acme={hung.url}"]
        with Daemon(tmp_path, *config, settings=settings) as daemon, daemon.api as api:
            assert api.post("acme", "e1").json["deliveries"][0]["attempts_max"] == 5
            (endpoint,) = api.get("/v1/clients/acme")["endpoints"]
    assert endpoint["concurrency"] == 3
    assert len(endpoint["schedule"]) == 4
