"""The memory benchmark, small: real daemons keep what `hookd check` promises. Benchmarks are started by their names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUICK = ["waiting at 16 endpoints, URLs of 2 KB", "clients of 16 endpoints with 20 headers of 4 KiB"]


def benchmarks(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
def test_quick_benchmark_keeps_the_promise() -> None:
    """Two of the shapes that once took ten times what was promised; its exit code is the bar's."""
    done = benchmarks("memory_promise", "--quick", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", done.stdout, re.MULTILINE)
    assert [name for name, *_ in rows] == QUICK
    for _, promised, taken, ratio in rows:
        assert float(ratio) == pytest.approx(float(taken) / float(promised), abs=0.02)
        assert float(ratio) > 0.5
    assert "over the bar of 1.1: none" in done.stdout


def test_benchmarks_are_listed_and_an_unknown_one_is_a_mistake_of_usage() -> None:
    """Each with the first line of what it says of itself; a part of another is not one."""
    done = benchmarks("--list")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"egress", "intake", "memory_promise"} <= set(names)
    assert "memory_shapes" not in names
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())
    for wrong in (["nothing"], []):
        done = benchmarks(*wrong)
        assert done.returncode == 2
        assert "memory_promise" in done.stderr
    assert benchmarks("memory_promise", "no such shape").returncode == 2
