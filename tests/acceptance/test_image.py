"""The shipped Containerfile is built, and its image run as the file's first lines say: read-only, without capabilities.

It delivers, is healthy, stops with a report, and is killed for want of memory: the next container names all that got a
202. Its base image is made of Debian's packages, since no registry of images is asked: the same Python of the same
suite, with a `python` and a `pip` in /usr/local/bin, but Debian's build of it. Skips where podman, runc or mmdebstrap
is missing, where nobody is root, and where Debian or PyPI cannot be reached.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import ROOT, WITHOUT_RECORDER, read_report, wait_until

CONTAINERFILE = ROOT / "config" / "Containerfile"
DRIVE = Path(__file__).with_name("image_drive.py").read_bytes()
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
NEEDED = ("podman", "runc", "mmdebstrap")
TIMED_OUT = 124  # of `timeout`
BASE_SECONDS_MAX, BUILD_SECONDS_MAX, SECONDS_MAX = 120, 150, 60
NO_NETWORK = re.compile("Temporary failure in name resolution|Max retries exceeded|Read timed out|Connection broken")
# What a test has besides: it posts over loopback, and keeps what it takes.
SETTINGS = """
[[http.tokens]]
name = "test"
scope = "admin"
token_env = "TEST_TOKEN"
[egress]
allow_http = true
allow_networks = ["127.0.0.0/8"]
[retry]
schedule = ["10m", "10m"]
[drain]
timeout = "1s"
[intake]
unsettled_bytes_max = "2GiB"
client_bytes_max = "2GiB"
"""
FLOOD_EVENTS_MAX = 2_000
COMPILED_ANEW = """
import os, sys, urllib.request
wanted = {name: getattr(one, "__cached__", None) for name, one in sys.modules.items()}
print([name for name, file in wanted.items() if file and not os.path.exists(file)])
"""

pytestmark = [
    pytest.mark.second_round,
    pytest.mark.timeout(450),
    pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a base image"),
    pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}"),
]


def shown_command(name: str) -> list[str]:
    """The one that the Containerfile's first lines show, as a shell takes it apart."""
    text = re.sub(r"\s*\\\n#\s*", " ", CONTAINERFILE.read_text())
    (found,) = re.findall(rf"\b(podman {name} .*?)(?: {{2}}|\n)", text)
    return shlex.split(found)


def bounded(seconds: float) -> list[str]:
    """What stands before a command that ends what it mounted or started when it is told to."""
    return ["timeout", "--kill-after=10", str(seconds)]


class Podman:
    """With a store of its own, and containers that have no network but their own loopback."""

    def __init__(self, directory: Path) -> None:
        self._store = directory / "store"
        places = ["--root", str(self._store), "--runroot", str(directory / "run")]
        ways = ["--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=file", "--log-level=error"]
        self._command = ["podman", *places, *ways]
        # Without systemd, which would ask for the health by its timers.
        self._env = os.environ | {"DISABLE_HC_SYSTEMD": "true"}

    def __call__(
        self, *arguments: str, stdin: bytes = b"", seconds: float = SECONDS_MAX
    ) -> subprocess.CompletedProcess[str]:
        """After so many seconds it is ended with all that it started; the code is TIMED_OUT then."""
        command = [*bounded(seconds), *self._command, *arguments]
        ended = subprocess.run(command, input=stdin, capture_output=True, env=self._env, cwd=ROOT, check=False)
        return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def done(self, *arguments: str, seconds: float = SECONDS_MAX) -> str:
        ended = self(*arguments, seconds=seconds)
        assert ended.returncode == 0, f"{arguments}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}"
        return ended.stdout.strip()

    def clear(self) -> None:
        """Ends what runs; what is mounted would keep the store."""
        self("rm", "--all", "--force", "--time=0")
        for line in Path("/proc/mounts").read_text().splitlines():
            if (place := line.split()[1]).startswith(str(self._store)):
                subprocess.run(["umount", "--lazy", place], check=False)


@pytest.fixture
def podman() -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="hookd-image-", ignore_cleanup_errors=True) as directory:
        podman = Podman(Path(directory))
        try:
            import_base(podman, Path(directory))
            build(podman)
            yield podman
        finally:
            podman.clear()


def import_base(podman: Podman, directory: Path) -> None:
    """Under the name of the Containerfile's. Skips where none can be made."""
    (name,) = set(re.findall(r"^FROM (\S+)", CONTAINERFILE.read_text(), re.MULTILINE))
    named = re.fullmatch(r".*/python:([\d.]+)-slim-(\w+)", name)
    assert named, name
    archive = Path(os.environ.get("HOOKD_TEST_IMAGE_BASE") or made_base(directory / "base.tar", named[2]))
    path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    podman("import", f"--change=ENV PATH={path}", f"--change=ENV PIP_CERT={AUTHORITIES}", str(archive), name)
    ran = podman(*in_container(["run", "--rm", "--memory=200m"]), name, "python", "--version")
    if ran.returncode:
        pytest.skip(f"no container with a memory limit runs here: {ran.stderr[-300:]}")
    assert ran.stdout.startswith(f"Python {named[1]}."), ran


