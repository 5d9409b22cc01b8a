"""What the daemon takes with a budget full, in each shape, against what `hookd check` promises.

The real daemon as a child process for each shape, filled over loopback. Its configuration leaves room for the shape
alone. `promised` is the part for the program and those that the shape fills, `taken` the most resident memory that it
ever had. `filled` is both without the program: what came on top of an empty daemon.
Bar: taken is at most 10 % more than promised, in each shape.

    python -m tests.benchmarks memory_promise [--quick | --scale 0.3] [NAME]...
    python -m tests.benchmarks memory_promise --hostile [--minutes 30]

`--quick` makes every shape a twentieth. `--hostile` is of tests/benchmarks/memory_hostile.py: everything at once, in a
memory cgroup of the size that `hookd check` says.
"""

import argparse
import sys
from typing import NamedTuple

from tests.benchmarks.memory_daemon import MIB, configured, daemon, promised_parts
from tests.benchmarks.memory_hostile import hostile
from tests.benchmarks.memory_receivers import receivers
from tests.benchmarks.memory_shapes import SHAPES, Shape

RATIO_MAX = 1.10
QUICK_SCALE = 0.05


class Figures(NamedTuple):
    promised_bytes: int  # for the program and what the shape fills
    taken_bytes: int
    filled_promised_bytes: int  # of the parts that the shape fills
    filled_bytes: int

    @property
    def ratio(self) -> float:
        return self.taken_bytes / self.promised_bytes

    @property
    def filled_ratio(self) -> float:
        return self.filled_bytes / max(1, self.filled_promised_bytes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="memory_promise")
    parser.add_argument("--quick", action="store_true", help="a twentieth of each: seconds a shape")
    parser.add_argument("--scale", type=float, default=1.0, help="how large each shape is; 1 is some tens of MiB")
    parser.add_argument("--hostile", action="store_true", help="everything at once, in a memory cgroup")
    parser.add_argument("--minutes", type=float, default=1.0, help="of --hostile")
    parser.add_argument("shapes", nargs="*", metavar="NAME", help=f"of: {'; '.join(SHAPES)}")
    given = parser.parse_args()
    if given.hostile:
        return hostile(given.minutes)
    unknown = [name for name in given.shapes if name not in SHAPES]
    if unknown:
        parser.error(f"no shape is called {unknown[0]!r}")
    return promise(given.shapes or list(SHAPES), scale=QUICK_SCALE if given.quick else given.scale)


def promise(names: list[str], *, scale: float) -> int:
    print("| shape | promised, MiB | taken | ratio | filled: promised | taken | ratio |\n|---|---|---|---|---|---|---|")
    over = []
    for name in names:
        found = measure(SHAPES[name], scale=scale)
        print(
            f"| {name} | {found.promised_bytes / MIB:.1f} | {found.taken_bytes / MIB:.1f} | {found.ratio:.2f} "
            f"| {found.filled_promised_bytes / MIB:.1f} | {found.filled_bytes / MIB:.1f} | {found.filled_ratio:.2f} |",
            flush=True,
        )
        if found.ratio > RATIO_MAX:
            over.append(name)
    print(f"\nover the bar of {RATIO_MAX}: {', '.join(over) or 'none'}")
    return 1 if over else 0


def measure(shape: Shape, *, scale: float) -> Figures:
    with configured(shape.settings(scale)) as config, receivers() as ports:
        parts = promised_parts(config)
        with daemon(config) as started:
            started.must("GET", "/v1/status")
            empty_bytes = started.peak_bytes()
            shape.fill(started, ports, scale)
            taken_bytes = started.peak_bytes()
    filled = sum(parts.get(name, 0) for name in shape.fills)
    return Figures(parts["the program"] + filled, taken_bytes, filled, taken_bytes - empty_bytes)


if __name__ == "__main__":
    sys.exit(main())
