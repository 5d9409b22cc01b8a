"""Texts that rows share."""

from hookd.core.shared_texts import TEXTS_MAX, SharedTexts


def test_equal_texts_become_one() -> None:
    texts = SharedTexts()
    first, second = b"invoice.paid".decode(), b"invoice.paid".decode()
    assert first is not second
    assert texts.share(first) is texts.share(second) is first


def test_no_more_are_held_than_the_limit() -> None:
    """Whoever makes types up costs others their sharing, and no memory."""
    texts = SharedTexts()
    for number in range(3 * TEXTS_MAX + 1):
        text = f"type{number}"
        assert texts.share(text) is text
        assert len(texts._texts) <= TEXTS_MAX
