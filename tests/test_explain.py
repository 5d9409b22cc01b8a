"""What `hookd explain` says, made from the API's own answers in virtual time."""

from typing import Any

import pytest
import trio
from hookd.cli.api_client import Answer, Refusal
from hookd.cli.commands.explain import Found, NotFound, explained, find
from hookd.cli.paste import HookdCommands
from hookd.core.attempt_text import excerpt_text, past_attempts
from hookd.core.outcome import Blocked, TimedOut, Unreachable
from hookd.core.rate import Rate
from hookd.core.settings import DeliverySettings, RetrySettings, Settings
from hookd.core.shard import HEADER
from hookd.core.timestamps import rfc3339
from hookd.flow.endings import ROWS_AT_ONCE
from hookd.flow.report_lines import read_report_lines

from tests.edge.test_api import Api, event, started
from tests.flow.harness import EPOCH, URL, Hang, Later, Slow, at, endpoint, now
from tests.flow.test_resend import written

EVENT = "/v1/clients/acme/events/e1"
RETRY = "    hookd retry --url http://hookd acme e1"
RESUME = "    hookd resume --url http://hookd acme default"

# What the command posts to; tests/acceptance/test_commands.py pastes it.
POSTED = {RETRY: f"{EVENT}/retry", RESUME: "/v1/clients/acme/endpoints/default/resume"}
COMMANDS = HookdCommands("http://hookd")


async def of_event(api: Api, event_id: str = "e1") -> str:
    found = (await api.get(f"/v1/clients/acme/events/{event_id}")).body
    client = await api.get("/v1/clients/acme")
    return await _told(api, None, [(found, client.body if client.status == 200 else None)])


async def of_client(api: Api) -> str:
    return await _told(api, (await api.get("/v1/clients/acme")).body, [])


async def _told(api: Api, client: Any, events: Any) -> str:
    status = (await api.get("/v1/status")).body
    found = Found("e1", client, events, [], status, EPOCH + trio.current_time())
    return "\n".join(line.strip() for line in explained(found, COMMANDS))


async def with_event(nursery: trio.Nursery, *script: Any, settings: Settings | None = None) -> Api:
    api = await started(nursery, settings)
    api.flow.sender.script(URL, *script)
    assert (await api.post("/v1/events", event(id="e1"))).status == 202
    await now()
    return api


async def test_failed_event_says_its_attempt_its_next_and_its_end(autojump_clock, nursery) -> None:
    """The last outcome, which attempt comes when and why then, when it is given up, how to try now."""
    api = await with_event(nursery, Unreachable("cannot connect: Connection refused"))
    await at(1)
    assert await of_event(api) == "\n".join(
        [
            "event e1 of client acme, type invoice.paid, accepted 08:00:00Z (1s ago): failed",
            f"default -> {URL}: failed",
            "Attempt 1 of 6 began 08:00:00Z (1s ago) and took 0 ms: unreachable, cannot connect: Connection refused.",
            "Attempt 2 of 6 comes in 4s, at 08:00:05Z, by its schedule.",
            "To try it now:",
            RETRY.strip(),
            "If nothing settles it before, it is given up as too old in 59m 59s, at 09:00:00Z.",
        ]
    )
    told = await of_client(api)
    assert "client acme, registered through the API: 1 unsettled delivery" in told
    assert "1 delivery is unsettled, 0 in flight; the oldest for 1s." in told
    assert "Its last attempt failed 08:00:00Z (1s ago); unreachable, cannot connect: Connection refused." in told


async def test_delivered_event_says_when_and_nothing_more(autojump_clock, nursery) -> None:
    """What is settled waits for nothing."""
    api = await with_event(nursery, 200)
    await at(90)
    last = (await of_event(api)).splitlines()[-1]
    assert last == "Attempt 1 of 6 began 08:00:00Z (1m 30s ago) and took 0 ms: answered 200."
    assert "Nothing waits here." in await of_client(api)
    assert "The last delivery succeeded 08:00:00Z (1m 30s ago)." in await of_client(api)


