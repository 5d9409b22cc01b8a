"""What a proxy's URL may be."""

import pytest
from hookd.core.endpoint_egress import Proxy
from hookd.core.proxy_url import proxy_from, with_credentials


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("HTTP://Proxy.Example:80/", Proxy("proxy.example", 80)),
        ("http://10.0.0.1:8080", Proxy("10.0.0.1", 8080)),
        ("http://[2001:db8::1]:3128", Proxy("2001:db8::1", 3128)),
        ("http://user:pass@proxy.example:3128", Proxy("proxy.example", 3128, "user:pass")),
        ("http://user@proxy.example:3128", Proxy("proxy.example", 3128, "user:")),
        ("http://us%40er:p%3Aa%2Fs%25%e2%82%ac@h:1", Proxy("h", 1, "us@er:p:a/s%€")),
        ("http://a:b@c@proxy.example:3128", Proxy("proxy.example", 3128, "a:b@c")),
    ],
)
def test_proxy_is_read_from_its_url(url: str, proxy: Proxy) -> None:
    assert proxy_from(url, is_judged=True) == proxy
    assert proxy_from(url, is_judged=False).is_judged is False


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "proxy.example:3128",
        "https://proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://proxy.example",
        "http://proxy.example:",
        "http://proxy.example:0",
        "http://proxy.example:65536",
        "http://:3128",
        "http://proxy.example:3128/path",
        "http://proxy.example:3128?a=b",
        "http://proxy.example:3128#a",
        "http://127.1:3128",
        "http://[::1%25lo]:3128",
        "http://pro xy:3128",
        "http://proxy.example:3128\n",
        "http://user:sec%0d%0aret@proxy.example:3128",
        "http://us%3Aer:secret@proxy.example:3128",
        "http://user:secret%ff@proxy.example:3128",
        "http://user:secret" + "x" * 512 + "@proxy.example:3128",
        "http://" + "x" * 2048 + ":1",
    ],
)
def test_url_that_is_none_of_a_proxy_is_refused_without_a_word_of_its_credentials(url: object) -> None:
    with pytest.raises(ValueError, match=r"must|has|cannot|host|written as|IPv6") as raised:
        proxy_from(url, is_judged=True)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("credentials", ["user:pass word", "a:b:c@d/e%€", ":", "u:", ":p"])
def test_credentials_of_a_file_are_read_back_as_they_are(credentials: str) -> None:
    proxy = proxy_from(with_credentials("http://proxy.example:3128", credentials), is_judged=True)
    assert proxy.credentials == credentials
    assert proxy.shown == "http://***@proxy.example:3128"


@pytest.mark.parametrize("credentials", ["", "no colon", "user:two\nlines", "u:" + "p" * 512])
def test_credentials_that_are_none_are_refused(credentials: str) -> None:
    with pytest.raises(ValueError, match="USER:PASSWORD"):
        with_credentials("http://proxy.example:3128", credentials)


def test_credentials_are_given_once() -> None:
    with pytest.raises(ValueError, match="already"):
        with_credentials("http://a:b@proxy.example:3128", "c:d")
