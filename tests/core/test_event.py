"""How an event's body is read: what is refused, with which pointers, and that the payload stays its bytes."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product

import pytest
from hookd.core.batch import line_spans, read_array
from hookd.core.event import (
    Event,
    Submission,
    mistake_of,
    payload_digest,
    read_event,
)
from hookd.core.json_depth import DEPTH_MAX, is_too_deep
from hookd.core.mistakes import Mistake
from hookd.core.refusal import InvalidEvent, Malformed
from hookd.core.text_check import check_text
from hookd.edge.api.app import FRAMES
from hypothesis import example, given
from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
SPACE = st.text(" \t\r\n", max_size=3)


@contextmanager
def frames_of_the_daemon() -> Iterator[None]:
    """The recursion limit that the application runs under."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEPTH_MAX + FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def body(payload: bytes, **fields: object) -> bytes:
    others = json.dumps({"type": "t", "client_id": "acme"} | fields).encode()
    return others[:-1] + b', "payload": ' + payload + b"}"


def nested(depth: int, *, core: bytes = b"1") -> bytes:
    return b"[" * depth + core + b"]" * depth


def pointers(raised: pytest.ExceptionInfo[InvalidEvent]) -> list[str]:
    return [mistake.pointer for mistake in raised.value.mistakes]


# Depth


@pytest.mark.parametrize(
    ("payload", "is_deep"),
    [
        (nested(DEPTH_MAX), False),
        (nested(DEPTH_MAX + 1), True),
        (b'{"a":' * DEPTH_MAX + b"1" + b"}" * DEPTH_MAX, False),
        (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), True),
        (b'[{"a":' * 500 + b"1" + b"}]" * 500, False),
        (b'[{"a":' * 500 + b"[]" + b"}]" * 500, True),
        (b"[" + b"[]," * 5000 + b"1]", False),
        (b"[" + nested(DEPTH_MAX - 1) + b"," + nested(DEPTH_MAX - 1) + b"]", False),
        (b"[1," + nested(DEPTH_MAX) + b"]", True),
        (b"[" + nested(DEPTH_MAX) + b",1]", True),
    ],
)
def test_depth_is_refused_from_1001_levels(payload: bytes, is_deep: bool) -> None:
    """Exactly 1,000 levels pass, arrays and objects alike; many brackets side by side are not deep."""
    assert is_too_deep(payload) is is_deep


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b"[{" * 2000 + b'"',
        b'"\\"' + b"[" * 2000 + b'"',
        b'"\\\\\\"' + b"[" * 2000 + b'"',
        b'"' + b'\\"[' * 2000 + b'"',
        b'"' + b"\\\\" * 100 + b"[" * 2000 + b'"',
        '"é😀'.encode() + b"[" * 2000 + b'"',
        b'{"' + b"[" * 2000 + b'": "' + b"{" * 2000 + b'"}',
    ],
)
def test_depth_does_not_count_brackets_in_strings(text: bytes) -> None:
    """In keys and values, behind escaped quotes and backslashes, a bracket is a character."""
    json.loads(text)
    assert not is_too_deep(text)
    assert not is_too_deep(nested(DEPTH_MAX - 1, core=text))


@pytest.mark.parametrize("text", [b'"\\\\"', b'"]]]]"', b'"\\"]"', b'""', b'"\\\\\\\\"'])
def test_depth_counts_brackets_behind_a_string(text: bytes) -> None:
    """A string ends where it ends: closing brackets in it take back no level, and an even backslash hides no quote."""
    inner = b"[" + text + b"," + nested(DEPTH_MAX - 1) + b"]"
    assert not is_too_deep(inner)
    assert is_too_deep(b"[" + inner + b"]")
    assert is_too_deep(b"[" + text + b"," + nested(DEPTH_MAX) + b"]")


