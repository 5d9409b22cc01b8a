"""Owns `hookd receive`: a receiver to develop against. It prints what comes, verifies it, and misbehaves on request.

Rules: a request is noted before it is answered. Nothing that a peer sends ends the command: bodies, headers and their
time are bounded. What a peer wrote is made harmless before it reaches the terminal. Signatures are verified by
Standard Webhooks 1.0, and clocks may differ by five minutes.

An id is of one client, and goes to each of its endpoints: so the same id on another path is no repeat.

Limits: a thread for each connection; 16 MiB a body; the counts of the last 100,000 webhook-ids of a path. Where nobody
reads its output those threads wait, and the end waits for none of them.

Does not: speak TLS, keep payloads, or serve anyone but the developer who started it.
"""

import base64
import binascii
import hashlib
import hmac
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import click
import msgspec

from hookd.cli import failures
from hookd.cli.options import json_option
from hookd.cli.terminal import COLUMNS_MAX, clip, json_text
from hookd.core.plurals import counted
from hookd.core.printable import printable
from hookd.core.report import one_line
from hookd.core.timestamps import rfc3339
from hookd.core.units import parse_duration
from hookd.process.exit_codes import ExitCode

BODY_BYTES_MAX = 16 * 1024 * 1024
PATH = "/hook"  # of what it says to try; any other is taken as well
IDS_MAX = 100_000
ID_CHARS_MAX = 64  # a longer one, which hookd does not send, is remembered by its digest
TOLERANCE_SECONDS = 300
PEER_SECONDS_MAX = 60
PAYLOAD_SHOWN_BYTES_MAX = 4096  # of what is cut to a line anyway
POLL_SECONDS_MAX = 2_000_000  # poll counts milliseconds in 32 bits


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0 picks one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--secret", envvar="HOOKD_SECRET", help="Verify signatures by it (HOOKD_SECRET).")
@click.option("--fail", metavar="CODE", type=click.IntRange(200, 599), help="Answer this in place of 200.")
@click.option("--first", metavar="N", type=click.IntRange(1), help="Fail the first N requests of each webhook-id only.")
@click.option("--delay", metavar="T", default="0s", help='Answer so much later, such as "2s".')
@json_option
def receive(
    port: int, host: str, secret: str | None, fail: int | None, first: int | None, delay: str, as_json: bool
) -> None:
    """A receiver to develop against: prints what comes, verifies it, misbehaves on request.

    \b
    hookd receive --fail 503 --first 2     every event is delivered by its third attempt
    hookd receive --fail 410               the endpoint says that it is gone
    hookd receive --delay 20s              slower than an attempt may take (15s)
    """
    if first is not None and fail is None:
        failures.usage("--first says how often to --fail, which is missing")
    try:
        manners = Manners(fail, first, parse_duration(delay))
    except ValueError as error:
        failures.usage(f"--delay: {error}")
    try:
        serve(host, port, secret=secret, manners=manners, as_json=as_json)
        os._exit(ExitCode.CLEAN)  # what is buffered is what nobody reads: to flush it would wait for a reader
    except BadSecret as error:
        failures.usage(f"--secret: {error}")
    except CannotListen as error:
        failures.fail(ExitCode.UNAVAILABLE, f"cannot bind {error}; name another with --port")


class CannotListen(Exception):
    """The message names the address and what the system says."""


class BadSecret(Exception):
    """It is not `whsec_` and base64."""


class Manners(NamedTuple):
    """How it answers: `fail` instead of 200, to the `first` requests of each webhook-id (None: to all)."""

    fail: int | None = None
    first: int | None = None
    delay_seconds: float = 0.0

    def status(self, number: int) -> int:
        return self.fail if self.fail is not None and (self.first is None or number <= self.first) else 200


class Known(msgspec.Struct):
    """What is remembered of a webhook-id."""

    came: int = 0
    taken: bool = False  # it was answered 2xx


class ReceivedRequest(NamedTuple):
    headers: dict[str, str]
    path: str
    body: bytes
    at: float  # wall


class ReceivedAttempt(NamedTuple):
    """What was made of a request."""

    number: int  # of those with its webhook-id
    is_duplicate: bool  # it came, and was answered 2xx, before
    unverified: str | None  # why, None where it is verified
    status: int


