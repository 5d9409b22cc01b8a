"""What a person at night asks of the page, and once searched for: since when, how often, what is lost, what first."""

import json
import re
from html import unescape

import msgspec
import pytest
import trio
from hookd.core.loss import loss_of
from hookd.core.notice import Kind, Notice
from hookd.core.outcome import Outcome, Responded, Unreachable
from hookd.core.report import Undelivered
from hookd.core.settings import DeliverySettings, HttpSettings, IntakeSettings, RetrySettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.edge.api.page.charts import charts
from hookd.edge.api.services import Standing
from hookd.flow.ports import Unclaimed
from hookd.flow.quarter_hour import Sample

from tests.core.test_loss import line, summary
from tests.edge.test_api import Api, event, started
from tests.edge.test_long_answers import wide
from tests.edge.test_page import shown, text_of
from tests.flow.harness import EPOCH, URL, Hang, Reloaded, Slow, at, now

PATH = "/clients/acme/endpoints/default"
FAILING_RETRY = Settings(retry=RetrySettings(schedule_seconds=()))


async def said_at(api: Api, path: str) -> str:
    return text_of(await shown(api, path))


async def test_who_is_refused_since_when_and_how_often(autojump_clock, nursery) -> None:
    """With 503 everyone; a batch is one request, and what a partial batch went on without is counted by events."""
    api = await started(nursery, Settings(intake=IntakeSettings(unsettled_events_max=2)))
    api.flow.registration.pause("acme", "default")
    api.flow.admit_many(2)
    assert "Producers are refused (503) for all clients: the budget is full;" in await said_at(api, "/")
    await at(5)
    assert (await api.post("/v1/events", event())).status == 503
    assert (await api.post("/v1/events/batch", [event(), event()])).status == 503
    await at(10)
    assert (await api.post("/v1/events/batch?partial=true", [event(), event()])).status == 202
    assert (
        "refused (503) for all clients, 2 requests and 2 events of partial batches since 08:00:05Z: the"
        in await said_at(api, "/")
    )
    api.flow.registration.resume("acme", "default")
    await at(16)
    said = await said_at(api, "/")
    what = "2 requests and 2 events of partial batches from 08:00:05Z to 08:00:10Z"
    assert said.startswith(f"Producers were refused (503) for all clients, {what}: intake.unsettled_events_max was")


