"""What is installed: the wheel's files, the files that it ships, and its life beside another package called daemon."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hookd import __version__
from hookd.config.shipped import shipped_file

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "daemon" / "hookd"
SHIPPED = sorted(path.name for path in (ROOT / "config").iterdir())
SECONDS_MAX = 300  # an installation of all dependencies, on a busy machine


@pytest.fixture(scope="module", name="wheel")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=SECONDS_MAX)
    [path] = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_the_shipped_files_alone(wheel: Path) -> None:
    """One top-level package: no `daemon`, no tests, no documents."""
    information = f"hookd-{__version__}.dist-info"
    expected = {f"{information}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    expected |= {f"{information}/licenses/{path.name}" for path in ROOT.glob("LICENSE*")}
    expected |= {f"hookd/data/{name}" for name in SHIPPED}
    expected |= {
        f"hookd/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as held:
        names = held.namelist()
        assert sorted(names) == sorted(expected)
        for name in SHIPPED:
            assert held.read(f"hookd/data/{name}") == (ROOT / "config" / name).read_bytes()
    page = {f"hookd/edge/api/page/{name}" for name in ("page.css", "page.js", "templates/overview.html")}
    assert {"hookd/py.typed", "hookd/data/hookd.toml", *page} <= set(names)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_file_is_found_in_an_editable_install(name: str) -> None:
    """It is the one in config/: there is no other here."""
    assert shipped_file(name).read_bytes() == (ROOT / "config" / name).read_bytes()


def test_unknown_shipped_file_is_not_found() -> None:
    """Nor is one outside the folder."""
    for name in ("nothing.toml", "../pyproject.toml/x"):
        with pytest.raises(FileNotFoundError, match="hookd ships no file"):
            shipped_file(name)


def run(*command: str | Path, folder: Path) -> str:
    """What it writes to stdout. It has to end with 0, and sees nothing of this tree or of this environment."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOOKD_", "VIRTUAL"))}
    ended = subprocess.run(command, cwd=folder, env=keep, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module", name="python_daemon")
def downloaded_python_daemon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that installs a top-level `daemon`, with what it needs. Skips where it cannot be had."""
    folder = tmp_path_factory.mktemp("python-daemon")
    command = [sys.executable, "-m", "venv", str(folder / "pip")]
    made = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    if made.returncode:
        pytest.skip(f"no venv with pip can be made: {made.stdout.strip()[-200:]}")
    command = [str(folder / "pip" / "bin" / "pip"), "download", "-q", "-d", str(folder / "wheels"), "python-daemon"]
    got = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    if got.returncode:
        pytest.skip(f"python-daemon cannot be downloaded: {got.stderr.strip()[-200:]}")
    shutil.rmtree(folder / "pip")
    return folder / "wheels"


@pytest.mark.second_round
def test_hookd_and_python_daemon_work_in_one_environment(wheel: Path, python_daemon: Path, tmp_path: Path) -> None:
    """Every command of the one and the import of the other, whichever was installed first."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", folder=tmp_path)
    bin_ = tmp_path / "venv" / "bin"
    install = [bin_ / "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    ours, other = [str(wheel)], ["--no-index", "--find-links", str(python_daemon), "python-daemon"]
    shutil.copy(ROOT / "config" / "hookd.toml", tmp_path)
    for order in ([ours, other], [other, ours]):
        for wanted in order:
            run(*install, *wanted, folder=tmp_path)
        assert run(bin_ / "hookd", "--version", folder=tmp_path) == f"hookd, version {__version__}\n"
        assert "hookd.toml: valid\n" in run(bin_ / "python", "-m", "hookd", "check", "hookd.toml", folder=tmp_path)
        run(bin_ / "python", "-c", "import daemon; daemon.DaemonContext", folder=tmp_path)
        find = "from hookd.config.shipped import shipped_file; print(shipped_file('hookd.toml').read_text(), end='')"
        shown = run(bin_ / "python", "-c", find, folder=tmp_path)
        assert shown == (ROOT / "config" / "hookd.toml").read_text()
        run(bin_ / "pip", "uninstall", "-q", "-y", "hookd", "python-daemon", folder=tmp_path)
        assert not list(tmp_path.glob("venv/lib/python*/site-packages/daemon"))
    run(*install, *ours, folder=tmp_path)
    for name in SHIPPED:
        assert run(bin_ / "hookd", "print", name, folder=tmp_path) == (ROOT / "config" / name).read_text()
    played = run(bin_ / "hookd", "demo", "--plain", "--seconds", "5", folder=tmp_path)
    assert "DIFFERS" not in played
    assert "holds" in played
