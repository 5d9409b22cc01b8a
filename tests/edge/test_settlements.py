"""`GET /v1/settlements` through the real application, in virtual time: order, cursors, gaps, the long poll."""

import base64

import msgspec
import pytest
import trio
from hookd.core.outcome import Unreachable
from hookd.core.run import Run
from hookd.core.settings import RetentionSettings, RetrySettings, Settings
from hookd.core.settlements import BLOCK_ROWS, BLOCKS_AT_ONCE
from hookd.core.timestamps import rfc3339
from hookd.edge.api.feed_pages import FeedQuery
from hookd.edge.api.settlement_routes import SettlementsView

from tests.edge.test_api import Answer, Api, event, refused_as, started
from tests.flow.harness import EPOCH, Flow, Hang, Held, at, endpoint, now

SOON = Settings(retry=RetrySettings(schedule_seconds=(5.0,), jitter=0.0))
GIVEN_UP_AT = 5.0


def small(settlements_max: int) -> Settings:
    return Settings(retention=RetentionSettings(settlements_max=settlements_max))


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    msgspec.convert(answer.body, SettlementsView)
    return [one["event_id"] for one in answer.body["settlements"]]


async def read(api: Api, cursor: str | None = None, **parameters: object) -> Answer:
    given = {"cursor": cursor, **parameters}
    return await api.get(
        "/v1/settlements?" + "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
    )


def settle(api: Api, *event_ids: str) -> None:
    """In this order and in one moment: nobody wants these events, so they settle as they are admitted."""
    api.flow.put("picky", endpoint(event_types=("nothing.like.it",)))
    for event_id in event_ids:
        api.flow.admit("picky", event_id)


class Polls:
    """Readers that wait, and what each was answered and when."""

    def __init__(self, api: Api, nursery: trio.Nursery) -> None:
        self.answers: list[tuple[float, Answer]] = []
        self._api = api
        self._nursery = nursery

    def begin(self, cursor: str | None, wait_seconds: float, scope: trio.CancelScope | None = None) -> None:
        self._nursery.start_soon(self._poll, cursor, wait_seconds, scope or trio.CancelScope())

    async def _poll(self, cursor: str | None, wait_seconds: float, scope: trio.CancelScope) -> None:
        with scope:
            answer = await read(self._api, cursor, wait_seconds=wait_seconds)
            self.answers.append((trio.current_time(), answer))


async def test_feed_lists_what_settled_in_order_of_settling(autojump_clock, nursery) -> None:
    """Delivered, exhausted with its reason, and unrouted; every field, and nothing that is still owed."""
    api = await started(nursery, SOON)
    down, slow = "https://down.example/", "https://slow.example/"
    api.flow.put("down", endpoint(url=down), endpoint("other", "https://up.example/"))
    api.flow.put("slow", endpoint(url=slow))
    api.flow.put("picky", endpoint(event_types=("nothing.like.it",)))
    api.flow.sender.script(down, Unreachable("refused"))
    api.flow.sender.script(slow, Hang())
    for event_id, client_id in (("e1", "slow"), ("e2", "down"), ("e3", "picky"), ("e4", "acme")):
        api.flow.admit(client_id, event_id)
    await at(GIVEN_UP_AT)
    answer = await read(api)
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.body) == ["run_id", "settlements", "next_cursor", "gap"]
    assert (answer.body["run_id"], answer.body["gap"]) == ("run_1", False)
    row = {"client_id": "picky", "status": "delivered", "reason": None, "settled_at": rfc3339(EPOCH)}
    later = rfc3339(EPOCH + GIVEN_UP_AT)
    assert answer.body["settlements"] == [
        {"event_id": "e3", **row},
        {"event_id": "e4", **row, "client_id": "acme"},
        {"event_id": "e2", "client_id": "down", "status": "exhausted", "reason": "attempts_used", "settled_at": later},
    ]


async def test_feed_of_certain_clients_passes_over_the_others(autojump_clock, nursery) -> None:
    """In order, over many blocks of the ring, page by page; the cursor of an empty page has moved to the end."""
    api = await started(nursery)
    settle(api, *(f"e{number}" for number in range(BLOCK_ROWS * BLOCKS_AT_ONCE + 10)))
    api.flow.put("rare", endpoint(event_types=("nothing.like.it",)))
    api.flow.put("none", endpoint(event_types=("nothing.like.it",)))
    rare = [f"r{number}" for number in range(5)]
    for event_id in rare[:3]:
        api.flow.admit("rare", event_id)
    settle(api, *(f"f{number}" for number in range(BLOCK_ROWS)))
    for event_id in rare[3:]:
        api.flow.admit("rare", event_id)
    everything = await read(api, clients="rare,picky", limit=1000)
    assert len(ids(everything)) == 1000
    assert ids(await read(api, clients="rare")) == rare
    found, cursor = [], None
    for _ in range(3):
        page = await read(api, cursor, clients="rare", limit=2)
        found.append(ids(page))
        cursor = page.body["next_cursor"]
    assert found == [rare[:2], rare[2:4], rare[4:]]
    nothing = await read(api, clients="none")
    assert (ids(nothing), nothing.body["gap"]) == ([], False)
    assert nothing.body["next_cursor"] == (await read(api, "now")).body["next_cursor"]


