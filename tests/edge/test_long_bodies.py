"""What a long body costs, whatever is in it: memory beside the body, and turns for others while it is read."""

import gc
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import trio
from hookd.core.batch import array_spans, is_short_array, line_spans, read_array
from hookd.core.event import ENVELOPE_BYTES_MAX
from hookd.core.refusal import InvalidEvent, Malformed, TooLarge
from hookd.core.settings import IntakeSettings, Settings
from hookd.edge.api.body_budget import BODY_MULTIPLE
from hypothesis import example, given
from hypothesis import strategies as st

from tests.edge.test_api import Answer, Api, answer_of, event, started
from tests.turns import turns_of_another

BODY_BYTES = 4 * 2**20
# The body as it comes, what reading it takes, and what any request takes, a list of errors among it.
PEAK_BYTES_MAX = (2 + BODY_MULTIPLE) * BODY_BYTES + 3 * 2**20
# A definition is decoded as a whole; text with one letter beyond the basic plane takes four bytes for each.
DEFINITION_TEXT_BYTES = 3 * BODY_BYTES
NDJSON = "application/x-ndjson"
JSON = "application/json"
BATCH, RESEND, CLIENT, EVENT = "/v1/events/batch", "/v1/resend", "/v1/clients/acme", "/v1/events"


class Shape(NamedTuple):
    method: str
    path: str
    kind: str
    before: bytes
    repeated: bytes
    behind: bytes
    status: int

    def body(self, length: int = BODY_BYTES) -> bytes:
        times = (length - len(self.before) - len(self.behind)) // len(self.repeated)
        return self.before + self.repeated * times + self.behind


def named(number: int) -> bytes:
    return b",".join(b'"%x":0' % n for n in range(number))


