"""The files that come with hookd: the documented configuration, the systemd unit, the alerts.

They stand in `config/` at the root of the repository. The wheel has copies of them in `hookd/data/`; an editable
install reads the originals.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped_file(name: str) -> Traversable:
    """The file called so, to be read or opened. Raises FileNotFoundError."""
    for folder in (files("hookd") / "data", Path(__file__).parents[3] / "config"):
        file = folder / name
        if file.is_file():
            return file
    raise FileNotFoundError(f"hookd ships no file called {name!r}")