def test_read_event_of_exactly_the_greatest_depth_is_taken() -> None:
    """Under the daemon's own recursion limit the payload's 1,000 levels fit into the body's one."""
    with frames_of_the_daemon():
        for depth in (DEPTH_MAX - 1, DEPTH_MAX):
            assert read_event(body(nested(depth)), client_id=None).payload == nested(depth)
        array = b"[" + body(nested(DEPTH_MAX)) + b"]"
        assert read_array(array) == [body(nested(DEPTH_MAX))]


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, DEPTH_MAX + 199])
def test_read_event_one_level_deeper_is_refused_at_the_payload(depth: int) -> None:
    """The pointer is the payload's, the words are the limit's."""
    with frames_of_the_daemon(), pytest.raises(InvalidEvent, match="deeper than 1,000 levels") as raised:
        read_event(body(nested(depth)), client_id=None, pointer="/7")
    assert raised.value.mistakes == (Mistake("/7/payload", "is nested deeper than 1,000 levels"),)


def read_batch(body: bytes) -> list[Submission]:
    return [read_event(item, client_id=None) for item in read_array(body)]


@pytest.mark.parametrize("depth", [DEPTH_MAX + 201, 2 * DEPTH_MAX, 10_001, 100_000])
def test_read_of_absurd_depth_is_an_invalid_event(depth: int) -> None:
    """Deeper than is read at all: the pointer is the event's, however deep this interpreter's decoder goes."""
    with frames_of_the_daemon():
        for opened in (nested(depth), b"[" * depth, b'{"a":' * depth):
            with pytest.raises(InvalidEvent, match="deeper than 1,000 levels") as raised:
                read_event(body(opened), client_id=None, pointer="/3")
            assert pointers(raised) == ["/3"]
            if opened != nested(depth) and depth < 10_001:
                continue  # it is no JSON besides, which a batch's decoder that goes so deep says first
            with pytest.raises(InvalidEvent, match="deeper than 1,000 levels"):
                read_batch(b"[" + opened + b"]")


def test_pointer_of_absurd_depth_does_not_follow_the_recursion_limit() -> None:
    """A decoder that goes ten times as deep, as Python 3.14's does, changes no answer."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        with pytest.raises(InvalidEvent) as raised:
            read_event(body(nested(10_001)), client_id=None, pointer="/3")
    finally:
        sys.setrecursionlimit(before)
    assert raised.value.mistakes == (Mistake("/3", "is nested deeper than 1,000 levels"),)


# Text


@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf", b"\x80"],
)
def test_bad_utf8_anywhere_is_malformed(bad: bytes) -> None:
    """Inside the payload, where the decoder does not look, as well as outside of it; the message names the byte."""
    for text in (
        body(b'"' + bad + b'"'),
        body(b'{"' + bad + b'": 1}'),
        body(b"1")[:-1] + b', "id": "' + bad + b'"}',
        body(b"1") + bad,
        b'{"' + bad + b'": 1}',
    ):
        shown = f"byte {text.index(bad)} is {bad[0]:#04x}"
        for read in (lambda body: read_event(body, client_id=None), check_text):
            with pytest.raises(Malformed, match=shown):
                read(text)
        with pytest.raises(Malformed, match="not UTF-8"):
            read_array(b"[" + text + b"]")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b'{"type": "t", "payload": 1',
        b'{"type": "t", "payload": }',
        b'{"type": "t", "payload": 01}',
        b'{"type": "t", "payload": NaN}',
        b'{"type": "t", "payload": Infinity}',
        b'{"type": "t", "payload": [1,]}',
        b'{"type": "t", "payload": {a: 1}}',
        b'{"type": "t", "payload": "\n"}',
        b'{"type": "t", "payload": "\\\n"}',
        b'{"type": "t", "payload": "\\q"}',
        '{"type": "t", "payload": "\\\u2028"}'.encode(),
        '{"type": "t", "payload":\u2028 1}'.encode(),
        b'{"type": "t", "payload": "\\ud800"}',
        b'{"type": "t", "payload": 1} 2',
        b'{"type": "t", "payload": 1}{"type": "t", "payload": 1}',
        b'\xef\xbb\xbf{"type": "t", "payload": 1}',
        b"{'type': 't', 'payload': 1}",
        b"\x00",
    ],
)
def test_read_event_of_no_json_is_malformed(text: bytes) -> None:
    """The payload is opaque, but it is JSON: what is not never gets in."""
    with pytest.raises(Malformed, match="not JSON") as raised:
        read_event(text, client_id="acme", pointer="/2")
    assert [mistake.pointer for mistake in raised.value.mistakes] == ["/2"]
    with pytest.raises(Malformed) as raised:
        read_event(text, client_id="acme")
    assert raised.value.mistakes == ()


# Payload


@pytest.mark.parametrize(
    "payload",
    [
        b"1",
        b"null",
        b'""',
        b"1e400",
        b"-0.0",
        b"1.10",
        b"123456789012345678901234567890.5",
        b'{"b": 1,\n\t"a" :2 }',
        b'{"a": 1, "a": 2}',
        b"{ }",
        b"[ 1 ,\r\n 2 ]",
        b'"\\u00e9\\/\\ud83d\\ude00"',
        '{"é": "東京 😀", "\u2028": "\u0085\u2029"}'.encode(),
        b'"\x7f"',
    ],
)
def test_read_event_keeps_the_payload_byte_for_byte(payload: bytes) -> None:
    """White space, key order, repeated keys, escapes and numbers of any size are the producer's."""
    assert read_event(body(payload), client_id=None) == Submission("acme", "t", payload)
    assert read_event(b" " + body(payload + b" \n ") + b"\n", client_id=None).payload == payload


