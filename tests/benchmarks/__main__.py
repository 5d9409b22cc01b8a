"""Runs the benchmarks by name: `python -m tests.benchmarks NAME [ARGUMENT]...`, `all`, or `--list`."""

import importlib
import pkgutil
import runpy
import subprocess
import sys

import tests.benchmarks as package


def names() -> list[str]:
    """The modules that can be run; parts of one begin with an underscore or name no bar of their own."""
    found = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in found if hasattr(importlib.import_module(f"{package.__name__}.{name}"), "main")]


def main(arguments: list[str]) -> int:
    known = names()
    if arguments == ["--list"]:
        for name in known:
            said = (importlib.import_module(f"{package.__name__}.{name}").__doc__ or "").splitlines()
            print(f"{name:16} {said[0] if said else ''}")
        return 0
    if arguments == ["all"]:
        codes = {name: subprocess.call([sys.executable, "-m", f"{package.__name__}.{name}"]) for name in known}
        failed = [name for name, code in codes.items() if code]
        print(f"failed: {', '.join(failed) or 'none'}")
        return 1 if failed else 0
    if not arguments or arguments[0] not in known:
        print(f"usage: python -m tests.benchmarks all | --list | NAME, one of: {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv = [f"{package.__name__}.{arguments[0]}", *arguments[1:]]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
