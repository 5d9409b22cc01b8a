"""Long heads of answers: so many at once, and no more of one endpoint than its share."""

import httpx
import pytest
import trio
from hookd.edge.egress.long_heads import LONG_HEAD_BYTES, LONG_HEADS_MAX, LONG_HEADS_PER_ENDPOINT_MAX, LongHeads
from hookd.edge.egress.wire import ResponseReader

from tests.edge.egress.peers import OK, FakeDial, FakeNetworkStream, answering, faked, local_transport, post, serving

BEGUN = b"HTTP/1.1 200 OK\r\n"
FIELD = b"x: " + b"y" * 995 + b"\r\n"


def reader(heads: LongHeads, endpoint: object) -> ResponseReader:
    return ResponseReader(body_bytes_max=1000, long_heads=heads, endpoint=endpoint)


def test_head_of_usual_length_takes_no_place() -> None:
    """Up to 8 KiB, in one piece or in many."""
    heads = LongHeads()
    for pieces in ([BEGUN + FIELD * 7 + b"\r\n"], [BEGUN, *[FIELD] * 8, b"\r\n"]):
        response = reader(heads, "a")
        for piece in pieces:
            response.feed(piece)
        assert response.has_head
        assert heads.count == 0


@pytest.mark.parametrize("is_ended", [True, False])
def test_long_head_has_a_place_until_it_is_let_go(is_ended: bool) -> None:
    """Whether it has ended or not; to let go twice gives back one place."""
    heads = LongHeads()
    first, second = reader(heads, "a"), reader(heads, "a")
    for response in (first, second):
        response.feed(BEGUN + FIELD * 12 + (b"\r\n" if is_ended else b""))
    assert heads.count == 2
    first.let_go()
    first.let_go()
    assert heads.count == 1
    second.let_go()
    assert heads.count == 0


def test_endpoint_over_its_share_is_refused_and_others_are_not() -> None:
    """What is too much for it is an answer over its budget; a place that is given back is free at once."""
    heads = LongHeads()
    taken = [reader(heads, "greedy") for _ in range(LONG_HEADS_PER_ENDPOINT_MAX)]
    for response in taken:
        response.feed(BEGUN + FIELD * 12)
    over = reader(heads, "greedy")
    with pytest.raises(httpx.RemoteProtocolError, match=f"over {LONG_HEAD_BYTES} bytes"):
        over.feed(BEGUN + FIELD * 12)
    over.let_go()
    reader(heads, "other").feed(BEGUN + FIELD * 12)
    taken[0].let_go()
    reader(heads, "greedy").feed(BEGUN + FIELD * 12)


def test_all_places_are_bounded() -> None:
    """Whoever they are: the next one is refused, in the piece that makes its head a long one."""
    heads = LongHeads()
    for number in range(LONG_HEADS_MAX):
        reader(heads, number).feed(BEGUN + FIELD * 12)
    late = reader(heads, "late")
    late.feed(BEGUN + FIELD * 8)
    with pytest.raises(httpx.RemoteProtocolError):
        late.feed(FIELD)


async def test_every_way_that_an_exchange_ends_gives_its_place_back() -> None:
    """Read to its end, cut in the head, cut in the body, ended by the peer, over the budget, cancelled."""
    long = BEGUN + FIELD * 12
    endings = [
        answering(long + b"content-length: 2\r\n\r\nok"),
        answering(long),
        answering(long + b"content-length: 5000\r\n\r\n" + b"x" * 2000),
        answering(long + FIELD * 60),
        answering(long.replace(b"200", b"408") + b"content-length: 0\r\n\r\n", OK + b"content-length: 0\r\n\r\n"),
    ]
    for handler in endings:
        async with serving(handler) as server, local_transport(response_bytes_max=1000) as transport:
            with trio.move_on_after(0.3):
                try:
                    await post(transport, server.url)
                    await post(transport, server.url)
                except httpx.TransportError:
                    pass
            assert transport._long_heads.count == 0


async def test_long_head_is_read_and_counts() -> None:
    """One receiver with a long head is served as ever."""

    class Long(FakeNetworkStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            return BEGUN + FIELD * 40 + b"content-length: 0\r\n\r\n"

    async with faked(FakeDial(Long())) as transport:
        assert await post(transport) == (200, b"")
        assert transport._long_heads.count == 0
