"""What the send path costs, in CPU of the sending process: `python -m tests.benchmarks send_path`.

One attempt as the flow makes it (signature, request, deadline, sender, transport), without the ledger, the lanes and
the log: `Attempter.test`. 48 at a time go to eight endpoints, over kept connections to a canned server in another
process. `--beside DIRECTORY` measures another checkout by turns: what a change costs or saves. `--tls` puts TLS beside
it: over kept connections, and with a handshake for each attempt, the look-up of the name included.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from tests.benchmarks.egress import canned_server
from tests.benchmarks.turns import Figures, by_turns, finish, show

ROOT = Path(__file__).parents[2]


@click.command(help=__doc__)
@click.option("--rounds", default=41, show_default=True)
@click.option("--beside", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--tls", is_flag=True, help="TLS beside it.")
@click.option("--quick", is_flag=True, help="Two rounds: whether it runs.")
@click.option("--json", "json_path", help="Where all that was seen is written.")
def main(rounds: int, beside: Path | None, tls: bool, quick: bool, json_path: str | None) -> None:
    with canned_server() as port, ExitStack() as opened:
        measures = {"send_path": opened.enter_context(sending(ROOT, port))}
        if beside is not None:
            measures["send_path beside"] = opened.enter_context(sending(beside.resolve(), port))
        if tls or quick:
            authority_file, *ports = opened.enter_context(tls_receivers())
            for name, secured_port in zip(("TLS, kept", "TLS, a handshake each"), ports, strict=True):
                measures[name] = opened.enter_context(sending(ROOT, int(secured_port), authority_file))
        for measure in measures.values():
            measure()  # for the caches, not counted
        seen = by_turns(measures, rounds=2 if quick else rounds)
    show(seen, base="send_path beside" if beside is not None else "send_path")
    finish("send_path", seen, json_path=json_path)


class Sending:
    """One checkout in a process of its own, idle while another has its turn."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self) -> Figures:
        """What one attempt takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        return {"cpu_us": float(self._process.stdout.readline())}


@contextmanager
def tls_receivers() -> Iterator[list[str]]:
    """Their authority's file, and their ports: one that keeps its connections, one that closes each."""
    with tempfile.TemporaryDirectory() as directory:
        authority_file = str(Path(directory) / "authority.pem")
        command = [sys.executable, "-m", "tests.benchmarks.tls_receivers", authority_file]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as receivers:
            try:
                assert receivers.stdout is not None
                yield [authority_file, *receivers.stdout.readline().split()]
            finally:
                receivers.kill()


@contextmanager
def sending(checkout: Path, port: int, *authority_file: str) -> Iterator[Sending]:
    """Over TLS where the file of an authority is given."""
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "send_path_turns.py"), str(port), *authority_file]
    env = os.environ | {"PYTHONPATH": f"{checkout / 'daemon'}{os.pathsep}{checkout}"}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Sending(process)  # its input ends with this, and so does it


if __name__ == "__main__":
    main()
