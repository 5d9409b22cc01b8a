"""Owns `hookd resend`: posts a report's lines, in pieces, to a running daemon, until each has an answer.

Rules: it can be repeated, since the daemon knows the events that it has. A piece that is refused for its size, or for
want of room, or for a mistake in one of its lines, is halved. Where one line alone has no room, all of its client wait
behind the others, in their order, which strict order rests on; and what they wait for is said. A line that cannot be
read, or has a mistake, is named; the others are sent.
A report whose undelivered lines were all taken is claimed for the run that took them.
"""

import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import click
import msgspec

from hookd.cli.api_client import NO_HOOKD, Answer, Remote, Unreachable
from hookd.cli.completion import complete_file
from hookd.cli.failures import asking, fail
from hookd.cli.options import token_option, url_option
from hookd.cli.report_files import read_summary, say_claimed
from hookd.cli.terminal import tell
from hookd.core.ids import is_id
from hookd.core.json_depth import DEPTH_MAX
from hookd.core.printable import printable
from hookd.edge.reports import CLAIM, ReportDirectory
from hookd.process.exit_codes import ExitCode

LINES_AT_ONCE = 100
BYTES_AT_ONCE = 4 * 1024 * 1024
WAIT_SECONDS_MAX = 30
NAMED_MAX = 20  # clients or events in one message
TAKEN = {"admitted", "known"}
TOO_LARGE, MISTAKEN, UNREADABLE = "too-large", "mistaken", "unreadable"
MISTAKES = ("malformed-json", "invalid-event")
ADVICE = {
    "unknown-client": "these clients are not registered: PUT the client, then run this again",
    "unknown-endpoint": "these clients have no endpoint of that id: PUT the client with it, then run this again",
    "no-payload": "the report holds no payload of them: the platform has to post these events again",
    "conflict": "the daemon has another event of that id",
    TOO_LARGE: "one line alone is over the daemon's limits: raise intake.body_bytes_max, then run this again",
    MISTAKEN: "these lines are not as hookd wrote them; what is wrong with each is said above",
    UNREADABLE: "these lines are cut or no JSON; what was whole was sent",
}
# The decoder nests one C call for each level of a payload, and Python's limit counts them.
FRAMES = 1000


@click.command()
@click.argument("file", shell_complete=complete_file)
@click.option("--exhausted", is_flag=True, help="The exhausted deliveries, in place of the undelivered.")
@click.option("--client", "only_client", metavar="ID", help="Of this client only.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; no daemon is asked.")
@url_option
@token_option
def resend(
    file: str, exhausted: bool, only_client: str | None, dry_run: bool, url: str | None, token_file: str | None
) -> None:
    """Post a report's undelivered events to a running daemon, under their own ids. Repeatable."""
    path, kind = Path(file), "exhausted" if exhausted else "undelivered"
    sys.setrecursionlimit(max(sys.getrecursionlimit(), DEPTH_MAX + FRAMES))
    summary, _ = read_summary(path)
    say_claimed(path)
    lines, unreadable = _read(path, kind, only_client)
    if not lines and not unreadable:
        tell(f"the report lists nothing of that: {kind}{f' of client {only_client}' if only_client else ''}")
    if dry_run:
        _end_dry_run(lines, unreadable, has_payloads=summary.payloads is not False)
    claims = kind == "undelivered" and only_client is None
    with asking():
        remote = Remote.named(url, token_file)
        run_id = _run_id(remote) if claims else ""  # a token that is held to certain clients may not ask for it
        tally = Resending(remote, lines).run()
    if unreadable:
        tally.counts[UNREADABLE] = unreadable
    for word, count in tally.counts.items():
        click.echo(f"{printable(word)}: {count:,}")
    if not set(tally.counts) <= TAKEN:
        _end_owing(tally)
    if claims and _claim(path, run_id):
        click.echo(printable(f"claimed: {path.with_name(f'{path.name}{CLAIM}{run_id}')}"), err=True)


def _end_dry_run(lines: list["Line"], unreadable: int, *, has_payloads: bool) -> NoReturn:
    click.echo(f"would be sent: {len(lines) if has_payloads else 0:,}")
    if lines and has_payloads:
        tell("no daemon was asked: whether their clients are registered shows when they are sent")
    elif lines:
        tell(f"{len(lines):,} no-payload: {ADVICE['no-payload']}")
    sys.exit(ExitCode.UNDELIVERED if unreadable or (lines and not has_payloads) else ExitCode.CLEAN)


def _run_id(remote: Remote) -> str:
    """It becomes part of a file's name. Raises Unreachable or Refusal."""
    run_id = remote.get("/v1/status").taken().get("run_id")
    if not isinstance(run_id, str) or not is_id(run_id):
        raise Unreachable(f"{NO_HOOKD}: it names no run")
    return run_id


def _claim(path: Path, run_id: str) -> bool:
    return ReportDirectory(str(path.parent)).claim(str(path.absolute()), run_id)


def _end_owing(tally: "Tally") -> NoReturn:
    """With what to do for each answer that is none of the taken ones."""
    for word, count in tally.counts.items():
        if word not in TAKEN:
            names = ", ".join(list(tally.names.get(word, ()))[:NAMED_MAX])
            tell(f"{count:,} {word}{f' ({names})' if names else ''}: {ADVICE.get(word, '')}")
    fail(ExitCode.UNDELIVERED, "not all of it was taken; what was is known there, and is not sent twice")


