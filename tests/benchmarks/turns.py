"""Owns how things are compared: by turns in one run, medians of the rounds, a table, JSON.

Rules: each round measures everything once, every second one in the other order. So all see the same noise. A ratio is
the median of the rounds' ratios, since two medians may stem from different rounds. Progress goes to stderr. Ctrl-C ends
it with the rounds that are whole.
"""

import json
import os
import platform
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Figures = dict[str, float]
Rounds = list[dict[str, Figures]]


def by_turns(measures: Mapping[str, Callable[[], Figures]], *, rounds: int) -> Rounds:
    begun, found = time.monotonic(), []
    for number in range(rounds):
        order = list(measures) if number % 2 == 0 else list(reversed(measures))
        seen = {}
        try:
            for name in order:
                progress(f"round {number + 1} of {rounds}, {name}, {time.monotonic() - begun:.0f} s")
                seen[name] = measures[name]()
        except KeyboardInterrupt:  # whole rounds count: some take minutes
            if not found:
                raise
            break
        found.append({name: seen[name] for name in measures})
    progress("")
    return found


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def median(rounds: Rounds, name: str, figure: str) -> float:
    return statistics.median(each[name][figure] for each in rounds)


def ratio(rounds: Rounds, name: str, other: str, figure: str) -> float:
    return statistics.median(each[name][figure] / each[other][figure] for each in rounds)


def show(rounds: Rounds, *, base: str | None = None, ratio_of: str = "cpu_us") -> None:
    """A row for each thing measured, with its medians, the spread of the first figure, and its ratio to `base`."""
    names, figures = list(rounds[0]), list(next(iter(rounds[0].values())))
    width = max(map(len, names))
    heads = "".join(f"{figure:>18}" for figure in figures)
    print(f"{'':{width}}{heads}" + (f"{'of ' + base:>24}" if base else ""))
    for name in names:
        row = "".join(f"{median(rounds, name, figure):18,.1f}" for figure in figures)
        beside = f"{ratio(rounds, name, base, ratio_of):24.2f}" if base else ""
        print(f"{name:{width}}{row}{beside}")


def machine() -> dict[str, Any]:
    """What the figures were seen on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    flags = sysconfig.get_config_var("PY_CFLAGS") or ""
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "is_optimised": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "optimisation": next((flag for flag in reversed(flags.split()) if flag.startswith("-O")), ""),
        "load_average": os.getloadavg()[0],
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def finish(name: str, rounds: Rounds, *, json_path: str | None) -> None:
    """Says what it was measured on, and writes all that was seen where that is asked for."""
    seen_on = machine()
    print(", ".join(f"{key} {value}" for key, value in seen_on.items()))
    if json_path is not None:
        Path(json_path).write_text(
            json.dumps({"benchmark": name, "machine": seen_on, "rounds": rounds}, indent=1) + "\n"
        )
