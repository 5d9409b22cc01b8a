"""The whole set: every story, each in a folder of its own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.recorded.bare import Minute, bare
from tests.recorded.guarded import guarded
from tests.recorded.opened import opened
from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Program
from tests.recorded.restarted import restarted

STORIES = {"opened": opened, "bare": bare, "restarted": restarted, "guarded": guarded}
STORIES_AT_ONCE = 2  # starting Python is most of what they cost


def recorded(module: str, source: Path, folder: Path) -> dict[str, Any]:
    """They share nothing, so two run at once; the minute of a daemon that does nothing goes by beside them."""

    def place(name: str) -> tuple[Program, Placeholders]:
        own = folder / name
        own.mkdir()
        names = Placeholders()
        names.add(str(own), "DIR")
        names.add(str(source), "SOURCE")
        return Program(module, source, own), names

    found: dict[str, Any] = {}
    with Minute(*place("minute")) as minute:
        with ThreadPoolExecutor(STORIES_AT_ONCE) as pool:
            running = {name: pool.submit(story, *place(name)) for name, story in STORIES.items()}
            found |= {name: future.result() for name, future in running.items()}
        found["minute"] = minute.over(folder / "minute")
    return found
