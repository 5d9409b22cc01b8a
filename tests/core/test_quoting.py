"""How much of what was sent an answer repeats."""

import pytest
from hookd.core.event import mistake_of
from hookd.core.mistakes import pointer_to
from hookd.core.quoting import QUOTED_CHARS_MAX, cut, quoted

LONGEST = "a" * QUOTED_CHARS_MAX


@pytest.mark.parametrize("text", ["", "a", "é'\n", LONGEST])
def test_short_text_is_quoted_as_it_is(text: str) -> None:
    """Up to 100 characters nothing is lost."""
    assert (cut(text), quoted(text), quoted(text, ascii)) == (text, repr(text), ascii(text))


def test_long_text_is_cut_at_100_characters_with_a_mark() -> None:
    """The mark stands behind the quotes: it is no part of what was sent."""
    assert cut(LONGEST + "b") == f"{LONGEST}…"
    assert quoted(LONGEST + "b") == f"'{LONGEST}'…"
    assert quoted("\x00" * 1000, ascii) == "'" + r"\x00" * QUOTED_CHARS_MAX + "'…"


def test_pointer_escapes_after_it_cuts() -> None:
    """RFC 6901's escapes stay whole; a short key is right to the letter."""
    assert pointer_to("/0", "a/b~c") == "/0/a~1b~0c"
    assert pointer_to("", "/" * 101) == "/" + "~1" * QUOTED_CHARS_MAX + "…"
    assert pointer_to("", "\ud800") == "/?"


def test_what_the_decoder_says_is_cut_too() -> None:
    """msgspec quotes a value or a name whole."""
    name = "n" * 5_000_000
    assert mistake_of(f"Object contains unknown field `{name}`", "/7").pointer == f"/7/{'n' * QUOTED_CHARS_MAX}…"
    assert mistake_of(f"Invalid enum value '{name}' - at `$.a[3]`", "") == ("/a/3", f"Invalid enum value '{'n' * 80}…")
    assert mistake_of("Expected `str`, got `int` - at `$.type`", "/7") == ("/7/type", "Expected `str`, got `int`")
