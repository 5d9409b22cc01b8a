"""Changes one thing at a time in modules of core/ and flow/, and says which changes no test notices.

    uv pip install mutmut
    python -m tests.mutation core/ledger core/budget [--tests tests/core] [--sample 300 --seed 13] [--seconds 3]

By hand, and not in CI: docs/testing.md has the scores. mutmut makes the mutants. Its own runner begins pytest anew for
each of them, which takes twenty times as long as the tests do. This one collects once, runs each test once to see which
functions it reaches, and then forks for each mutant: the quick tests first, up to the first that fails.
Properties, other decorated functions, and what stands outside of functions are not mutated: mutmut cannot.
"""

import argparse
import ast
import os
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "daemon" / "hookd"

# CPU time of a mutant's tests: a loop that no longer ends is stopped here, and counts as killed.
CPU_SECONDS_MAX = 30
# A test that waits for ever takes no CPU time.
WALL_SECONDS_MAX = 300.0

KILLED, SURVIVED, TIMED_OUT, NOT_REACHED, OUT_OF_TIME = "killed", "survived", "timed out", "not reached", "unknown"
NO_MUTANT = "none"
EXIT_CODES = {0: SURVIVED, 1: KILLED, 2: OUT_OF_TIME}


class Mutants:
    """Those of the modules asked for, written beside a copy of all others."""

    def __init__(self, copy: Path, modules: Sequence[str]) -> None:
        shutil.copytree(SOURCE, copy / "hookd")
        self.names: list[str] = []
        self._functions: dict[str, list[str]] = {}
        for module in modules:
            path = copy / "hookd" / f"{module}.py"
            mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
            path.write_text(mutated.code, encoding="utf-8")
            dotted = f"hookd.{module.replace('/', '.')}"
            self.names += [f"{dotted}.{name}" for name in mutated.mutant_names]
            lines = mutated.code.splitlines()
            for node in ast.walk(ast.parse(mutated.code)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name:
                    self._functions[f"{dotted}.{node.name}"] = lines[node.lineno : node.end_lineno]

    def difference(self, name: str) -> Iterator[str]:
        before, after = self._functions[f"{function_of(name)}__mutmut_orig"], self._functions[name]
        for line in unified_diff(before, after, n=0, lineterm=""):
            if not line.startswith(("---", "+++", "@@")):
                yield f"{line[0]} {line[1:].strip()}"


def function_of(name: str) -> str:
    return name.partition("__mutmut_")[0]


def module_of(name: str) -> str:
    return name.removeprefix("hookd.").rpartition(".")[0].replace(".", "/")


class Mutation:
    """A plugin of pytest's, in the place of its loop over the tests."""

    def __init__(self, names: Sequence[str], cpu_seconds: float) -> None:
        self._names = names
        self._cpu_seconds = cpu_seconds
        self._reached: dict[str, list[tuple[float, pytest.Item]]] = {}  # by function: each test with its CPU time
        self.found: dict[str, str] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self._look_at(item)
        if self._try(NO_MUTANT, session.items) not in (SURVIVED, OUT_OF_TIME):
            raise pytest.UsageError("the tests fail in a forked process, without any mutant")
        for name in self._names:
            reached = sorted(self._reached.get(function_of(name), ()), key=lambda timed: timed[0])
            self.found[name] = self._try(name, [item for _, item in reached])
        return True

    def _look_at(self, item: pytest.Item) -> None:
        set_mutant_under_test("stats")
        state()._stats.clear()
        began = time.process_time()
        if has_failed(item):
            raise pytest.UsageError(f"{item.nodeid} fails without any mutant")
        for function in state()._stats:
            self._reached.setdefault(function, []).append((time.process_time() - began, item))

    def _try(self, name: str, items: Sequence[pytest.Item]) -> str:
        if not items:
            return NOT_REACHED
        child = os.fork()
        if not child:
            self._be(name, items)
        give_up_at = time.monotonic() + WALL_SECONDS_MAX
        while time.monotonic() < give_up_at:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return EXIT_CODES.get(os.waitstatus_to_exitcode(status), TIMED_OUT)
            time.sleep(0.005)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return TIMED_OUT

    def _be(self, name: str, items: Sequence[pytest.Item]) -> None:
        """The rest of the forked process: one mutant, up to the first test that fails."""
        code = 1
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            began = time.process_time()
            limit = int(began) + CPU_SECONDS_MAX
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            set_mutant_under_test(name)
            code = 0
            for item in items:
                if has_failed(item):
                    code = 1
                    break
                if time.process_time() - began > self._cpu_seconds:
                    code = 2
                    break
        finally:
            os._exit(code)


def has_failed(item: pytest.Item) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def told(mutants: Mutants, found: dict[str, str]) -> Iterator[str]:
    """What of each module was killed, and each mutant that was not."""
    modules: dict[str, Counter[str]] = {}
    for name, end in found.items():
        modules.setdefault(module_of(name), Counter())[end] += 1
    for module, ends in (*modules.items(), ("all", sum(modules.values(), Counter()))):
        killed = ends[KILLED] + ends[TIMED_OUT]
        yield f"{module:24} {killed:5} of {ends.total():5} killed: {killed / max(1, ends.total()):6.1%}  {dict(ends)}"
    for name, end in found.items():
        if end not in (KILLED, TIMED_OUT):
            yield f"\n{name} {end}"
            yield from mutants.difference(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="such as core/ledger")
    parser.add_argument("--tests", action="append", help="files or folders; tests/core and tests/flow without")
    parser.add_argument("--sample", type=int, help="so many mutants of them all, by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of CPU time for the tests of one mutant")
    asked = parser.parse_args()
    # The same examples each time, and none made smaller: a mutant that is noticed is noticed.
    hypothesis_settings.register_profile(
        "mutation", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
    )
    set_mutant_under_test(NO_MUTANT)
    with TemporaryDirectory() as copy:
        mutants = Mutants(Path(copy), asked.modules)
        sys.path[:] = [copy, *(path for path in sys.path if Path(path).resolve() != SOURCE.parent)]
        names = mutants.names
        if asked.sample is not None:
            names = random.Random(asked.seed).sample(names, min(asked.sample, len(names)))
        mutation = Mutation(sorted(names), asked.seconds)
        options = ["-q", "-o", "addopts=", "-p", "no:xdist", "-p", "no:cacheprovider", "--timeout", "0"]
        options += ["-s", "--hypothesis-profile", "mutation", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main([*options, *(asked.tests or ["tests/core", "tests/flow"])], plugins=[mutation])
        print("\n".join(told(mutants, mutation.found)))
    sys.exit(code)


if __name__ == "__main__":
    main()