async def failed_twice(nursery: trio.Nursery) -> Api:
    """Six seconds on; its next attempt is yet to come."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(404), Responded(404))
    api.flow.admit()
    await at(6)
    return api


async def test_nothing_is_called_well_whose_attempts_fail(autojump_clock, nursery) -> None:
    """Half a minute passes until it is a trouble; until then a green line would send its reader to bed."""
    api = await failed_twice(nursery)
    page = await shown(api, "/")
    told = "acme/default has failed since 08:00:00Z or before this run (answered 404); it counts as trouble once that"
    assert f'<p class="headline warn">{told} lasts 30s.' in page
    assert "All is well" not in page


async def test_whose_events_alone_are_refused_since_when_and_how_often(autojump_clock, nursery) -> None:
    """With 429: of one client, whether its event came alone or in a batch. It is named when there is room again."""
    api = await started(nursery, Settings(intake=IntakeSettings(client_events_max=2)))
    api.flow.registration.pause("acme", "default")
    api.flow.admit_many(2)
    await at(5)
    assert (await api.post("/v1/events", event())).status == 429
    assert (await api.post("/v1/events/batch", [event(), event()])).status == 429
    said = await said_at(api, "/")
    assert said.startswith("Events of acme alone are refused (429), 2 requests since 08:00:05Z: its budget is full;")
    api.flow.registration.resume("acme", "default")
    await at(16)
    said = await said_at(api, "/")
    assert said.startswith("Events of acme were refused (429), 2 requests at 08:00:05Z: intake.client_")
    assert "First: raise intake.client_events_max (now 2) and reload (systemctl reload hookd, or SIGHUP)" in said


async def test_answer_that_nobody_took_is_no_producer_that_was_refused(autojump_clock, nursery) -> None:
    """The limit is its own, and so is what to do. Once it said that the budget or the recorder was full."""
    api = await started(nursery)
    wide(api.flow)
    api.flow.admit_many(10)
    api.flow.set(http=HttpSettings(sending_bytes_max=1))
    assert (await api.get("/v1/events")).status == 503
    api.flow.set(http=HttpSettings())
    said = await said_at(api, "/")
    assert said.startswith(
        "Callers were refused (503), 1 request at 08:00:00Z: answers that their readers had not taken"
    )
    assert "First: look who asks for long answers and reads them slowly." in said


async def test_endpoint_that_is_disabled_says_what_is_lost_until_it_is_resumed(autojump_clock, nursery) -> None:
    """In the first line, not only below; nothing there sounds as if all were well."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(410), Responded(200))
    api.flow.admit(event_id="first")
    await at(1)
    api.flow.admit_many(3)
    await at(16)
    said = await said_at(api, "/")
    replay = "Lost: these, unless someone presses replay on the endpoint's page within 1d 0h, the first by"
    assert f"{replay} 2027-01-16 08:00:00Z." in said
    lost = "whatever comes for it is given up at once, 4 deliveries so far."
    asks = "First: ask its owner whether the events are wanted. To hold what comes meanwhile: resume, then pause."
    assert f"acme/default answered 410 and is disabled since 08:00:00Z: {lost}" in said
    assert asks in said
    assert "nothing is unsettled" not in said
    said = await said_at(api, PATH)
    assert f"acme/default answered 410 and is disabled since 08:00:00Z: {lost}" in said
    assert asks in said
    assert (
        "given up since its 410 can be replayed for 1d 0h, the first until 2027-01-16 08:00:00Z, as far as there is"
        in said
    )
    assert "A pause alone does not stop the giving up" in said
    assert "whatever comes for it is given up at once as gone, 4 deliveries so far." in said
    assert "Nothing waits here" not in said
    assert (await api.get("/v1/clients/acme")).body["endpoints"][0]["health"]["gone"] == 4
    await api.post(f"/v1{PATH}/resume")
    assert (await api.get("/v1/clients/acme")).body["endpoints"][0]["health"]["gone"] == 0
    api.flow.sender.script(URL, Responded(410))
    api.flow.admit()
    await at(22)
    assert "given up at once, 1 delivery so far." in await said_at(api, "/")


async def test_endpoint_that_lost_all_it_got_does_not_say_that_nothing_waits(autojump_clock, nursery) -> None:
    """4xx without a schedule: what failed is given up."""
    api = await started(nursery, FAILING_RETRY)
    api.flow.sender.script(URL, *[Responded(404)] * 4)
    for seconds in (0, 20, 40):
        await at(seconds)
        api.flow.admit()
    await at(40.5)
    said = await said_at(api, "/")
    words = (
        "(every attempt was used). acme/default fails each attempt since 08:00:00Z "
        "or before this run (answered 404); what failed is given up. Lost: "
        "these, unless someone presses replay on the endpoint's page within 1d 0h, the first by "
        "2027-01-16 08:00:00Z. First: tell its owner what it "
        "answers."
    )
    assert words in said
    said = await said_at(api, PATH)
    assert "Once mended: test, resume, replay." in said
    assert "Nothing waits here: what failed is given up." in said


