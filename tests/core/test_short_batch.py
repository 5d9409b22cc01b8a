"""The short way to read a batch makes what the general one makes, or leaves it to that."""

import json

import pytest
from hookd.core.batch import read_array
from hookd.core.event import Submission, read_event, refuse_long_payload
from hookd.core.json_depth import DEPTH_MAX
from hookd.core.refusal import Refused
from hookd.core.short_batch import BODY_BYTES, read_short_batch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.test_event import JSON_VALUES, SPACE, frames_of_the_daemon, nested

PAYLOAD_BYTES_MAX = 60
ITEMS_MAX = 5

GOOD = b'{"client_id":"acme","type":"a.b","payload":{"a":"b"}}'
TEXTS = st.sampled_from(["acme", "a.b", "a/b", "", "é", 'a"b', "a\\u0062", "x" * 64, "x" * 65, "[{"]) | st.text(
    max_size=3
)
FIELDS = st.sampled_from(["client_id", "type", "payload", "id", "\\u0069d", "other"])


def general(body: bytes, client_id: str | None) -> list[Submission] | None:
    """What the general way makes of it; None where it refuses anything."""
    try:
        items = read_array(body)
        submissions = [read_event(item, client_id=client_id) for item in items]
        for submission in submissions:
            refuse_long_payload(len(submission.payload), PAYLOAD_BYTES_MAX, "")
    except Refused:
        return None
    return submissions if len(items) <= ITEMS_MAX else None


def short(body: bytes, client_id: str | None) -> list[Submission] | None:
    return read_short_batch(body, client_id=client_id, payload_bytes_max=PAYLOAD_BYTES_MAX, items_max=ITEMS_MAX)


@st.composite
def members(draw: st.DrawFn) -> str:
    """One field of an event as text, mostly a good one; names and texts may be written with escapes."""
    name = draw(FIELDS)
    if name == "payload" or draw(st.integers(0, 9)) == 0:
        value = json.dumps(draw(JSON_VALUES), ensure_ascii=draw(st.booleans()))
    else:
        value = draw(st.just("null") | TEXTS.map(lambda text: f'"{text}"'))
    return f'"{name}"{draw(SPACE)}:{draw(SPACE)}{value}{draw(SPACE)}'


EVENTS = (
    st.just(GOOD.decode())
    | st.builds(
        lambda more: '{"client_id":"acme","type":"a.b","payload":[1]' + "".join(f",{one}" for one in more) + "}",
        st.lists(members(), max_size=2),
    )
    | st.lists(members(), max_size=5).map(lambda found: "{" + ",".join(found) + "}")
)


@given(events=st.lists(EVENTS, max_size=7), client_id=st.sampled_from([None, "acme", "else", ""]), space=SPACE)
@example(events=['{"type":"a.b","payload":"\\"","id":null,"client_id":null}'], client_id="acme", space="")
@example(events=['{"type":"a.b","payload":"\\"","payload":1,"client_id":"acme"}'], client_id=None, space=" ")
@example(events=['{"type":"a.b","payload":1,"client_id":"acme","id":"1","id":"2"}'], client_id=None, space=" ")
def test_both_ways_make_the_same(events: list[str], client_id: str | None, space: str) -> None:
    """Whatever comes: where nothing is refused the short way makes just that, else it leaves the body alone."""
    try:
        body = f"{space}[{space}{','.join(events)}]{space}".encode()
    except UnicodeEncodeError:
        return
    assert short(body, client_id) == general(body, client_id)


@given(st.binary(max_size=80) | st.binary(max_size=20).map(lambda found: b"[" + GOOD + found + b"]"))
def test_both_ways_make_the_same_of_any_bytes(body: bytes) -> None:
    """No body is too strange for the short way to leave it alone."""
    assert short(body, None) == general(body, None)


@pytest.mark.parametrize("count", [ITEMS_MAX, ITEMS_MAX + 1])
def test_more_than_are_taken_are_left_alone(count: int) -> None:
    """The general way counts before it builds, and says what is too many."""
    found = short(b"[" + b",".join([GOOD] * count) + b"]", None)
    assert (found is not None) is (count <= ITEMS_MAX)


@pytest.mark.parametrize("length", [BODY_BYTES, BODY_BYTES + 1])
def test_a_longer_body_is_left_alone(length: int) -> None:
    """What is long is read in slices."""
    body = b"[" + GOOD + b"]"
    found = read_short_batch(body.ljust(length), client_id=None, payload_bytes_max=100, items_max=9)
    assert (found is not None) is (length <= BODY_BYTES)


@pytest.mark.parametrize("depth", [3, DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1, DEPTH_MAX + 300, 5000])
def test_a_deep_payload_is_left_alone(depth: int) -> None:
    """Only the general way counts levels. A shallow one beside it is not held up by how many brackets there are."""
    event = b'{"client_id":"acme","type":"a.b","payload":' + nested(depth) + b"}"
    with frames_of_the_daemon():
        found = read_short_batch(
            b"[" + b",".join([event] * 5) + b"]", client_id=None, payload_bytes_max=BODY_BYTES, items_max=9
        )
    if depth < DEPTH_MAX // 2:
        assert found == [Submission("acme", "a.b", nested(depth))] * 5
    elif depth > DEPTH_MAX:
        assert found is None