@given(JSON_VALUES, st.booleans(), SPACE, SPACE, st.none() | st.integers(0, 4))
def test_read_event_keeps_any_payload_byte_for_byte(
    value: object, ascii_only: bool, before: str, behind: str, indent: int | None
) -> None:
    """However it is laid out; the white space around it is the body's."""
    payload = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    text = body(before.encode() + payload + behind.encode(), id="e-1")
    expected = Submission("acme", "t", payload, "e-1")
    assert read_event(text, client_id=None) == expected
    (item,) = read_array(b"[" + before.encode() + text + behind.encode() + b"]")
    assert read_event(item, client_id="acme", pointer="/0") == expected


@given(JSON_VALUES)
def test_depth_of_any_shallow_value_is_not_too_deep(value: object) -> None:
    """Padded so far that it is counted by the bracket, a value's own brackets never add up across siblings."""
    text = json.dumps(value).encode()
    assert not is_too_deep(b"[" + b"[]," * DEPTH_MAX + text + b"]")
    assert is_too_deep(b"[" + text + b"," + nested(DEPTH_MAX) + b"]")


# Shape


@pytest.mark.parametrize(
    ("text", "client_id", "expected"),
    [
        (b"[]", None, {"": "Expected `object`, got `array`"}),
        (b"3", None, {"": "Expected `object`, got `int`"}),
        (b'{"type": "t", "client_id": "a"}', None, {"/payload": "is required"}),
        (b'{"payload": 1, "client_id": "a"}', None, {"/type": "is required"}),
        (b'{"payload": 1, "type": "t"}', None, {"/client_id": "is required"}),
        (b'{"payload": 1, "type": "t", "client_id": null}', None, {"/client_id": "is required"}),
        (b'{"payload": 1, "type": 3}', "a", {"/type": "Expected `str`, got `int`"}),
        (b'{"payload": 1, "type": null}', "a", {"/type": "Expected `str`, got `null`"}),
        (b'{"payload": 1, "type": "t", "id": 3}', "a", {"/id": "Expected `str | null`, got `int`"}),
        (b'{"payload": 1, "type": "t", "client_id": []}', "a", {"/client_id": "Expected `str | null`, got `array`"}),
        (b'{"payload": 1, "type": "t", "client_id": "b"}', "a", {"/client_id": "is not 'a', the client in the path"}),
        (b'{"payload": 1, "type": "t", "extra": 1}', "a", {"/extra": "is not a field of an event"}),
        (b'{"payload": 1, "type": "t", "Type": 1}', "a", {"/Type": 'is not a field of an event; did you mean "type"?'}),
        (b'{"payload": 1, "type": "t", "a/b~c": 1}', "a", {"/a~1b~0c": "is not a field of an event"}),
        (b'{"payload": 1, "type": ""}', "a", {"/type": "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"}),
        (b'{"payload": 1, "type": "a b"}', "a", {"/type": "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"}),
        (b'{"payload": 1, "type": "t\\n"}', "a", {"/type": "must be 1 to 128 of A-Z a-z 0-9 _ . : / -"}),
        (b'{"payload": 1, "type": "t", "id": ""}', "a", {"/id": "must be 1 to 64 of A-Z a-z 0-9 _ -"}),
        (b'{"payload": 1, "type": "t", "id": "a.b"}', "a", {"/id": "must be 1 to 64 of A-Z a-z 0-9 _ -"}),
        (
            b'{"payload": 1, "type": "", "id": "\\u00e9", "client_id": "b"}',
            "a",
            {
                "/client_id": "is not 'a', the client in the path",
                "/type": "must be 1 to 128 of A-Z a-z 0-9 _ . : / -",
                "/id": "must be 1 to 64 of A-Z a-z 0-9 _ -",
            },
        ),
    ],
)
def test_read_event_of_a_wrong_shape_points_at_every_mistake(
    text: bytes, client_id: str | None, expected: dict[str, str]
) -> None:
    """The pointer leads into the body as it was posted, behind the item's own where it came in a batch."""
    for prefix in ("", "/4"):
        with pytest.raises(InvalidEvent) as raised:
            read_event(text, client_id=client_id, pointer=prefix)
        assert dict(raised.value.mistakes) == {prefix + at: detail for at, detail in expected.items()}
        assert all(detail in raised.value.detail for detail in expected.values())


