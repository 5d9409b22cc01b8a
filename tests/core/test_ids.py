"""The form of ids and event types."""

from hookd.core.ids import is_event_type, is_id


def test_ids_and_types_are_ascii_and_bounded() -> None:
    """A trailing line break or a foreign digit is not part of an id."""
    assert is_id("A-z_9")
    assert not any(is_id(text) for text in ("", "a\n", "é", "٣", "a.b", "a" * 65, None, 5))
    assert is_event_type("a.b:c/d-e_F9")
    assert not any(is_event_type(text) for text in ("", "a\n", "a b", "é", "a" * 129, None))