async def test_poll_for_certain_clients_is_not_ended_by_others(autojump_clock, nursery) -> None:
    """It waits on, and its cursor has passed over what others settled; a drain answers it with nothing."""
    api = await started(nursery)
    api.flow.put("rare", endpoint(event_types=("nothing.like.it",)))
    answers: list[tuple[float, Answer]] = []

    async def poll(cursor: str, wait_seconds: float) -> None:
        answer = await read(api, cursor, wait_seconds=wait_seconds, clients="rare")
        answers.append((trio.current_time(), answer))

    nursery.start_soon(poll, "now", 20)
    await at(3)
    settle(api, "other")
    await at(7)
    api.flow.admit("rare", "mine")
    await now()
    assert [(when, ids(answer)) for when, answer in answers] == [(7, ["mine"])]
    nursery.start_soon(poll, "now", 5)
    await at(9)
    settle(api, "another")
    await at(12)
    assert [(when, ids(answer)) for when, answer in answers[1:]] == [(12, [])]
    assert ids(await read(api, answers[1][1].body["next_cursor"])) == []
    nursery.start_soon(poll, "now", 60)
    await at(14)
    api.flow.feed.answer_waiting()
    await now()
    assert [(when, ids(answer)) for when, answer in answers[2:]] == [(14, [])]


async def test_cursor_now_begins_at_the_end(autojump_clock, nursery) -> None:
    """Also in an empty feed; what settles behind it is listed."""
    api = await started(nursery)
    first = await read(api, "now")
    assert (ids(first), first.body["gap"]) == ([], False)
    settle(api, "e1", "e2")
    assert ids(await read(api, first.body["next_cursor"])) == ["e1", "e2"]
    second = await read(api, "now")
    assert (ids(second), second.body["gap"]) == ([], False)
    settle(api, "e3")
    assert ids(await read(api, second.body["next_cursor"])) == ["e3"]


@pytest.mark.parametrize("clients", ["", ",", "a,", ",a", "a b", "a,,b", "x" * 65, ",".join(["a"] * 101), "*"])
async def test_clients_that_are_no_ids_are_refused(autojump_clock, nursery, clients: str) -> None:
    refused_as(await read(await started(nursery), clients=clients), 422, "invalid-query")


async def test_event_that_was_reopened_settles_and_is_listed_again(autojump_clock, nursery) -> None:
    """First as exhausted, then as delivered; a cursor between the two sees the second alone."""
    api = await started(nursery, SOON)
    held = Held()
    api.flow.sender.script("https://acme.example/hook", 500, 500, held)
    api.flow.admit(event_id="e1")
    await at(GIVEN_UP_AT)
    first = await read(api)
    assert [one["status"] for one in first.body["settlements"]] == ["exhausted"]
    assert (await api.post("/v1/clients/acme/events/e1/retry")).status == 202
    await now()
    assert ids(await read(api, first.body["next_cursor"])) == []
    held.release(200)
    await now()
    second = await read(api, first.body["next_cursor"])
    assert [(one["status"], one["reason"]) for one in second.body["settlements"]] == [("delivered", None)]
    assert [one["status"] for one in (await read(api)).body["settlements"]] == ["exhausted", "delivered"]


async def test_pages_follow_each_other_and_a_cursor_is_given_also_at_the_end(autojump_clock, nursery) -> None:
    """Nothing twice, nothing left out; an empty answer's cursor goes on from there, also from an empty feed's."""
    api = await started(nursery)
    empty = await read(api)
    assert (ids(empty), empty.body["gap"]) == ([], False)
    settle(api, *(f"e{number}" for number in range(7)))
    assert ids(await read(api, empty.body["next_cursor"])) == [f"e{number}" for number in range(7)]
    found, cursor = [], None
    while True:
        page = await read(api, cursor, limit=3)
        cursor = page.body["next_cursor"]
        if not ids(page):
            break
        found += ids(page)
    assert found == [f"e{number}" for number in range(7)]
    settle(api, "e7")
    answer = await read(api, cursor)
    assert (ids(answer), answer.body["gap"]) == (["e7"], False)


async def test_limit_is_100_unless_given(autojump_clock, nursery) -> None:
    """Up to 1,000."""
    api = await started(nursery)
    settle(api, *(f"e{number}" for number in range(1001)))
    assert len(ids(await read(api))) == 100
    assert len(ids(await read(api, limit=1000))) == 1000


