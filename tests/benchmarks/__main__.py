"""Runs the benchmarks by name: `python -m tests.benchmarks NAME [ARGUMENT]...`, `all`, or `--list`."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

PACKAGE = "tests.benchmarks"


def benchmarks() -> dict[str, str]:
    """Name -> the first line of what it says of itself. A module without a `main` is a part of another."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == "main" for one in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: list[str]) -> int:
    known = benchmarks()
    match arguments:
        case ["--list"]:
            for name, said in known.items():
                print(f"{name:16} {said}")
            return 0
        case ["all"]:
            codes = {name: subprocess.call([sys.executable, "-m", f"{PACKAGE}.{name}"]) for name in known}
            failed = [name for name, code in codes.items() if code]
            print(f"failed: {', '.join(failed) or 'none'}")
            return 1 if failed else 0
        case [name, *rest] if name in known:
            sys.argv = [f"{PACKAGE}.{name}", *rest]
            runpy.run_module(f"{PACKAGE}.{name}", run_name="__main__", alter_sys=True)
            return 0
        case _:
            print(f"usage: python -m {PACKAGE} all | --list | NAME, one of {', '.join(known)}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