async def test_notice_of_failures_has_no_state_that_calls_it_ok(autojump_clock, nursery) -> None:
    """The feed says `ok` of what no state holds back; of a recovered endpoint it is true."""
    api = await started(nursery)
    for kind, state in [(Kind.FAILING, "ok"), (Kind.EXHAUSTED, "ok"), (Kind.PAUSED, "paused"), (Kind.RECOVERED, "ok")]:
        about = {"client_id": "acme", "endpoint_id": "default", "state": state}
        api.flow.notices.feed.note(Notice(id=kind.value, type=kind, at=rfc3339(EPOCH), counts={}, **about))
    page = await shown(api, PATH)
    assert re.findall(r'data-label="Notice">hookd\.\w+\.(\w+)</td>\s*<td data-label="State">(\w*)<', page) == [
        ("recovered", "ok"), ("paused", "paused"), ("exhausted", ""), ("failing", "failing"),
    ]  # fmt: skip


async def test_attempts_at_once_are_said_once_and_with_both_numbers(autojump_clock, nursery) -> None:
    """In a list one number is in flight; the window stands beside its most."""
    api = await started(nursery)
    api.flow.sender.script(URL, Hang())
    api.flow.admit()
    await now()
    page = await shown(api, "/")
    assert 'data-label="In flight" class="right">1</td>' in page
    assert "attempts at once 8 at most, 2 allowed now" in await said_at(api, PATH)


def greyed(page: str) -> dict[str, str]:
    """Of each button that is: why."""
    button, why = r'<button [^>]* aria-disabled="true">([^<]*)</button>', r"<span>not now: ([^<]*)<"
    return dict(re.findall(rf"{button}\s*{why}", page))


async def test_button_that_would_change_nothing_is_greyed_with_its_reason(autojump_clock, nursery) -> None:
    """And no other: what an operator holds is resumed, what was given up is replayed, once it is not disabled."""
    api = await started(nursery, FAILING_RETRY)
    nothing = "nothing that was given up for it is held"
    resume = "it is neither paused nor disabled, and has asked for no wait"
    waits = "nothing waits"
    assert greyed(await shown(api, PATH)) == {"resume": resume, "replay": nothing, "retry-all": waits}
    api.flow.registration.pause("acme", "default")
    assert greyed(await shown(api, PATH)) == {
        "pause": "an operator holds it already", "replay": nothing, "retry-all": waits,
    }  # fmt: skip
    api.flow.admit()
    assert greyed(await shown(api, PATH))["retry-all"] == "an operator holds it, so first resume it"
    api.flow.sender.script(URL, Responded(404), Responded(410))
    api.flow.registration.resume("acme", "default")
    await at(1)
    assert greyed(await shown(api, PATH)) == {"resume": resume, "retry-all": waits}
    api.flow.admit()
    await at(2)
    assert greyed(await shown(api, PATH)) == {
        "replay": "it is disabled, so first resume it", "retry-all": waits,
    }  # fmt: skip


async def test_all_that_waits_goes_at_once_when_a_down_endpoint_is_mended(autojump_clock, nursery) -> None:
    """By the one button, as it stands on the page: the schedule would make it wait for half an hour."""
    schedule = (4.0,) * 12 + (1800.0,) * 2
    api = await started(nursery, Settings(retry=RetrySettings(schedule_seconds=schedule, jitter=0.0)))
    api.flow.sender.script(URL, *[Unreachable("cannot connect")] * 39)
    for event_id in ("one", "two", "three"):
        api.flow.admit(event_id=event_id)
    await at(46)
    page = await shown(api, PATH)
    assert "paused by failures" in text_of(page)
    [(path, body)] = re.findall(r'data-post="\.\./\.\./\.\./([^"]*)"[^>]*data-range="([^"]*)" >retry-all<', page)
    answer = await api.post(f"/{path}", json.loads(unescape(body)) | {"dry_run": True})
    assert answer.body["matched"] == 3
    api.flow.sender.script(URL, Responded(200))
    await api.post(f"/{path}", json.loads(unescape(body)))
    await at(47)
    assert text_of(await shown(api, "/clients/acme/events/three")).startswith("acme/three delivered")
    assert (await api.get("/v1/status")).body["deliveries"]["delivered"] == 3


