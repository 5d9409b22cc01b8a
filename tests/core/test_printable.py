"""Text of others on a terminal: each character that could do more than stand there is an escape."""

import json
import sys
import unicodedata

import msgspec
import pytest
from hookd.core.printable import printable, printable_json

# ESC, OSC with its end, C1's CSI, DEL, the line ends of Unicode, bidi marks, overrides, isolates, a zero-width space.
HOSTILE = (
    "\x1b[31m\x1b]0;title\x07\x9b2J\x7f\x85\u2028\u2029\u200e\u200f\u061c\u202a\u202e\u2066\u2069\u200b\ufeff\r\n\x00"
)
HARMLESS = 'Grüße, 日本語, עברית, 👩 — \\x1b "quoted"'


def test_every_character_that_moves_or_hides_something_is_an_escape() -> None:
    """All of Unicode: controls, formats, line ends, surrogates; what is left stands as it is, and nothing is lost."""
    for code in range(sys.maxunicode + 1):
        one = chr(code)
        shown = printable(one)
        assert shown.isprintable()
        if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            assert shown != one
            assert shown.encode("ascii").decode("unicode_escape") == one


def test_text_for_people_is_one_line_and_keeps_what_is_harmless() -> None:
    assert printable(HARMLESS) == HARMLESS
    assert printable(f"a{HOSTILE}b").startswith("a\\x1b[31m\\x1b]0;title\\x07\\x9b2J\\x7f\\x85\\u2028")
    assert printable(17) == "17"


@pytest.mark.parametrize("value", [HOSTILE, {HOSTILE: [HOSTILE, 1, None]}, HARMLESS, "\x7f", "\x85", "\u202e", "plain"])
def test_json_is_the_same_value_and_has_nothing_but_characters_that_print(value: object) -> None:
    shown = printable_json(msgspec.json.encode(value))
    assert shown.decode().isprintable()
    assert json.loads(shown) == value
    assert msgspec.json.decode(shown) == value


def test_json_without_such_characters_is_not_touched() -> None:
    """The same bytes: most lines of a log are plain ASCII."""
    for value in ("plain", HARMLESS):
        encoded = msgspec.json.encode(value)
        assert printable_json(encoded) is encoded


def test_bytes_that_are_no_text_are_escaped_as_well() -> None:
    """A line of a file, of which only some fields were read."""
    assert printable_json(b'{"a": "\xff\x9b\xc2\x9b"}') == b'{"a": "\\xff\\x9b\\u009b"}'
