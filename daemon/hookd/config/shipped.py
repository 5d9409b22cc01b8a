"""The files that come with hookd: the documented configuration, systemd units, proxies, containers, alerts.

They stand in `config/` at the root of the repository. The wheel has copies of them in `hookd/data/`; an editable
install reads the originals.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped_file(name: str) -> Traversable:
    """The file called so, to be read or opened. Raises FileNotFoundError."""
    for folder in _folders():
        file = folder / name
        if file.is_file():
            return file
    raise FileNotFoundError(f"hookd ships no file called {name!r}")


def shipped_names() -> list[str]:
    """All of them, in order."""
    folder = next((folder for folder in _folders() if folder.is_dir()), None)
    return sorted(file.name for file in folder.iterdir() if file.is_file()) if folder is not None else []


def _folders() -> tuple[Traversable, ...]:
    return files("hookd") / "data", Path(__file__).parents[3] / "config"
