"""Owns how half of a surrogate pair is found in JSON that could not be read for it: msgspec names another cause."""

import re

_AT_BYTE = re.compile(r"\(byte (\d+)\)")
# One half of a pair without the other beside it; a whole pair, as of any emoji, is passed over.
_HALF_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def half_surrogate(said: str, body: bytes) -> str | None:
    """The escape without its other half, where that is what msgspec stumbled over: it says so in one case of four."""
    at = _AT_BYTE.search(said)
    if not any(word in said for word in ("surrogate", "hex escape", "truncated")):
        return None
    end = len(body) if at is None else int(at[1]) + 2
    escape = _HALF_SURROGATE.search(body, max(0, end - 16), end)
    if escape is None:
        return None
    return f"{escape[0].decode()} is half of a pair of surrogates, and its other half is missing"
