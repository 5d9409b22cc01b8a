"""An outbox's relay, one of tests/examples, as a process that can be killed and comes back."""

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.acceptance.harness import ROOT, environment


class Relay:
    """`python -m MODULE ARGUMENTS`. It has to live until it is left; its stderr goes to `log`."""

    def __init__(self, log: Path, module: str, *arguments: str) -> None:
        self._log = log
        self._command = [sys.executable, "-m", module, *arguments]

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=environment(), stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        self._process.kill()
        self._process.wait()

    def kill_and_start_again(self) -> None:
        self.__exit__()
        self.__enter__()