def test_read_event_of_a_wrong_shape_points_at_a_payload_that_is_too_deep_as_well() -> None:
    """It is one of several mistakes then, and neither hides the other; one level less is none."""
    for depth, deep in ((DEPTH_MAX, []), (DEPTH_MAX + 1, ["/payload"])):
        text = b'{"type": 5, "payload": ' + nested(depth, core=b"") + b"}"
        with frames_of_the_daemon(), pytest.raises(InvalidEvent) as raised:
            read_event(text, client_id="a")
        assert pointers(raised) == ["/type", *deep]


@pytest.mark.parametrize(
    ("text", "client_id", "expected"),
    [
        (b'{"payload": 1, "type": "t"}', "a", Submission("a", "t", b"1")),
        (b'{"payload": 1, "type": "t", "client_id": "a"}', "a", Submission("a", "t", b"1")),
        (b'{"payload": 1, "type": "t", "client_id": "a"}', None, Submission("a", "t", b"1")),
        (b'{"payload": 1, "type": "t", "client_id": null, "id": null}', "a", Submission("a", "t", b"1")),
        (b'{"payload": 1, "type": "a.b:c/d-E_1", "id": "A-z_0"}', "a", Submission("a", "a.b:c/d-E_1", b"1", "A-z_0")),
        (
            b'{"payload": 1, "type": "%b", "id": "%b"}' % (b"t" * 128, b"i" * 64),
            "a",
            Submission("a", "t" * 128, b"1", "i" * 64),
        ),
    ],
)
def test_read_event_takes_the_client_from_path_or_body(
    text: bytes, client_id: str | None, expected: Submission
) -> None:
    """Either names it, both may where they agree; null is the same as leaving it out."""
    assert read_event(text, client_id=client_id) == expected


@pytest.mark.parametrize(("field", "longest"), [("type", 128), ("id", 64)])
def test_read_event_of_too_long_a_name_is_invalid(field: str, longest: int) -> None:
    """One character over is over."""
    assert read_event(body(b"1", **{field: "x" * longest}), client_id=None)
    with pytest.raises(InvalidEvent) as raised:
        read_event(body(b"1", **{field: "x" * (longest + 1)}), client_id=None)
    assert pointers(raised) == [f"/{field}"]


