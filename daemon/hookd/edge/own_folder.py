"""Owns the choice of a folder that is ours alone, in a directory where others may have taken its name first.

    DIRECTORY/NAME             the folder, where nobody else has the name
    DIRECTORY/NAME-<16 hex>    else: nobody can guess it, so nobody can have it first

Rules:
 1. A folder is ours if it is one (no link, no file), belongs to our user, and has mode 0700 or less. What has such a
    name and is not ours is passed over, never opened, and said. It is no reason not to start.
 2. The folders of an earlier start are found by their names, and judged like any other.
What stands in the folder, and who may use it at a time, is edge/recorder_files's.
"""

import os
import re
import secrets
import stat
from typing import NamedTuple

_SUFFIX = r"-[0-9a-f]{16}"


class PassedOver(NamedTuple):
    name: str
    why: str


class Folders(NamedTuple):
    """What stands under a name, with a suffix or without."""

    ours: list[str]  # the one without a suffix first
    passed_over: list[PassedOver]


def find(parent: int, name: str) -> Folders:
    """`parent` is the directory's descriptor. Raises OSError where it cannot be read."""
    named = re.compile(f"{re.escape(name)}(?:{_SUFFIX})?")
    folders = Folders([], [])
    for one in sorted(filter(named.fullmatch, os.listdir(parent))):
        try:
            why = _why_not_ours(os.stat(one, dir_fd=parent, follow_symlinks=False))
        except FileNotFoundError:
            continue  # somebody has removed it meanwhile
        if why is None:
            folders.ours.append(one)
        else:
            folders.passed_over.append(PassedOver(one, why))
    return folders


def make(parent: int, name: str) -> str:
    """A new one; returns its name. Raises OSError where none can be made at all."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        name = f"{name}-{secrets.token_hex(8)}"
        os.mkdir(name, 0o700, dir_fd=parent)
    return name


def opened(parent: int, name: str) -> int:
    """Its descriptor. Raises OSError, also where it is not ours any more."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    why = _why_not_ours(os.fstat(fd))
    if why is not None:
        os.close(fd)
        raise PermissionError(0, why, name)
    return fd


def _why_not_ours(found: os.stat_result) -> str | None:
    if not stat.S_ISDIR(found.st_mode):
        return "a link" if stat.S_ISLNK(found.st_mode) else "no folder"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"open to others (mode {stat.S_IMODE(found.st_mode):o}, not 700)"
    return None