def made_base(archive: Path, suite: str) -> Path:
    """As Python's own image is: with `python` and `pip` there, and without the standard library's byte code."""
    hooks = ['--customize-hook=chroot "$1" python3 -m venv /usr/local']
    hooks += ['--customize-hook=find "$1/usr/lib" -name "*.pyc" -delete']
    if os.path.exists(AUTHORITIES):  # whom this machine trusts, its image trusts
        hooks.append(f"--customize-hook=copy-in {AUTHORITIES} {os.path.dirname(AUTHORITIES)}")
    options = [f"--dpkgopt=path-exclude=/usr/share/{one}/*" for one in ("doc", "man", "locale")]
    options += ["--dpkgopt=force-unsafe-io", "--variant=essential", "--include=python3-venv,ca-certificates,passwd"]
    command = [*bounded(BASE_SECONDS_MAX), "mmdebstrap", *options, *hooks, suite, str(archive)]
    env = os.environ | {"TMPDIR": str(archive.parent)}
    made = subprocess.run(command, capture_output=True, env=env, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no base is made here within {BASE_SECONDS_MAX} s: {made.stderr[-300:]}")
    return archive


def build(podman: Podman) -> None:
    options = ["--isolation=chroot", "--network=host", "--pull=never", "--layers=false"]
    _, *shown = shown_command("build")
    ended = podman(shown[0], *options, *shown[1:], seconds=BUILD_SECONDS_MAX)
    if ended.returncode == TIMED_OUT:
        pytest.skip(f"not built in {BUILD_SECONDS_MAX} s, most of which goes to packages from their registry")
    said = ended.stdout + ended.stderr
    if ended.returncode and (found := NO_NETWORK.search(said)):
        pytest.skip(f"the image's packages cannot be had: {found[0]}")
    assert ended.returncode == 0, said[-3000:]


def in_container(command: Sequence[str]) -> list[str]:
    """With limits that this process may set, where it may not raise its own."""
    return [*command, "--network=none", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]


class Places:
    """What the shown command mounts, here: the reports, the recorder in memory, the configuration."""

    def __init__(self, directory: Path, memory: Path) -> None:
        self.reports, self.recorder, self.settings = directory / "reports", memory, directory / "hookd.toml"
        self.written = self.reports / "reports"
        self.reports.mkdir()
        self.settings.write_text(SETTINGS)
        os.chmod(directory, 0o755)

    def run_command(self, *, memory: str = "") -> list[str]:
        """As shown, but for places and network."""
        here = {"reports": self.reports, "/dev/shm/hookd": self.recorder, "./hookd.toml": self.settings}
        command = []
        for word in shown_command("run")[1:]:
            there, _, rest = word.partition(":")
            command.append(f"{here.pop(there)}:{rest}" if there in here else word)
        assert not here, f"the Containerfile mounts no {list(here)}"
        published = command.index("--publish")
        del command[published : published + 2]
        given = [*in_container(command[:1]), "--detach", "--env=TEST_TOKEN=0123456789abcdef", *command[1:-1]]
        return [*given, *([f"--memory={memory}"] if memory else []), command[-1]]


@contextmanager
def container(podman: Podman, command: Sequence[str]) -> Iterator[str]:
    """Its id, once it is healthy."""
    name = podman.done(*command)
    try:
        wait_until(
            lambda: podman("healthcheck", "run", name).returncode == 0 or is_over(podman, name), seconds=SECONDS_MAX
        )
        assert not is_over(podman, name), podman("logs", name)
        yield name
    finally:
        podman("rm", "--force", "--time=0", name)


def is_over(podman: Podman, name: str) -> bool:
    return podman.done("inspect", "--format={{.State.Status}}", name) in ("exited", "stopped")


def test_image_delivers_stops_and_leaves_all_it_took_when_its_memory_ends(podman: Podman, tmp_path: Path) -> None:
    """All in one: to build it takes longest."""
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="hookd-image-", dir=shared) as memory:
        places = Places(tmp_path, Path(memory))
        _assert_it_delivers_and_writes_nowhere_else(podman, places)
        _assert_a_kill_for_want_of_memory_loses_nothing(podman, places)


def _assert_it_delivers_and_writes_nowhere_else(podman: Podman, places: Places) -> None:
    with container(podman, places.run_command()) as name:
        said = podman("exec", "--interactive", name, "python", "-", "deliver", stdin=DRIVE)
        assert said.returncode == 0, said
        assert json.loads(said.stdout)["posted"] == 202
        assert json.loads(said.stdout)["deliveries"]["delivered"] == 1
        for path in ("/hookd", "/opt/hookd/hookd", "/etc/hookd/hookd"):
            assert "Read-only file system" in podman("exec", name, "touch", path).stderr
        assert podman.done("exec", name, "id", "--user") == "10001"
        assert podman.done("exec", name, "python", "-c", COMPILED_ANEW) == "[]"
        podman.done("stop", name)  # by the file's signal, and within its time
        assert podman.done("inspect", "--format={{.State.ExitCode}}", name) == "0"
    (report,) = places.written.glob("shutdown-*.jsonl")
    summary, lines = read_report(report)
    assert (summary["trigger"], summary["events"]["delivered"], lines) == ("SIGTERM", 1, [])


def _assert_a_kill_for_want_of_memory_loses_nothing(podman: Podman, places: Places) -> None:
    with container(podman, places.run_command(memory="200m")) as name:
        flooded = podman(
            "exec", "--interactive", name, "python", "-", "flood", str(FLOOD_EVENTS_MAX), stdin=DRIVE, seconds=120
        )
        accepted = set(flooded.stdout.split())
        wait_until(lambda: is_over(podman, name), seconds=SECONDS_MAX)
        assert podman.done("inspect", "--format={{.State.ExitCode}}", name) == "137"
    assert len(accepted) > 100, flooded
    with container(podman, places.run_command()) as name:
        (report,) = places.written.glob("crash-*.jsonl")
        summary, lines = read_report(report)
        podman.done("stop", name)
        assert podman.done("inspect", "--format={{.State.ExitCode}}", name) == "0"
    print(f"killed after {len(accepted)} events, {len(lines)} in the crash report")
    assert (summary["trigger"], summary["balanced"]) == ("crash", True)
    assert accepted <= {line["event_id"] for line in lines}
    assert len(lines) <= len(accepted) + 1  # the one that was taken and not answered