async def test_retry_after_can_be_lifted(autojump_clock, nursery) -> None:
    """Of an endpoint that is throttled without one there is nothing to lift."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(429))
    api.flow.admit()
    await at(1)
    assert "resume" in greyed(await shown(api, PATH))
    assert "First: nothing to press: it goes on by itself" in await said_at(api, PATH)
    health = api.flow.ledger.health("acme", "default")
    assert health is not None
    health.not_before = 100.0
    assert "resume" not in greyed(await shown(api, PATH))


async def test_event_that_no_endpoint_takes_is_not_retried(autojump_clock, nursery) -> None:
    """Neither sent once more, as long as that is so."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(410))
    api.flow.admit(event_id="evt_1")
    await at(1)
    path, disabled = "/clients/acme/events/evt_1", "its endpoint is disabled, so first resume that"
    assert greyed(await shown(api, path)) == {"retry": disabled, "redeliver": disabled}
    assert (await api.post(f"/v1{path}/retry")).status == 409
    api.flow.registration.resume("acme", "default")
    assert greyed(await shown(api, path)) == {}
    await api.delete("/v1/clients/acme?end_unsettled=true")
    removed = "its endpoint is removed"
    assert greyed(await shown(api, path)) == {"retry": removed, "redeliver": removed}


async def test_event_that_an_operator_holds_is_not_retried(autojump_clock, nursery) -> None:
    """It would be due, and wait all the same. What was given up is taken back by a retry even then."""
    api = await started(nursery, FAILING_RETRY)
    api.flow.sender.script(URL, Responded(404))
    api.flow.admit(event_id="evt_1")
    await at(1)
    api.flow.registration.pause("acme", "default")
    api.flow.admit(event_id="evt_2")
    assert "retry" not in greyed(await shown(api, "/clients/acme/events/evt_1"))
    held = "an operator holds its endpoint, so first resume that"
    assert greyed(await shown(api, "/clients/acme/events/evt_2")) == {"retry": held}


async def test_retry_and_redeliver_say_how_they_differ(autojump_clock, nursery) -> None:
    """Who has it is left alone, or gets it once more."""
    api = await started(nursery, FAILING_RETRY)
    api.flow.sender.script(URL, Responded(500))
    api.flow.admit(event_id="evt_1")
    await at(1)
    said = await said_at(api, "/clients/acme/events/evt_1")
    assert "retry tries now what is not delivered; whoever has it is left alone" in said
    assert "redeliver sends it once more, also to who has it already; the same webhook-id tells them" in said


@pytest.mark.parametrize(
    ("schedule_seconds", "line"),
    [
        ((10.0,), r"It has its last attempt in [\d.]+s, at 08:00:\d\dZ, and is given up if that fails"),
        ((10.0, 20.0), r"It has its last attempt about in \d+s, at 08:00:\d\dZ, and is given up if that fails"),
        ((10.0, 4000.0), r"It is given up for its age in 59m 59s, at 09:00:00Z"),
    ],
)
async def test_event_has_the_earlier_of_its_last_attempt_and_its_age(
    autojump_clock, nursery, schedule_seconds: tuple[float, ...], line: str
) -> None:
    """Which of both it is, is said."""
    api = await started(nursery, Settings(retry=RetrySettings(schedule_seconds=schedule_seconds)))
    api.flow.sender.script(URL, Unreachable("cannot connect"))
    api.flow.admit(event_id="evt_1")
    await at(1)
    said = await said_at(api, "/clients/acme/events/evt_1")
    assert re.search(line, said), said
    assert "If nothing settles it before" not in said  # explain's sentence: a second deadline


