"""The shipped units under a real systemd, in a container of the system's own files: started as they come, reloaded,
restarted under load with the socket held, killed, stopped.

Skips where no such container can run: it takes root, systemd-nspawn, and a system's Python that is as ours.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import ROOT

NSPAWN, PYTHON = shutil.which("systemd-nspawn"), "/usr/bin/python3"
CONFIG = ROOT / "config"
SECONDS_MAX = 120
LAUNCHER = """#!/usr/bin/python3
import sys
sys.path[:0] = ["/opt/hookd/daemon", "/opt/hookd/site"]
from hookd.__main__ import main
main()
"""
# It ends the container once it has driven, whatever came of it.
DRIVING = """[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /opt/drive/systemd_drive.py /out/found.json
ExecStopPost=/bin/systemctl poweroff --no-block
[Install]
WantedBy=multi-user.target
"""
SHORT_DRAIN = "[Service]\nEnvironment=HOOKD_DRAIN__TIMEOUT=1s\n"


def is_like_ours() -> bool:
    """Compiled packages of this interpreter load in the system's."""
    if not os.access(PYTHON, os.X_OK):
        return False
    command = [PYTHON, "-c", "import sys; print(sys.version_info[:2])"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() == str(sys.version_info[:2])


pytestmark = [
    pytest.mark.skipif(NSPAWN is None or os.geteuid() != 0, reason="no systemd-nspawn, or no root to run it"),
    pytest.mark.skipif(not is_like_ours(), reason=f"{PYTHON} is not of this version"),
]


def container(directory: Path) -> list[str]:
    """The command that boots it: the system's files read-only, everything else in memory."""
    units, etc, out, program = (directory / name for name in ("units", "etc", "out", "program"))
    for one in (units / "multi-user.target.wants", units / "hookd.service.d", etc, out, program / "bin"):
        one.mkdir(parents=True)
    for name in ("hookd.service", "hookd@.service", "hookd.socket"):
        shutil.copy(CONFIG / name, units)
    shutil.copy(CONFIG / "hookd.toml", etc)
    (units / "hookd.service.d" / "test.conf").write_text(SHORT_DRAIN)
    (units / "drive.service").write_text(DRIVING)
    (units / "multi-user.target.wants" / "drive.service").symlink_to("/etc/systemd/system/drive.service")
    (units / "systemd-firstboot.service").symlink_to("/dev/null")  # it would ask for a time zone
    (program / "bin" / "hookd").write_text(LAUNCHER)
    (program / "bin" / "hookd").chmod(0o755)
    binds = {
        units: "/etc/systemd/system",
        out: "/out",
        etc: "/etc/hookd",
        program: "/opt/hookd/.venv",
        ROOT / "daemon": "/opt/hookd/daemon",
        Path(sysconfig.get_paths()["purelib"]): "/opt/hookd/site",
        Path(__file__).parent: "/opt/drive",
    }
    options = ["--quiet", "--directory=/", "--volatile=yes", "--register=no", "--keep-unit", "--boot"]
    return [str(NSPAWN), *options, *(f"--bind={there}:{here}" for there, here in binds.items())]


def driven(directory: Path) -> dict[str, Any]:
    """What systemd_drive.py saw in there. Skips where no container boots."""
    with (directory / "console").open("wb") as console:
        ended = subprocess.run(
            ["timeout", "--kill-after=5", str(SECONDS_MAX), *container(directory)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            timeout=SECONDS_MAX + 30,
            check=False,
        )
    result = directory / "out" / "found.json"
    if not result.exists():
        pytest.skip(f"no container boots here ({ended.returncode}): {(directory / 'console').read_text()[-300:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    assert "failure" not in found, found
    return found


def test_units_start_reload_restart_die_and_stop_under_systemd(tmp_path: Path) -> None:
    """All in one container: it takes long to boot, and each worker of the suite would boot its own."""
    found = driven(tmp_path)
    _assert_units_start_as_shipped_and_reload(found)
    _assert_restart_and_kill_under_load_refuse_no_connection(found)
    _assert_every_event_that_was_taken_is_in_a_report(found)
    _assert_several_run_beside_it_each_with_its_name(found)


def _assert_units_start_as_shipped_and_reload(found: dict[str, Any]) -> None:
    """Hardened as they are, the daemon has what it needs: its memory and its descriptors show in its metrics."""
    assert found["started"]["ActiveState"] == "active"
    assert "process_resident_memory_bytes" in found["metrics"]
    assert "process_open_fds" in found["metrics"]
    assert found["reload"] == ""
    assert any('"event":"config.reloaded"' in line for line in found["journal"])


def _assert_restart_and_kill_under_load_refuse_no_connection(found: dict[str, Any]) -> None:
    """Events are left undelivered by the restart, which is no failure; the kill is followed by another start."""
    assert found["restart"] == ""
    assert found["after_restart"]["ActiveState"] == "active"
    assert found["after_restart"]["NRestarts"] == "0"
    assert found["after_kill"]["ActiveState"] == "active"
    assert found["after_kill"]["NRestarts"] == "1"
    assert found["stopped"]["Result"] == "success"
    assert found["stopped"]["ExecMainStatus"] == "3"
    print(found["statuses"])
    refused = {status: count for status, count in found["statuses"].items() if not status.isdigit()}
    assert sum(refused.values()) <= 1, refused  # the one that was under way when the process was killed
    assert found["statuses"].get("503", 0) <= 1


def _assert_every_event_that_was_taken_is_in_a_report(found: dict[str, Any]) -> None:
    """That of the restart, of the crash that the next start told of, and of the stop."""
    lines = [json.loads(line) for line in found["reports"]]
    assert [one["trigger"] for one in lines if one["kind"] == "summary"].count("crash") == 1
    reported = {one["event_id"] for one in lines if one["kind"] == "undelivered"}
    assert set(found["accepted"]) <= reported
    assert len(found["accepted"]) >= 150


def _assert_several_run_beside_it_each_with_its_name(found: dict[str, Any]) -> None:
    assert found["several"] == ""
    assert found["shards"] == ["8081", "8082"]
