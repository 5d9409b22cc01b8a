"""Where to listen, as text."""

import ipaddress

import pytest
from hookd.core.bind import URL_DEFAULT, Bind, parse_bind, url_on_this_machine


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


@pytest.mark.parametrize(
    ("binds", "is_https", "url"),
    [
        (["127.0.0.1:8080"], False, URL_DEFAULT),
        (["0.0.0.0:8080"], False, URL_DEFAULT),
        (["10.0.0.7:9000", "127.0.0.1:8080"], False, URL_DEFAULT),
        (["10.0.0.7:9000", "10.0.0.7:9001"], False, "http://10.0.0.7:9000"),
        (["unix:/x", "[::]:9000"], False, "http://[::1]:9000"),
        (["0.0.0.0:8443"], True, "https://127.0.0.1:8443"),
        (["127.0.0.1:8080"], True, "https://127.0.0.1:8080"),
        (["127.0.0.1:0", "unix:/x", "fd://3"], False, URL_DEFAULT),
    ],
)
def test_url_beside_the_daemon_is_that_of_its_bind(binds: list[str], is_https: bool, url: str) -> None:
    """The default where it does, and where nobody can tell before the next start."""
    assert url_on_this_machine(binds, is_https=is_https) == url
