"""The stage: the daemon's process, the receivers, the folder and the output; what every act needs.

Rules: the daemon is spoken to only through its HTTP API and its command line. An unexpected answer ends the act. Every
wait is bounded. Only the child that it started is ever stopped.

Does not: judge what the acts see.
"""

import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hookd.cli.api_client import Answer, Remote
from hookd.demo.board import Board
from hookd.demo.pace import (
    COMMAND_SECONDS_MAX,
    DRAIN_SECONDS,
    EXIT_GRACE_SECONDS,
    LOOK_EVERY_SECONDS,
    SETTINGS,
    SETTLE_SECONDS_MAX,
    START_SECONDS_MAX,
)
from hookd.demo.receivers import Behaviour, Receiver

LOG_LINES_SHOWN = 15
ANY_PORT = "127.0.0.1:0"
SAID_COLUMNS = {False: 90, True: 80}  # below a table that may have 80

Ids = frozenset[str]


class DemoFailed(Exception):
    """An act could not be played to its end; the message says where it stopped."""


class Posted(NamedTuple):
    id: str
    at: float  # just before it was posted
    payload: bytes


class Asked:
    """Requests of which only these statuses are expected; anything else ends the act."""

    def __init__(self, remote: Remote, statuses: tuple[int, ...]) -> None:
        self._remote = remote
        self._statuses = statuses

    def get(self, path: str) -> Any:
        return self._checked("GET", path, self._remote.get(path))

    def post(self, path: str, body: bytes) -> Any:
        return self._checked("POST", path, self._remote.post(path, body))

    def put(self, path: str, body: bytes) -> Any:
        return self._checked("PUT", path, self._remote.put(path, body))

    def _checked(self, method: str, path: str, answer: Answer) -> Any:
        if answer.status not in self._statuses:
            raise DemoFailed(f"{method} {path} was answered {answer.problem}")
        return answer.body