class Line(NamedTuple):
    client_id: str
    event_id: str
    data: bytes  # with its line break


class _Read(msgspec.Struct):
    """What is needed to choose a line. The payload is not decoded: Python has no value for some numbers (1E400)."""

    kind: str
    client_id: str = ""
    event_id: str = ""


_decoder = msgspec.json.Decoder(_Read)


def _read(path: Path, kind: str, only_client: str | None) -> tuple[list[Line], int]:
    """The lines to send, and how many could not be read; each of those is named on stderr."""
    lines, unreadable = [], 0
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            text = data.strip()
            if not text:
                tell(f"line {number:,} of {path} is blank, and passed over")
                continue
            try:
                read = _decoder.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                tell(f"line {number:,} of {path} is cut or no JSON, and not sent: {error}")
                unreadable += 1
                continue
            if read.kind == kind and only_client in (None, read.client_id):
                lines.append(Line(read.client_id, read.event_id, text + b"\n"))
    return lines, unreadable


class Tally:
    """How many lines got which answer; and for those that were not taken, whose they are."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: dict[str, dict[str, None]] = {}  # by answer: clients, or events where it is about one

    def note(self, line: Line, word: str) -> None:
        self.counts[word] += 1
        if word not in TAKEN:
            is_of_client = word in ("unknown-client", "unknown-endpoint")
            name = line.client_id if is_of_client else f"{line.client_id}/{line.event_id}"
            self.names.setdefault(word, {})[name] = None


class Resending:
    """Pieces that wait to be posted. Ends when each line has its answer."""

    def __init__(self, remote: Remote, lines: list[Line]) -> None:
        self._remote = remote
        self._pieces = deque(_pieces(lines))
        self._lines = len(lines)
        self._put_off: dict[str, list[Line]] = {}  # clients without room: what is left of them, in order
        self._rest_seconds = 0
        self._rests = 0  # since anything was taken
        self._said: set[str] = set()
        self.tally = Tally()

    def run(self) -> Tally:
        """Raises Unreachable, or Refusal where neither waiting nor halving mends it."""
        with click.progressbar(length=self._lines, label="resending", file=sys.stderr) as bar:
            while self._pieces or self._put_off:
                if not self._pieces:
                    self._rest()
                if piece := self._of_the_others(self._pieces.popleft()):
                    bar.update(self._post(piece))
        return self.tally

    def _of_the_others(self, piece: list[Line]) -> list[Line]:
        """Without lines of clients that were put off: those wait with them."""
        for line in piece:
            if line.client_id in self._put_off:
                self._put_off[line.client_id].append(line)
        return [line for line in piece if line.client_id not in self._put_off]

    def _rest(self) -> None:
        """All that is left was put off. The daemon cannot say when what is in flight ends: at first for moments."""
        time.sleep(min(self._rest_seconds, 2**self._rests))
        self._rests += 1
        self._pieces.extend(_pieces([line for lines in self._put_off.values() for line in lines]))
        self._put_off.clear()

    def _post(self, piece: list[Line]) -> int:
        """How many lines have their answer now."""
        body = b"".join(line.data for line in piece)
        answer = self._remote.post("/v1/resend", body, content_type="application/x-ndjson")
        is_mistaken = any(map(answer.problem_is, MISTAKES))
        can_pass = is_mistaken or (answer.status in (200, 413, 429, 503) and not answer.problem_is("draining"))
        if not answer.is_hookds or not can_pass:
            answer.taken()  # raises
        if answer.status == 200:
            self._rests = 0
            for line, word in zip(piece, _words(answer, len(piece)), strict=True):
                self.tally.note(line, word)
            return len(piece)
        if len(piece) > 1:
            middle = len(piece) // 2
            self._pieces.extendleft((piece[middle:], piece[:middle]))
        elif answer.status == 413:
            self.tally.note(piece[0], TOO_LARGE)
            return 1
        elif is_mistaken:
            click.echo(err=True)  # below the bar
            tell(f"event {piece[0].client_id}/{piece[0].event_id} is not sent: {answer.problem}")
            self.tally.note(piece[0], MISTAKEN)
            return 1
        else:
            self._put_off_client(piece[0], answer)
        return 0

    def _put_off_client(self, line: Line, answer: Answer) -> None:
        """Until the others had their turn, and for as long as the daemon says at most; said once for each client."""
        if line.client_id not in self._said:
            self._said.add(line.client_id)
            click.echo(err=True)  # below the bar
            tell(f"client {line.client_id} waits for room: {answer.problem}")
        self._put_off[line.client_id] = [line]
        self._rest_seconds = min(int(answer.headers.get("retry-after", "1")), WAIT_SECONDS_MAX)


def _words(answer: Answer, count: int) -> list[str]:
    """One for each line. Raises Unreachable."""
    words = answer.taken("lines")["lines"]
    if not isinstance(words, list) or len(words) != count or not all(isinstance(word, str) for word in words):
        raise Unreachable(f"{NO_HOOKD}: it answered no word for each line")
    return words


def _pieces(lines: list[Line]) -> Iterator[list[Line]]:
    piece: list[Line] = []
    size = 0
    for line in lines:
        if piece and (len(piece) == LINES_AT_ONCE or size + len(line.data) > BYTES_AT_ONCE):
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line.data)
    if piece:
        yield piece
