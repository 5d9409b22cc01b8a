"""Where to listen, as text."""

import ipaddress

import pytest
from hookd.core.bind import Bind, parse_bind


@pytest.mark.parametrize(
    "text",
    ["", "80", ":80", "a:", "a:65536", "[::1:80", "::1:80", "[x]:80", "[1.2]:80", "unix:", "fd://x", "fd://10000"],
)
def test_bind_in_no_known_form_is_refused(text: str) -> None:
    """The forms there are stand in the message."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_bind(text)


def test_bind_is_taken_apart() -> None:
    """Whoever listens gets parts, not text."""
    assert parse_bind("[::1]:80") == Bind(host="::1", port=80)
    assert parse_bind("unix:/x") == Bind(path="/x")
    assert parse_bind("fd://3") == Bind(descriptor=3)
    assert parse_bind("fd://9999") == Bind(descriptor=9999)
    assert parse_bind("LocalHost:65535") == Bind(host="localhost", port=65535)
    assert parse_bind("[::FFFF]:0") == Bind(host="::ffff", port=0)
    assert ipaddress.ip_address(parse_bind("127.0.0.1:8080").host).is_loopback
