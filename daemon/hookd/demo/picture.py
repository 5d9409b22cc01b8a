"""The demo's picture: one table of the receivers, what is to be seen in it, and what the act says, at any size.

What stands above the table, the table and the last line are always there. What the act says gets the lines that are
left. `screen` puts it onto the terminal.
"""

from typing import Any, NamedTuple

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from hookd.cli.terminal import folded
from hookd.core.printable import printable
from hookd.demo.board import Board
from hookd.demo.rows import STOPPED, TROUBLED, WELL, Row, sentences

SEEING_SECONDS = 4.0  # how long a sentence stands
BAR_EVENTS_MIN = 20  # a backlog of fewer does not fill the bar
# Columns of the terminal from which on the table has all of its own, and from which on the next attempts.
FULL_COLUMNS, NEXT_COLUMNS = 78, 50
STYLES = {WELL: "green", TROUBLED: "yellow", STOPPED: "red"}
STATUSES = ("pending", "failed", "delivered", "exhausted")
SAID_INDENT = 9  # below what follows `promise: `, `doing:   ` and `seen:    `
ENDS = "Enter ends the demo. Ctrl-C drains the daemon and shows its report."
ENDING = "Enter: the demo ends."
ABOVE, BELOW = 7, 3  # lines above the table's rows, its head among them, and below them; one more is the last


class Reading(NamedTuple):
    """What the daemon answered last; `is_fresh`: it answers now."""

    status: dict[str, Any]
    rows: list[Row]
    is_fresh: bool


def picture(board: Board, reading: Reading, seconds: float, *, columns: int, lines: int) -> RenderableType:
    """`seconds` since the demo began; it fills that many `lines`."""
    room = max(0, lines - ABOVE - len(reading.rows) - BELOW - 1)
    said = _tail(board.said(), columns, room)
    return Group(
        _head(board),
        _Exactly(2, _act(board)),
        _Exactly(2, _seeing(board, reading, seconds)),
        Text(),
        _table(reading, columns),
        Text(),
        _totals(reading),
        _promises(board),
        *(_line(line, "dim") for line in said),
        *[Text()] * (room - len(said)),
        _line(ENDING if board.enter.is_set() else ENDS, "bold"),
    )


class _Exactly:
    """A text in so many lines: what stands below it does not jump, and does not leave the screen."""

    def __init__(self, lines: int, text: Text) -> None:
        self._lines = lines
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._text, options.update(height=None))[: self._lines]
        for line in lines + [[]] * (self._lines - len(lines)):
            yield from line
            yield Segment.line()


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text), style, no_wrap=True, overflow="ellipsis")


def _tail(said: list[str], columns: int, room: int) -> list[str]:
    """As many of the last lines as there is room for, with nothing cut off."""
    found: list[str] = []
    for line in reversed(said):
        if len(found) >= room:
            break
        if line:
            found[:0] = folded(printable(line), columns, SAID_INDENT)
    return found[len(found) - room :] if len(found) > room else found


def _head(board: Board) -> Text:
    if not board.url:
        return _line("hookd demo: the daemon starts", "bold")
    line = Text.assemble(("its page  ", "bold"), (f"{board.url}/", "bold cyan"), f"  (process {board.pid})")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _act(board: Board) -> Text:
    scene = board.scene
    label = f"act {scene.number} of {scene.acts}, {scene.name}" if scene.acts else "hookd demo"
    return Text.assemble((label, "bold"), f": {scene.does}" if scene.does else "")


def _seeing(board: Board, reading: Reading, seconds: float) -> Text:
    if board.now:
        seen = board.now
    elif not reading.is_fresh:
        seen = "no daemon answers"
    else:
        found = sentences(reading.rows) or ["nobody is registered yet"]
        seen = found[int(seconds / SEEING_SECONDS) % len(found)]
    return Text.assemble(("now  ", "bold"), (printable(seen), "bold yellow"))


def _table(reading: Reading, columns: int) -> Table:
    is_full, has_next = columns >= FULL_COLUMNS, columns >= NEXT_COLUMNS
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("receiver", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("backlog", no_wrap=True, justify="right")
    if is_full:
        table.add_column("", ratio=1)
        table.add_column("in flight", no_wrap=True, justify="right")
        table.add_column("last answer", no_wrap=True, min_width=16)
    if has_next:
        table.add_column("next attempt", no_wrap=True, min_width=12)
    most = max([BAR_EVENTS_MIN, *(row.unsettled for row in reading.rows)])
    for row in reading.rows:
        style = STYLES[row.mood] if reading.is_fresh else "bright_black"
        cells: list[RenderableType] = [row.client_id]
        cells += [Text(row.state if reading.is_fresh else "no daemon", style), f"{row.unsettled:,}"]
        if is_full:
            cells += [Bar(most, 0, row.unsettled, color=style), str(row.in_flight), row.answer]
        table.add_row(*cells, *([row.upcoming] if has_next else []))
    return table


def _totals(reading: Reading) -> Text:
    if not reading.status:
        return Text()
    events = reading.status["events"]
    sums = " + ".join(f"{events[status]:,} {status}" for status in STATUSES)
    return _line(f"{events['accepted']:,} accepted = {sums}")


def _promises(board: Board) -> Text:
    if not board.verdicts:
        return Text()
    line = Text("promises  ", no_wrap=True, overflow="ellipsis")
    for verdict in board.verdicts:
        line.append(verdict.name)
        line.append(" holds  " if verdict.holds else " DIFFERS  ", "green" if verdict.holds else "bold red")
    return line
