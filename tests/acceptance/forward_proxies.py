"""Forward proxies of Debian as children, squid and tinyproxy, each with one user; and a proxy that misbehaves."""

import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from tests.acceptance.harness import wait_until

USER, PASSWORD = "hookd", "9assw0rd"
CREDENTIALS = f"{USER}:{PASSWORD}"
NAMES = ("squid", "tinyproxy")
NCSA = Path("/usr/lib/squid/basic_ncsa_auth")


@contextmanager
def forward_proxy(name: str) -> Iterator[tuple[int, Path]]:
    """Its port, and the log of what it was asked. Skips the test where the program is not there."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if program is None or (name == "squid" and not NCSA.exists()):
        pytest.skip(f"no {name} here: apt-get install {name}")
    directory = Path(tempfile.mkdtemp(prefix="hookd-proxy-"))
    directory.chmod(0o777)  # squid gives up root
    with socket.create_server(("127.0.0.1", 0)) as free:  # neither of them says which port it took
        port = free.getsockname()[1]
    log, config = directory / "log", directory / "config"
    config.write_text("\n".join((_squid if name == "squid" else _tinyproxy)(port, directory, log)) + "\n")
    command = [program, "-N", "-f", str(config)] if name == "squid" else [program, "-d", "-c", str(config)]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, seconds=30, what=f"{name} to listen")
        assert process.poll() is None, (directory / "output").read_text()
        yield port, log
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _squid(port: int, directory: Path, log: Path) -> Sequence[str]:
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True)
    (directory / "users").write_text(f"{USER}:{hashed.stdout}")
    return (
        f"http_port 127.0.0.1:{port}",
        "visible_hostname proxy.example",
        "pid_filename none",
        f"access_log stdio:{log}",
        f"cache_log {directory}/cache.log",
        "cache deny all",
        f"auth_param basic program {NCSA} {directory}/users",
        "acl known proxy_auth REQUIRED",
        "http_access allow known",
        "http_access deny all",
        "shutdown_lifetime 0 seconds",
    )


def _tinyproxy(port: int, directory: Path, log: Path) -> Sequence[str]:
    return (
        f"Port {port}",
        "Listen 127.0.0.1",
        "Timeout 60",
        "MaxClients 20",
        f'LogFile "{log}"',
        "LogLevel Connect",
        f"BasicAuth {USER} {PASSWORD}",
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class MisbehavingProxy:
    """A proxy that answers whatever it is asked with the same bytes, and then closes or, without them, hangs."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, suppress(ConnectionError):  # a reset is as good a goodbye
                peer.settimeout(30)
                self.asked.append(peer.recv(65536))
                if self._answer is None:
                    peer.recv(1)  # until we are given up
                else:
                    peer.sendall(self._answer)
