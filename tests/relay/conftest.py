"""What coredis leaves of a connection that it could not make, or that broke: streams in memory that nobody closed.

The collector finds them at any later moment. So they are collected where they came from, and their warning is ignored
there alone: elsewhere an unclosed stream is a fault of ours.
"""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def library_leaves_streams() -> Iterator[None]:
    """To be used beside the filter for `Unclosed <MemoryObject`."""
    yield
    gc.collect()
