"""`GET /v1/notices`: pages, long poll, gap, who may read it; and what status and metrics say of operational events."""

from typing import Any

import msgspec
import pytest
import trio
from hookd.core.notice import Kind, Notice
from hookd.core.settings import OperationsSettings, RetentionSettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.edge.api.notice_routes import NoticesView

from tests.edge.test_api import Answer, Api, event, refused_as, started
from tests.edge.test_held_tokens import FREE, TOKENS, As, api_of
from tests.flow.harness import EPOCH, URL, at, endpoint, now

OPS_URL = "https://ops.example/"


def tell(api: Api, *names: str, client_id: str | None = "acme") -> None:
    for name in names:
        api.flow.notices.feed.note(
            Notice(id=name, type=Kind.FAILING, at="2026-01-01T00:00:00.000Z", client_id=client_id, counts={})
        )


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    msgspec.convert(answer.body, NoticesView)
    return [one["id"] for one in answer.body["notices"]]


async def test_notice_is_listed_with_all_that_is_known_of_it(autojump_clock, nursery) -> None:
    """Every field, with its name and form."""
    api = await started(nursery)
    api.flow.sender.script(URL, 410)
    await api.post("/v1/events", event())
    await at(5)
    body = (await api.get("/v1/notices")).body
    assert list(body) == ["run_id", "notices", "next_cursor", "gap"]
    assert body["notices"] == [
        {
            "id": "ntc_run_1_1",
            "type": "hookd.endpoint.disabled",
            "at": rfc3339(EPOCH),
            "client_id": "acme",
            "endpoint_id": "default",
            "state": "disabled",
            "since": rfc3339(EPOCH),
            "error": "answered 410",
            "counts": {"consecutive_failures": 1, "unsettled": 0},
        }
    ]


async def test_pages_follow_each_other_and_a_full_ring_is_a_gap(autojump_clock, nursery) -> None:
    """As the settlement feed's do."""
    api = await started(nursery, Settings(retention=RetentionSettings(notices_max=3)))
    tell(api, "a", "b")
    first = await api.get("/v1/notices?limit=1")
    cursor = first.body["next_cursor"]
    assert (ids(first), first.body["gap"]) == (["a"], False)
    assert ids(await api.get(f"/v1/notices?cursor={cursor}")) == ["b"]
    tell(api, "c", "d", "e")
    behind = await api.get(f"/v1/notices?cursor={cursor}")
    assert (ids(behind), behind.body["gap"]) == (["c", "d", "e"], True)
    assert ids(await api.get("/v1/notices?cursor=now")) == []
    api.flow.set(retention=RetentionSettings(notices_max=1))
    assert ids(await api.get("/v1/notices")) == ["e"]


async def test_reader_that_waits_is_answered_by_the_next_notice(autojump_clock, nursery) -> None:
    """And at the beginning of a drain with none."""
    api = await started(nursery)
    answers: list[tuple[float, list[str]]] = []

    async def poll(path: str) -> None:
        answer = await api.get(path)
        answers.append((trio.current_time(), ids(answer)))

    nursery.start_soon(poll, "/v1/notices?wait_seconds=30")
    await at(10)
    tell(api, "a")
    await now()
    assert answers == [(10.0, ["a"])]
    nursery.start_soon(poll, "/v1/notices?cursor=now&wait_seconds=30")
    await at(20)
    api.flow.notices.feed.answer_waiting()
    await now()
    assert answers[1:] == [(20.0, [])]


async def test_clients_pick_out_what_is_about_them(autojump_clock, nursery) -> None:
    """What is about the whole daemon is nobody's."""
    api = await started(nursery)
    tell(api, "a")
    tell(api, "b", client_id="globex")
    tell(api, "c", client_id=None)
    assert ids(await api.get("/v1/notices")) == ["a", "b", "c"]
    assert ids(await api.get("/v1/notices?clients=globex,nobody")) == ["b"]


async def test_token_of_certain_clients_reads_theirs_alone(autojump_clock, nursery) -> None:
    """As of settlements; a token that only produces reads no notices."""
    api = await api_of(nursery)
    tell(api, "a")
    tell(api, "b", client_id="globex")
    tell(api, "c", client_id=None)
    for scope in ("read", "admin"):
        ask = As(api, TOKENS[scope])
        refused_as(await ask("GET", "/v1/notices"), 403, "forbidden")
        refused_as(await ask("GET", "/v1/notices?clients=acme,globex"), 403, "forbidden")
        assert ids(await ask("GET", "/v1/notices?clients=acme")) == ["a"]
    for token in (FREE, TOKENS["produce"], TOKENS["register"]):
        refused_as(await As(api, token)("GET", "/v1/notices?clients=acme"), 403, "forbidden")


@pytest.mark.parametrize(
    "query",
    ["cursor=x", "limit=0", "limit=1001", "wait_seconds=61", "clients=", "clients=a,,b", "since=1h", "limit=1&limit=2"],
)
async def test_query_that_makes_no_sense_is_refused(query, autojump_clock, nursery) -> None:
    """The documented problem."""
    api = await started(nursery)
    refused_as(await api.get(f"/v1/notices?{query}"), 422, "invalid-query")


async def test_cursor_of_the_other_feed_is_refused(autojump_clock, nursery) -> None:
    """Both ways; one that is ahead, too."""
    api = await started(nursery)
    tell(api, "a")
    notices = (await api.get("/v1/notices")).body["next_cursor"]
    settlements = (await api.get("/v1/settlements")).body["next_cursor"]
    refused_as(await api.get(f"/v1/notices?cursor={settlements}"), 422, "invalid-query")
    refused_as(await api.get(f"/v1/settlements?cursor={notices}"), 422, "invalid-query")


async def test_status_metrics_and_settlements_keep_operational_events_apart(autojump_clock, nursery) -> None:
    """Counted by themselves, in no total of the platform's, and in no settlement; found like any event."""
    api = await started(nursery, Settings(operations=OperationsSettings(client="ops")))
    api.flow.put("ops", endpoint(url=OPS_URL))
    api.flow.sender.script(URL, 410)
    await api.post("/v1/events", event())
    await at(5)
    status: dict[str, Any] = (await api.get("/v1/status")).body
    assert status["notices"] == 1
    assert status["operations"] == {
        "accepted": 1,
        "pending": 0,
        "failed": 0,
        "delivered": 1,
        "exhausted": 0,
        "in_flight": 0,
        "refused": 0,
    }
    assert (status["events"]["accepted"], status["events"]["delivered"], status["deliveries"]["opened"]) == (1, 0, 1)
    lines = (await api.client.get("/metrics")).get_data(as_text=True)
    lines = (await lines).splitlines()
    for line in (
        "hookd_notices_total 1.0",
        "hookd_notices_untold_total 0.0",
        'hookd_operational_events{status="delivered"} 1.0',
        "hookd_operational_events_refused_total 0.0",
        "hookd_attempts_begun_total 1.0",
        "hookd_events_accepted_total 1.0",
    ):
        assert line in lines
    settled = (await api.get("/v1/settlements")).body["settlements"]
    assert [one["client_id"] for one in settled] == ["acme"]
    shown = (await api.get("/v1/clients/ops/events/ntc_run_1_1")).body
    assert (shown["type"], shown["status"]) == ("hookd.endpoint.disabled", "delivered")
    listed = (await api.get("/v1/events?client_id=ops")).body["events"]
    assert [one["id"] for one in listed] == ["ntc_run_1_1"]