class Stage:
    """The daemon's process, the receivers, the folder, and the words: what every act needs."""

    def __init__(self, directory: Path, *, colours: bool, board: Board | None = None) -> None:
        self.directory = directory
        self.board = board or Board()
        self.reports = directory / "reports"
        self.receivers: dict[str, Receiver] = {}
        self.admitted = 0  # answers of 202 by the daemon that runs now
        self.url = ""
        self.pid = 0
        self._log = directory / "daemon.log"
        self._colours = colours
        self._process: subprocess.Popen[str] | None = None
        self._earlier: frozenset[Path] = frozenset()  # reports of the daemons before this one
        self._is_stopping = False
        self._numbers = itertools.count(1)

    @property
    def remote(self) -> Remote:
        return Remote(self.url)

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Starts the daemon where none runs; returns once it accepts requests. `settings` add to the demo's pace."""
        if self._process is not None and self._process.poll() is None:
            return
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HOOKD_")} | SETTINGS
        environ |= settings or {}
        # Where the one before listened: whoever has its page open finds the next one there. Somebody may have taken it.
        for bind in dict.fromkeys([self.url.removeprefix("http://") or ANY_PORT, ANY_PORT]):
            line = self._started(bind, environ)
            if line.startswith("listening on http://"):
                self.url = line.removeprefix("listening on ").strip()
                self.board.url, self.board.pid = self.url, self.pid
                return
            self.kill()
        raise DemoFailed(f"the daemon did not start; its first line is {line!r}")

    def _started(self, bind: str, environ: Mapping[str, str]) -> str:
        """The first line of the daemon that was started; "" where it has none."""
        command = [sys.executable, "-m", "hookd", "run", "--dev", "--bind", bind, "--reports", str(self.reports)]
        with self._log.open("ab") as log, self.board.interruptions.held():
            # A group of its own: Ctrl-C is the demo's, which then stops the daemon.
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
            self.pid, self.admitted, self._is_stopping = self._process.pid, 0, False
            self._earlier = frozenset(self.reports.glob("shutdown-*.jsonl"))
        return _first_line(self._process, START_SECONDS_MAX)

    def newest_report(self) -> Path | None:
        """That of the daemon that was started last, once it has ended."""
        return next(iter(frozenset(self.reports.glob("shutdown-*.jsonl")) - self._earlier), None)

    def terminate(self) -> None:
        """Once only: a second signal would end the drain."""
        if self._process is not None and not self._is_stopping and self._process.poll() is None:
            self._is_stopping = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self, *, is_patient: bool = True) -> int:
        """Waits for the child to end, asking it to and, out of time, killing it; returns its exit code.

        A signal meanwhile is the caller's, who stops again; where that one is out of patience it kills.
        """
        process = self._process
        if process is None:
            return 0
        try:
            self.terminate()
            code = process.wait(DRAIN_SECONDS + EXIT_GRACE_SECONDS + 5)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as out_of:
            if is_patient and isinstance(out_of, KeyboardInterrupt):
                raise
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        return code

    def kill(self) -> None:
        """As the kernel does when memory runs out: nothing is said, nothing is written."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            self._process = None

    def close(self, *, keep: bool) -> None:
        try:
            self.stop(is_patient=False)
            for receiver in self.receivers.values():
                receiver.close()
        finally:
            if keep:
                self.say(f"the daemon's log and reports are in {self.directory}")
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    def client(
        self, client_id: str, behave: Behaviour, *, up: bool = True, schedule: list[str] | None = None
    ) -> Receiver:
        """Registers the client with a new receiver, in place of the one it may have had."""
        receiver = Receiver(behave, up=up)
        self.board.show_client(client_id)
        old, self.receivers[client_id] = self.receivers.get(client_id), receiver
        endpoint = {"url": receiver.url, "id": "default"} | ({} if schedule is None else {"schedule": schedule})
        body = msgspec.json.encode({"endpoints": [endpoint]})
        view = self.ask(200, 201).put(f"/v1/clients/{client_id}", body)
        receiver.secret = view["endpoints"][0].get("secret") or (old.secret if old is not None else "")
        if old is not None:
            old.close()
        return receiver

    def post(self, client_id: str, event_type: str) -> Posted:
        payload = msgspec.json.encode({"number": next(self._numbers), "note": "from hookd demo"})
        at = time.monotonic()
        body = self.ask(202).post(f"/v1/clients/{client_id}/events", event_body(event_type, payload))
        self.admitted += 1
        return Posted(body["id"], at, payload)

    def ask(self, *statuses: int) -> Asked:
        return Asked(self.remote, statuses)

    def status(self) -> Any:
        return self.ask(200).get("/v1/status")

    def health(self, client_id: str) -> Any:
        return self.ask(200).get(f"/v1/clients/{client_id}")["endpoints"][0]["health"]

    def event(self, client_id: str, event: Posted) -> Any:
        return self.ask(200).get(f"/v1/clients/{client_id}/events/{event.id}")

    def delivery(self, client_id: str, event: Posted) -> Any:
        return self.event(client_id, event)["deliveries"][0]

    def events(self, client_id: str, *, status: str = "") -> list[Any]:
        """All that the daemon lists of the client."""
        found: list[Any] = []
        query = f"/v1/events?client_id={client_id}&limit=1000" + (f"&status={status}" if status else "")
        cursor: str | None = ""
        while cursor is not None:
            page = self.ask(200).get(query + (f"&cursor={cursor}" if cursor else ""))
            found += page["events"]
            cursor = page["next_cursor"]
        return found

    def named(self, client_id: str, events: Sequence[Posted]) -> list[Any]:
        """The daemon's view of just these events."""
        ids = ids_of(events)
        return [event for event in self.events(client_id) if event["id"] in ids]

    def statuses(self, client_id: str, events: Sequence[Posted]) -> dict[str, int]:
        return dict(Counter(event["status"] for event in self.named(client_id, events)))

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS_MAX) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {seconds:g} s for {what}")
            time.sleep(LOOK_EVERY_SECONDS)

    def wait_settled(self, clients: Iterable[str]) -> None:
        for client_id in clients:
            self.wait(partial(self._is_settled, client_id), f"{client_id} to settle")

    def _is_settled(self, client_id: str) -> bool:
        return not self.health(client_id)["unsettled"]

    def command(self, *arguments: str) -> str:
        """One of hookd's own commands, to its end; its stdout."""
        ended = subprocess.run(
            [sys.executable, "-m", "hookd", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if ended.returncode:
            raise DemoFailed(f"hookd {arguments[0]} ended with {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout

    def say(self, line: str) -> None:
        self.board.say(line)
        if not self.board.is_drawn:
            print(line, flush=True)

    def show(self, now: str) -> None:
        """What is to be seen in the table from now on; where none is drawn, nothing."""
        self.board.now = now

    def say_lines(self, label: str, text: str) -> None:
        for number, line in enumerate(_wrapped(text, SAID_COLUMNS[self.board.is_drawn] - len(label))):
            self.say((" " * len(label) if number else label) + line)

    def say_indented(self, text: str) -> None:
        for line in text.splitlines():
            self.say(f"  | {line}")

    def say_verdict(self, differences: Sequence[str]) -> None:
        for difference in differences:
            self.say(self._coloured("31", f"DIFFERS: {difference}"))
        self.say("" if differences else self._coloured("32", "holds") + "\n")

    def say_log(self) -> None:
        """The last lines of the daemon's log, for whoever wants to know why."""
        if not self._log.exists():
            return
        self.say(f"the last lines of {self._log}:")
        for line in self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]:
            self.say(f"  | {line[:240]}")

    def _coloured(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


def _first_line(process: "subprocess.Popen[str]", seconds: float) -> str:
    """Bounded; "" where there is none, because it ended or hangs."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else ""


def event_body(event_type: str, payload: bytes) -> bytes:
    return msgspec.json.encode({"type": event_type, "payload": msgspec.Raw(payload)})


def ids_of(events: Iterable[Posted]) -> Ids:
    return frozenset(event.id for event in events)


def _wrapped(text: str, columns: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > columns:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line