async def test_event_in_flight_says_since_when_and_until_when(autojump_clock, nursery) -> None:
    """The attempt's own deadline is the end of it."""
    api = await with_event(nursery, Hang())
    await at(4)
    assert "Attempt 1 of 6 is in flight since 08:00:00Z (4s ago); it ends within 11s, by 08:00:15Z." in await of_event(
        api
    )


async def test_event_behind_a_full_window_says_how_many_are_in_flight(autojump_clock, nursery) -> None:
    """Due, and nothing but room is missing."""
    api = await started(nursery, Settings(delivery=DeliverySettings(concurrency=1)))
    api.flow.sender.script(URL, Hang())
    for event_id in ("e0", "e1"):
        await api.post("/v1/events", event(id=event_id))
    await at(1)
    told = await of_event(api)
    assert (
        "Attempt 1 of 6 is due and waits for its turn: on the endpoint 1 attempt is in flight, which may be 1" in told
    )


async def test_event_held_back_by_retry_after_says_who_asked(autojump_clock, nursery) -> None:
    """No `retry` is offered: it would wait as well. A resume lifts it, also where a delivery is due later still."""
    api = await with_event(nursery, Later(503, "100"))
    await at(10)
    told = await of_event(api)
    # 100 s, and half of the fifth that is put on top
    waits = "comes in 1m 40s, at 08:01:50Z"
    assert f"Attempt 2 of 6 {waits}: the endpoint asked by Retry-After not to be called before." in told
    assert "retry" not in told
    assert "To call it all the same:" in told
    assert RESUME.strip() in told
    client = await of_client(api)
    assert f"default -> {URL}: throttled since 08:00:00Z (10s ago)" in client
    again = waits.removeprefix("comes ")
    asked = f"It asked by Retry-After to be left alone: attempts begin again {again}."
    assert f"{asked}\nNot to wait for it:\n{RESUME.strip()}" in client


async def test_throttled_endpoint_says_how_many_it_gets_at_once(autojump_clock, nursery) -> None:
    """Until the next 2xx."""
    api = await with_event(nursery, 429)
    assert "It said that it was asked too much: 1 of 8 attempts at once, until the next 2xx." in await of_client(api)


async def test_event_paused_by_failures_says_when_the_next_probe_comes(autojump_clock, nursery) -> None:
    """Since when, what ends the pause, and how not to wait for it."""
    often = Settings(retry=RetrySettings(schedule_seconds=(4.0,) * 20, jitter=0.0))
    api = await with_event(nursery, TimedOut(15.0), settings=often)
    await at(38)
    told = await of_event(api)
    assert "Attempt 11 of 21 waits: the endpoint is paused by its failures since 08:00:36Z (2s ago)." in told
    probe = (
        "The next probe, which is the oldest delivery, comes in 3s, at 08:00:41Z. An answer below 500 ends the pause."
    )
    assert f"{probe} To try this one now:\n{RETRY.strip()}" in told
    client = await of_client(api)
    assert f"default -> {URL}: paused by failures since 08:00:36Z (2s ago)" in client
    assert (
        "Its last 10 attempts failed, the first 08:00:00Z (38s ago); the last: timed_out, no answer within 15 s."
        in client
    )
    assert f"{probe} Not to wait for it:\n{RESUME.strip()}" in client
    api.flow.sender.script(URL, Hang())
    await at(42)
    assert "An attempt is in flight on it now." in await of_client(api)


