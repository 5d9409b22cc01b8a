"""The whole set: every story, each in a folder of its own."""

from pathlib import Path
from typing import Any

from tests.recorded.bare import Minute, bare
from tests.recorded.guarded import guarded
from tests.recorded.opened import opened
from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Program
from tests.recorded.restarted import restarted

STORIES = {"bare": bare, "opened": opened, "guarded": guarded, "restarted": restarted}


def recorded(module: str, source: Path, folder: Path) -> dict[str, Any]:
    """One after the other; only the minute of a daemon that does nothing goes by beside them."""

    def place(name: str) -> tuple[Program, Placeholders]:
        own = folder / name
        own.mkdir()
        names = Placeholders()
        names.add(str(own), "DIR")
        names.add(str(source), "SOURCE")
        return Program(module, source, own), names

    found: dict[str, Any] = {}
    with Minute(*place("minute")) as minute:
        for name, story in STORIES.items():
            found[name] = story(*place(name))
        found["minute"] = minute.over(folder / "minute")
    return found
