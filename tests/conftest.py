"""The longest test begins first: three workers then end together, instead of two waiting for the README's demo."""

import pytest

LONGEST = "test_readme.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)