async def test_cursor_older_than_the_oldest_held_answers_gap_and_begins_there(autojump_clock, nursery) -> None:
    """And its next cursor is a good one; without a cursor there is no gap to speak of."""
    api = await started(nursery, small(2))
    old = (await read(api)).body["next_cursor"]
    settle(api, "e1", "e2")
    kept = await read(api, old, limit=1)
    assert (ids(kept), kept.body["gap"]) == (["e1"], False)
    settle(api, "e3")
    gone = await read(api, old)
    assert (ids(gone), gone.body["gap"]) == (["e2", "e3"], True)
    just = await read(api, kept.body["next_cursor"])
    assert (ids(just), just.body["gap"]) == (["e2", "e3"], False)
    assert (await read(api, gone.body["next_cursor"])).body["gap"] is False
    fresh = await read(api)
    assert (ids(fresh), fresh.body["gap"]) == (["e2", "e3"], False)


async def test_smaller_settlements_max_takes_effect_at_a_reload(autojump_clock, nursery) -> None:
    """At once, also while nothing settles."""
    api = await started(nursery)
    cursor = (await read(api)).body["next_cursor"]
    settle(api, "e1", "e2", "e3")
    api.flow.set(retention=RetentionSettings(settlements_max=1))
    answer = await read(api, cursor)
    assert (ids(answer), answer.body["gap"]) == (["e3"], True)


async def test_cursor_of_another_run_answers_gap_at_once(autojump_clock, nursery) -> None:
    """Whatever its position, also where nothing has settled yet and the reader would wait: it has to post again."""
    other = Api(Flow(), run=Run("run_0", "0.0.test", "host", 1, EPOCH))
    settle(other, *(f"e{number}" for number in range(5)))
    foreign = (await read(other)).body["next_cursor"]
    api = await started(nursery)
    empty = await read(api, foreign, wait_seconds=60)
    assert (ids(empty), empty.body["gap"], empty.body["run_id"], trio.current_time()) == ([], True, "run_1", 0)
    settle(api, "e1")
    answer = await read(api, foreign)
    assert (ids(answer), answer.body["gap"]) == (["e1"], True)
    assert (await read(api, answer.body["next_cursor"])).body["gap"] is False


def spelled(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "query",
    [
        "cursor=",
        "cursor=nonsense",
        "cursor=%00",
        "cursor=%C3%A9",
        "cursor=" + "A" * 5000,
        f"cursor={spelled('srun_1:0')}=",
        f"cursor={spelled('srun_1:00')}",
        f"cursor={spelled('srun_1:-1')}",
        f"cursor={spelled('srun_1')}",
        f"cursor={spelled('srun 1:0')}",
        f"cursor={spelled('e5')}",
        f"cursor={spelled('srun_1:' + '9' * 20)}",
        f"cursor={spelled('srun_1:1')}",  # ahead of everything that has settled
        "limit=0",
        "limit=1001",
        "limit=ten",
        "limit=",
        "limit=1.5",
        "wait_seconds=-1",
        "wait_seconds=60.1",
        "wait_seconds=soon",
        "wait_seconds=nan",
        "wait_seconds=inf",
        "waitseconds=5",
    ],
)
async def test_query_that_makes_no_sense_is_refused(query, autojump_clock, nursery) -> None:
    """422 at once, without a wait."""
    api = await started(nursery)
    answer = refused_as(await api.get(f"/v1/settlements?{query}"), 422, "invalid-query")
    assert query.partition("=")[0] in answer.body["detail"]
    assert trio.current_time() == 0


async def test_cursor_is_url_safe_and_none_of_the_listings(autojump_clock, nursery) -> None:
    """It can be put into a query as it is; the listing of events has cursors of its own."""
    api = await started(nursery)
    settle(api, "e1", "e2")
    cursor = (await read(api, limit=1)).body["next_cursor"]
    assert cursor.replace("_", "").replace("-", "").isalnum()
    listing = (await api.get("/v1/events?limit=1")).body["next_cursor"]
    refused_as(await read(api, listing), 422, "invalid-query")
    refused_as(await api.get(f"/v1/events?cursor={cursor}"), 422, "invalid-query")


def test_parameters_are_described() -> None:
    """The route reads them by the same type that describes them."""
    assert FeedQuery.__struct_fields__ == ("cursor", "limit", "wait_seconds", "clients")


# The long poll


async def test_readers_that_wait_are_answered_together_as_soon_as_one_settles(autojump_clock, nursery) -> None:
    """With and without a cursor; all that settled in the same moment is in the answer."""
    api = await started(nursery)
    polls = Polls(api, nursery)
    cursor = (await read(api)).body["next_cursor"]
    for given in (cursor, cursor, None):
        polls.begin(given, 60)
    await at(7)
    assert not polls.answers
    settle(api, "e1", "e2")
    await now()
    assert [(when, ids(answer)) for when, answer in polls.answers] == [(7, ["e1", "e2"])] * 3