async def test_what_may_have_arrived_is_counted_apart_from_what_has_not(autojump_clock, nursery) -> None:
    """After a kill: these may come twice. No word of safety stands beside what hookd cannot send."""
    lost = msgspec.structs.replace(summary(line("acme", 32), payloads=False), undelivered=Undelivered(20, 9, 3))
    unclaimed = [Unclaimed("/reports/crash-1.jsonl", "one", loss_of(lost))]
    api = await started(nursery, standing=lambda: Standing(unclaimed, Reloaded(), {}))
    said = await said_at(api, "/")
    assert "Not arrived: 29. May have arrived, since they were sent and no answer was read: 3. Those may come" in said
    assert "Nobody of these is missing here, so nobody has to be registered." in said
    assert "Safe" not in said


def firsts(said: str) -> set[str]:
    """What stands behind each First, up to where it ends."""
    return set(re.findall(r"First: (.{26})", said))


async def test_receiver_that_is_slow_is_the_cause_with_one_first_step(autojump_clock, nursery) -> None:
    """The same on its own page. Nothing there is green, and nothing is said to expire."""
    limits = Settings(intake=IntakeSettings(client_events_max=4), delivery=DeliverySettings(concurrency=1))
    api = await started(nursery, limits)
    api.flow.sender.script(URL, *[Slow(3.5, 200)] * 30)
    api.flow.admit_many(4)
    await at(9)
    api.flow.admit_many(2)
    assert (await api.post("/v1/events", event())).status == 429
    await at(10)
    for path in ("/", PATH):
        said = await said_at(api, path)
        assert "Events of acme alone are refused (429), 1 request, at 08:00:09Z: its budget is full" in said
        assert "of it: it answers in 3.5s and takes 1 at a time, 0.3 a second, and more comes." in said
        assert "Lost: nothing yet of what hookd accepted. What it refuses it does not hold: producers must send" in said
        assert firsts(said) == {"raise delivery.concurrency"}
        assert "given up" not in said.partition("What can be pressed")[0].partition("Endpoints")[0]
        page = await shown(api, path)
        assert "chip good" not in page
        assert "headline good" not in page
    await at(12)
    await at(13)
    assert re.search(r"acme/default slow 75 % 3 1 .* waits for a place, due 08:00:09Z 200", await said_at(api, "/"))


def headline_and_first(page: str) -> tuple[str, str, str]:
    """The sentence, its colour and its first step."""
    [(colour, sentence)] = re.findall(r'<p class="headline (\w+)"><a href="[^"]*">([^<]*)</a></p>', page)
    return sentence, colour, re.findall(r"<b>First:</b>([^<]*)<", page)[0]


@pytest.mark.parametrize("outcome", [Responded(410), Responded(404), Responded(503), Unreachable("cannot connect")])
async def test_first_step_and_sentence_are_the_same_on_both_pages(autojump_clock, nursery, outcome: Outcome) -> None:
    """One trouble, one word, one colour, one since, one step."""
    api = await started(nursery)
    api.flow.sender.script(URL, *[outcome] * 40)
    api.flow.admit_many(11)
    await at(60)
    [whole, own] = [headline_and_first(await shown(api, path)) for path in ("/", PATH)]
    assert whole[0].endswith(own[0])  # before it stands what was given up, if anything was
    assert whole[1:] == own[1:]
    assert own[1] == "bad"


async def test_what_a_run_before_left_stands_on_the_page_of_its_endpoint(autojump_clock, nursery) -> None:
    """Linked from the list of it, and back; it does not say that all is well."""
    api = await started(nursery)
    lost = loss_of(summary(line("acme", 300), line("globex", 20), trigger="crash", payloads=False))
    standing = Standing([Unclaimed("/reports/crash-9f0c.jsonl", "9f0c", lost)], Reloaded(), {})
    api = Api(api.flow, standing=lambda: standing)
    page = await shown(api, PATH)
    assert "left 300 deliveries for acme/default undelivered. hookd cannot send them" in text_of(page)
    assert "First: post them again from your own records" in text_of(page)
    assert 'href="../../../#run-before"' in page
    assert "headline good" not in page
    said = await said_at(api, "/")
    assert "None to list. What earlier runs left stands above." in said
    assert "Of this run alone: what earlier runs left is not in it." in said


