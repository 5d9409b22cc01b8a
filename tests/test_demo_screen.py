"""`hookd demo` on a terminal: its screen read back, at two sizes and while they change; Enter; Ctrl-C."""

import os
import re
import select
import subprocess
import sys
import termios
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hookd.demo.acts import endless_act
from hookd.demo.acts.crowd import BAD_SECONDS, Weather
from hookd.demo.board import Board, Scene
from hookd.demo.performance import play
from hookd.demo.picture import Reading, picture
from hookd.demo.rows import Row, rows_of, sentences
from hookd.demo.screen import quiet
from hookd.demo.stage import Stage
from rich.console import Console

from tests.acceptance.harness import wait_until
from tests.edge.test_api import Api, event
from tests.emulator import Terminal
from tests.flow.harness import at
from tests.test_status import with_states

CTRL_C, ENTER, CTRL_Z = b"\x03", b"\r", b"\x1a"
HEAD = ("receiver", "state", "backlog", "in flight", "last answer", "next attempt")
ENDS = "Enter ends the demo. Ctrl-C drains the daemon and shows its report."


def after_the_table(terminal: Terminal) -> str:
    """What was printed once the terminal's own screen was back, with its cursor."""
    before, left, after = terminal.written.rpartition(b"\x1b[?1049l")
    assert before.startswith(b"\x1b[?1049h"), before[:100]
    assert left
    assert b"\x1b[?25h" in after
    return re.sub(r"\x1b\[[?\d;]*\w", "", after.decode()).replace("\r\n", "\n")


def head_of(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("receiver"))


def interrupted_in_its_traffic() -> None:
    """80x24: every state is there at once, the page answers, and Ctrl-C drains and shows the report."""
    with Terminal(80, 24, "demo") as terminal:
        lines = terminal.wait_for("paused: operator", "disabled", ", Retry-After", "410", "unreachable", ENDS)
        assert all(word in head_of(lines) for word in HEAD)
        clients = [line.split()[0] for line in lines[lines.index(head_of(lines)) + 1 :][:7]]
        assert clients == ["healthy", "slow", "flaky", "down", "busy", "held", "gone"]
        assert lines[-1] == ENDS
        assert any(re.match(r"act 1 of 7, traffic: 10 s of events for a healthy, a slow", line) for line in lines)
        assert any(line.startswith("now  ") for line in lines)
        assert any(re.match(r"\d+ accepted = \d+ pending \+ .* exhausted$", line) for line in lines)
        assert any(set(line) & set("▏▎▍▌▋▊▉█") for line in lines)
        terminal.press(CTRL_Z)  # would leave the table behind, so it does nothing
        terminal.press(CTRL_C)
        terminal.wait_for("now  the daemon drains", "stopped; the daemon drains:")
        terminal.press(ENTER)  # it ends already
        assert terminal.wait() == 130
        said = after_the_table(terminal)
    assert re.search(r"\| events: [\d,]+ accepted = ", said), said
    assert "UNDELIVERED: " in said
    assert "Traceback" not in said


def looked_at_and_ended() -> None:
    """120x40 and back: after its act the daemon runs on until Enter, and the table follows the terminal's size."""
    with Terminal(120, 40, "demo", "--act", "flaky") as terminal:
        lines = terminal.wait_for("now  it is over, and the daemon runs on", "promises  flaky holds", ENDS)
        assert lines[39] == ENDS
        assert len(head_of(lines)) == len(head_of(lines).rstrip()) > 100
        assert any(line.startswith("seen:    flaky: 24 events") for line in lines)
        url = re.search(r"its page  (http://127\.0\.0\.1:\d+/)", "\n".join(lines))
        assert url is not None
        with urllib.request.urlopen(url[1], timeout=10) as page:
            assert page.status == 200
        for columns, height in ((80, 24), (40, 12), (120, 40)):
            terminal.resize(columns, height)
            lines = terminal.wait_for("receiver", ENDS[: columns - 1])
            assert lines[height - 1].startswith(ENDS[: columns - 1])
            assert any(line.startswith("flaky") for line in lines)
        terminal.press(b"x")
        terminal.press(ENTER)
        assert terminal.wait() == 0
        said = after_the_table(terminal)
    assert said.startswith("flaky    holds\nThe daemon has ended, with exit code 0.\nThe promise holds.\n"), said
    assert "hookd run --dev --client acme=" in said