class Receiver(ThreadingHTTPServer):
    """Listens from the start. `stopped` is set once nobody reads its output any more."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, *, key: bytes | None, manners: Manners, as_json: bool) -> None:
        """Raises CannotListen."""
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise CannotListen(f"{host}:{port}: {getattr(error, 'strerror', None) or error}") from error
        self.manners = manners
        self.stopped = threading.Event()
        self._key = key
        self._as_json = as_json
        self._writing = threading.Lock()  # taken first: lines stand whole, and in the order in which they were counted
        self._lock = threading.Lock()  # of the counts; held for moments, whatever stdout does
        self._known: OrderedDict[str, Known] = OrderedDict()  # a dict finds its first of 100,000 in 28 us
        self._requests = self._repeats = self._duplicates = self._unverified = 0

    @property
    def url(self) -> str:
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}{PATH}"

    def take(self, request: ReceivedRequest) -> ReceivedAttempt:
        """Counts and prints it, before it is answered."""
        unverified = reason_not_verified(self._key, request.headers, request.body, now=request.at)
        event_id = request.headers.get("webhook-id", "")
        with self._writing:
            with self._lock:
                known = self._remember(request.path, event_id)
                known.came += 1
                seen = ReceivedAttempt(
                    known.came, bool(event_id) and known.taken, unverified, self.manners.status(known.came)
                )
                self._requests += 1
                self._repeats += known.came > 1
                self._duplicates += seen.is_duplicate
                self._unverified += unverified is not None
            self._print(request, seen)
        return seen

    def note_answer(self, path: str, event_id: str, status: int) -> None:
        with self._lock:
            known = self._remember(path, event_id)
            known.taken = known.taken or 200 <= status < 300

    def summary(self) -> str:
        with self._lock:
            ids = len(self._known) - ("" in self._known)
            return (
                f"{counted(self._requests, 'request')} with {counted(ids, 'webhook-id')}; "
                f"{self._repeats:,} came again, {self._duplicates:,} of them duplicates (answered 2xx before); "
                f"{self._unverified:,} not verified"
            )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that hangs up or sends no HTTP is ignored. A bug of ours is shown, and the next request is served."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def _remember(self, path: str, event_id: str) -> Known:
        name = f"{event_id} {path}" if event_id else ""
        if len(name) > ID_CHARS_MAX:
            name = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        known = self._known.setdefault(name, Known())
        if len(self._known) > IDS_MAX:
            self._known.popitem(last=False)
        return known

    def _print(self, request: ReceivedRequest, seen: ReceivedAttempt) -> None:
        text = json_line(request, seen) if self._as_json else line(request, seen, _columns())
        try:
            click.echo(text)
        except OSError:  # `| head` has seen enough
            self.stopped.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PEER_SECONDS_MAX
    server: Receiver

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) <= 12):
            self._answer(411)
        elif int(length) > BODY_BYTES_MAX:
            self._answer(413)
        else:
            self._take(self.rfile.read(int(length)), int(length))

    def _take(self, body: bytes, length: int) -> None:
        if len(body) < length:  # the peer hung up in the middle of it
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = self.server.take(ReceivedRequest(headers, self.path, body, time.time()))
        # A peer that hangs up while we delay is not kept, nor one that sends more before its answer.
        if says_more_within(self.connection, self.server.manners.delay_seconds):
            self.close_connection = True
            return
        # Noted first: the peer may have the answer, and send again, before this thread goes on.
        self.server.note_answer(self.path, headers.get("webhook-id", ""), seen.status)
        self._answer(seen.status, keep=True)

    def _answer(self, status: int, *, keep: bool = False) -> None:
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("content-length", "0")
        if not keep:  # what it sent was not read
            self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name for it
        """Says nothing: the receiver prints what matters."""


def serve(host: str, port: int, *, secret: str | None, manners: Manners, as_json: bool) -> None:
    """Until Ctrl-C or SIGTERM. Raises BadSecret or CannotListen."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    receiver = Receiver(host, port, key=None if secret is None else key_of(secret), manners=manners, as_json=as_json)
    serving = threading.Thread(target=receiver.serve_forever, args=(0.1,), daemon=True)
    try:
        _say_how_to_use(receiver, has_secret=secret is not None)
        serving.start()
        receiver.stopped.wait()
    except KeyboardInterrupt:
        pass
    if serving.is_alive():  # else it would be waited for
        receiver.shutdown()
    receiver.server_close()
    click.echo(receiver.summary(), err=True)


