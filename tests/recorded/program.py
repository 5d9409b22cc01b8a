"""hookd as a child: a command to its end, or the daemon for as long as a `with` lasts.

The module is a name: nothing of it is imported. The environment is made, not inherited, so that no setting of the
machine is in what is recorded.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

T = TypeVar("T")

SECONDS_MAX = 30.0
COLUMNS = "100"


class Program(NamedTuple):
    module: str
    source: Path  # where the module is found
    folder: Path  # the working directory of every process

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ours = {"PYTHONPATH": str(self.source), "COLUMNS": COLUMNS, "PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, **ours, **more}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", self.module, *arguments]

    def run(self, *arguments: str, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            env=self.environment(more),
            cwd=self.folder,
            timeout=SECONDS_MAX,
            check=False,
        )


class Daemon:
    def __init__(self, program: Program, name: str, *arguments: str, **environment: str) -> None:
        self._log = program.folder / f"{name}.stderr"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                program.command("run", "--bind", "127.0.0.1:0", *arguments),
                cwd=program.folder,
                env=program.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.port = 0
        self.first_line = ""
        self.later_stdout = ""

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        try:
            ready, _, _ = select.select([self.process.stdout], [], [], SECONDS_MAX)
            line = self.process.stdout.readline().decode() if ready else ""
            assert line.startswith("listening on "), f"first line {line!r}, stderr {self.stderr}"
        except BaseException:
            self.__exit__()
            raise
        self.first_line, self.port = line, int(line.rpartition(":")[2])
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def has_logged(self, event: str) -> bool:
        return f'"event":"{event}"' in self.stderr

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process.stdout is not None
        code = self.process.wait(SECONDS_MAX)
        self.later_stdout = self.process.stdout.read().decode()
        return code


def wait_until(condition: Callable[[], T], what: str, *, seconds: float = SECONDS_MAX) -> T:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return value


def log_lines(stderr: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The JSON lines, and the others."""
    logged, others = [], []
    for line in stderr.split("\n"):
        if line.startswith('{"ts":'):
            logged.append(json.loads(line))
        else:
            others.append(line)
    return logged, others
