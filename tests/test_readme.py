"""The README's console blocks are pasted into a fresh clone, in order, into one shell, as a stranger would."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# What they print, as the README shows it.
SHOWN = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# What they tell to look for: in the log, in the reports, and in the report of a kill.
GREPS = re.findall(r"(?:^|`)(grep (?:-o )?'[^`#\n]*)", README, re.MULTILINE)
TEST_COMMAND = "pip install --quiet -e '.[test]' && .venv/bin/pytest"
# Setting up and the demo are nearly all of it; generous, since it bounds a hang and measures nothing.
SECONDS_MAX = 240


# What the daemon binds, and what the endpoints' URLs name, where nobody is to listen.
API_PORT, ENDPOINT_PORTS = 8080, (9000, 9001)


@pytest.fixture(name="ports")
def _ports() -> Iterator[dict[int, int]]:
    """A free one for each port of the README. Those of the endpoints stay taken and refuse every connection."""
    with ExitStack() as stack:
        bound = {port: stack.enter_context(socket.socket()) for port in (API_PORT, *ENDPOINT_PORTS)}
        for one in bound.values():
            one.bind(("127.0.0.1", 0))
        free = {port: one.getsockname()[1] for port, one in bound.items()}
        bound[API_PORT].close()  # the daemon takes it
        yield free


def with_ports(block: str, ports: dict[int, int]) -> str:
    """The block with other ports; `run` and the commands are told of the API's, which they take by default.

    The second attempt is not due within the test: a slow machine needs over 5 s for the commands before `explain`.
    """
    bind = f"127.0.0.1:{ports[API_PORT]}"
    given = (
        f"export HOOKD_HTTP__BIND='[\"{bind}\"]' HOOKD_URL=http://{bind}\n"
        f"export HOOKD_RETRY__SCHEDULE='{json.dumps(['10m'] * 5)}'\n"
    )
    return given + re.sub(r"(?<=127\.0\.0\.1:)(\d+)", lambda found: str(ports[int(found[1])]), block)


def as_ever(text: str) -> set[str]:
    """Its lines without what differs from run to run: ids, times, durations, ports, where the clone lies."""
    for pattern, word in (
        (r"\S*/reports/", "REPORTS/"),
        (r"\b[0-9a-f]{16}\b", "RUN"),
        (r"\d{8}T\d{6}Z|(\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"(?<=127\.0\.0\.1:)\d+", "PORT"),
        (r"(\d+h )?(\d+m )?\d+(\.\d+)? ?m?s\b|\d+h \d+m\b", "AGE"),  # the latter of what has no seconds: 1h 0m
    ):
        text = re.sub(pattern, word, text)
    return {line.rstrip() for line in text.splitlines()}


@pytest.fixture(name="clone")
def _clone(tmp_path: Path) -> Path:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git here, or no git checkout: nothing to clone")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "hookd")], check=True)
    return tmp_path / "hookd"


def found(grep: str, clone: Path) -> set[str]:
    """The strings in the JSON that it prints."""
    ran = subprocess.run(["bash", "-c", grep], cwd=clone, capture_output=True, text=True, check=True)
    return set(re.findall(r'"([^"]*)"', ran.stdout))


@pytest.mark.timeout(2 * SECONDS_MAX)
def test_console_blocks_work_when_pasted_into_a_fresh_clone(clone: Path, ports: dict[int, int]) -> None:
    """Every block ends with success, the event of the first curl is in the report, and the clone stays clean."""
    blocks = [with_ports(block, ports) for block in BLOCKS]
    script = "".join(f'{block}echo "block {number} ended with $?"\n' for number, block in enumerate(blocks))
    pasted = subprocess.run(
        ["bash"], input=script, cwd=clone, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    ended = re.findall(r"block (\d+) ended with (\d+)", pasted.stdout)
    assert ended == [(str(number), "0") for number in range(len(BLOCKS))], pasted.stdout + pasted.stderr
    assert "DIFFERS" not in pasted.stdout
    assert '"id":"inv-1"' in pasted.stdout
    assert f"listening on http://127.0.0.1:{ports[API_PORT]}\n" in pasted.stdout
    assert '"secret":"whsec_' in pasted.stdout
    printed = re.split(r"block \d+ ended with \d+\n", pasted.stdout)
    stopping = next(number for number, block in enumerate(blocks) if "kill -TERM" in block)
    # The shell's own word for the daemon's exit: the demo, in another block, says such a thing of its own daemon.
    assert re.findall(r"exit code (\d+)$", printed[stopping], re.MULTILINE) == ["3"]
    assert "attempted_failed         1" in pasted.stdout
    assert {"The daemon has ended, with exit code 0.", "All 6 promises hold."} <= set(pasted.stdout.splitlines())
    assert len(SHOWN) == 2
    assert [line for shown in SHOWN for line in as_ever(shown) if line not in as_ever(pasted.stdout)] == []
    in_log, in_reports, listed = (found(grep.replace("FILE", "reports/*.jsonl"), clone) for grep in GREPS)
    assert {"inv-1", "event.accepted", "delivery.attempted"} <= in_log
    assert {"inv-1", "attempted_failed"} <= in_reports
    assert {"inv-1", "attempted_failed", "acme", "default", "invoice.paid"} <= listed
    status = subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout in ("", "?? hookd.log\n")


def test_readme_has_its_three_sections_and_stays_short() -> None:
    """It opens with what a 202 promises and *If you were paged*; sections A, B and C follow, in at most 400 lines."""
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert headings[:2] == ["What a 202 promises", "If you were paged"]
    assert [heading[:9] for heading in headings[2:5]] == ["Section A", "Section B", "Section C"]
    assert README.count("\n") <= 400


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """The second of the two commands is what CI runs, in a fresh virtual environment."""
    assert TEST_COMMAND in README
    assert "grep -F 'venv/bin/pytest' README.md" in (ROOT / ".ci" / "run").read_text()
    assert next(line for line in README.splitlines() if "venv/bin/pytest" in line).endswith(TEST_COMMAND)


def test_retry_table_is_that_of_the_default_schedule() -> None:
    """Earliest, nominal and latest start of each attempt, as the settings give them."""
    from hookd.core.settings import DEFAULTS

    rows = re.findall(r"^\| ([2-6]) \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", README, re.MULTILINE)
    expected = []
    for attempt in range(2, 2 + len(DEFAULTS.retry.schedule_seconds)):
        total = sum(DEFAULTS.retry.schedule_seconds[: attempt - 1])
        jitter = DEFAULTS.retry.jitter
        expected.append((str(attempt), *(_words(total * factor) for factor in (1 - jitter, 1, 1 + jitter))))
    assert [tuple(cell.strip() for cell in row) for row in rows] == expected


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
