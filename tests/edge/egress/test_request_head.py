"""HTTP/1.1 as bytes: what is written, with h11 as the second opinion."""

import h11
import httpx
import pytest
from hookd.edge.egress.request_head import SENT_AT_ONCE_BYTES_MAX, RequestHead
from hypothesis import given
from hypothesis import strategies as st


def written(
    *fields: tuple[bytes, bytes], method: bytes = b"POST", path: bytes = b"/hook", body: bytes = b"{}"
) -> bytes:
    return b"".join(RequestHead(method, path, b"example.com", fields).request((), body))


def test_request_is_one_line_the_fields_and_the_body() -> None:
    assert written((b"webhook-id", b"evt_1")) == (
        b"POST /hook HTTP/1.1\r\nhost: example.com\r\nwebhook-id: evt_1\r\n"
        b"accept: */*\r\naccept-encoding: identity\r\ncontent-length: 2\r\n\r\n{}"
    )


def test_framing_and_connection_fields_of_the_caller_are_not_sent() -> None:
    sent = written(
        (b"Host", b"evil"),
        (b"Content-Length", b"99"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"upgrade"),
        (b"Upgrade", b"h2c"),
        (b"TE", b"trailers"),
        (b"Expect", b"100-continue"),
    )
    assert sent == written()


def test_connection_close_of_the_caller_is_sent() -> None:
    assert b"\r\nConnection: Close\r\n" in written((b"Connection", b"Close"))


def test_accept_fields_of_the_caller_are_kept() -> None:
    assert written((b"Accept-Encoding", b"br")).lower().count(b"accept-encoding") == 1
    assert written((b"Accept", b"text/html")).lower().count(b"accept: ") == 1


def test_body_of_a_get_has_a_length_and_an_absent_one_has_none() -> None:
    assert b"content-length: 2\r\n" in written(method=b"GET")
    assert b"content-length" not in written(method=b"GET", body=b"")
    assert b"content-length: 0\r\n" in written(body=b"")


@pytest.mark.parametrize(
    "field",
    [
        (b"a\r\nb", b"c"),
        (b"a", b"b\r\nc: d"),
        (b"a", b"b\nc"),
        (b"a", b"b\rc"),
        (b"a", b"b\x00"),
        (b"a: b", b"c"),
        (b"", b"c"),
        (b"a ", b"c"),
        (b"a", b"\x7f"),
    ],
)
def test_field_that_could_be_read_as_another_is_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        written(field)


@pytest.mark.parametrize("path", [b"", b"hook", b"/a b", b"/a\r\nb: c", b"/\x00", b"/\xff"])
def test_path_that_could_be_read_as_more_is_refused(path: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        written(path=path)


@pytest.mark.parametrize("method", [b"", b"PO ST", b"POST\r\n", b"CONNECT"])
def test_method_that_is_none_is_refused(method: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        written(method=method)


def test_long_request_is_its_head_and_the_body_as_it_is_held() -> None:
    """One piece is what the socket takes at once; a longer body is not copied."""
    head = RequestHead(b"POST", b"/hook", b"example.com", [])
    (short,) = head.request([("a", "b")], b"")
    room = SENT_AT_ONCE_BYTES_MAX - len(short)
    (whole,) = head.request([("a", "b")], b"x" * (room - 10))
    assert len(whole) <= SENT_AT_ONCE_BYTES_MAX
    body = b"x" * (room + 100)
    first, second = head.request([("a", "b")], body)
    assert second is body
    assert first + second == short.replace(b": 0", b": %d" % len(body)) + body


@pytest.mark.parametrize("name", ["host", "Content-Length", "connection", "accept", "te", "a b", "", "a:", "a\r\nb"])
def test_name_of_a_field_that_varies_is_a_plain_one(name: str) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        RequestHead(b"POST", b"/", b"example.com", []).request([(name, "b")], b"")


@pytest.mark.parametrize("value", ["b\r\nc: d", "b\n", "b\r", "\x00", "\x7f", "\x1b[31m"])
def test_value_of_a_field_that_varies_is_one_line(value: str) -> None:
    head = RequestHead(b"POST", b"/", b"example.com", [(b"a", b"b")])
    with pytest.raises(httpx.LocalProtocolError):
        head.request([("webhook-id", "evt_1"), ("b", value)], b"")
    (sent,) = head.request([("b", "c")], b"")
    assert sent.count(b"\r\n") == 8  # and nothing of it is left behind


names = st.sampled_from(["webhook-id", "Webhook-Id", "x", "hookd-attempt", "accept", "host", "expect", "a b"])
values = st.text(st.characters(max_codepoint=0x1FF), max_size=8)
several = st.lists(st.tuples(names, values), max_size=4)


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=4), min_size=1, max_size=3))
def test_values_that_vary_are_refused_for_control_characters_and_for_nothing_else(values: list[str]) -> None:
    """A tab is one that may stand in a value."""
    head = RequestHead(b"POST", b"/", b"example.com", [])
    named = [(f"x-{number}", value) for number, value in enumerate(values)]
    has_control = any((ord(one) < 32 and one != "\t") or ord(one) == 127 for value in values for one in value)
    if has_control:
        with pytest.raises(httpx.LocalProtocolError):
            head.request(named, b"")
    else:
        assert b"".join(head.request(named, b"")).count(b"\r\n") == len(values) + 6


@given(several, several, st.sampled_from([b"POST", b"GET"]), st.binary(max_size=8))
def test_head_written_once_and_one_written_whole_are_the_same_fields(
    same: list[tuple[str, str]], varying: list[tuple[str, str]], method: bytes, body: bytes
) -> None:
    """What varies goes out as it would among all the others, or not at all."""

    def encoded(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        return [(name.encode(), value.encode("latin-1")) for name, value in fields]

    try:
        head = RequestHead(method, b"/hook", b"example.com", encoded(same))
        sent = b"".join(head.request(varying, body))
    except (httpx.LocalProtocolError, UnicodeError):
        return
    whole = b"".join(RequestHead(method, b"/hook", b"example.com", encoded(same + varying)).request((), body))
    assert sorted(sent.split(b"\r\n")) == sorted(whole.split(b"\r\n"))
    assert sent.partition(b"\r\n\r\n")[2] == whole.partition(b"\r\n\r\n")[2] == body
    assert head.request((), body) == RequestHead(method, b"/hook", b"example.com", encoded(same)).request((), body)


@given(
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4),
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4),
    st.binary(max_size=8),
    st.binary(max_size=40),
)
def test_whatever_is_written_h11_reads_as_one_request(
    fields: list[tuple[bytes, bytes]], varying: list[tuple[str, str]], path: bytes, body: bytes
) -> None:
    """No field, path or body makes a second request, another body or another Host."""
    try:
        sent = b"".join(RequestHead(b"POST", b"/" + path, b"example.com", fields).request(varying, body))
    except (httpx.LocalProtocolError, UnicodeError):
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert [value for name, value in request.headers if name == b"host"] == [b"example.com"]
    got = b""
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        got += event.data
    assert (got, server.trailing_data[0]) == (body, b"")
