"""What is kept of an endpoint's requests: never stale, and within its bytes."""

import tracemalloc

import httpx
import pytest
from hookd.core.settings import DEFAULTS
from hookd.core.sizing import prepared_bytes_max
from hookd.edge.egress.prepared_posts import Made, PreparedPosts

MADE: Made = ("acme", "default", "https://hook.example:8443/in?a=1", (("x-team", "billing"),), None)


def test_post_is_made_once_and_says_where_it_goes() -> None:
    posts = PreparedPosts(1 << 20)
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
        ("acme", "default", "https://hook.example:8443/in?a=2", MADE[3], None),
        ("acme", "default", MADE[2], (("x-team", "sales"),), None),
        ("acme", "second", MADE[2], MADE[3], None),
        ("globex", "default", MADE[2], MADE[3], None),
    ],
)
def test_whatever_differs_is_another_one(other: Made) -> None:
    """Connections are shared where client, endpoint and place are the same, and nowhere else."""
    posts = PreparedPosts(1 << 20)
    first, second = posts.post(MADE), posts.post(other)
    assert first is not second
    assert (first.key == second.key) == (other[:2] == MADE[:2])
    assert posts.post(MADE) is first


@pytest.mark.parametrize("url", ["ftp://hook.example/", "https:///in", "https://hook.example:99999/"])
def test_what_cannot_be_sent_is_not_kept(url: str) -> None:
    posts = PreparedPosts(1 << 20)
    for _ in range(2):
        with pytest.raises((httpx.InvalidURL, httpx.TransportError)):
            posts.post(("acme", "default", url, (), None))
    assert posts.count == 0


def test_those_made_first_go_when_there_are_too_many() -> None:
    """However long their heads are, and one alone that is too long is made all the same."""
    posts = PreparedPosts(held_bytes_max=100_000)
    for number in range(200):
        posts.post(("acme", f"e{number}", MADE[2], (("x", "y" * number * 10),), None))
    kept = posts.count
    assert 10 < kept < 60
    newest = posts.post(("acme", "e199", MADE[2], (("x", "y" * 1990),), None))
    assert posts.post(("acme", "e199", MADE[2], (("x", "y" * 1990),), None)) is newest
    posts.post(("acme", "e0", MADE[2], (("x", ""),), None))
    assert posts.count <= kept + 1
    posts.post(("acme", "long", MADE[2], (("x", "y" * 200_000),), None))
    assert posts.count == 0


def test_usual_ones_of_ten_thousand_clients_are_kept() -> None:
    """By default: none is made anew while each of them is attempted in turn."""
    posts = PreparedPosts(prepared_bytes_max(DEFAULTS))
    headers = (
        ("content-type", "application/json"),
        ("user-agent", "hookd/1.0"),
        ("authorization", "Bearer " + "x" * 60),
    )
    for number in range(10_000):
        posts.post((f"client-{number}", "default", f"https://hooks.client-{number}.example/hooks/in", headers, None))
    assert posts.count == 10_000


def test_what_they_take_is_counted() -> None:
    """What tracemalloc sees is no more, with all of the text that they were made of."""
    posts = PreparedPosts(1 << 30)
    posts.post(MADE)  # what is imported late
    before = posts.held_bytes
    tracemalloc.start()
    for number in range(1000):
        own = (("x-team", f"team {number}"), ("authorization", "Bearer " + str(number) * 20))
        posts.post((f"client-{number}", f"e{number}", f"https://client-{number}.example/in?a={number}", own, None))
    taken_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    counted_bytes = posts.held_bytes - before
    assert counted_bytes / 2 < taken_bytes <= counted_bytes


def test_bound_follows_what_is_assigned() -> None:
    posts = PreparedPosts(1 << 20)
    for number in range(100):
        posts.post(("acme", f"e{number}", MADE[2], (), None))
    assert posts.count == 100
    posts.held_bytes_max = 1 << 14
    posts.post(MADE)
    assert posts.count < 15
