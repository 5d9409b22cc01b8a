"""The files that come with hookd: the documented configuration, systemd units, proxies, containers, alerts.

They stand in `config/` at the root of the repository. The wheel has copies of them in `hookd/data/`; an editable
install reads the originals.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped_file(name: str) -> Traversable:
    """The file called so, to be read or opened. Raises FileNotFoundError."""
    if name in shipped_names():  # and nothing beside them, as `..` would be
        return _folder() / name
    raise FileNotFoundError(f"hookd ships no file called {name!r}")


def shipped_names() -> list[str]:
    """All of them, in order."""
    return sorted(file.name for file in _folder().iterdir() if file.is_file())


def _folder() -> Traversable:
    installed = files("hookd") / "data"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "config"
