"""The clients' side: a webhook receiver on a port of its own, how it behaves, and its record of what came.

Rules: the record is the receiver's own, written before the answer leaves, so that what the daemon says can be held
against it. A signature is verified as any client would, by the published scheme and none of the daemon's code.

Does not: speak to the daemon; it only answers.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from hookd.cli.commands.receive import key_of, reason_not_verified, says_more_within
from hookd.demo.pace import HANG_SECONDS_MAX, LOOK_EVERY_SECONDS, RETRY_AFTER_SECONDS


class Reply(NamedTuple):
    status: int = 200
    after_seconds: float = 0.005
    retry_after_seconds: int | None = None


# Of a request: which one it is at this receiver (from 0), and how often its event was answered other than 2xx before.
Behaviour = Callable[[int, int], Reply]


def quick(_number: int, _refused: int) -> Reply:
    return Reply()


def hang(_number: int, _refused: int) -> Reply:
    return Reply(after_seconds=HANG_SECONDS_MAX)


def flaky(number: int, refused: int) -> Reply:
    return Reply(503 if number % 2 == 0 and refused < 2 else 200)


def busy(number: int, refused: int) -> Reply:
    return Reply(429, retry_after_seconds=RETRY_AFTER_SECONDS) if number % 40 == 0 and not refused else Reply()


def broken(_number: int, _refused: int) -> Reply:
    return Reply(500)


def gone(_number: int, _refused: int) -> Reply:
    return Reply(410)


class Arrival(NamedTuple):
    at: float
    webhook_id: str
    attempt_number: int
    body: bytes
    verified: bool


class Receiver(ThreadingHTTPServer):
    """One client's webhook receiver on a port of its own, with a record of what came. `behave` may be changed."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behave: Behaviour, *, up: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.behave = behave
        self.secret = ""
        self.arrivals: list[Arrival] = []
        self.answered: Counter[str] = Counter()  # webhook-id -> answers of 2xx
        self.refused: Counter[str] = Counter()  # and of anything else
        self.rests: list[float] = []  # when it answered with Retry-After
        self._lock = threading.Lock()
        self._serving = threading.Thread(target=self.serve_forever, args=(LOOK_EVERY_SECONDS,), daemon=True)
        self.server_bind()  # bound, and not listening yet: connections are refused and nobody else gets the port
        if up:
            self.come_up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def come_up(self) -> None:
        if not self._serving.is_alive():
            self.server_activate()
            self._serving.start()

    def close(self) -> None:
        if self._serving.is_alive():  # else it would be waited for
            self.shutdown()
        self.server_close()

    def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        event_id = headers.get("webhook-id", "")
        verified = verifies(self.secret, headers, body, now=time.time())
        with self._lock:
            number = len(self.arrivals)
            attempt_number = int(headers.get("hookd-attempt", "0"))
            self.arrivals.append(Arrival(time.monotonic(), event_id, attempt_number, body, verified))
            return self.behave(number, self.refused[event_id])

    def note_answer(self, event_id: str, reply: Reply) -> None:
        with self._lock:
            (self.answered if 200 <= reply.status < 300 else self.refused)[event_id] += 1
            if reply.retry_after_seconds is not None:
                self.rests.append(time.monotonic())

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # the daemon hangs up on a timeout: that is no error here
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.take(headers, body)
        if says_more_within(self.connection, reply.after_seconds):
            self.close_connection = True
            return
        # Noted first: the daemon may have the answer, and tell of it, before this thread runs again.
        self.server.note_answer(headers.get("webhook-id", ""), reply)
        self.send_response(reply.status)
        if reply.retry_after_seconds is not None:
            self.send_header("retry-after", str(reply.retry_after_seconds))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name for it
        """Says nothing: what matters is in `arrivals`."""


def verifies(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """As `hookd receive` verifies, which uses none of the daemon's code for it."""
    return bool(secret) and reason_not_verified(key_of(secret), headers, body, now=now) is None
