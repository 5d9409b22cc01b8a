"""Owns mistakes: what is wrong in something that was sent or written, and where."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from hookd.core.quoting import cut

_SUGGESTION_CHARS_MAX = 64


class Mistake(NamedTuple):
    pointer: str  # RFC 6901, into what was sent; "" is the whole of it
    detail: str


def pointer_to(at: str, key: object) -> str:
    """A pointer to `key` of what `at` points to. A key that is too long to quote is cut."""
    # Half of a surrogate pair is legal in JSON and cannot be written in UTF-8: it must not break the answer.
    text = cut(str(key)).encode("utf-8", "replace").decode()
    return f"{at}/{text.replace('~', '~0').replace('/', '~1')}"


def suggestion(word: object, known: Iterable[str]) -> str:
    """`; did you mean "url"?`, or nothing where no known word is near."""
    if not isinstance(word, str) or len(word) > _SUGGESTION_CHARS_MAX:
        return ""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""
