"""Turns the value of one key into the value of its field, or says what is wrong with it.

Owns durations and sizes with their units, the ranges, and the example that each mistake shows.

Does not: know which keys there are (core/settings), or where a value was written (findings.py).
"""

from collections.abc import Callable
from typing import Any, cast

from hookd.core.settings import Kind, Rule
from hookd.core.units import parse_duration, parse_size


def converted(rule: Rule, raw: object, *, typed: bool) -> tuple[object, list[str]]:
    """The field's value, and what is wrong with it."""
    if rule.entries is None:
        value, detail = _single(rule, raw, typed=typed)
        return value, [detail] if detail else []
    if isinstance(raw, tuple):
        raw = list(raw)
    if not isinstance(raw, list):
        return None, [f"must be a list such as {_EXAMPLES[rule.kind, True]}"]
    least, most = rule.entries
    if not least <= len(raw) <= most:
        return None, [f"must have {least} to {most} entries, not {len(raw)}"]
    results = [_single(rule, entry, typed=typed) for entry in raw]
    details = [f"entry {number}: {detail}" for number, (_, detail) in enumerate(results, start=1) if detail]
    return tuple(value for value, _ in results), details


_EXAMPLES = {
    (Kind.TEXT, True): '["a", "b"]',
    (Kind.DURATION, True): '["5s", "2m"]',
    (Kind.COUNT, True): "[25, 6379]",
    (Kind.TEXT, False): 'a string in quotes, such as "text"',
    (Kind.FLAG, False): "true or false",
    (Kind.COUNT, False): "a whole number",
    (Kind.FRACTION, False): "a number such as 0.2",
    (Kind.DURATION, False): 'a duration as a string, such as "15s"',
    (Kind.SIZE, False): 'a size as a string, such as "256KiB"',
}
_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.TEXT: (str,),
    Kind.FLAG: (bool,),
    Kind.COUNT: (int,),
    Kind.FRACTION: (int, float),
    Kind.DURATION: (int, float),
    Kind.SIZE: (int,),
}
_PARSERS: dict[Kind, Callable[[str], float]] = {Kind.DURATION: parse_duration, Kind.SIZE: parse_size}


def _single(rule: Rule, raw: Any, *, typed: bool) -> tuple[Any, str]:
    kind = rule.kind
    value: Any = raw
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    if kind in _PARSERS and (isinstance(raw, str) or (is_number and not typed)):
        try:
            # Of a bare number the parser says which unit is missing, with this number in its example.
            value = _PARSERS[kind](raw if isinstance(raw, str) else str(raw)[:12])
        except ValueError as error:
            return None, str(error)
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind is not Kind.FLAG):
        return None, f"must be {_EXAMPLES[kind, False]}"
    if rule.words and value not in rule.words:
        return None, f"must be one of {', '.join(map(repr, rule.words))}"
    if rule.range is None:
        return value, ""
    # The range comes first: a whole number may be too large for a float.
    number = cast(float, value)
    detail = rule.range_mistake(number)
    return (None, detail) if detail else (number if kind in (Kind.COUNT, Kind.SIZE) else float(number), "")