# Batches


@pytest.mark.parametrize("twice", [None, "client_id", "type", "payload", "id"])
@pytest.mark.parametrize("path", [None, "acme"])
def test_field_that_stands_twice_is_noticed_whatever_stands_beside_it(twice: str | None, path: str | None) -> None:
    """Null or absent fields, spaces and quotes in the payload make no difference, and refuse nothing by themselves."""
    clients = [("acme",)] if path is None else [("acme",), (None,), ()]
    payloads = [1, "x", {"payload": 1}, '"payload":"', ['"', '"']]
    colons = [":", ": ", " :  ", ":\n\t"]
    for client, event_id, payload, colon in product(clients, [("e1",), (None,), ()], payloads, colons):
        given = {"client_id": client, "id": event_id, "type": ("a.b",), "payload": (payload,)}
        names = [name for name, value in given.items() if value]
        for order in (names, names[::-1]):
            written = order if twice not in order else [*order, twice]
            fields = [f'"{name}"{colon}{json.dumps(given[name][0])}' for name in written]
            text = f"{{{', '.join(fields)}}}".encode()
            if written is order:
                assert read_event(text, client_id=path).payload == json.dumps(payload).encode()
            else:
                with pytest.raises(InvalidEvent, match="names a field twice"):
                    read_event(text, client_id=path)


def test_read_array_gives_the_items_as_they_came() -> None:
    """Items are cut, not decoded: a wrong one is its reader's to refuse."""
    assert read_array(b"[]") == []
    assert read_array(b' [ {"a" : 1} ,\n2, "x", null, [1, 2] ] ') == [b'{"a" : 1}', b"2", b'"x"', b"null", b"[1, 2]"]


@pytest.mark.parametrize("text", [b"{}", b"3", b'"x"', b"null"])
def test_read_array_of_another_value_is_an_invalid_event(text: bytes) -> None:
    """JSON that is no array has the wrong shape."""
    with pytest.raises(InvalidEvent, match="Expected `array`"):
        read_array(text)


@pytest.mark.parametrize("text", [b"", b"[", b"[1", b"[1,]", b"[1] 2", b"[1}"])
def test_read_array_of_no_json_is_malformed(text: bytes) -> None:
    """An array that is cut off is none."""
    with pytest.raises(Malformed):
        read_array(text)


def test_read_lines_splits_at_line_feeds_alone() -> None:
    """Empty lines are passed over; the line breaks that JSON allows inside strings are no breaks."""
    inner = '{"a": "\u2028\u0085"}'.encode()
    body = b"\n" + inner + b"\r\n \t\n2\n\n3"
    assert [body[begin:end] for begin, end in line_spans(body)] == [inner + b"\r", b"2", b"3"]
    assert list(line_spans(b"")) == list(line_spans(b"\n\n")) == []


# Anything


