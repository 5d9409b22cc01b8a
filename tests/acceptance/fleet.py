"""Three daemons behind a proxy, by the shipped configuration of that proxy, and what a producer sees there.

The daemons listen on unix sockets: a daemon that comes back has its address again, which nobody can have taken
meanwhile. The proxy gets a socket that listens already.
"""

import http.client
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.acceptance.harness import ROOT, Answer, Api, Daemon, event_body, wait_until

CONFIG = ROOT / "config"
SHARDS = ("8081", "8082", "8083")
CLIENTS = tuple(f"client-{number}" for number in range(300))
# Of a producer: how often it posts an event again that was answered neither 202 nor 200, and how long it rests before.
TRIES_MAX = 8
REST_SECONDS = 0.2
# Three start at once.
START_SECONDS_MAX = 60.0
# In a line of HAProxy's log: the five times of a request that was answered 202.
TAKEN = re.compile(r" \d+/\d+/\d+/\d+/\d+ 202 ")


class Member(Daemon):
    """One daemon of the fleet, on a unix socket."""

    def __enter__(self) -> Self:
        line = self.first_line(START_SECONDS_MAX)
        assert line.startswith("listening on unix:"), f"first line {line!r}, stderr {self.stderr}"
        return self


class Fleet:
    """The daemons, by name. Entering starts all; each can be stopped, killed and started again."""

    def __init__(self, directory: Path, *arguments: str, settings: Mapping[str, object] | None = None) -> None:
        self.directory = directory
        self._arguments = arguments
        self._settings = settings or {}
        self.members: dict[str, Member] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.__exit__)
            for name in SHARDS:
                self.begin(name)
            for name in SHARDS:
                self.members[name].__enter__()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.members.values():
            one.__exit__(None, None, None)

    def socket(self, name: str) -> str:
        return f"{self.directory}/{name}.sock"

    def behind(self, name: str, form: str) -> str:
        """The shipped configuration of a proxy, with the daemons' sockets in place of their ports."""
        text = (CONFIG / name).read_text()
        for shard in SHARDS:
            text = text.replace(f"127.0.0.1:{shard}", form.format(self.socket(shard)))
        return text

    def begin(self, name: str) -> Member:
        """Starts it, in place of one that has ended."""
        if name in self.members:
            self.members[name].__exit__(None, None, None)
        settings = {"shard.name": name, **self._settings}
        bind = f"unix:{self.socket(name)}"
        self.members[name] = Member(self.directory / name, *self._arguments, settings=settings, bind=bind)
        return self.members[name]

    def start(self, name: str) -> None:
        self.begin(name).__enter__()

    def stop(self, name: str, seconds: float = 30.0) -> int:
        """Its exit code, after its drain."""
        return self.members[name].stop(seconds)

    def kill(self, name: str) -> None:
        self.members[name].kill()


