"""What is kept of an endpoint's requests: never stale, and within its bytes."""

import httpx
import pytest
from hookd.edge.egress.prepared_posts import HELD_BYTES_MAX, Made, PreparedPosts

MADE: Made = ("acme", "default", "https://hook.example:8443/in?a=1", (("x-team", "billing"),))


def test_post_is_made_once_and_says_where_it_goes() -> None:
    posts = PreparedPosts()
    post = posts.post(MADE)
    assert posts.post(MADE) is post
    assert post.parts == ("https", "hook.example", 8443, b"hook.example:8443", b"/in?a=1")
    assert b"".join(post.head.request([("webhook-id", "evt_1")], b"{}")) == (
        b"POST /in?a=1 HTTP/1.1\r\nhost: hook.example:8443\r\nx-team: billing\r\naccept: */*\r\n"
        b"accept-encoding: identity\r\nwebhook-id: evt_1\r\ncontent-length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize(
    "other",
    [
        ("acme", "default", "https://hook.example:8443/in?a=2", MADE[3]),
        ("acme", "default", MADE[2], (("x-team", "sales"),)),
        ("acme", "second", MADE[2], MADE[3]),
        ("globex", "default", MADE[2], MADE[3]),
    ],
)
def test_whatever_differs_is_another_one(other: Made) -> None:
    """Connections are shared where client, endpoint and place are the same, and nowhere else."""
    posts = PreparedPosts()
    first, second = posts.post(MADE), posts.post(other)
    assert first is not second
    assert (first.key == second.key) == (other[:2] == MADE[:2])
    assert posts.post(MADE) is first


@pytest.mark.parametrize("url", ["ftp://hook.example/", "https:///in", "https://hook.example:99999/"])
def test_what_cannot_be_sent_is_not_kept(url: str) -> None:
    posts = PreparedPosts()
    for _ in range(2):
        with pytest.raises((httpx.InvalidURL, httpx.TransportError)):
            posts.post(("acme", "default", url, ()))
    assert posts.count == 0


def test_those_made_first_go_when_there_are_too_many() -> None:
    """However long their heads are, and one alone that is too long is made all the same."""
    posts = PreparedPosts(held_bytes_max=100_000)
    for number in range(200):
        posts.post(("acme", f"e{number}", MADE[2], (("x", "y" * number * 10),)))
    kept = posts.count
    assert 10 < kept < 60
    newest = posts.post(("acme", "e199", MADE[2], (("x", "y" * 1990),)))
    assert posts.post(("acme", "e199", MADE[2], (("x", "y" * 1990),))) is newest
    posts.post(("acme", "e0", MADE[2], (("x", ""),)))
    assert posts.count <= kept + 1
    posts.post(("acme", "long", MADE[2], (("x", "y" * 200_000),)))
    assert posts.count == 0


def test_ten_thousand_usual_ones_are_kept() -> None:
    posts = PreparedPosts()
    headers = (
        ("content-type", "application/json"),
        ("user-agent", "hookd/1.0"),
        ("authorization", "Bearer " + "x" * 60),
    )
    for number in range(10_000):
        posts.post((f"client-{number}", "default", f"https://hooks.client-{number}.example/hooks/in", headers))
    assert posts.count == 10_000
    assert HELD_BYTES_MAX == 20 * 1024 * 1024