async def test_reader_is_answered_at_once_if_there_is_something(autojump_clock, nursery) -> None:
    """And after `wait_seconds` if there is not: empty, with a cursor."""
    api = await started(nursery)
    settle(api, "e1")
    first = await read(api, wait_seconds=60)
    assert (ids(first), trio.current_time()) == (["e1"], 0)
    second = await read(api, first.body["next_cursor"], wait_seconds=2.5)
    assert (ids(second), second.body["gap"], trio.current_time()) == ([], False, 2.5)
    assert second.body["next_cursor"] == first.body["next_cursor"]
    third = await read(api, first.body["next_cursor"])
    assert (ids(third), trio.current_time()) == ([], 2.5)


async def test_reader_that_waits_learns_of_a_gap_made_meanwhile(autojump_clock, nursery) -> None:
    """More settled in one moment than the ring holds."""
    api = await started(nursery, small(2))
    cursor = (await read(api)).body["next_cursor"]
    polls = Polls(api, nursery)
    polls.begin(cursor, 60)
    await now()
    settle(api, "e1", "e2", "e3")
    await now()
    ((_, answer),) = polls.answers
    assert (ids(answer), answer.body["gap"]) == (["e2", "e3"], True)


async def test_reader_is_woken_whenever_the_settlement_comes(autojump_clock, nursery) -> None:
    """So many turns of the loop after it asked, at every step of its request: each time it has its answer at once."""
    api = await started(nursery)
    cursor = None
    for turns in range(100):
        polls = Polls(api, nursery)
        polls.begin(cursor, 60)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        settle(api, f"e{turns}")
        await now()
        ((when, answer),) = polls.answers
        assert (when, ids(answer)) == (0, [f"e{turns}"])
        cursor = answer.body["next_cursor"]


async def test_readers_that_follow_the_feed_see_every_settlement_once(autojump_clock, nursery) -> None:
    """Four of them, in pages of seven, while 200 events settle at any moment."""
    api = await started(nursery)
    seen: list[list[str]] = [[] for _ in range(4)]

    async def follow(found: list[str]) -> None:
        cursor = None
        while len(found) < 200:
            answer = await read(api, cursor, wait_seconds=60, limit=7)
            assert ids(answer), "woken for nothing"
            found += ids(answer)
            cursor = answer.body["next_cursor"]

    async with trio.open_nursery() as readers:
        for found in seen:
            readers.start_soon(follow, found)
        for number in range(200):
            for _ in range(number % 23):
                await trio.lowlevel.checkpoint()
            settle(api, f"e{number}")
    assert seen == [[f"e{number}" for number in range(200)]] * 4
    assert trio.current_time() == 0


async def test_reader_that_hangs_up_stops_waiting_alone(autojump_clock, nursery) -> None:
    """The others are answered as before."""
    api = await started(nursery)
    polls, scope = Polls(api, nursery), trio.CancelScope()
    polls.begin(None, 60, scope)
    polls.begin(None, 60)
    await at(1)
    scope.cancel()
    await now()
    settle(api, "e1")
    await now()
    assert [(when, ids(answer)) for when, answer in polls.answers] == [(1, ["e1"])]


async def test_drain_answers_who_waits_and_goes_on_being_read(autojump_clock, nursery) -> None:
    """Those who ask again wait on, and see what settles during the drain."""
    api = await started(nursery)
    held = Held()
    api.flow.sender.script("https://acme.example/hook", held)
    await api.post("/v1/events", event(id="e1"))
    polls = Polls(api, nursery)
    polls.begin(None, 60)
    await at(3)
    api.flow.intake.close()
    api.flow.feed.answer_waiting()
    await now()
    ((when, answer),) = polls.answers
    assert (when, ids(answer)) == (3, [])
    polls.begin(answer.body["next_cursor"], 60)
    await at(5)
    held.release(200)
    await now()
    assert (polls.answers[1][0], ids(polls.answers[1][1])) == (5, ["e1"])


async def test_closed_feed_answers_at_once_and_can_still_be_read(autojump_clock, nursery) -> None:
    """Those who wait, and those who would."""
    api = await started(nursery)
    settle(api, "e1")
    cursor = (await read(api)).body["next_cursor"]
    polls = Polls(api, nursery)
    polls.begin(cursor, 60)
    await now()
    api.flow.feed.close()
    await now()
    assert [(when, ids(answer)) for when, answer in polls.answers] == [(0, [])]
    assert ids(await read(api, cursor, wait_seconds=60)) == []
    assert ids(await read(api, wait_seconds=60)) == ["e1"]
    assert trio.current_time() == 0
