"""Reads the settings that stand in the environment: `HOOKD_SECTION__KEY`, as `HOOKD_HTTP__BIND`.

Rules: a value is written as in TOML. Text may stand without its quotes, and a list as its entries with commas between.
An unknown name is a warning and no mistake, since other programs set variables too.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hookd.core.mistakes import suggestion
from hookd.core.settings import RULES, Kind, Rule

PREFIX = "HOOKD_"
_NUMBER = re.compile("[0-9]{1,9}")


class Variable(NamedTuple):
    """One variable of the environment that names a key."""

    name: str
    section: str
    key: str
    rule: Rule
    value: object


def variables(environ: Mapping[str, str], warnings: list[str]) -> Iterator[Variable]:
    """Those that name a key, by name. A warning is added for each `HOOKD_A__B` that names none."""
    for name, text in sorted(environ.items()):
        section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
        if not name.startswith(PREFIX) or not separator:
            continue
        rule = RULES.get(section, {}).get(key)
        if rule is None:
            known = [_name(section, key) for section, rules in RULES.items() for key in rules]
            warnings.append(f"{name}: no such key, ignored{suggestion(name.upper(), known)}")
        else:
            yield Variable(name, section, key, rule, _value(text, rule))


def _name(section: str, key: str) -> str:
    return f"{PREFIX}{section}__{key}".upper()


def _value(text: str, rule: Rule) -> object:
    """The text as a TOML value, else as it stands; for a list, bare entries may be joined by commas."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    # A line break would smuggle a second key in; then it was no value.
    value = parsed["value"] if parsed.keys() == {"value"} else text
    if rule.entries is not None:
        is_one = rule.kind is Kind.COUNT and type(value) is int
        return _entries(str(value), rule) if isinstance(value, str) or is_one else value
    # A folder may be called 2024 or true.
    return text if rule.kind is Kind.TEXT and not isinstance(value, str) else value


def _entries(text: str, rule: Rule) -> list[object]:
    """Of bare text, or of the one number that it is."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    return [int(entry) if rule.kind is Kind.COUNT and _NUMBER.fullmatch(entry) else entry for entry in entries]
