"""Which URLs an endpoint may have, and how much of one is shown."""

import pytest
from hookd.core.urls import logged_url, shown_url, url_mistake


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTPS://Example.COM:443/",
        "https://a_b.example.com./x?y=z#f",
        "https://xn--bcher-kva.example/",
        "https://192.0.2.1:8443/",
        "https://[2001:db8::1]:8443/a",
        "https://localhost/",
        "https://localhost:1/",
        "https://localhost:65535/",
        f"https://{'a' * 63}.com/",
        f"https://{'a.' * 125}com/",
        f"https://{'a.' * 125}com./",
        "https://x/" + "a" * 2038,
    ],
)
def test_url_that_names_a_host_is_taken(url: str) -> None:
    """Addresses are judged when connecting, not here."""
    assert url_mistake(url, allow_http=False) == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "https:example.com",
        "//example.com",
        "ftp://example.com/",
        "http://example.com/",
        "https://",
        "https:///x",
        "https://?x",
        "https://user@example.com/",
        "https://user:pw@example.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:/",
        "https://example.com:+80/",
        "https://example.com:\uff18\uff10/",
        "https://example.com:80:80/",
        "https://a..b/",
        "https://.a/",
        "https://../",
        "https://./",
        f"https://{'a' * 64}.com/",
        f"https://{'a.' * 127}com/",
        f"https://{'a.' * 125}comm/",
        "https://a%2eb/",
        "https://127\u30020\u30020\u30021/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://999.1.1.1/",
        "https://127.0.0.1./",
        "https://[::1/",
        "https://::1/",
        "https://[::1]x/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[v1.x]/",
        "https://[127.0.0.1]/",
        "https://127.1.1.1:80\\@127.2.2.2/",
        "https://example.com/a b",
        "https://example.com/\n",
        " https://example.com/",
        "https://example.com/\x7f",
        "https://bücher.example/",
        "https://x/" + "a" * 2039,
        5,
        None,
        [],
    ],
)
def test_url_that_parsers_disagree_on_or_that_is_none_is_refused(url: object) -> None:
    """Each of these makes some library raise, guess, or connect elsewhere."""
    assert url_mistake(url, allow_http=False)


@pytest.mark.parametrize(
    ("url", "shown", "logged"),
    [
        ("https://h/p", "https://h/p", "https://h/p"),
        ("https://h/p?token=x&y=", "https://h/p?token=&y=", "https://h/p"),
        ("https://h/p?secret", "https://h/p", "https://h/p"),
        ("https://h/p?secret&a=b=c#d?e=f", "https://h/p?a=", "https://h/p"),
        ("https://h?#x", "https://h", "https://h"),
        ("https://h/p#a?b=c", "https://h/p", "https://h/p"),
    ],
)
def test_url_is_shown_without_query_values_and_logged_without_query(url: str, shown: str, logged: str) -> None:
    """Tokens in query strings stay out of answers and logs."""
    assert (shown_url(url), logged_url(url)) == (shown, logged)
