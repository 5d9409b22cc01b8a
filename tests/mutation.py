"""Changes one thing at a time in modules of core/ and flow/, and says which changes no test notices.

    uv pip install mutmut
    python -m tests.mutation core/ledger core/budget --tests tests/core
    python -m tests.mutation --share 0.07 --at-least 5 --seed 13 --results sample.jsonl [--seconds 3]

By hand, and not in CI: docs/testing.md has the scores. mutmut makes the mutants. Its own runner begins pytest anew for
each of them, which takes twenty times as long as the tests do. This one collects once, runs each test once to see which
functions it reaches, and then forks for each mutant: the quick tests first, up to the first that fails. A mutant's code
takes the place of its function's, so that everything runs at full speed.
A sample is drawn from each module by itself, and a larger one holds the smaller: what --results has is not tried again.
With --again those are that were not killed, by the tests as they are then.
Properties, other decorated functions, and what stands outside of functions are not mutated: mutmut cannot.
"""

import argparse
import ast
import gc
import hashlib
import json
import os
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FunctionType, MethodType
from typing import Any

import mutmut.mutation.trampoline
import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from mutmut.mutation.file_mutation import mutate_file_contents

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "daemon" / "hookd"
# What mutmut made of a file, by the file's hash: it takes minutes for all of them.
MADE = ROOT / "build" / "mutants"

# CPU time of a mutant's tests: a loop that no longer ends is stopped here, and counts as killed.
CPU_SECONDS_MAX = 30
# A test that waits for ever takes no CPU time.
WALL_SECONDS_MAX = 300.0

KILLED, SURVIVED, TIMED_OUT, NOT_REACHED, OUT_OF_TIME = "killed", "survived", "timed out", "not reached", "unknown"
NO_MUTANT = "none"
EXIT_CODES = {0: SURVIVED, 1: KILLED, 2: OUT_OF_TIME}
DEAD = (KILLED, TIMED_OUT)

CONFIDENCE_95 = 1.96


class Mutable:
    """One function that has mutants: its own code, theirs, and the news of its first call."""

    def __init__(self, function: FunctionType, mutants: dict[str, Any]) -> None:
        self._function = function
        self._code = function.__code__
        self._mutants = mutants

    @property
    def name(self) -> str:
        """As mutmut spells it: module and mangled function."""
        return f"{self._function.__module__}.{function_of(next(name for name in self._mutants if name[0] != '_'))}"

    def tell_first_call(self, tell: Callable[[str], None]) -> None:
        """Until then other code stands in its place; from then on its own again."""

        def first(*args: Any, **named: Any) -> Any:
            self._function.__code__ = self._code
            tell(self.name)
            return self._function(*args, **named)

        code = call_first.__code__
        self._function.__code__ = code.replace(
            co_consts=tuple(first if constant == "first" else constant for constant in code.co_consts),  # type: ignore[arg-type]
            co_freevars=self._code.co_freevars,
        )

    def restore(self) -> None:
        self._function.__code__ = self._code

    def become(self, name: str) -> None:
        mutant = self._mutants[name.rpartition(".")[2]]
        mutant = mutant.__func__ if isinstance(mutant, MethodType) else mutant
        code: CodeType = mutant.__code__
        self._function.__code__ = code
        self._function.__defaults__, self._function.__kwdefaults__ = mutant.__defaults__, mutant.__kwdefaults__


MUTABLE: list[Mutable] = []


def call_first(*args: Any, **named: Any) -> Any:
    first: Any = "first"
    return first(*args, **named)


def in_place(mutants: dict[str, Any], is_classmethod: bool = False) -> Callable[[FunctionType], FunctionType]:
    """In the place of mutmut's decorator, whose every call asks which mutant is meant."""
    del is_classmethod

    def keep(function: FunctionType) -> FunctionType:
        MUTABLE.append(Mutable(function, mutants))
        return function

    return keep


