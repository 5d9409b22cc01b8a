"""A memory limit is cut too small: the kernel kills the daemon, and the next start names everything that got a 202.

The limit is a control group's of this machine, as a container has it. Skips where none can be made.
"""

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import NO_RETRY_SOON, WITHOUT_RECORDER, Daemon, read_report, refusing_url

LIMIT_BYTES = 200 << 20
# A third of the limit is the daemon itself, the rest is some 600 of these. Far from the daemon's own budgets.
PAYLOAD = b'"%b"' % (b"x" * 250_000)
EVENTS_MAX = 2_000
ROOMY = {"intake.unsettled_bytes_max": "2GiB", "intake.client_bytes_max": "2GiB"}
GROUPS = Path("/sys/fs/cgroup")

pytestmark = pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")


@contextmanager
def limited_group() -> Iterator[Path]:
    """The folder of a control group with that limit, and no swap. Of either version."""
    is_first = (GROUPS / "memory").is_dir()
    group = GROUPS / ("memory" if is_first else "") / f"hookd-test-{os.getpid()}"
    limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if is_first else ("memory.max", "memory.swap.max")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not (group / limits[0]).exists():
            pytest.skip("control groups limit no memory here")
        (group / limits[0]).write_text(str(LIMIT_BYTES))
        if (group / limits[1]).exists():
            (group / limits[1]).write_text(str(LIMIT_BYTES if is_first else 0))
        yield group
    finally:
        group.rmdir()


def kills(group: Path) -> int:
    """For want of memory, as the kernel counts them."""
    file = group / "memory.events"
    lines = (file if file.exists() else group / "memory.oom_control").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def test_daemon_killed_for_want_of_memory_leaves_all_it_took_in_the_crash_report(tmp_path: Path) -> None:
    with limited_group() as group, refusing_url() as url:
        through = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
        with Daemon(tmp_path, settings=NO_RETRY_SOON | ROOMY, through=through) as daemon, daemon.api as api:
            api.put_client("down", {"url": url})
            run_id = api.status()["run_id"]
            accepted = set()
            try:
                for number in range(EVENTS_MAX):
                    answer = api.post("down", f"e{number}", PAYLOAD)
                    assert answer.status == 202
                    accepted.add(f"e{number}")
            except (OSError, http.client.HTTPException):
                pass  # it is gone
            assert daemon.wait(30) == -signal.SIGKILL
        assert kills(group) >= 1
    assert len(accepted) > 100
    with Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon:
        (path,) = daemon.reports.glob(f"crash-*-{run_id}.jsonl")
        summary, lines = read_report(path)
        assert daemon.stop() == 0
    print(f"killed by {LIMIT_BYTES >> 20} MiB after {len(accepted)} events, {len(lines)} in the crash report")
    assert (summary["trigger"], summary["balanced"]) == ("crash", True)
    assert accepted <= {line["event_id"] for line in lines}
    assert len(lines) <= len(accepted) + 1  # the one that was taken and not answered
