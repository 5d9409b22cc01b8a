"""The shipped systemd units, as systemd's own tools judge them, and as the code would have them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hookd.core.settings import Settings
from hookd.core.sizing import container_mib
from hookd.process.exit_codes import ExitCode

CONFIG = Path(__file__).parents[1] / "config"
UNITS = ("hookd.service", "hookd@.service")
EXPOSURE_MAX = 1.5
SHIPPED_COMMAND = "/opt/hookd/.venv/bin/hookd"
# The same mistake again, were it started again.
IN_VAIN = (ExitCode.USAGE, ExitCode.NO_INPUT, ExitCode.UNAVAILABLE, ExitCode.CONFIG)


def analyzed(*arguments: str) -> str:
    """What systemd-analyze says; it has to be satisfied. Skips where it is not there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    ended = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture(name="units")
def copied_units(tmp_path: Path) -> Path:
    """They name a command that is there, and one of the several is named for its port."""
    for name in (*UNITS, "hookd.socket"):
        text = (CONFIG / name).read_text().replace(SHIPPED_COMMAND, sys.executable)
        (tmp_path / name.replace("@.", "@8081.")).write_text(text)
    return tmp_path


def test_units_are_valid(units: Path) -> None:
    """Nothing unknown, nothing that systemd would pass over."""
    assert analyzed("verify", *sorted(str(one) for one in units.iterdir())) == ""


@pytest.mark.parametrize("name", UNITS)
def test_unit_is_hardened(name: str, units: Path) -> None:
    """As `systemd-analyze security` counts what a service may do beyond its work."""
    unit = units / name.replace("@.", "@8081.")
    found = re.search(r"exposure level for \S+: ([0-9.]+)", analyzed("security", "--offline=true", str(unit)))
    assert found is not None
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("name", UNITS)
def test_unit_says_what_the_code_does(name: str) -> None:
    """Its exit codes, and the memory that the shipped settings can take."""
    text = (CONFIG / name).read_text()
    assert f"\nRestartPreventExitStatus={' '.join(str(int(code)) for code in IN_VAIN)}\n" in text
    assert f"\nSuccessExitStatus={int(ExitCode.UNDELIVERED)}\n" in text
    assert f"\n#MemoryMax={container_mib(Settings())}M\n" in text


def test_units_differ_in_what_belongs_to_one_of_several() -> None:
    """A rule that one of them gets, the other gets too."""
    one, several = (set((CONFIG / name).read_text().splitlines()) for name in UNITS)
    assert {line.partition("=")[0] for line in several - one if not line.startswith("#")} == {
        "Description",
        "Environment",
        "StateDirectory",
        "RuntimeDirectory",
    }
    assert {line.partition("=")[0] for line in one - several if not line.startswith("#")} == {
        "Description",
        "StateDirectory",
        "RuntimeDirectory",
    }