def _say_how_to_use(receiver: Receiver, *, has_secret: bool) -> None:
    click.echo(f"receiving on {receiver.url}; try: hookd run --dev --client acme={receiver.url}", err=True)
    if not has_secret:
        click.echo(
            "nothing is verified without --secret: `hookd run` shows the one it makes; start this again with it",
            err=True,
        )


def says_more_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the peer sends something, or hangs up, while its answer is delayed."""
    ready = select.poll()  # `select` takes no descriptor over 1023
    ready.register(connection, select.POLLIN)
    return bool(ready.poll(min(seconds, POLL_SECONDS_MAX) * 1000))


def key_of(secret: str) -> bytes:
    """Raises BadSecret."""
    try:
        key = base64.b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSecret("a secret is whsec_ and base64") from error
    if not key:
        raise BadSecret("the secret is empty")
    return key


def reason_not_verified(key: bytes | None, headers: Mapping[str, str], body: bytes, *, now: float) -> str | None:
    """Why the signature is not verified; None where it is."""
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not headers.get(name)]
    if missing:
        return f"no {', no '.join(missing)}"
    timestamp = headers["webhook-timestamp"]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        return "webhook-timestamp is no number of seconds"
    off_seconds = now - int(timestamp)
    if abs(off_seconds) > TOLERANCE_SECONDS:
        return f"webhook-timestamp is {abs(off_seconds):.0f} s {'old' if off_seconds > 0 else 'ahead'}, more than 300 s"
    if key is None:
        return "no --secret given"
    content = f"{headers['webhook-id']}.{timestamp}.".encode("latin-1", "replace") + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
    given = headers["webhook-signature"].encode("latin-1", "replace").split(b" ")
    if any(hmac.compare_digest(expected, one) for one in given):  # several while a secret is rotated
        return None
    return (
        f"none of {len(given)} signatures fits the secret"
        if len(given) > 1
        else "the signature does not fit the secret"
    )


def _columns() -> int:
    """A file or a pipe gets the whole line."""
    return shutil.get_terminal_size((COLUMNS_MAX, 24)).columns if sys.stdout.isatty() else sys.maxsize


def line(request: ReceivedRequest, seen: ReceivedAttempt, columns: int) -> str:
    """One request for people, cut to so many columns. Its path is said where it is not the one that `serve` named."""
    headers = request.headers
    parts = [
        rfc3339(request.at)[11:19] + "Z",
        headers.get("webhook-id") or "(no webhook-id)",
        *([] if request.path == PATH else [request.path]),
        headers.get("hookd-event-type", "-"),
        f"attempt {headers.get('hookd-attempt', '?')}",
        f"{len(request.body):,} B",
        "verified" if seen.unverified is None else f"NOT VERIFIED ({seen.unverified})",
        f"-> {seen.status}",
    ]
    if seen.is_duplicate:
        parts.append("DUPLICATE (answered 2xx before)")
    payload = request.body[:PAYLOAD_SHOWN_BYTES_MAX].decode(errors="replace")
    return clip(printable("  ".join([*parts, payload])), columns)


def json_line(request: ReceivedRequest, seen: ReceivedAttempt) -> str:
    """One request for programs. `payload` is the value, or, where the body is no JSON, its text."""
    headers = request.headers
    view = {
        "received_at": rfc3339(request.at),
        "path": request.path,
        "webhook_id": headers.get("webhook-id"),
        "type": headers.get("hookd-event-type"),
        "attempt": headers.get("hookd-attempt"),
        "payload_bytes": len(request.body),
        "verified": seen.unverified is None,
        "not_verified_because": seen.unverified,
        "request_number": seen.number,
        "duplicate": seen.is_duplicate,
        "status": seen.status,
        "payload": _value(request.body),
    }
    return json_text(view)


def _value(body: bytes) -> object:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        return msgspec.Raw(one_line(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")