async def test_event_paused_by_an_operator_says_since_when_and_does_not_expire(autojump_clock, nursery) -> None:
    """Until resumed, by the command shown; which works."""
    api = await with_event(nursery, 500)
    await api.post("/v1/clients/acme/endpoints/default/pause")
    await at(3600 * 3)
    told = await of_event(api)
    pause = "an operator paused the endpoint since 08:00:00Z (3h 0m ago)"
    assert f"Attempt 2 of 6 waits: {pause}. It goes on after:\n{RESUME.strip()}" in told
    assert "It does not expire while an operator holds the endpoint." in told
    assert f"until someone resumes it:\n{RESUME.strip()}" in await of_client(api)
    api.flow.sender.script(URL, 200)
    await api.post(POSTED[RESUME])
    await now()
    assert "e1 of client acme, type invoice.paid, accepted 08:00:00Z (3h 0m ago): delivered" in await of_event(api)


async def test_event_given_up_as_gone_says_what_to_do_and_it_works(autojump_clock, nursery) -> None:
    """Resume or another URL, then retry."""
    api = await with_event(nursery, 410, 200)
    told = await of_event(api)
    assert "Given up (gone) after 1 attempt: the endpoint answered 410, which disables it." in told
    assert "First resume it, or PUT the client with another URL:" in told
    assert told.endswith(f"{RESUME.strip()}\nTo try it again:\n{RETRY.strip()}")
    assert f"default -> {URL}: disabled since 08:00:00Z (0s ago)" in await of_client(api)
    for command in (RESUME, RETRY):
        assert (await api.post(POSTED[command])).status in (200, 202)
    await now()
    assert ": delivered\n" in await of_event(api)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (RetrySettings(schedule_seconds=()), "Given up (attempts_used) after 1 attempt: every attempt of its schedule"),
        (
            RetrySettings(schedule_seconds=(5.0, 5.0), age_seconds_max=2.0),
            "Given up (expired) after 1 attempt: it grew",
        ),
    ],
)
async def test_event_given_up_says_why(autojump_clock, nursery, settings: RetrySettings, words: str) -> None:
    """In words, with the command to try again."""
    api = await with_event(nursery, 500, settings=Settings(retry=settings))
    await at(4)
    told = await of_event(api)
    assert words in told
    assert told.endswith(RETRY.strip())


async def test_event_of_a_removed_endpoint_says_that_it_cannot_be_tried(autojump_clock, nursery) -> None:
    """No command is offered that would be refused."""
    api = await with_event(nursery, 500)
    await api.delete("/v1/clients/acme?end_unsettled=true")
    told = await of_event(api)
    assert "Client acme is not registered." in told
    assert "Given up (endpoint_removed) after 1 attempt: its endpoint was removed." in told
    assert "hookd retry" not in told


async def backlogged(nursery: trio.Nursery, script: Any) -> Api:
    """One event in flight, and so many behind it that what ends them does so in slices; `e1` is the last."""
    api = await started(nursery, Settings(delivery=DeliverySettings(concurrency=1)))
    api.flow.sender.script(URL, script)
    for event_id in ("e0", *(f"b{number}" for number in range(ROWS_AT_ONCE + 5)), "e1"):
        api.flow.admit(event_id=event_id)
    await now()
    return api


async def test_event_of_a_removed_endpoint_that_waits_for_its_slice_promises_nothing(autojump_clock, nursery) -> None:
    """No attempt and no age, whether or not the id is registered again; what flies is told that it is the last."""
    api = await backlogged(nursery, Hang())
    api.flow.registration.remove("acme", end_unsettled=True)
    for _ in range(2):
        waiting, flying = await of_event(api), await of_event(api, "e0")
        assert waiting.endswith(
            f"default -> {URL}: pending\nIts endpoint was removed: it is being given up, with no attempt."
        )
        assert "Its endpoint was removed: this attempt is its last, and only a 2xx counts." in flying
        for told in (waiting, flying):
            assert "too old" not in told
            assert "hookd retry" not in told
        api.flow.put()
    assert (await api.get(EVENT)).body["deliveries"][0]["expires_at"] is None


