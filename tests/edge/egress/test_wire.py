"""HTTP/1.1 as bytes: what is taken for a response, with h11 as the second opinion."""

from itertools import pairwise

import h11
import httpx
import pytest
from hookd.edge.egress.blemished_head import FIELDS_MAX
from hookd.edge.egress.wire import HEAD_BYTES_MAX, INTERIMS_MAX, ResponseReader
from hypothesis import example, given, settings
from hypothesis import strategies as st

OK = b"HTTP/1.1 200 OK\r\n"

# --- responses: the verdict


def read(*pieces: bytes, ends: bool = True, body_bytes_max: int = 1 << 20) -> ResponseReader:
    response = ResponseReader(body_bytes_max=body_bytes_max)
    for piece in pieces:
        response.feed(piece)
    if ends:
        response.feed_end()
    return response


def test_response_is_read_with_its_fields_and_body() -> None:
    response = read(OK + b"X: a \r\nX: b\r\nEmpty:\r\nContent-Length: 2\r\n\r\nok", ends=False)
    assert (response.status_code, bytes(response.body)) == (200, b"ok")
    assert response.fields == [(b"X", b"a"), (b"X", b"b"), (b"Empty", b""), (b"Content-Length", b"2")]
    assert response.is_complete
    assert response.leaves_connection_clean


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_complete_framed_response_leaves_the_connection_clean_unless_a_byte_follows(data: bytes) -> None:
    assert read(data, ends=False).leaves_connection_clean
    for leftover in (b"\r", b"\n", b"\r\n", b"H", b"\x00", OK):
        one, apart = read(data + leftover, ends=False), read(data, leftover, ends=False)
        assert one.has_leftover
        assert apart.has_leftover
        assert not one.leaves_connection_clean
        assert not apart.leaves_connection_clean


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"\r\nok",
        b"HTTP/1.1 150 X\r\nConnection: close\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    ],
)
def test_response_that_ends_its_connection_does_not_leave_it_clean(data: bytes) -> None:
    response = read(data)
    assert response.is_complete
    assert bytes(response.body) == b"ok"
    assert not response.leaves_connection_clean


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 150 X\r\nContent-Length: 5\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_body_that_may_come_where_none_may_does_not_leave_the_connection_clean(head: bytes) -> None:
    """It would be read as the next event's answer."""
    response = read(head, ends=False)
    assert response.is_complete
    assert not response.leaves_connection_clean


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x00\xff",
        b"\x16\x03\x01\x00\x01\x01",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"ICE/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nRTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 +200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1\r\n200 OK\r\n\r\n",
        b"HTTP/1.1\n200 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"0\r\n\r\n" + OK + b"\r\n",
    ],
)
def test_what_has_no_readable_status_line_is_an_error(data: bytes) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data]):
        with pytest.raises(httpx.RemoteProtocolError):
            read(*pieces)


def test_status_line_that_cannot_be_read_is_an_error_before_the_head_ends() -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="status line"):
        read(b"HTTP/1.1 abc\r\n", ends=False)


