"""Owns how much of a request an answer repeats: 100 characters of each thing it quotes.

A field's name, an id in a path or a header may be as long as the request. An answer that repeats all of it costs more
than the request did, and nobody reads it. Whatever quotes a request goes through here.

Limits: at most 100 characters of one thing. In JSON a character takes at most 6 bytes, an escaped one of a pointer 2
characters, one that Python's quotes escape 10: one quotation is at most 1 KiB.
"""

from collections.abc import Callable

QUOTED_CHARS_MAX = 100
CUT_MARK = "…"


def cut(text: str) -> str:
    """The text as it is, or its first 100 characters and `…`."""
    return text if len(text) <= QUOTED_CHARS_MAX else text[:QUOTED_CHARS_MAX] + CUT_MARK


def quoted(text: str, quote: Callable[[str], str] = repr) -> str:
    """The text in quotes, or its first 100 characters in quotes and `…` behind them."""
    return quote(text) if len(text) <= QUOTED_CHARS_MAX else quote(text[:QUOTED_CHARS_MAX]) + CUT_MARK