class Mutants:
    """Those of the modules asked for, written beside a copy of all others."""

    def __init__(self, copy: Path, modules: Sequence[str]) -> None:
        shutil.copytree(SOURCE, copy / "hookd")
        self.names: dict[str, list[str]] = {}
        self._functions: dict[str, list[str]] = {}
        for module in modules:
            path = copy / "hookd" / f"{module}.py"
            code, names = made(path)
            path.write_text(code, encoding="utf-8")
            dotted = f"hookd.{module.replace('/', '.')}"
            self.names[module] = [f"{dotted}.{name}" for name in names]
            lines = code.splitlines()
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name:
                    self._functions[f"{dotted}.{node.name}"] = lines[node.lineno : node.end_lineno]

    def difference(self, name: str) -> list[str]:
        before, after = self._functions[f"{function_of(name)}__mutmut_orig"], self._functions[name]
        lines = unified_diff(before, after, n=0, lineterm="")
        return [f"{line[0]} {line[1:].strip()}" for line in lines if not line.startswith(("---", "+++", "@@"))]

    def sample(self, share: float, at_least: int, seed: int) -> Iterator[str]:
        for module, names in self.names.items():
            shuffled = random.Random(f"{seed} {module}").sample(names, len(names))
            yield from shuffled[: max(at_least, round(share * len(names)))]


def made(path: Path) -> tuple[str, list[str]]:
    text = path.read_text(encoding="utf-8")
    kept = MADE / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    if not kept.exists():
        mutated = mutate_file_contents(str(path), text)
        MADE.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([mutated.code, list(mutated.mutant_names)]), encoding="utf-8")
    code, names = json.loads(kept.read_text(encoding="utf-8"))
    return code, names


def function_of(name: str) -> str:
    return name.partition("__mutmut_")[0]


def module_of(name: str) -> str:
    return name.removeprefix("hookd.").rpartition(".")[0].replace(".", "/")


class Mutation:
    """A plugin of pytest's, in the place of its loop over the tests."""

    def __init__(self, names: Sequence[str], cpu_seconds: float, tell: Callable[[str, str, str, float], None]) -> None:
        self._names = names
        self._cpu_seconds = cpu_seconds
        self._tell = tell
        self._mutable: dict[str, Mutable] = {}
        self._reached: dict[str, list[tuple[float, pytest.Item]]] = {}  # by function: each test with its CPU time

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for module in {module_of(name) for name in self._names}:
            import_module(f"hookd.{module.replace('/', '.')}")
        self._mutable = {mutable.name: mutable for mutable in MUTABLE}
        for item in session.items:
            self._look_at(item)
        gc.freeze()  # a fork then copies no pages for the collector's sake
        end, by = self._try(NO_MUTANT, session.items)
        if end not in (SURVIVED, OUT_OF_TIME):
            raise pytest.UsageError(f"the tests fail in a forked process, without any mutant: {by}")
        for name in self._names:
            began = time.monotonic()
            end, by = self._try(name, self._tests_of(name))
            self._tell(name, end, by, time.monotonic() - began)
        return True

    def _tests_of(self, name: str) -> list[pytest.Item]:
        """The quick ones first; those in the file of the module's noun are ten times as likely to notice."""
        noun = module_of(name).rpartition("/")[2]

        def key(timed: tuple[float, pytest.Item]) -> float:
            seconds, item = timed
            return seconds / 10 if noun in item.path.stem else seconds

        return [item for _, item in sorted(self._reached.get(function_of(name), ()), key=key)]

    def _look_at(self, item: pytest.Item) -> None:
        wanted = {function_of(name) for name in self._names}
        reached: list[str] = []
        for name in wanted:
            self._mutable[name].tell_first_call(reached.append)
        began = time.process_time()
        if has_failed(item):
            raise pytest.UsageError(f"{item.nodeid} fails without any mutant")
        for name in wanted:
            self._mutable[name].restore()
        for function in reached:
            self._reached.setdefault(function, []).append((time.process_time() - began, item))

    def _try(self, name: str, items: Sequence[pytest.Item]) -> tuple[str, str]:
        """What became of it, and the test that killed it, if one did."""
        if not items:
            return NOT_REACHED, ""
        read, write = os.pipe()
        child = os.fork()
        if not child:
            self._be(name, items, write)
        os.close(write)
        with os.fdopen(read, "rb") as killer:
            code = ended(child)
            return EXIT_CODES.get(code, TIMED_OUT), killer.read().decode()

    def _be(self, name: str, items: Sequence[pytest.Item], write: int) -> None:
        """The rest of the forked process: one mutant, up to the first test that fails."""
        code = 1
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            began = time.process_time()
            limit = int(began) + CPU_SECONDS_MAX
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            if name != NO_MUTANT:
                self._mutable[function_of(name)].become(name)
            code = 0
            for item in items:
                if has_failed(item):
                    code = 1
                    os.write(write, item.nodeid.encode())
                    break
                if time.process_time() - began > self._cpu_seconds:
                    code = 2
                    break
        finally:
            os._exit(code)