SMILE = "\U0001f600".encode()
SHAPES = {
    "numbers": Shape("POST", BATCH, JSON, b"[0", b",0", b"]", 413),
    "arrays": Shape("POST", BATCH, JSON, b"[[]", b",[]", b"]", 413),
    "objects": Shape("POST", BATCH, JSON, b"[{}", b",{}", b"]", 413),
    "numbers in part": Shape("POST", f"{BATCH}?partial=true", JSON, b"[0", b",0", b"]", 413),
    "numbers of a client": Shape("POST", "/v1/clients/acme/events", JSON, b"[0", b",0", b"]", 413),
    "numbers without an end": Shape("POST", BATCH, JSON, b"[0", b",0", b"", 413),
    "an array of numbers": Shape("POST", BATCH, JSON, b"[[0", b",0", b"]]", 413),
    "an array of arrays": Shape("POST", BATCH, JSON, b"[[[]", b",[]", b"]]", 413),
    "spaces": Shape("POST", BATCH, JSON, b"[", b" ", b"]", 413),
    "a text of four-byte letters": Shape("POST", BATCH, JSON, b'["', SMILE, b'"]', 413),
    "a text with one such letter": Shape("POST", BATCH, JSON, b'["' + SMILE, b"x", b'"]', 413),
    "payloads of arrays": Shape(
        "POST",
        f"{BATCH}?partial=true",
        JSON,
        b"[0",
        b',{"client_id":"acme","type":"t","payload":[%s]}' % b",".join([b"[]"] * 40_000),
        b"]",
        202,
    ),
    "fields": Shape("POST", f"{BATCH}?partial=true", JSON, b"[0", b",{%s}" % named(30_000), b"]", 202),
    "ids of arrays": Shape(
        "POST", f"{BATCH}?partial=true", JSON, b"[0", b',{"id":[%s]}' % b",".join([b"[]"] * 40_000), b"]", 202
    ),
    "lines": Shape("POST", BATCH, NDJSON, b"", b"0\n", b"", 413),
    "blank lines": Shape("POST", BATCH, NDJSON, b"", b"\n", b"", 413),
    "blank lines with spaces": Shape("POST", BATCH, NDJSON, b"", b"  \t\r\n", b"", 413),
    "a line": Shape("POST", BATCH, NDJSON, b"[0", b",0", b"]", 413),
    "an event of arrays": Shape("POST", EVENT, JSON, b'{"payload":[[]', b",[]", b"]}", 413),
    "a report's lines": Shape("POST", RESEND, NDJSON, b"", b'{"kind":"summary"}\n', b"", 413),
    "a report's line": Shape("POST", RESEND, NDJSON, b'{"kind":"summary","x":[0', b",0", b"]}", 413),
    "a definition of numbers": Shape("PUT", CLIENT, JSON, b"[0", b",0", b"]", 413),
    "a definition of arrays": Shape("PUT", CLIENT, JSON, b'{"endpoints":[[]', b",[]", b"]}", 413),
    "a definition of objects": Shape("PUT", CLIENT, JSON, b'{"endpoints":[{}', b",{}", b"]}", 413),
    "a definition's text": Shape("PUT", CLIENT, JSON, b'{"url":"' + SMILE, b"x", b'"}', 422),
    "a replay": Shape("POST", f"{CLIENT}/replay", JSON, b'{"statuses":["exhausted"', b',"exhausted"', b"]}", 413),
    "a rotation": Shape(
        "POST", f"{CLIENT}/endpoints/default/rotate-secret", JSON, b'{"secret":"' + SMILE, b"x", b'"}', 413
    ),
}


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most that was allocated meanwhile, beside what was there."""
    found: list[int] = []
    gc.collect()
    tracemalloc.start()
    yield found
    found.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()


async def ask(api: Api, shape: Shape, body: bytes) -> Answer:
    headers = {"content-type": shape.kind, "content-length": str(len(body))}
    return await answer_of(await api.client.open(shape.path, method=shape.method, data=body, headers=headers))


@pytest.mark.parametrize("name", SHAPES)
async def test_reading_a_body_takes_at_most_a_multiple_of_it(autojump_clock, nursery, name: str) -> None:
    """Before: an array of numbers took seventy times its size."""
    api, shape = await started(nursery), SHAPES[name]
    body = shape.body()
    await ask(api, shape, shape.before + shape.behind)  # what is made once
    with peak() as found:
        answer = await ask(api, shape, body)
    assert answer.status == shape.status, answer.body
    more = DEFINITION_TEXT_BYTES if name == "a definition's text" else 0
    assert found[0] <= PEAK_BYTES_MAX + more, f"{found[0] / len(body):.1f} times the body"


async def turns_of_others(api: Api, shape: Shape, body: bytes) -> int:
    """How often another task runs from the moment the body is all here to the answer."""
    async with turns_of_another() as turns:
        answer = await ask(api, shape, body)
    assert answer.status == shape.status
    return turns.count


def good(number: int, payload_bytes: int, name: str = "e") -> bytes:
    return json.dumps([event(id=f"{name}{n}", payload="x" * payload_bytes) for n in range(number)]).encode()


@pytest.mark.parametrize("partial", ["", "?partial=true"])
async def test_long_batch_gives_others_a_turn_and_is_admitted(autojump_clock, nursery, partial: str) -> None:
    """A thousand events of 8 KiB, in slices of 32 KiB; a short one is read without a wait."""
    api = await started(nursery, Settings(intake=IntakeSettings()))
    shape = Shape("POST", BATCH + partial, JSON, b"", b"", b"", 202)
    few = await turns_of_others(api, shape, good(10, 100, "few"))
    many = await turns_of_others(api, shape, good(1000, 8192))
    assert many - few > 200
    assert len(api.flow.events()) == 1010


async def test_long_bodies_are_read_one_at_a_time(autojump_clock, nursery) -> None:
    """What reading takes is taken once: of several that come together each is answered, one after the other."""
    api = await started(nursery)
    done: list[int] = []

    async def post(number: int, length: int) -> None:
        body = json.dumps([event(id=f"e{number}-{n}", payload="x" * length) for n in range(200)]).encode()
        assert (await ask(api, SHAPES["numbers"]._replace(status=202), body)).status == 202
        done.append(number)

    async with trio.open_nursery() as posting:
        for number in range(4):
            posting.start_soon(post, number, 2000)
        posting.start_soon(post, 9, 10)  # a short one waits for none of them
    assert done[0] == 9
    assert sorted(done) == [0, 1, 2, 3, 9]
    assert len(api.flow.events()) == 1000


async def test_batches_of_many_small_items_are_read_one_at_a_time(autojump_clock, nursery) -> None:
    """Else each of them has a slice in every turn of the loop, and holds what it has read of its items."""
    api = await started(nursery)
    shape = SHAPES["numbers"]._replace(path=f"{BATCH}?partial=true", status=202)
    body = b"[" + b",".join([b"0"] * 1000) + b"]"
    one = await turns_of_others(api, shape, body)
    async with turns_of_another() as turns, trio.open_nursery() as posting:
        for _ in range(10):
            posting.start_soon(ask, api, shape, body)
    assert turns.count > 3 * one  # at once: hardly more than one alone


async def test_long_batch_that_is_cancelled_admits_nothing(autojump_clock, nursery) -> None:
    """Nothing is admitted before all of it is read."""
    api = await started(nursery)
    body = good(1000, 8192)
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        nursery.start_soon(cancel)
        await ask(api, SHAPES["numbers"], body)
    assert scope.cancelled_caught
    assert api.flow.events() == []
    assert (await api.post(BATCH, body)).status == 202  # and the next one is not held up


async def test_event_too_long_in_a_batch_stands_in_its_place(autojump_clock, nursery) -> None:
    """Up to 4 MiB its end is looked for; the others are admitted."""
    api = await started(nursery)
    long = event(payload="x" * (256 * 1024 + ENVELOPE_BYTES_MAX))
    answer = await api.post(f"{BATCH}?partial=true", [event(id="a"), long, event(id="b")])
    assert [item["status"] for item in answer.body["events"]] == ["pending", None, "pending"]
    assert answer.body["events"][1]["problem"]["type"] == "/problems/too-large"
    answer = await api.post(BATCH, [event(id="c"), long])
    assert (answer.status, answer.pointers) == (413, ["/1"])


async def test_line_too_long_is_told_by_its_number(autojump_clock, nursery) -> None:
    """Of a report: with how many bytes are read, and which setting decides."""
    api = await started(nursery)
    answer = await api.ndjson(RESEND, {"kind": "summary"}, b'{"kind": "undelivered", "payload": "%s"}' % (b"x" * 2**20))
    assert answer.status == 413
    assert "line 1 " in answer.body["detail"]
    assert "intake.payload_bytes_max" in answer.body["detail"]


# Where items begin and end


def walked(body: bytes) -> list[bytes]:
    return [body[begin:end].strip() for begin, end in array_spans(body)]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(JSON_VALUES), st.sampled_from(["", " ", "\n", "\t \r\n"]))
def test_walked_array_has_the_items_of_the_array(values: list[Any], space: str) -> None:
    """Both ways of taking it apart find the same."""
    items = f"{space},{space}".join(json.dumps(value, ensure_ascii=False) for value in values)
    body = f"{space}[{space}{items}{space}]{space}".encode()
    assert walked(body) == read_array(body)


@given(st.lists(JSON_VALUES), st.data())
@example([], None)
def test_damaged_array_is_refused_by_both_or_by_none(values: list[Any], data: st.DataObject | None) -> None:
    """Never another error, and never other items."""
    body = json.dumps(values).encode()
    if data is not None:
        at = data.draw(st.integers(0, len(body)))
        body = body[:at] + data.draw(st.sampled_from([b"", b",", b"]", b"[", b'"', b"}", b" ", b"1"])) + body[at + 1 :]
    outcomes: list[Any] = []
    for read in (walked, read_array):
        try:
            outcomes.append(read(body))
        except (Malformed, InvalidEvent) as refused:
            outcomes.append(type(refused))
    assert outcomes[0] == outcomes[1]


@given(st.text(alphabet="a \t\r\n\v\f{}", max_size=40))
def test_line_spans_are_the_lines_that_are_not_blank(text: str) -> None:
    body = text.encode()
    lines = [line for line in body.split(b"\n") if line.strip()]
    assert [body[begin:end] for begin, end in line_spans(body)] == lines


def test_walk_stops_where_an_item_is_too_long() -> None:
    """Its end cannot be looked for in slices; what came before it was given."""
    found = array_spans(b"[1,2,[" + b"0," * 2**21 + b"0]]")
    assert [next(found), next(found)] == [(1, 2), (3, 4)]
    with pytest.raises(TooLarge, match="4MiB"):
        next(found)


def test_array_is_walked_where_it_could_have_many_items() -> None:
    assert is_short_array(b"[" + b"0," * 20_000 + b"0]")
    assert not is_short_array(b"[" + b"0," * 20_001 + b"0]")
