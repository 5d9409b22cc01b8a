"""Each benchmark runs, for a few seconds and without bars on time: so that it still does when somebody asks it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What is compared with is installed from its registries, for a minute: by hand.
NOT_HERE = {"peers"}
QUICK = {
    "egress": ["--quick"],
    "end_to_end": ["--quick"],
    "endpoint_kinds": ["--quick"],
    "fleet": ["--quick"],
    "flow": ["--rounds", "1"],
    "intake": ["--quick"],
    "isolation": ["--quick"],
    "memory": ["--quick"],
    "recorder": ["--quick"],
    "relay": ["--quick"],
    "scale": ["--quick"],
    "scrape": ["--quick"],
    "send_path": ["--quick"],
    "stop": ["--quick"],
}
# It has no quick form: 108 cells, each with peers of its own.
BY_HAND = {"front_door"}
# Its own test runs it, in its quick form too.
ELSEWHERE = {"memory_promise"}
TAKES_NO_JSON = {"egress", "flow", "intake", "isolation", "recorder", "relay", "scrape"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)


SLOW = {"endpoint_kinds", "fleet", "intake", "isolation", "recorder", "relay", "scale", "send_path"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.second_round) if name in SLOW else name for name in QUICK]
)
def test_benchmark_runs_in_seconds(name: str, tmp_path: Path) -> None:
    """What it prints is figures, or why it is skipped."""
    written = tmp_path / "seen.json"
    takes_json = name not in TAKES_NO_JSON
    done = run(name, *QUICK[name], *(["--json", str(written)] if takes_json else []))
    assert done.returncode == 0, done.stdout + done.stderr
    if done.stdout.startswith("skipped: "):
        pytest.skip(done.stdout.strip())
    assert any(character.isdigit() for character in done.stdout)
    if takes_json:
        seen = json.loads(written.read_text())
        assert seen["benchmark"] == name
        assert seen["machine"]["python"]


def test_every_benchmark_is_listed_and_is_either_run_here_or_by_hand() -> None:
    done = run("--list")
    assert done.returncode == 0, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines()}
    assert names - {"watched_daemon"} == {*QUICK, *BY_HAND, *ELSEWHERE, *NOT_HERE}
