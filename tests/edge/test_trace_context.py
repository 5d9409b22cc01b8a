"""The traceparent of a request, over a real socket: taken over where it is valid, and nothing else of its trace."""

from typing import Any

import pytest

from tests.edge.test_front_door import EVENT, ask, door, post

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FIELD = f"traceparent: {TRACEPARENT}"


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([FIELD], TRACEPARENT),
        ([FIELD.replace("traceparent", "TraceParent")], TRACEPARENT),
        ([f"traceparent:  {TRACEPARENT} ", "tracestate: a=1", "baggage: user=alice"], TRACEPARENT),
        ([FIELD.replace(" 00-", " cc-") + "-more"], TRACEPARENT),
        ([FIELD, FIELD], None),
        ([FIELD, "traceparent:"], None),
        (["traceparent:"], None),
        ([FIELD.upper()], None),
        (["traceparent: 00-x"], None),
        (["tracestate: a=1", "baggage: user=alice"], None),
        ([], None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/clients/acme/events"])
async def test_event_keeps_a_valid_traceparent(path: str, headers: list[str], kept: str | None) -> None:
    """A bad one, or two, is ignored: a trace is no reason to refuse an event."""
    async with door() as (server, flow):
        assert (await ask(server, post(path=path, headers=headers)))[0] == 202
        assert [event.traceparent for event in flow.events()] == [kept]


@pytest.mark.parametrize("query", ["", "?partial=true"])
async def test_batch_gives_its_traceparent_to_each_event(query: str) -> None:
    """One text for all, and none to what is refused."""
    body: list[Any] = [EVENT, EVENT] if not query else [EVENT, EVENT, EVENT | {"client_id": "unknown"}]
    async with door() as (server, flow):
        assert (await ask(server, post(body, f"/v1/events/batch{query}", [FIELD])))[0] == 202
        first, second = flow.events()
        assert first.traceparent == TRACEPARENT
        assert first.traceparent is second.traceparent


async def test_event_that_is_known_keeps_the_traceparent_that_it_came_with() -> None:
    async with door() as (server, flow):
        assert (await ask(server, post(EVENT | {"id": "a"}, headers=[FIELD])))[0] == 202
        later = FIELD.replace("4bf9", "aaaa")
        assert (await ask(server, post(EVENT | {"id": "a"}, headers=[later])))[0] == 200
        assert [event.traceparent for event in flow.events()] == [TRACEPARENT]
