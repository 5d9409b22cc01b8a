"""What is said of a mistake: where it is, and which word was meant."""

import pytest
from hookd.core.mistakes import suggestion

KNOWN = ["url", "headers", "timeout"]


@pytest.mark.parametrize(("word", "said"), [("header", '; did you mean "headers"?'), ("ulr", '; did you mean "url"?')])
def test_near_word_is_suggested(word: str, said: str) -> None:
    """The nearest one that is known."""
    assert suggestion(word, KNOWN) == said


@pytest.mark.parametrize("word", ["zzz", "", None, 7, b"url", ["url"], "headers" * 100])
def test_nothing_is_suggested_for_what_is_no_word_or_near_none(word: object) -> None:
    """Nor for a very long one, which would take long to compare."""
    assert suggestion(word, KNOWN) == ""
