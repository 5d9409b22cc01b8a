"""The tree of settings and the rule of each key."""

from hookd.core.settings import DEFAULTS, RULES, HttpSettings, Settings, TokenSettings
from msgspec.structs import replace

TOKEN = TokenSettings(name="ops", scope="admin", token="hush-hush")


def test_every_field_has_a_rule_but_the_tables() -> None:
    """A setting that could not be written in the file would be none; durations drop their unit."""
    for section, rules in RULES.items():
        fields = set(getattr(DEFAULTS, section).__struct_fields__) - {"tokens", "shared"}
        assert {rule.field for rule in rules.values()} == fields
    assert RULES["retry"].keys() == {"schedule", "jitter", "age_max"}
    assert set(RULES) | {"clients", "dev"} == set(Settings.__struct_fields__)


def test_token_is_not_in_its_repr() -> None:
    """Settings may be printed."""
    assert "hush" not in repr(replace(DEFAULTS, http=HttpSettings(tokens=(TOKEN,))))
