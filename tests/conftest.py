"""The longest test begins first: three workers then end together, instead of two waiting for the README's demo.

Hypothesis sets no deadline for one example: how long one takes says how busy the machine is, and nothing of the code.

Ctrl-C is heard, also by what the tests start: a shell has it ignored for what is started with `&`.
"""

import os
import signal

import pytest
from hypothesis import settings

LONGEST = "test_readme.py"
# Of what Hypothesis draws for a property that names no number of its own.
EXAMPLES = int(os.environ.get("HOOKD_TEST_EXAMPLES", "100"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("hookd", deadline=None, max_examples=EXAMPLES)
settings.load_profile("hookd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)
    if os.environ.get("HOOKD_TEST_ROUND") == "first":
        for item in items:
            if item.get_closest_marker("second_round"):
                item.add_marker(pytest.mark.skip(reason="of the second round, which CI runs where it has time"))
