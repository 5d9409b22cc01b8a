"""How an entry's fields become the event that is posted: byte for byte, or not at all."""

import json

import msgspec
import pytest
from hookd.core.event import read_event
from hookd.core.refusal import Refused
from hookd.relay.entry import Entry, Unpostable, read_entry
from hypothesis import given
from hypothesis import strategies as st

GOOD: dict[str, bytes | None] = {"client": b"acme", "type": b"a.b", "id": b"e1", "payload": b'{ "a":1e400 }\n'}


def test_entry_becomes_the_event_with_its_payload_as_it_came() -> None:
    """Spaces, line breaks and numbers that Python has not included."""
    read = read_entry("1-0", GOOD)
    assert read == Entry("1-0", "acme", "e1", b'{"id":"e1","type":"a.b","payload":{ "a":1e400 }\n}')
    submission = read_event(b"" if read.item is None else read.item, client_id="acme")
    assert submission.payload == b'{ "a":1e400 }'
    assert (submission.id, submission.type) == ("e1", "a.b")


def test_expiry_is_passed_on_as_a_string() -> None:
    """Whether it is a time is the daemon's to say."""
    read = read_entry("1-0", {**GOOD, "expires_at": b'2026-01-01T00:00:00Z"'})
    assert isinstance(read, Entry)
    assert json.loads((read.item or b"").replace(b"1e400", b"1"))["expires_at"] == '2026-01-01T00:00:00Z"'


@pytest.mark.parametrize(
    ("fields", "problem", "said"),
    [
        ({"client": None}, "invalid-event", "client"),
        ({"payload": None, "id": None}, "invalid-event", "id, payload"),
        ({"client": b"a/b"}, "invalid-event", "client: "),
        ({"id": b""}, "invalid-event", "id: "),
        ({"id": b"x" * 65}, "invalid-event", "id: "),
        ({"type": b"a b"}, "invalid-event", "type: "),
        ({"payload": b""}, "malformed-json", "payload"),
        ({"payload": b"{}{}"}, "malformed-json", "payload"),
        ({"payload": b'1},{"id":"x"'}, "malformed-json", "payload"),
        ({"payload": b'"\xff"'}, "malformed-json", "UTF-8"),
        ({"payload": b"[" * 100_000 + b"]" * 100_000}, "malformed-json", "payload"),
    ],
)
def test_entry_that_can_never_be_posted_says_why(fields: dict[str, bytes | None], problem: str, said: str) -> None:
    read = read_entry("1-0", {**GOOD, **fields})
    assert isinstance(read, Unpostable)
    assert read.problem == problem
    assert said in read.detail


@given(payload=st.binary(max_size=30) | st.text(alphabet='[]{},:"\\ 1a', max_size=12).map(str.encode))
def test_no_payload_spoils_the_batch_that_it_stands_in(payload: bytes) -> None:
    """Whatever its bytes: between two others it is one item, or it is not posted."""
    read = read_entry("1-0", {**GOOD, "payload": payload})
    if isinstance(read, Entry):
        assert read.item is not None
        items = msgspec.json.decode(b"[1,%b,2]" % read.item, type=list[msgspec.Raw])
        assert [bytes(item) for item in items] == [b"1", read.item, b"2"]
        try:
            assert read_event(read.item, client_id="acme").payload == payload.strip(b" \t\r\n")
        except Refused as refused:
            pytest.fail(refused.detail)