def cut_by_enter() -> None:
    """In the middle of an act: nothing is judged, the daemon drains, and its report says what was left."""
    with Terminal(80, 24, "demo", "--act", "restart") as terminal:
        terminal.wait_for("act 1 of 1, restart", "hung", "broken")
        terminal.press(ENTER)
        assert terminal.wait() == 0
        said = after_the_table(terminal)
    assert "No act was played out." in said
    assert "holds" not in said
    assert "Traceback" not in said


def test_demo_on_a_terminal() -> None:
    """Three at once: each mostly waits."""
    with ThreadPoolExecutor(3) as pool:
        for ended in [pool.submit(show) for show in (interrupted_in_its_traffic, looked_at_and_ended, cut_by_enter)]:
            ended.result()


def test_reading_the_keys_never_waits() -> None:
    """Ctrl-C throws away what was typed before it, between the word that a key is there and the reading of it."""
    terminal, keys = os.openpty()
    try:
        termios.tcsetattr(keys, termios.TCSADRAIN, quiet(termios.tcgetattr(keys)))
        os.write(terminal, CTRL_Z)
        assert select.select([keys], [], [], 10)[0]
        termios.tcflush(keys, termios.TCIFLUSH)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(os.read, keys, 1024)
            try:
                assert reading.result(timeout=10) == b""
            finally:
                os.write(terminal, ENTER)  # ends one that waits
        assert select.select([keys], [], [], 10)[0]
        assert b"\n" in os.read(keys, 1024)
    finally:
        os.close(terminal)
        os.close(keys)


def test_traffic_until_enter_is_judged(tmp_path: Path) -> None:
    """Each receiver was asked; then Enter, and everything ends as promised."""
    stage = Stage(tmp_path, colours=False, board=Board())

    def press() -> None:
        wait_until(lambda: stage.board.clients[-1:] == ("gone",), seconds=30, what="the crowd")
        wait_until(lambda: stage.receivers["gone"].arrivals and stage.receivers["busy"].rests, what="410 and 429")
        stage.board.enter.set()

    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        assert play([endless_act()], stage) == 0
    finally:
        pressing.join()
        stage.close(keep=False)


def test_weather_of_a_minute() -> None:
    """Faults begin and end: what is down comes up, what an operator holds is let go, what is gone is asked again."""
    assert Weather.after(0) == (True, False, 0)
    assert Weather.after(1) == (True, True, 0)
    assert Weather.after(15).is_held is False
    assert Weather.after(30).resumes == 1
    assert Weather.after(31).is_held is True
    assert Weather.after(BAD_SECONDS).is_bad is False
    assert Weather.after(60) == (True, False, 1)
    assert Weather.after(90).resumes == 2


async def rows_in(api: Api, *shown: str) -> list[Row]:
    page, status = await api.get("/v1/clients?limit=50"), await api.get("/v1/status")
    return rows_of(page.body["clients"], shown, status.body["now"])


async def test_rows_say_each_state_its_last_answer_and_what_is_next(autojump_clock, nursery) -> None:
    """From the API's own answers; what an endpoint wrote is harmless; who is not registered is said."""
    rows = await rows_in(await with_states(nursery), "well", "failing", "disabled", "acme", "unreachable", "new")
    assert [(row.state, row.unsettled, row.answer) for row in rows] == [
        ("ok", 0, "200"),
        ("failing", 1, "400"),
        ("disabled", 0, "410"),
        ("paused: operator", 1, "-"),
        ("failing", 1, "unreachable"),
        ("unknown", 0, "-"),
    ]
    assert [row.upcoming for row in rows[2:4]] == ["once resumed", "once resumed"]
    assert re.fullmatch(r"in \S+s", rows[1].upcoming)
    assert sentences(rows)[0].startswith("disabled answered 410")
    assert sentences(rows)[-1] == "well is well: it does not notice what becomes of the others."


