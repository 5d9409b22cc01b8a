"""A file in the place of a directory that the daemon uses, so that it cannot make it again."""

import os
import shutil
from pathlib import Path


def put_file_in_place_of(directory: Path) -> None:
    """The daemon looks at its directory in a thread, and may make it again while this goes on."""
    file = directory.with_name(f"{directory.name}.file")
    file.write_text("somebody's own\n")
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        try:
            os.link(file, directory)
        except FileExistsError:
            continue
        file.unlink()
        return