async def test_event_at_a_disabled_endpoint_that_waits_for_its_slice_promises_nothing(autojump_clock, nursery) -> None:
    """It is no matter of age."""
    api = await backlogged(nursery, 410)
    told = await of_event(api)
    assert told.endswith(
        f"default -> {URL}: pending\nIts endpoint answered 410: it is being given up, with no attempt."
    )
    assert (await api.get(EVENT)).body["deliveries"][0]["expires_at"] is None


async def test_event_that_is_due_too_late_can_be_tried_before(autojump_clock, nursery) -> None:
    """By the command shown, which works."""
    retry = RetrySettings(schedule_seconds=(100.0,), age_seconds_max=50.0)
    api = await with_event(nursery, 404, 200, settings=Settings(retry=retry))
    await at(1)
    told = await of_event(api)
    never = "Attempt 2 of 2 will not come: by its schedule it is due when the delivery is too old."
    assert f"{never} To try it before:\n{RETRY.strip()}" in told
    assert (await api.post(POSTED[RETRY])).status == 202
    await now()
    assert ": delivered\n" in await of_event(api)


async def test_event_in_flight_past_its_age_says_that_failing_ends_it(autojump_clock, nursery) -> None:
    """An age that is over ends nothing that is in flight."""
    old = Settings(retry=RetrySettings(age_seconds_max=5.0), delivery=DeliverySettings(timeout_seconds=60.0))
    api = await with_event(nursery, Hang(), settings=old)
    await at(8)
    assert (await of_event(api)).endswith("If this attempt fails, it is given up as too old.")


async def test_paused_endpoint_where_nothing_waits_promises_no_probe(autojump_clock, nursery) -> None:
    """All that waited has expired: what comes next is the probe."""
    often = RetrySettings(schedule_seconds=(4.0,) * 20, jitter=0.0, age_seconds_max=40.0)
    api = await with_event(nursery, TimedOut(15.0), settings=Settings(retry=often))
    await at(60)
    told = await of_client(api)
    assert "paused by failures" in told
    assert "Nothing waits to probe it with: the next event that comes is its probe." in told


async def test_event_that_nobody_wants_says_so(autojump_clock, nursery) -> None:
    """Unrouted: delivered to nobody."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(event_types=("order.*",)))
    await api.post("/v1/events", event(id="e1"))
    told = await of_event(api)
    assert "(0s ago): delivered (to nobody)" in told
    assert "it owes nothing" in told


async def test_timed_out_event_says_that_the_client_may_have_it(autojump_clock, nursery) -> None:
    """What on-call asks first before sending again."""
    api = await with_event(nursery, Hang(), settings=Settings(delivery=DeliverySettings(timeout_seconds=1.0)))
    await at(2)
    assert "no answer within 1 s; the request went out, so the client may have it." in await of_event(api)


async def test_draining_daemon_and_hostile_words_are_told_harmlessly(autojump_clock, nursery) -> None:
    """What stops says so first; an endpoint's escape sequences do not reach the terminal."""
    api = await with_event(nursery, Unreachable("\x1b[2Jboo\u202e"))
    api.flow.intake.close()
    told = await of_event(api)
    assert told.startswith("The daemon is draining")
    assert "\\x1b[2Jboo\\u202e" in told
    assert "\x1b" not in told


async def test_ambiguous_event_names_each_command(autojump_clock, nursery) -> None:
    """Several clients have an event of the id."""
    api = await started(nursery)
    status = (await api.get("/v1/status")).body
    lines = explained(Found("e1", None, [], ["a", "b"], status, EPOCH), COMMANDS)
    assert lines[1:] == [f"  hookd explain --url http://hookd {client_id}/e1" for client_id in "ab"]


def test_command_keeps_the_options_that_were_given_and_an_id_that_looks_like_one() -> None:
    """What the environment says holds for the next command, too."""
    assert HookdCommands().resume("acme", "default") == "hookd resume acme default"
    command = HookdCommands(token_file="my token").retry("-x", "e1")
    assert command == "hookd retry --token-file 'my token' -- -x e1"