BLEMISHED = {
    "line ends before it": (b"\r\n\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    "two equal lengths": (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "two lengths that differ": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", b"ok"),
    "a list of equal lengths": (OK + b"Content-Length: 2, 2\r\n\r\nok", b"ok"),
    "a length that is none": (OK + b"Content-Length: -1\r\n\r\nok", b"ok"),
    "a length without end": (OK + b"Content-Length: 99999999999999999999\r\n\r\nok", b"ok"),
    "an empty length": (OK + b"Content-Length:\r\n\r\nok", b"ok"),
    "length and chunked": (
        OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
    "chunked twice": (OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    "chunked twice in a line": (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    "gzip, chunked": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    "identity": (OK + b"Transfer-Encoding: identity\r\n\r\nok", b"ok"),
    "identity beside a length": (OK + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a folded line": (OK + b"A: b\r\n folded\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a folded first line": (OK + b" folded\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
    "LF from a script": (OK + b"Server: x\r\nContent-Type: a/b\nX: y\n\nok", b"ok"),
    "CR LF and then LF": (OK + b"Content-Length: 2\r\n\nok", b"ok"),
    "a control byte in a value": (OK + b"A: b\x01c\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "NUL in a value": (OK + b"A: b\x00c\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a space in a name": (OK + b"A b: c\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a space behind a name": (OK + b"Content-Length : 2\r\n\r\nok", b"ok"),
    "a line without a colon": (OK + b"nonsense\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "an empty name": (OK + b": x\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a bare CR in a value": (OK + b"A: b\rc\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "two spaces in the status line": (b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a tab in the status line": (b"HTTP/1.1\t200\tOK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a minor version to come": (b"HTTP/1.9 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "a control byte in the reason": (b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "an interim one with a blemish": (b"HTTP/1.1 103 X\nA: b\n\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    "line ends behind an interim one": (b"HTTP/1.1 100 X\r\n\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
}


@pytest.mark.parametrize("kind", BLEMISHED)
@pytest.mark.parametrize("status", [b"200", b"410", b"503"])
def test_blemished_head_counts_by_its_status_and_its_connection_is_not_kept(kind: str, status: bytes) -> None:
    """Whole and byte by byte. The body is as good as it can be made out."""
    data, body = BLEMISHED[kind]
    data = data.replace(b"200", status)
    for pieces in ([data], [bytes([byte]) for byte in data]):
        response = read(*pieces)
        assert (response.status_code, bytes(response.body)) == (int(status), body)
        assert response.is_blemished
        assert not response.leaves_connection_clean


def test_blemished_head_gives_its_fields() -> None:
    """A fold goes on with its value; what has no colon is nothing."""
    response = read(b"HTTP/1.1 503 X\nRetry-After:\n  120 \nnonsense\nA : b\n\n")
    assert response.fields == [(b"Retry-After", b"120"), (b"A", b"b")]


@pytest.mark.parametrize("fields", [b"", b"Connection: upgrade\r\nUpgrade: websocket\r\n"])
def test_switching_protocols_is_an_answer_that_ends_its_connection(fields: bytes) -> None:
    """Nobody asked for it, so there is no answer to come, and what follows is no HTTP."""
    response = read(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\x81\x05hello", ends=False)
    assert (response.status_code, response.is_complete, response.body) == (101, True, b"")
    assert not response.leaves_connection_clean


def test_line_ends_alone_leave_a_response_untouched() -> None:
    """They belong to the answer before; a peer that ends then has not begun to answer."""
    response = read(b"\r\n", b"\n", ends=False)
    assert response.is_untouched
    with pytest.raises(httpx.RemoteProtocolError, match="without sending"):
        response.feed_end()


def test_error_says_nothing_that_the_peer_said() -> None:
    for data in (b"HTTP/1.1 SECRET\r\n\r\n", b"SECRET\r\n", b"HTTP/1.1 2\x1bSECRET\r\n"):
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            read(data)
        assert "ECRET" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"H", OK, OK + b"Content-Length: 0\r\n", OK + b"\r"])
def test_end_before_the_head_is_complete_is_a_disconnect(data: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        read(*([data] if data else []))


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\n\r\nok",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nok",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nokZZ",
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_broken_body_leaves_the_verdict_alone(rest: bytes) -> None:
    """The complete head decides; what is wrong with the body is kept for whoever reads it."""
    response = read(OK + rest)
    assert response.status_code == 200
    assert response.failure is not None
    assert not response.is_complete
    assert not response.leaves_connection_clean


def test_body_over_its_budget_is_cut() -> None:
    response = read(OK + b"Content-Length: 10\r\n\r\n", b"01234", b"56789", ends=False, body_bytes_max=7)
    assert (bytes(response.body), response.is_cut) == (b"0123456", True)
    assert not read(OK + b"Content-Length: 7\r\n\r\n0123456", ends=False, body_bytes_max=7).is_cut


def test_head_has_one_budget_interim_ones_included() -> None:
    """The final head may end with the last byte of the budget, and not one later."""
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    for over in (0, 1):
        fill = HEAD_BYTES_MAX - len(hint + OK + b"A: \r\n\r\n") + over
        data = hint + OK + b"A: " + b"y" * fill + b"\r\n\r\n"
        assert len(data) == HEAD_BYTES_MAX + over
        for pieces in ([data], [data[:100], data[100:]]):
            if over:
                with pytest.raises(httpx.RemoteProtocolError, match="65536"):
                    read(*pieces)
            else:
                assert read(*pieces).status_code == 200


@pytest.mark.parametrize("line_ends", [b"\r\n" * HEAD_BYTES_MAX, b"\n" * (HEAD_BYTES_MAX + 1)])
def test_line_ends_before_a_head_are_within_its_budget(line_ends: bytes) -> None:
    for size in (1000, len(line_ends)):
        with pytest.raises(httpx.RemoteProtocolError, match="65536"):
            read(*(line_ends[place : place + size] for place in range(0, len(line_ends), size)))


def test_interim_responses_are_counted_and_so_are_the_fields_that_are_kept() -> None:
    hint = b"HTTP/1.1 103 X\r\n\r\n"
    assert read(hint * INTERIMS_MAX + OK + b"\r\n").status_code == 200
    with pytest.raises(httpx.RemoteProtocolError, match="interim"):
        read(hint * (INTERIMS_MAX + 1) + OK + b"\r\n")
    assert read(OK + b"a:\r\n" * FIELDS_MAX + b"\r\n").status_code == 200
    response = read(OK + b"a:\r\n" * (FIELDS_MAX + 9) + b"\r\n")
    assert (response.status_code, len(response.fields)) == (200, FIELDS_MAX)
    assert not response.leaves_connection_clean


def test_answer_to_head_ends_with_its_head() -> None:
    response = ResponseReader(body_bytes_max=100, is_head_only=True)
    response.feed(OK + b"Content-Length: 5\r\n\r\n")
    assert response.is_complete
    assert not response.leaves_connection_clean


# --- responses: against h11


def h11_reads(data: bytes) -> tuple[int, bytes, bool] | None:
    """Status, body, and whether the body came whole, as h11 has them; None where it takes no final head."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 22)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "h"), ("content-length", "0")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body, True
            elif not isinstance(event, h11.InformationalResponse):
                return (status, body, False) if status else None
    except h11.RemoteProtocolError:
        return (status, body, False) if status else None


def ours_reads(pieces: list[bytes]) -> ResponseReader | None:
    """Ours; anything but RemoteProtocolError is a failure of the test."""
    try:
        return read(*pieces)
    except httpx.RemoteProtocolError:
        return None


def shown(response: ResponseReader | None) -> tuple[int, bytes, bool] | None:
    return response and (response.status_code, bytes(response.body), response.is_complete)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


# ^ stands for a line's end.
FRAGMENTS = (
    b"HTTP/1.1 200 OK^|HTTP/1.1 204 ^|HTTP/1.0 200^|HTTP/1.1 500 X^|HTTP/1.1 100 Continue^^|HTTP/1.1 103 X^A: b^^|"
    b"HTTP/1.1 |RTSP/1.0 |200|150 X^|101 X^|^|^^|\r|\n| |\t|:|\x00|\x0b|\x85|X: y^| z^|abcde|5^abcde^|0^^|"
    b"Content-Length:|Content-Length: 5^|Content-Length: 0^|Transfer-Encoding: chunked^|Transfer-Encoding: identity^|"
    b"Connection: close^|Connection: upgrade^Upgrade: x^"
)
FRAGMENT = st.sampled_from(FRAGMENTS.replace(b"^", b"\r\n").split(b"|"))
NEARLY_HTTP = st.lists(st.one_of(FRAGMENT, FRAGMENT, FRAGMENT, st.binary(max_size=3)), max_size=14).map(b"".join)
CUTS = st.lists(st.integers(0, 1000), max_size=8)
HEADER_TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=10).map(str.encode)
HEADER_NAME = st.sampled_from([b"Server", b"x-request-id", b"Date", b"Set-Cookie", b"Link"])
INTERIM = st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])


@st.composite
def well_formed(draw: st.DrawFn) -> bytes:
    """A whole response, interim ones before it, in one of the framings that HTTP/1.1 has."""
    interim = b"".join(draw(st.lists(INTERIM, max_size=3)))
    body = draw(st.binary(max_size=100))
    fields = b"".join(b"%b: %b\r\n" % pair for pair in draw(st.lists(st.tuples(HEADER_NAME, HEADER_TEXT), max_size=4)))
    framing = draw(st.sampled_from(["length", "chunked", "close", "none"]))
    status = draw(
        st.sampled_from([204, 304] if framing == "none" else [200, 201, 202, 301, 404, 410, 429, 500, 503, 999])
    )
    head = b"HTTP/1.1 %d %b\r\n" % (status, draw(st.sampled_from([b"", b"OK", b"No \xe9"]))) + fields
    match framing:
        case "length":
            return interim + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        case "chunked":
            return interim + head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, draw(CUTS))
        case "close":
            return interim + head + b"\r\n" + body
        case _:
            return interim + head + b"\r\n"


def chunked(body: bytes, cuts: list[int]) -> bytes:
    return b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in split(body, cuts)) + b"0\r\nT: x\r\n\r\n"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good response with something in it replaced, removed or put in."""
    data = draw(well_formed())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.one_of(FRAGMENT, st.binary(max_size=2))) + data[place + draw(st.integers(0, 2)) :]
    return data


@settings(max_examples=600)
@given(st.one_of(NEARLY_HTTP, damaged(), st.binary(max_size=60)), CUTS)
@example(b"HTTP/1.1 150 X\r\nContent-Length: 5\r\n\r\nabcdeHTTP/1.1 200 OK\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [3])
@example(b"HTTP/1.1 200 O\x0bK\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nplanted", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [])
def test_no_bytes_in_any_split_make_an_answer_without_blemish_that_h11_does_not_see(
    data: bytes, cuts: list[int]
) -> None:
    """What status we take for a clean one, h11 takes from the same bytes; how they were split changes nothing."""
    whole = ours_reads([data] if data else [])
    assert shown(ours_reads(split(data, cuts))) == shown(whole)
    if whole is None:
        return
    if whole.is_blemished or whole.status_code == 101:
        assert not whole.leaves_connection_clean
        return
    other = h11_reads(data)
    assert other is not None
    assert whole.status_code == other[0]
    assert whole.body.startswith(other[1]) or other[1].startswith(whole.body)
    if whole.is_complete and other[2]:
        assert whole.body == other[1]


@settings(max_examples=400)
@given(well_formed(), CUTS)
def test_well_formed_response_is_read_as_h11_reads_it(data: bytes, cuts: list[int]) -> None:
    theirs = h11_reads(data)
    assert theirs is not None
    assert theirs[2]
    assert shown(ours_reads([data])) == shown(ours_reads(split(data, cuts))) == theirs