async def test_row_of_a_paused_endpoint_says_its_probe(autojump_clock, nursery) -> None:
    """Ten failures over half a minute; and what Retry-After holds back says until when."""
    api = await with_states(nursery)
    for number in range(12):
        await api.post("/v1/events", event(client_id="unreachable", id=f"more-{number}"))
        await at(4 * (number + 1))
    row = (await rows_in(api, "unreachable"))[0]
    assert row.state == "paused: failures"
    assert re.fullmatch(r"probe in \S+s|probing", row.upcoming), row.upcoming
    assert "paused by failures" in row.sentence


def rendered(board: Board, reading: Reading, columns: int, lines: int) -> list[str]:
    console = Console(width=columns, height=lines, color_system=None, force_terminal=True)
    options = console.options.update_dimensions(columns, lines)
    found = console.render_lines(picture(board, reading, 0.0, columns=columns, lines=lines), options)
    return ["".join(segment.text for segment in line).rstrip() for line in found]


@pytest.fixture(name="reading")
def _reading() -> Reading:
    events = dict.fromkeys(("accepted", "pending", "failed", "delivered", "exhausted"), 123_456)
    states = ("ok", "throttled", "paused: operator", "paused: failures", "disabled", "failing", "unknown")
    rows = [
        Row(f"client{n}", state, "well", 10**n, n, "429, Retry-After", "once resumed", f"client{n} is so \x1b[31m")
        for n, state in enumerate(states)
    ]
    return Reading({"events": events}, rows, True)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (80, 18), (100, 30), (120, 40), (200, 60)])
def test_picture_fits_and_cuts_nothing_that_matters(reading: Reading, columns: int, lines: int) -> None:
    """Each state, backlog, answer and next attempt in full; the last line is how to end it."""
    board = Board(is_drawn=True)
    board.begin(Scene("traffic", 1, 7, "word " * 60))
    board.url, board.pid = "http://127.0.0.1:45678", 12345
    for number in range(100):
        board.say(
            f"line {number} \x1b[31m with words that a narrow terminal has to fold" + " and more" * (number == 98) * 50
        )
    found = rendered(board, reading, columns, lines)
    assert len(found) == lines
    assert all(len(line) <= columns and line.isprintable() for line in found)
    assert found[-1] == ENDS
    for row in reading.rows:
        line = next(line for line in found if line.startswith(row.client_id))
        for word in (row.state, f"{row.unsettled:,}", row.answer, row.upcoming):
            assert word in line, line
    assert found[-2].startswith("line 99 ") == (lines > 18)


def test_picture_before_and_after_the_daemon(reading: Reading) -> None:
    """While it starts, and while none answers, that is said; and Enter is seen to be heard."""
    board = Board(is_drawn=True)
    assert "the daemon starts" in rendered(board, Reading({}, [], False), 80, 24)[0]
    board.url = "http://127.0.0.1:1"
    found = rendered(board, reading._replace(is_fresh=False), 80, 24)
    assert any(line.startswith("now  no daemon answers") for line in found)
    assert sum("no daemon " in line for line in found) == 1 + len(reading.rows)
    board.enter.set()
    assert rendered(board, reading, 80, 24)[-1] == "Enter: the demo ends."


def test_board_keeps_a_bounded_number_of_lines() -> None:
    """However much is said."""
    board = Board()
    for number in range(10_000):
        board.say(str(number))
    assert len(board.said()) == 500
    assert board.said()[-1] == "9999"


def test_table_is_loaded_for_a_terminal_only() -> None:
    """The daemon, the other commands and a plain demo do without rich."""
    loading = "import sys, hookd.demo, hookd.cli.command_line, hookd.process.main; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loading], check=False, timeout=60).returncode == 0