async def test_unregistered_client_is_explained_by_what_waits_for_it(autojump_clock, nursery) -> None:
    """Recovered at the start, and not begun before the platform's PUT."""
    api = await started(nursery)
    api.flow.resend.recover(read_report_lines([written("e7", client_id="later", attempt_count=2)]))
    answers = {
        path: await api.get(path)
        for path in ("/v1/status", "/v1/clients/later", "/v1/events/later", "/v1/clients/nobody", "/v1/events/nobody")
    }
    for name in ("later", "nobody"):
        path = f"/v1/events?client_id={name}&status=pending&limit=10"
        answers[path] = await api.get(path)

    class Asked:
        def get(self, path: str) -> Answer:
            return Answer(answers[path].status, {}, answers[path].body)

    found = find(Asked(), "later")  # type: ignore[arg-type]  # as much of a Remote as is asked of it
    told = "\n".join(explained(found, str))
    assert "event e7 of client later" in told
    assert "Client later is not registered." in told
    waits = "Attempt 3 of 6 waits for its client's PUT, with this endpoint's id and its old secret."
    assert waits in told
    with pytest.raises(NotFound):
        find(Asked(), "nobody")  # type: ignore[arg-type]


async def test_event_behind_another_names_it_and_how_often_it_failed(autojump_clock, nursery) -> None:
    """Strict order: what it waits for is said, and the command that tells more."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(order="strict", rate=Rate.of("30/m")))
    api.flow.sender.script(URL, 500)
    for event_id in ("first", "behind"):
        api.flow.admit(event_id=event_id)
    await at(1)
    assert "Attempt 1 of 6 waits behind first, which failed once; strict order." in await of_event(api, "behind")
    assert "hookd explain --url http://hookd acme/first" in await of_event(api, "behind")
    assert "waits behind" not in await of_event(api, "first")
    await at(8)
    assert "waits behind first, which failed twice; strict order." in await of_event(api, "behind")
    told = await of_client(api)
    assert "Strict order: first, which failed twice, holds up those behind it." in told
    assert "Its attempts begin no faster than 30/m." in told


async def test_event_that_waits_for_its_turn_says_whose(autojump_clock, nursery) -> None:
    """What is due, and is held back by the endpoint's order or rate."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(order="strict"), endpoint("rated", f"{URL}/rated", rate=Rate.of("1/h")))
    api.flow.sender.script(URL, Hang())
    for event_id in ("first", "behind"):
        api.flow.admit(event_id=event_id)
    await at(1)
    told = await of_event(api, "behind")
    assert "is due and waits for its turn: its endpoint has strict order, one at a time." in told
    assert "is due and waits for its turn: its endpoint takes 1/h." in told


async def test_failed_event_shows_its_past_attempts_and_what_was_said(autojump_clock, nursery) -> None:
    """Each with its time, what came of it and how long that took; the excerpt on one line, whatever it holds."""
    api = await with_event(nursery, Unreachable("cannot connect"), Slow(0.25, 500), 503)
    await at(36)
    told = (await of_event(api)).splitlines()
    assert told[2:7] == [
        "Attempt 3 of 6 began 08:00:35Z (0.8s ago) and took 0 ms: answered 503.",
        'Its body: "answered 503"',
        "Those before it:",
        "1  08:00:00Z  unreachable, cannot connect after 0 ms",
        "2  08:00:05Z  answered 500 after 250 ms",
    ]


def test_long_history_says_how_many_are_not_kept() -> None:
    """Between the first and the last nine."""
    attempts = [
        {"number": number, "started_at": rfc3339(EPOCH), "duration_seconds": 1.0, "reconnected": number == 12}
        | {"outcome": "responded", "status_code": 500}
        for number in (1, 11, 12)
    ]
    assert list(past_attempts(attempts, EPOCH)) == [
        "    1  08:00:00Z  answered 500 after 1s",
        "  … 9 more, which are not kept",
        "   11  08:00:00Z  answered 500 after 1s",
        "   12  08:00:00Z  answered 500 after 1s (on a second connection)",
    ]