def ended(child: int) -> int:
    give_up_at = time.monotonic() + WALL_SECONDS_MAX
    while time.monotonic() < give_up_at:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def has_failed(item: pytest.Item) -> bool:
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def told(mutants: Mutants, found: dict[str, str]) -> Iterator[str]:
    """What of each module was killed, and each mutant that was not."""
    modules: dict[str, Counter[str]] = {}
    for name, end in found.items():
        modules.setdefault(module_of(name), Counter())[end] += 1
    for module, ends in (*modules.items(), ("all", sum(modules.values(), Counter()))):
        killed = sum(ends[end] for end in DEAD)
        yield f"{module:24} {killed:5} of {ends.total():5} killed: {killed / max(1, ends.total()):6.1%}  {dict(ends)}"
    score, within = estimate(
        [(len(mutants.names[module]), ends.total(), sum(ends[end] for end in DEAD)) for module, ends in modules.items()]
    )
    yield f"of all mutants of these modules: {score:.1%}, 95 % interval +- {within:.1%}"
    for name, end in found.items():
        if end not in DEAD:
            yield f"\n{name} {end}"
            yield from mutants.difference(name)


def estimate(strata: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """The share killed of all mutants, and half of its 95 % interval, from (mutants, tried, killed) of each module.

    Each module counts by its size. The variance is that of a stratified sample without replacement (Cochran,
    Sampling Techniques, 5.9): a module that was tried whole adds nothing to it.
    """
    population = sum(size for size, _, _ in strata)
    score = variance = 0.0
    for size, tried, killed in strata:
        weight, share = size / population, killed / tried
        score += weight * share
        variance += weight**2 * (1 - tried / size) * share * (1 - share) / max(1, tried - 1)
    return score, CONFIDENCE_95 * variance**0.5


def earlier(results: Path | None) -> dict[str, str]:
    """What each mutant came to when it was last tried."""
    if results is None or not results.exists():
        return {}
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return {row["name"]: row["end"] for row in rows}


def ask() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="such as core/ledger; all of core/ and flow/ without")
    parser.add_argument("--tests", action="append", help="files or folders; tests/core and tests/flow without")
    parser.add_argument("--without", action="append", default=[], help="tests that are left out, such as the slow ones")
    parser.add_argument("--share", type=float, default=1.0, help="of each module's mutants, by --seed")
    parser.add_argument("--at-least", type=int, default=1, help="so many of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of CPU time for the tests of one mutant")
    parser.add_argument("--results", type=Path, help="a file of JSON lines, one for each mutant tried")
    parser.add_argument("--again", action="store_true", help="what --results has as not killed")
    return parser.parse_args()


def main() -> None:
    asked = ask()
    # The same examples each time, and none made smaller: a mutant that is noticed is noticed.
    hypothesis_settings.register_profile(
        "mutation", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
    )
    mutmut.mutation.trampoline.wrap_in_trampoline = in_place  # type: ignore[assignment]
    all_modules = sorted(
        str(path.relative_to(SOURCE))[:-3] for part in ("core", "flow") for path in SOURCE.glob(f"{part}/*.py")
    )
    with TemporaryDirectory() as copy:
        mutants = Mutants(Path(copy), asked.modules or all_modules)
        sys.path[:] = [copy, *(path for path in sys.path if Path(path).resolve() != SOURCE.parent)]
        names = sorted(mutants.sample(asked.share, asked.at_least, asked.seed))
        found = earlier(asked.results)

        def tell(name: str, end: str, by: str, seconds: float) -> None:
            found[name] = end
            row = {"name": name, "end": end, "by": by, "seconds": round(seconds, 2), "change": mutants.difference(name)}
            if asked.results:
                with asked.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

        done = {name for name, end in found.items() if end in DEAD or not asked.again}
        mutation = Mutation([name for name in names if name not in done], asked.seconds, tell)
        options = ["-q", "-o", "addopts=", "-p", "no:xdist", "-p", "no:cacheprovider", "--timeout", "0"]
        options += ["-s", "--hypothesis-profile", "mutation", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        options += [f"--deselect={test}" for test in asked.without]
        code = pytest.main([*options, *(asked.tests or ["tests/core", "tests/flow"])], plugins=[mutation])
        print("\n".join(told(mutants, {name: found[name] for name in names if name in found})))
    sys.exit(code)


if __name__ == "__main__":
    main()