@contextmanager
def proxied(directory: Path, command: Callable[[socket.socket], Sequence[str]]) -> Iterator[int]:
    """The port that a proxy serves, once it finds all daemons. `command` gets its listening socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening, (directory / "proxy.log").open("wb") as log:
        port = listening.getsockname()[1]
        process = subprocess.Popen(command(listening), pass_fds=[listening.fileno()], stdout=log, stderr=log)
        try:
            wait_until(
                lambda: set(owners(port, CLIENTS[:30]).values()) == set(SHARDS),
                seconds=30,
                what="all daemons behind the proxy",
            )
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@contextmanager
def haproxy(fleet: Fleet) -> Iterator[int]:
    """The port of HAProxy by config/haproxy.cfg. Skips where there is none."""
    if shutil.which("haproxy") is None:
        pytest.skip("no haproxy")
    file = fleet.directory / "haproxy.cfg"

    def command(listening: socket.socket) -> Sequence[str]:
        metrics = f"unix@{fleet.directory}/metrics.sock"
        text = fleet.behind("haproxy.cfg", "unix@{}").replace("127.0.0.1:8405", metrics)
        # Each request in its log: it says where an answer came from, and why.
        text = text.replace("daemon notice", "daemon info").replace("mode http\n", "mode http\n    option httplog\n", 1)
        file.write_text(text.replace("127.0.0.1:8080", f"fd@{listening.fileno()}"))
        return ["haproxy", "-db", "-f", str(file)]

    with proxied(fleet.directory, command) as port:
        yield port


@contextmanager
def nginx(fleet: Fleet) -> Iterator[int]:
    """The port of nginx by config/nginx.conf. Skips where there is none."""
    if shutil.which("nginx") is None:
        pytest.skip("no nginx")
    file = fleet.directory / "nginx.conf"

    def command(listening: socket.socket) -> Sequence[str]:
        port = listening.getsockname()[1]
        text = fleet.behind("nginx.conf", "unix:{}").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        file.write_text(f"pid {fleet.directory}/nginx.pid;\n{text}")
        # It takes over sockets of its own predecessor, by this variable.
        inherits = f"NGINX={listening.fileno()};"
        return ["env", inherits, "nginx", "-p", str(fleet.directory), "-c", str(file), "-g", "daemon off; user root;"]

    with proxied(fleet.directory, command) as port:
        yield port


def refusals(directory: Path) -> list[str]:
    """What HAProxy logged of posted events that were not answered 202, and of what it tried again or found changed."""
    lines = (directory / "proxy.log").read_text().splitlines()
    return [line for line in lines if "Server " in line or ("POST " in line and not TAKEN.search(line))]


def owner(api: Api, client_id: str, *, by_body: bool = False) -> str:
    """The daemon that a client belongs to, by the header of an answer; none: the proxy's own answer."""
    asked = ("GET", f"/v1/clients/{client_id}/events/none", None)
    if by_body:
        asked = ("POST", "/v1/events", event_body(client_id, "e1", event_type="no type"))
    try:
        answer = api.ask(*asked)
    except http.client.RemoteDisconnected:  # how the proxy says: ask again, the connection behind was just closed
        answer = api.ask(*asked)
    return answer.headers.get("hookd-shard", "")


def owners(port: int, client_ids: Sequence[str] = CLIENTS, *, by_body: bool = False) -> dict[str, str]:
    with Api(port) as api:
        return {client_id: owner(api, client_id, by_body=by_body) for client_id in client_ids}


class FleetProducer:
    """Posts events of all clients, one after the other, until it is told to stop. As the docs say: what is not answered
    2xx is posted again, under the same id, after a rest. It keeps what it saw.
    """

    def __init__(self, port: int, name: str, client_ids: Sequence[str]) -> None:
        self.answers: Counter[str] = Counter()
        self.accepted: dict[str, str] = {}  # event id -> client
        self.failure: BaseException | None = None
        self._port, self._name, self._client_ids = port, name, client_ids
        self._api: Api | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._post_all)
        self._thread.start()

    def _post_all(self) -> None:
        try:
            for number in range(1_000_000):
                if self._is_over.wait(0.005):
                    return
                client_id = self._client_ids[number % len(self._client_ids)]
                self._post(client_id, f"{self._name}-{number}", by_body=number % 2 == 0)
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            self._drop()

    def _post(self, client_id: str, event_id: str, *, by_body: bool) -> None:
        for _ in range(TRIES_MAX):
            try:
                answer = self._ask(client_id, event_id, by_body=by_body)
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                self._drop()
            else:
                ours = answer.headers.get("hookd-shard", "the proxy")
                self.answers[str(answer.status) if answer.status == 202 else f"{answer.status} of {ours}"] += 1
                if answer.status in (200, 202):
                    self.accepted[event_id] = client_id
                    return
            self._is_over.wait(REST_SECONDS)
        raise AssertionError(f"{event_id} was not taken in {TRIES_MAX} tries: {self.answers}")

    def _ask(self, client_id: str, event_id: str, *, by_body: bool) -> Answer:
        if self._api is None:
            self._api = Api(self._port)
        if by_body:
            return self._api.post(client_id, event_id)
        return self._api.ask("POST", f"/v1/clients/{client_id}/events", {"id": event_id, "type": "t", "payload": {}})

    def _drop(self) -> None:
        if self._api is not None:
            self._api.__exit__()
        self._api = None

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.failure is None


def config_of(clients: Mapping[str, str], directory: Path) -> Path:
    """A configuration with these clients, id -> URL; their secrets are made under --dev."""
    file = directory / "hookd.toml"
    one = '[[clients]]\nid = "{}"\n[[clients.endpoints]]\nurl = "{}"\n'
    file.write_text("".join(one.format(client_id, url) for client_id, url in clients.items()))
    return file