def test_excerpt_is_one_line_and_short_and_nothing_where_nothing_was_said() -> None:
    """What a person needs of an error page is its first words."""
    [line] = excerpt_text({"response_excerpt": "<html>\n  <b>no\tsuch page</b>" + "x" * 1000})
    assert line.startswith('Its body: "<html> <b>no such page</b>xxx')
    assert line.endswith('…"')
    assert len(line) == len('Its body: ""') + 200
    for nothing in (None, "", " \n "):
        assert list(excerpt_text({"response_excerpt": nothing})) == []


async def test_blocked_event_names_the_setting_that_allows_it(autojump_clock, nursery) -> None:
    """Of the event and of its endpoint."""
    api = await with_event(nursery, Blocked("10.0.0.1"))
    await at(1)
    for told in (await of_event(api), await of_client(api)):
        assert "blocked, address 10.0.0.1 is not allowed" in told
        assert "unless egress.allow_networks names its network" in told


async def test_endpoint_that_answers_4xx_only_is_said_to_fail(autojump_clock, nursery) -> None:
    """Its state is ok all the while."""
    api = await with_event(nursery, 404)
    await at(20)
    assert f"default -> {URL}: ok\n" in await of_client(api)
    await at(31)
    assert f"default -> {URL}: ok, but failing\n" in await of_client(api)


async def test_endpoint_that_is_ok_says_when_its_next_attempt_comes(autojump_clock, nursery) -> None:
    """Nothing else would say so until it is there."""
    api = await with_event(nursery, 500)
    await at(1)
    assert "The next attempt comes in 4s, at 08:00:05Z." in await of_client(api)


class Behind:
    """A proxy with several daemons behind it, or with none."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers

    def get(self, path: str) -> Answer:
        return self._answers.get(path, Answer(404, {}, {"type": "/problems/not-found", "detail": "a proxy"}))

    def at_shard(self, _name: str) -> "Behind":
        status = Answer(200, {}, {"now": rfc3339(EPOCH), "state": "running", "shard": "a"})
        return Behind(self._answers | {"/v1/status": status})


def test_proxy_without_a_daemon_is_said_to_be_that() -> None:
    """Before, its own 404 for /v1/status was shown, and sent whoever was paged to another URL."""
    empty = Behind({"/v1/clients/acme": Answer(503, {}, "no server", url="http://proxy")})
    with pytest.raises(Refusal) as refused:
        find(empty, "acme")  # type: ignore[arg-type]
    assert "it says 503" in str(refused.value)
    assert "asked was http://proxy, and a proxy says so whose daemon is down" in str(refused.value)


def test_one_of_several_daemons_speaks_for_itself_alone() -> None:
    """The clients that have an event of this id: those of the daemon that was asked, and perhaps others."""
    unknown = {"type": "/problems/unknown-client", "detail": ""}
    ambiguous = {"type": "/problems/ambiguous", "detail": "", "clients": ["acme", "beta"]}
    answers = {"/v1/clients/e1": Answer(404, {HEADER: "a"}, unknown), "/v1/events/e1": Answer(409, {}, ambiguous)}
    lines = explained(find(Behind(answers), "e1"), COMMANDS)  # type: ignore[arg-type]
    assert lines[-1] == "This is shard a alone; another may know it, by the proxy's --url URL/shard/NAME."


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("Fri, 15 Jan 2027 08:00:00 GMT", 1_800_000_000.0),
        ("", None),
        ("soon", None),
        ("Mon, 1 Jan 99999999999 00:00:00 GMT", None),
        ("Mon, 1 Jan 2024 00:00:00 +99999999999999999", None),
    ],
)
def test_date_of_an_answer_that_cannot_be_read_is_none(date: str, at: float | None) -> None:
    """Whatever stands before hookd may write it: no traceback comes of it."""
    assert Answer(403, {"date": date}, None).date == at
