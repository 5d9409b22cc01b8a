"""Without tokens only programs on this machine are answered."""

import pytest

from daemon.edge.api.access import is_loopback_name


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "[::1]"])
def test_loopback_names_are_known(host: str):
    """The names by which a program on this machine asks, with and without a port."""
    assert is_loopback_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":8080",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "[",
        "0",
        "127.1",
    ],
)
def test_other_names_are_foreign(host: str):
    """Names of others, even where they resolve to this machine, and what is no name at all."""
    assert not is_loopback_name(host)
