"""Durations and sizes as people write them: `"1.5s"`, `"2m"`, `"256KiB"`.

Owns the text form of both, in the config file and in API requests; everywhere else they are seconds and bytes.

Rules: a unit always stands behind the number, so that nobody has to guess what 15 means. Digits are ASCII (`float()`
would also take Arabic or full-width ones). The arithmetic is decimal, so that no "0.1h" is a hair off 360 seconds.

It does not judge whether a value makes sense where it stands (core/settings, core/client_definition).
"""

import re
from decimal import Decimal

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# Thirteen digits are 300,000 years or 9 TiB written in bytes: the bound only keeps arithmetic and messages short.
_NUMBER = r"[0-9]{1,13}(?:\.[0-9]{1,6})?"
DURATION_PATTERN = f"^({_NUMBER})(ms|s|m|h|d)$"
_DURATION = re.compile(DURATION_PATTERN)
_SIZE = re.compile(rf"({_NUMBER})(B|KiB|MiB|GiB)")
_BARE = re.compile(r"[0-9.]{1,12}")
_MICROSECOND = Decimal("0.000001")


def parse_duration(text: str) -> float:
    """The seconds that `text` stands for; ValueError says how to write one."""
    found = _DURATION.fullmatch(text)
    if found is None:
        if _BARE.fullmatch(text):
            raise ValueError(f'a duration needs a unit: write "{text}s", not "{text}"')
        raise ValueError('not a duration: write a number and one of ms, s, m, h, d, such as "15s" or "1.5h"')
    return float(Decimal(found[1]) * _SECONDS[found[2]])


def format_duration(seconds: float) -> str:
    """The shortest text that parses back to `seconds`, which are rounded to whole microseconds first."""
    exact = Decimal(repr(float(seconds))).quantize(_MICROSECOND)
    shapes = [f"{_plain(exact / factor)}{unit}" for unit, factor in _SECONDS.items()]
    same = [shape for shape in shapes if _is_duration(shape, float(exact))]
    # Of two equally short ones the whole number reads better: 250ms rather than 0.25s. The seconds always qualify, if
    # nothing else does (a number of too many digits).
    return min(same, key=lambda shape: (len(shape), "." in shape, not shape.endswith("s")), default=f"{_plain(exact)}s")


def parse_size(text: str) -> int:
    """The bytes that `text` stands for; ValueError says how to write one."""
    found = _SIZE.fullmatch(text)
    if found is None:
        if _BARE.fullmatch(text):
            raise ValueError(f'a size needs a unit: write "{text}B" or "{text}KiB", not "{text}"')
        raise ValueError('not a size: write a number and one of B, KiB, MiB, GiB, such as "256KiB" or "1.5GiB"')
    size = Decimal(found[1]) * _BYTES[found[2]]
    if size != int(size):
        raise ValueError(f'"{text}" is not a whole number of bytes: write it in a smaller unit, such as "512B"')
    return int(size)


def format_size(size_bytes: int) -> str:
    """The text in the largest unit that keeps a whole number; it parses back to the same size."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if size_bytes % _BYTES[unit] == 0 or unit == "B")
    return f"{size_bytes // _BYTES[unit]}{unit}" if size_bytes else "0B"


def approximate_size(size_bytes: int) -> str:
    """For reading only, to a tenth of the largest unit that fits: "1.4GiB"."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if size_bytes >= _BYTES[unit] or unit == "B")
    return f"{size_bytes / _BYTES[unit]:.1f}".removesuffix(".0") + unit


def _is_duration(text: str, seconds: float) -> bool:
    return _DURATION.fullmatch(text) is not None and parse_duration(text) == seconds


def _plain(number: Decimal) -> str:
    """Without an exponent and without trailing zeros, which `Decimal.normalize` would trade for one another."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
