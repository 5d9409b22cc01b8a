"""A daemon's name among several: its form, and where it stands."""

import pytest
from hookd.core.ids import is_id
from hookd.core.settings import Settings, ShardSettings
from hookd.core.settings_checks import conflicts
from hookd.core.shard import event_id_prefix, is_shard_name
from hookd.edge.event_ids import EventIds


@pytest.mark.parametrize("name", ["a", "8081", "z" * 16])
def test_name_of_letters_and_digits_is_taken(name: str) -> None:
    """The longest still leaves an id that is one."""
    assert is_shard_name(name)
    assert not list(conflicts(Settings(shard=ShardSettings(name=name))))
    made = EventIds(shard=name).new()
    assert made.startswith(f"evt_{name}_")
    assert is_id(made)


@pytest.mark.parametrize("name", ["A", "a-b", "a_b", "a.b", "z" * 17, "a\n", " a", "é"])
def test_name_that_would_not_stand_in_an_id_is_refused(name: str) -> None:
    """An underscore would end it there."""
    (found,) = conflicts(Settings(shard=ShardSettings(name=name)))
    assert found.keys == ("shard.name",)
    assert "1 to 16 of a-z 0-9" in found.detail


def test_without_a_name_ids_are_as_ever() -> None:
    assert event_id_prefix("") == "evt_"
    assert not list(conflicts(Settings()))
