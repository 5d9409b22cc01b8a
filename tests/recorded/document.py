"""The record as text: JSON with what is short on one line, in the order in which things happened."""

import json
from typing import Any

COLUMNS = 118


def document(value: Any) -> str:
    return _shown(value, "") + "\n"


def _shown(value: Any, indent: str) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(short) <= COLUMNS:
        return short
    inner = indent + " "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _shown(one, inner) for one in value) + f"\n{indent}]"
    pairs = (f"{inner}{json.dumps(name, ensure_ascii=False)}: {_shown(one, inner)}" for name, one in value.items())
    return "{\n" + ",\n".join(pairs) + f"\n{indent}}}"


def count_of(found: dict[str, Any]) -> str:
    """For people: how much was recorded."""
    stories = [story for story in found.values() if isinstance(story, dict)]
    exchanges = sum(len(story.get("exchanges", ())) for story in stories)
    commands = sum(len(story.get("commands", ())) for story in stories)
    log = sum(len(story.get("log", ())) for story in stories)
    return f"{exchanges} requests, {commands} commands, {log} log lines"
