"""The line of each key, table and list entry of a TOML text. tomllib does not tell it.

Owns a scanner that knows just enough of TOML to step over values: strings, comments, brackets.

Rules: tomllib has taken the text before, so nothing is judged here. Where the scanner cannot follow, it stops and
returns the lines that it has: a message without its line is better than none. A list of tables counts from 0.

Known limits: a key inside an inline table or a list gets the line of the key that holds it.
"""

import re
import tomllib

KeyPath = tuple[str | int, ...]  # ("clients", 0, "url")

_KEY = r'(?:"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)'
_DOTTED = re.compile(rf"[ \t]*{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
# Multi-line strings first; they may end in up to two quotes of their own.
_PIECE = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[^"\'#\[\]{}\n]+|.',
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line of every key, table and list entry of a text that tomllib has already taken."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    line, counted, position = 1, 0, _skip_space(text, 0)
    while position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        brackets = 2 if text.startswith("[[", position) else 1 if text[position] == "[" else 0
        found = _DOTTED.match(text, position + brackets)
        if found is None:  # not TOML after all; lines are a service, not a reason to fail
            break
        keys = [_unquoted(part) for part in re.findall(_KEY, found[0])]
        if brackets:
            table = _header_path(keys, counts, is_list=brackets == 2)
            path = table
            position = found.end() + brackets
        else:
            path = (*table, *keys)
            position = _skip_value(text, found.end() + 1)
        for end in range(1, len(path) + 1):
            lines.setdefault(path[:end], line)
        position = _skip_space(text, position)
    return lines


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _skip_value(text: str, position: int) -> int:
    """To the end of the line the value ends on: line breaks inside brackets and strings belong to it."""
    depth = 0
    for piece in _PIECE.finditer(text, position):
        if piece[0] == "\n" and depth == 0:
            return piece.end()
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(piece[0], 0)
    return len(text)


def _header_path(keys: list[str], counts: dict[KeyPath, int], *, is_list: bool) -> KeyPath:
    """`[clients.endpoints]` speaks of the newest client; `[[clients]]` begins another."""
    path: KeyPath = ()
    for key in keys:
        path = (*path, key)
        is_last = len(path) - sum(isinstance(part, int) for part in path) == len(keys)
        if is_list and is_last:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _unquoted(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key