@pytest.mark.parametrize("path", ["/", PATH])
async def test_what_earlier_runs_left_is_asked_for_once_in_a_refresh(autojump_clock, nursery, path: str) -> None:
    """Headline, step and list are of one look: a report that somebody takes up in between is in all or in none."""
    lost = loss_of(summary(line("acme", 300), line("globex", 20)))
    looks = iter([[Unclaimed("/reports/one.jsonl", "one", lost)], []])
    api = await started(nursery, standing=lambda: Standing(next(looks), Reloaded(), {}))
    before, after = await said_at(api, path), await said_at(api, path)
    assert "undelivered" in before
    assert "undelivered" not in after


async def test_endpoint_that_failed_last_is_not_green(autojump_clock, nursery) -> None:
    """Before it has failed for 30 s nothing is called failing; its row and its page say that it failed."""
    api = await failed_twice(nursery)
    page = await shown(api, "/")
    assert "chip good" not in page
    assert '<span class="chip warn">failed last</span>' in page
    assert '<p class="headline warn">failed last</p>' in await shown(api, PATH)


async def test_charts_begin_with_the_run_and_no_lag_is_longer_than_it(autojump_clock, nursery) -> None:
    """What was accepted before the first sample is no zero beside a full budget; a lag is a bucket's bound."""
    samples = [Sample(one, 220, 20, 0, 0, 200, 300.0) for one in (12.0, 17.0)]
    drawn = {one.name: one.words for one in charts(samples, 10.0)}
    assert drawn["accepted a second"] == "0.0, at most 110.0"
    assert drawn["from acceptance to delivery, p99 rounded up"] == "7s, at most 7s"


async def test_sentence_and_row_have_the_same_number(autojump_clock, nursery) -> None:
    """What a look at all endpoints found a moment ago is brought up to now."""
    api = await started(nursery)
    api.flow.registration.pause("acme", "default")
    api.flow.admit_many(3)
    assert "3 deliveries are unsettled" in await said_at(api, "/")
    api.flow.admit_many(2)
    said = await said_at(api, "/")
    assert "5 deliveries are unsettled" in said
    assert "paused by operator < 1 % 5 0" in said


async def test_what_an_endpoint_answered_is_quoted_as_its_body(autojump_clock, nursery) -> None:
    """An `ok` beside a 500 is not hookd's word."""
    api = await started(nursery)
    api.flow.sender.script(URL, 500)
    api.flow.admit(event_id="evt_1")
    await at(1)
    assert '500 "answered 500"' in await said_at(api, PATH)
    assert '500 its body: "answered 500"' in await said_at(api, "/clients/acme/events/evt_1")


async def test_refusals_stand_above_what_a_run_before_left_on_an_endpoints_page_too(autojump_clock, nursery) -> None:
    """The worst first, as on the overview."""
    api = await started(nursery, Settings(intake=IntakeSettings(client_events_max=2)))
    api.flow.registration.pause("acme", "default")
    api.flow.admit_many(2)
    lost = loss_of(summary(line("acme", 300), trigger="crash"))
    standing = Standing([Unclaimed("/reports/crash-9f0c.jsonl", "9f0c", lost)], Reloaded(), {})
    said = await said_at(Api(api.flow, standing=lambda: standing), PATH)
    assert 0 < said.index("its budget is full") < said.index("left 300 deliveries")


async def test_event_that_came_to_a_disabled_endpoint_says_that_it_was_not_attempted(autojump_clock, nursery) -> None:
    """Not that it was given up after 0 attempts."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(410))
    api.flow.admit()
    await at(1)
    api.flow.admit(event_id="after")
    await at(2)
    said = await said_at(api, "/clients/acme/events/after")
    assert "Given up (gone) without an attempt: the endpoint answered 410" in said
