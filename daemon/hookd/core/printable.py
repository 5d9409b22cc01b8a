"""Owns what makes text of others harmless on a terminal, in a log and in a report.

A server, a file or a producer may write what moves the cursor, colours the screen, sets the window's title or turns a
line round. Such characters (controls, DEL, C1, U+0085, U+2028, U+2029, bidi and other formats, half a surrogate pair)
are shown as escapes. A line break is one of them, so that no text of others makes a line of its own.
"""

import json


def printable(text: object) -> str:
    """On one line, with escapes as Python writes them."""
    given = str(text)
    return given if given.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in given)


def printable_json(encoded: bytes) -> bytes:
    """The same value as JSON, with JSON's escapes. Outside ASCII such characters stand in strings alone."""
    if encoded.isascii() and b"\x7f" not in encoded:  # JSON has the other controls of ASCII escaped
        return encoded
    text = encoded.decode(errors="backslashreplace")
    if text.isprintable():
        return encoded
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text).encode()