@given(st.binary() | st.text().map(str.encode) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(b'{"x - at `$.foo": 1}')
@example(b'{"a`b": 1}')
@example(b'{"\\u0000": 1}')
@example(b'{"payload": {"\\ud800": 1}, "type": "t"}')
def test_read_of_arbitrary_bytes_raises_only_refusals(text: bytes) -> None:
    """Whatever is posted is either read or refused in our own words."""
    for read in (lambda: read_event(text, client_id=None), lambda: read_array(text), lambda: list(line_spans(text))):
        with suppress(Malformed, InvalidEvent):
            read()


@given(st.data())
def test_read_of_a_damaged_event_raises_only_refusals(data: st.DataObject) -> None:
    """A good body with a few bytes changed is either still one, with JSON inside, or refused."""
    good = body(json.dumps(data.draw(JSON_VALUES)).encode(), id="e-1")
    at = data.draw(st.integers(0, len(good)))
    text = good[:at] + data.draw(st.binary(max_size=3)) + good[at + data.draw(st.integers(0, 3)) :]
    with suppress(Malformed, InvalidEvent):
        payload = read_event(text, client_id=None).payload
        json.loads(payload)
        assert payload in text


@given(st.text(max_size=100).filter(lambda name: name not in ("type", "payload", "client_id", "id")))
@example("")
@example("\n")
@example("a`b")
@example("x - at `$.foo")
def test_read_of_an_unknown_field_points_into_the_event(name: str) -> None:
    """No name, however odd, is taken for a field that there is, or for part of the message."""
    text = json.dumps({"type": "t", "payload": 1, name: 1}).encode()
    with pytest.raises(InvalidEvent) as raised:
        read_event(text, client_id="acme", pointer="/0")
    pointer = f"/0/{name.replace('~', '~0').replace('/', '~1')}"
    (mistake,) = raised.value.mistakes
    assert mistake.pointer == pointer
    assert mistake.detail.partition(";")[0] == "is not a field of an event"


# The row


def test_has_payload_tells_bytes_apart_also_by_the_digest() -> None:
    """Equal is byte for byte; what was dropped is told by its digest."""
    event = Event(1, "e", "acme", "t", b'{"a": 1}', 0.0, 0.0, ())
    assert event.has_payload(b'{"a": 1}')
    assert not event.has_payload(b'{"a":1}')
    event.payload, event.digest = None, payload_digest(b'{"a": 1}')
    assert event.has_payload(b'{"a": 1}')
    assert not event.has_payload(b'{"a":1}')
    assert len(event.digest) == 16


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (rb"\ud801", r"\ud801"),
        (rb"\udc01", r"\udc01"),
        (rb"\uDC01\ud801", r"\uDC01"),
        (rb"\ud83d\ud83e\ude00", r"\ud83d"),
        (rb"\ud801\u0041", r"\ud801"),
        (rb"\ud83d\ude00\ud801", r"\ud801"),
        (rb"\ud83d\ude00\udc01 and more", r"\udc01"),
        (rb"\ud83d\ude00\ud801\n and more", r"\ud801"),
        (rb"\ud83d\ude00, much later \ud801 and much more", r"\ud801"),
        (b"a" * 100 + rb"\ud801" + b"b" * 100, r"\ud801"),
    ],
)
def test_half_of_a_surrogate_pair_is_named(text: bytes, half: str) -> None:
    """That one, and no half of a whole pair that stands beside it: its producer has to find it."""
    for spaces in (b"", b" " * 100):
        with pytest.raises(Malformed) as raised:
            read_event(body(b'"' + text + b'"' + spaces), client_id=None)
        assert f"the body is not JSON: {half} is half of a pair" in raised.value.detail


@pytest.mark.parametrize("text", [rb'"\ud83d\ude00" "', rb'"\ud83d\ude00\x"', rb'"\ud83d\ude00', b'"\x01"', rb'"\u12"'])
def test_other_mistake_names_no_half_of_a_pair(text: bytes) -> None:
    """A whole pair in front of it is no mistake."""
    with pytest.raises(Malformed) as raised:
        read_event(body(text), client_id=None)
    assert "half of a pair" not in raised.value.detail


@pytest.mark.parametrize(
    ("message", "mistake"),
    [
        ("Object missing required field `type`", Mistake("/3/type", "is required")),
        ("Object contains unknown field `a/b\nc`", Mistake("/3/a~1b\nc", "is not a field of an event")),
        ("Expected `str`, got `int` - at `$.names[12]`", Mistake("/3/names/12", "Expected `str`, got `int`")),
        ("Expected `object`, got `int`", Mistake("/3", "Expected `object`, got `int`")),
    ],
)
def test_mistake_of_the_decoder_has_a_pointer_and_our_words(message: str, mistake: Mistake) -> None:
    """What is missing or too much is pointed at itself; else the place that the decoder names."""
    assert mistake_of(message, "/3") == mistake
