"""`python -m tests.recorded --write FILE` records, `--check FILE` records again and shows what differs."""

import argparse
import difflib
import sys
import tempfile
import time
from pathlib import Path

from tests.recorded.document import count_of, document
from tests.recorded.whole import recorded

ROOT = Path(__file__).parents[2]
DIFFERENCE_LINES_MAX = 400


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.recorded", description=__doc__)
    parser.add_argument("--module", default="hookd", help="the module that is run (default: hookd)")
    parser.add_argument("--source", type=Path, default=ROOT, help="where the module is found (default: this checkout)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE")
    what.add_argument("--check", type=Path, metavar="FILE")
    given = parser.parse_args()
    began = time.monotonic()
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="hookd-recorded-", dir=shared) as folder:
        found = recorded(given.module, given.source.resolve(), Path(folder))
    text = document(found)
    print(f"{count_of(found)} in {time.monotonic() - began:.0f} s")
    if given.write is not None:
        given.write.write_text(text)
        return 0
    expected = given.check.read_text()
    if text == expected:
        print("nothing differs")
        return 0
    lines = list(difflib.unified_diff(expected.splitlines(), text.splitlines(), "recorded", "now", lineterm="", n=6))
    print("\n".join(lines[:DIFFERENCE_LINES_MAX]))
    print(f"DIFFERS: {sum(line[:1] in '+-' for line in lines) - 2} lines")
    return 1


if __name__ == "__main__":
    sys.exit(main())
