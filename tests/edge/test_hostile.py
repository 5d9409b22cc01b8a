"""Receivers, producers and operators who mean harm, or act as if."""

import json
import os
import re
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio
from hookd.core.client import Client
from hookd.core.delivery import Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.health import State
from hookd.core.outcome import Blocked, Exchange, Invalid, Outcome, Responded, Unreachable
from hookd.core.retry import Reason
from hookd.core.settings import DeliverySettings, EgressSettings, RetrySettings, Settings
from hookd.core.timestamps import Moment
from hookd.edge.egress import open_sender
from hookd.edge.logs import LogWriter
from hookd.flow.alarm import Alarm
from hookd.flow.attempt import Attempter
from hookd.flow.lane import Lane
from hookd.flow.ports import DeliveryRequest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.edge.egress.peers import answering, serving
from tests.edge.test_api import EVENT, Answer, Api, refused_as
from tests.flow.harness import (
    EPOCH,
    SECRET,
    URL,
    Flow,
    Hang,
    Later,
    Sent,
    VirtualClock,
    at,
    endpoint,
    now,
    only,
    standing,
    statuses,
)

DEV = Settings(dev=True)
DAYS = Settings(retry=RetrySettings(age_seconds_max=10 * 86400.0))
REDIRECTS = (301, 302, 303, 307, 308)


async def started(nursery: trio.Nursery, settings: Settings | None = None, **fields: Any) -> Api:
    """Running, with client `acme` at URL."""
    flow = Flow(settings, **fields)
    await flow.start(nursery)
    flow.put()
    return Api(flow)


async def send(url: str, settings: Settings = DEV, *headers: tuple[str, str]) -> tuple[Outcome, Exchange]:
    """One POST over the real sender."""
    exchange = Exchange()
    async with open_sender(EffectiveSettings(settings)) as sender:
        with trio.fail_after(10):
            outcome = await sender.send(DeliveryRequest("acme", "default", url, list(headers), b"{}"), exchange)
    return outcome, exchange


# Retry-After


def date_in(seconds: float) -> str:
    return formatdate(EPOCH + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("header", "second_at"),
    [
        ("0", 5),
        ("60", 66),
        ("3600", 3600),
        ("99999999999", 3600),
        (date_in(60), 66),
        (date_in(-60), 5),
        (date_in(10 * 365 * 86400), 3600),
        *[
            (unreadable, 5)
            for unreadable in ("", "inf", "nan", "-1", "1e3", "5, 10", "soon", "\uff16\uff10", "9" * 5000)
        ],
        ("\x1b[31m60", 5),
        ("60\r\n", 5),
    ],
)
async def test_retry_after_of_any_kind_is_within_its_bounds(autojump_clock, nursery, header, second_at) -> None:
    """Never before the schedule, never over an hour, jitter and all; what cannot be read is ignored; no task dies."""
    api = await started(nursery, DAYS)
    flow = api.flow
    flow.sender.script(URL, Later(503, header), 200)
    event = flow.admit(event_id="e1")
    await at(4000)
    assert flow.sender.times("e1") == [0, second_at]
    assert event.status is Status.DELIVERED
    assert flow.dispatch.crashed_couriers == 0
    assert not flow.log.of("attempt.crashed")


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        (b"Retry-After: 7\r\n", "7"),
        (b"retry-after:7\r\nRETRY-AFTER: 3600\r\n", None),
        (b"retry-after:7\r\nRETRY-AFTER: 7\r\n", "7"),
        (b"", None),
    ],
)
async def test_retry_after_standing_twice_says_nothing_unless_both_agree(lines: bytes, read: str | None) -> None:
    """From the wire: one is taken as it stands, two are a contradiction."""
    async with serving(answering(b"HTTP/1.1 503 No\r\n" + lines + b"content-length: 0\r\n\r\n")) as server:
        outcome, exchange = await send(server.url)
    assert outcome == Responded(503)
    assert exchange.retry_after == read


# Status codes


@pytest.mark.parametrize(
    ("code", "standing_after", "state"),
    [
        (410, (Status.EXHAUSTED, Reason.GONE, 1), State.DISABLED),
        *[(code, (Status.FAILED, None, 1), State.THROTTLED) for code in (429, 502, 503, 504)],
        *[(code, (Status.FAILED, None, 1), State.OK) for code in (*REDIRECTS, 304, 400, 404, 500, 999)],
    ],
)
async def test_status_code_disables_throttles_or_fails(autojump_clock, nursery, code, standing_after, state) -> None:
    """410 disables, four codes throttle, all else but 2xx fails; one request to one URL."""
    api = await started(nursery)
    api.flow.sender.script(URL, code)
    event = api.flow.admit()
    await now()
    assert standing(event) == standing_after
    assert api.flow.ledger.ensure_health("acme", "default").state(0) is state
    assert [sent.request.url for sent in api.flow.sender.transcript] == [URL]


@pytest.mark.parametrize("code", [*REDIRECTS, 999])
async def test_location_is_never_followed(code: int) -> None:
    """Over the wire: the answer is the outcome, and nothing goes to where it points."""
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as target:
        head = f"HTTP/1.1 {code} Go\r\nlocation: {target.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with serving(answering(head)) as server:
            outcome, _ = await send(server.url)
        assert outcome == Responded(code)
        assert (server.connections, target.connections) == (1, 0)


# Poison URLs

POISON_URLS = (
    "https://" + "x" * 64 + ".test/",
    "https://" + "x." * 127 + "test/",
    "https://a..b/",
    "https://.a/",
    "https://../",
    "https://h.test:0/",
    "https://h.test:65536/",
    "https://h.test:99999/",
    "https://h.test:/",
    "https://h.test:-1/",
    "https://h.test:8\u0660/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://127\u30020\u30020\u30021/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::1",
    "https://::1/",
    "https://user:pass@h.test/",
    "https://user@h.test/",
    "https://h.test\\@127.0.0.1/",
    "https://h.test/\r\nX-Injected: 1",
    "https://h.test/ b",
    "https://h.test/\x00",
    "https://h.test/\u20ac",
    "https:///path",
    "https:h.test",
    "//h.test/",
    "ftp://h.test/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://0x7f.1/",
    "https://2130706433/",
    "https://127.1/",
    "https://0177.0.0.1/",
    "",
)


@pytest.mark.parametrize("url", POISON_URLS)
async def test_poison_url_is_refused_at_registration(autojump_clock, nursery, url: str) -> None:
    """422 that points at it, in the short form and the long; the client stays as it was."""
    api = await started(nursery)
    answer = refused_as(await api.put("/v1/clients/acme", {"url": url}), 422, "invalid-client")
    assert answer.pointers == ["/url"]
    answer = refused_as(await api.put("/v1/clients/new", {"endpoints": [{"url": url}]}), 422, "invalid-client")
    assert answer.pointers == ["/endpoints/0/url"]
    assert (await api.get("/v1/clients/acme")).body["endpoints"][0]["url"] == URL
    assert (await api.get("/v1/clients/new")).status == 404


@pytest.mark.parametrize(
    "url", [url for url in POISON_URLS if "@" not in url and not url.startswith("https://h.test/")]
)
async def test_poison_url_past_validation_is_an_outcome(url: str) -> None:
    """Whatever stands in the registry, an attempt ends with an outcome of its own and no traceback."""
    assert isinstance(await attempted(endpoint(url=url)), Invalid | Unreachable | Blocked)


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-a", "1\r\nx-injected: 1"), ("x-a", "1\x00"), ("x-a", "\u20ac"), ("x\r\na", "1"), ("x a", "1"), ("\xfc", "1")],
)
async def test_poison_header_past_validation_is_an_outcome(name: str, value: str) -> None:
    """It is not sent, in no part."""
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as server:
        outcome = await attempted(endpoint(url=server.url, headers=((name, value),)))
    assert isinstance(outcome, Invalid)


async def attempted(target: Any) -> Outcome | None:
    """One attempt over the real sender, to an endpoint that no validation has seen."""
    flow = Flow(DEV)
    flow.registration.put(Client(id="acme", endpoints=(target,)))
    event = flow.admit()
    async with open_sender(flow.effective) as sender:
        attempter = Attempter(
            effective=flow.effective,
            ledger=flow.ledger,
            sender=sender,
            clock=flow.clock,
            jitter_unit=lambda: 0.5,
            log=flow.log,
            user_agent="hookd/test",
        )
        with trio.fail_after(10):
            health = flow.ledger.ensure_health(event.client_id, target.id)
            lane = Lane(target.id, endpoint=target, health=health)
            with Alarm() as alarm:
                outcome = await attempter.attempt(lane, event, only(event), flow.clock.now(), alarm, is_probe=False)
    assert not flow.log.of("attempt.crashed")
    assert standing(event) == (Status.FAILED, None, 1)
    return outcome


# The test route


async def test_test_route_sends_as_any_attempt_and_keeps_nothing(autojump_clock, nursery) -> None:
    """Signed, with the endpoint's headers, over the same sender; no event, no count, no judgement of its health."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(headers=(("x-team", "billing"),)))
    api.flow.sender.script(URL, 503)
    before = (await api.get("/v1/clients/acme")).body, (await api.get("/v1/status")).body
    answer = await api.post("/v1/clients/acme/endpoints/default/test")
    assert (answer.status, answer.body["outcome"], answer.body["status_code"]) == (200, "responded", 503)
    [sent] = api.flow.sender.transcript
    headers = dict((*sent.request.endpoint_headers, *sent.request.headers))
    assert (sent.request.url, headers["hookd-event-type"], headers["x-team"]) == (URL, "hookd.test", "billing")
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{43}=", headers["webhook-signature"])
    assert ((await api.get("/v1/clients/acme")).body, (await api.get("/v1/status")).body) == before
    assert (await api.get(f"/v1/events/{sent.event_id}")).status == 404


@pytest.mark.parametrize(("step", "word"), [(Hang(), "timed_out"), (ValueError("bug"), "invalid"), (410, "responded")])
async def test_test_route_has_the_same_deadline_and_containment(autojump_clock, nursery, step, word) -> None:
    """It ends after delivery.timeout, and with an outcome whatever happens; 410 does not disable."""
    api = await started(nursery, Settings(delivery=DeliverySettings(timeout_seconds=3.0)))
    api.flow.sender.script(URL, step)
    answer = await api.post("/v1/clients/acme/endpoints/default/test")
    assert (answer.status, answer.body["outcome"]) == (200, word)
    assert trio.current_time() == (3 if word == "timed_out" else 0)
    assert api.flow.ledger.ensure_health("acme", "default").state(0) is State.OK


async def test_test_route_keeps_to_the_endpoint_s_own_deadline_and_tells_what_was_sent(autojump_clock, nursery) -> None:
    """As an attempt of its events would be told."""
    api = await started(nursery, Settings(delivery=DeliverySettings(timeout_seconds=30.0)))
    api.flow.put("acme", endpoint(timeout_seconds=2.5))
    api.flow.sender.script(URL, Hang())
    answer = await api.post("/v1/clients/acme/endpoints/default/test")
    assert (answer.body["outcome"], answer.body["error"]) == ("timed_out", "no answer within 2.5 s")
    assert (answer.body["duration_seconds"], answer.body["request_sent"], answer.body["number"]) == (2.5, True, 1)
    assert not answer.body["reconnected"]


async def test_test_route_obeys_the_address_policy() -> None:
    """A loopback address is blocked, and nothing connects to it."""
    flow = Flow(Settings(egress=EgressSettings(allow_http=True)))
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as server:
        flow.put("acme", endpoint(url=server.url))
        async with open_sender(flow.effective) as sender:
            attempter = Attempter(
                effective=flow.effective,
                ledger=flow.ledger,
                sender=sender,
                clock=flow.clock,
                jitter_unit=lambda: 0.5,
                log=flow.log,
                user_agent="hookd/test",
            )
            api = Api(flow, attempter=attempter)
            answer = await api.post("/v1/clients/acme/endpoints/default/test")
        assert answer.body["outcome"] == "blocked"
        assert server.connections == 0


# Header injection


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "1\r\nx-injected: 1"),
        ("x-a", "1\nx-injected: 1"),
        ("x-a", "1\r"),
        ("x-a", "\x00"),
        ("x-a", "\x1b[31m"),
        ("x-a", "\x7f"),
        ("x-a", "\u20ac"),
        ("x-a", " 1"),
        ("x-a", 1),
        ("x-a\r\nx-b", "1"),
        ("x-a:", "1"),
        ("x a", "1"),
        ("", "1"),
        ("\xfc", "1"),
        *[(name, "1") for name in ("Host", "Content-Length", "Transfer-Encoding", "TE", "Connection", "Upgrade")],
        *[(name, "1") for name in ("Expect", "Trailer", "Keep-Alive", "Proxy-Authorization", "User-Agent")],
        *[(name, "1") for name in ("Webhook-Id", "webhook-signature", "Hookd-Attempt", "content-type")],
    ],
)
async def test_header_that_would_change_the_request_is_refused(autojump_clock, nursery, name, value) -> None:
    """422 at registration, pointing at the header; the value is not repeated."""
    api = await started(nursery)
    definition = {"endpoints": [{"url": URL, "headers": {name: value}}]}
    answer = refused_as(await api.put("/v1/clients/acme", definition), 422, "invalid-client")
    assert len(answer.pointers) == 1
    assert answer.pointers[0].startswith("/endpoints/0/headers/")
    assert "injected" not in json.dumps(answer.body["errors"][0]["detail"])


# Signatures

PAYLOADS = ('{"name":"Zoë, 東京 😀"}', '"\\u00e9"', " 1e3 ", '{"b":1,"a":[1.0,2]}', "null")
OVERLAP_SECONDS = 600
ROTATED_AT = 10


class WallReaching(VirtualClock):
    """The wall shows the real time of the test's start at this virtual second, and runs along with trio's clock:
    what is sent then is fresh to a verifier, what was signed before is as old as it is."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._started = time.time() - seconds

    def now(self) -> Moment:
        return Moment(trio.current_time(), self._started + trio.current_time())


def is_verified(secret: str, sent: Sent) -> bool:
    """By the receiver's own library, the PyPI one."""
    try:
        Webhook(secret).verify(sent.request.body, dict(sent.request.headers))
    except WebhookVerificationError:
        return False
    return True


def are_verified_by_npm(cases: Sequence[tuple[str, Sent]]) -> list[str]:
    """The same by the npm library; skips where there is none."""
    node = shutil.which("node")
    directory = Path(os.environ.get("HOOKD_NODE_MODULES") or Path(__file__).parent)
    if node is None or not (directory / "node_modules" / "standardwebhooks").is_dir():
        pytest.skip("needs node, and HOOKD_NODE_MODULES=DIR after `npm install --prefix DIR standardwebhooks`")
    lines = [
        json.dumps(
            {
                "secret": secret,
                "headers": dict(sent.request.headers),
                "body_base64": b64encode(sent.request.body).decode(),
            }
        )
        for secret, sent in cases
    ]
    script = Path(__file__).with_name("verify.mjs")
    environment = os.environ | {"HOOKD_NODE_MODULES": str(directory)}
    done = subprocess.run(
        [node, script],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
        env=environment,
    )
    return done.stdout.split()


async def rotating(nursery: trio.Nursery, sent_at: float) -> tuple[Api, str, list[Sent]]:
    """One endpoint whose secret is rotated at second 10, and what went out at `sent_at`; its new secret."""
    settings = Settings(delivery=DeliverySettings(secret_overlap_seconds=float(OVERLAP_SECONDS)))
    api = await started(nursery, settings, clock=WallReaching(sent_at))
    new_secret = ""
    if sent_at > ROTATED_AT:
        await at(ROTATED_AT)
        answer = await api.post("/v1/clients/acme/endpoints/default/rotate-secret")
        new_secret = answer.body["endpoints"][0]["secret"]
        assert new_secret not in (SECRET, "")
    await at(sent_at)
    for payload in PAYLOADS:
        api.flow.admit(payload=payload.encode())
    await now()
    return api, new_secret, api.flow.sender.transcript


@pytest.mark.parametrize(
    ("sent_at", "old", "new"),
    [
        (5, True, False),
        (ROTATED_AT + 1, True, True),
        (ROTATED_AT + OVERLAP_SECONDS - 1, True, True),
        (ROTATED_AT + OVERLAP_SECONDS, False, True),
        (ROTATED_AT + 10 * OVERLAP_SECONDS, False, True),
    ],
)
async def test_signature_is_verified_with_both_secrets_while_they_overlap(
    autojump_clock, nursery, sent_at, old, new
) -> None:
    """Before the rotation the old secret alone, for delivery.secret_overlap both, after it the new one alone."""
    _, new_secret, sent = await rotating(nursery, sent_at)
    assert len(sent) == len(PAYLOADS)
    assert {is_verified(SECRET, one) for one in sent} == {old}
    assert {bool(new_secret) and is_verified(new_secret, one) for one in sent} == {new}
    signatures = [dict(one.request.headers)["webhook-signature"] for one in sent]
    assert {len(signature.split(" ")) for signature in signatures} == {old + new}
    assert {one.request.body.decode() for one in sent} == set(PAYLOADS)


async def test_put_and_second_rotation_cut_no_overlap_short(autojump_clock, nursery) -> None:
    """A PUT in between keeps both; with another rotation all three secrets verify; each is shown once."""
    api, second, _ = await rotating(nursery, ROTATED_AT + 1)
    answer = await api.put("/v1/clients/acme", {"url": URL})
    assert (answer.status, "secret" in answer.body["endpoints"][0]) == (200, False)
    third = (await api.post("/v1/clients/acme/endpoints/default/rotate-secret")).body["endpoints"][0]["secret"]
    assert "secret" not in (await api.get("/v1/clients/acme")).body["endpoints"][0]
    api.flow.admit()
    await now()
    last = api.flow.sender.transcript[-1]
    assert [is_verified(secret, last) for secret in (SECRET, second, third)] == [True] * 3
    assert not is_verified("whsec_" + b64encode(b"x" * 24).decode(), last)


async def test_retry_hours_later_is_signed_anew(autojump_clock, nursery) -> None:
    """The timestamp is the attempt's: the first one is too old by then, the retry verifies; the id is the same."""
    settings = Settings(retry=RetrySettings(schedule_seconds=(7200.0,), jitter=0.0, age_seconds_max=86400.0))
    api = await started(nursery, settings, clock=WallReaching(7200))
    api.flow.sender.script(URL, 503, 200)
    api.flow.admit(event_id="e1", payload=PAYLOADS[0].encode())
    await at(7200)
    first, second = api.flow.sender.transcript
    assert [is_verified(SECRET, first), is_verified(SECRET, second)] == [False, True]
    assert first.event_id == second.event_id == "e1"
    stamps = [int(dict(sent.request.headers)["webhook-timestamp"]) for sent in (first, second)]
    assert stamps[1] - stamps[0] == 7200


async def test_signature_is_verified_by_the_npm_library(autojump_clock, nursery) -> None:
    """During the rotation, with every payload: both secrets are ok, a third is not, nor is another payload's."""
    _, new_secret, sent = await rotating(nursery, ROTATED_AT + 1)
    wrong = "whsec_" + b64encode(b"x" * 24).decode()
    cases = [(secret, one) for one in sent for secret in (SECRET, new_secret, wrong)]
    swapped = sent[0]._replace(
        request=DeliveryRequest("acme", "default", URL, sent[0].request.headers, sent[1].request.body),
    )
    verdicts = are_verified_by_npm([*cases, (SECRET, swapped)])
    assert verdicts == ["ok", "ok", "bad"] * len(sent) + ["bad"]


# Event ids


@pytest.mark.parametrize(
    "event_id",
    [
        *("a.b", "", "x" * 65, "\u00e9", "a b", "a\n", "\x00", "\x1b[31m", "a/b", "../x", "a%2fb", "\uff11"),
        *(5, 1.5, True, {"a": 1}, ["a"]),
    ],
)
async def test_event_id_that_would_break_a_signature_or_a_path_is_refused(
    autojump_clock, nursery, event_id: object
) -> None:
    """422 that points at it, singly and in a batch, and nothing is admitted."""
    api = await started(nursery)
    assert refused_as(await api.post("/v1/events", EVENT | {"id": event_id}), 422, "invalid-event").pointers == ["/id"]
    batch = [EVENT | {"id": "good"}, EVENT | {"id": event_id}]
    assert refused_as(await api.post("/v1/events/batch", batch), 422, "invalid-event").pointers == ["/1/id"]
    assert (await api.get("/v1/status")).body["events"]["accepted"] == 0


@pytest.mark.parametrize("path", ["a.b", "%00", "%0d%0a", "..%2f..", "x" * 5000, "%F0%9F%98%80", "%ff", "%1b[31m"])
async def test_odd_event_id_in_a_path_is_not_found(autojump_clock, nursery, path: str) -> None:
    """404, never a crash."""
    api = await started(nursery)
    for route in (f"/v1/events/{path}", f"/v1/clients/acme/events/{path}", f"/v1/clients/{path}"):
        assert (await api.get(route)).status == 404


# What reaches the log

QUERY, FRAGMENT, PAYLOAD, HEADER = "canary-query", "canary-fragment", "canary-payload", "canary-header"
CANARY_SECRET = "whsec_" + b64encode(b"canary-secret-canary-secret").decode()
CANARY_URL = f"{URL}?token={QUERY}#{FRAGMENT}"
CANARIES = (QUERY, FRAGMENT, PAYLOAD, HEADER, CANARY_SECRET.removeprefix("whsec_"))
FORGED = 'x\r\n\x1b[31m\x9b31m{"level":"info","event":"forged"}\r\n00:00:00.000 info    forged\x07\u2028\udcff'


class Pipe:
    """A LogWriter over a pipe; `text` is all that came through, once it is closed."""

    def __init__(self, *, pretty: bool) -> None:
        self._reader, self._writer = os.pipe()
        self.log = LogWriter(self._writer, pretty=pretty, colours=False)
        self.text = b""

    def __enter__(self) -> "Pipe":
        return self

    def __exit__(self, *error: object) -> None:
        closed = self.log.close(timeout_seconds=5)
        os.close(self._writer)
        with os.fdopen(self._reader, "rb") as reader:
            self.text = reader.read()
        assert closed or any(error)


async def everything_with_canaries(api: Api) -> list[Answer]:
    """A client's life with all that may go wrong in it; the API's answers."""
    flow = api.flow
    target = {"id": "default", "url": CANARY_URL, "secret": CANARY_SECRET, "headers": {"authorization": HEADER}}
    flow.sender.script(CANARY_URL, Later(503, "1"), ValueError("a bug"), Unreachable("refused"), Hang(), 200)
    answers = [await api.put("/v1/clients/canary", {"endpoints": [target]})]
    event = EVENT | {"client_id": "canary", "payload": {"card": PAYLOAD}, "id": "e1"}
    answers.append(await api.post("/v1/events", event))
    await at(3000)
    answers.append(await api.post("/v1/events", event | {"id": "e2"}))
    answers.append(await api.post("/v1/events", event | {"payload": [PAYLOAD]}))  # a conflict of ids
    answers.append(await api.post("/v1/events", event | {PAYLOAD: 1}))
    answers.append(await api.put("/v1/clients/canary", {"endpoints": [target | {"url": f"http://u:{QUERY}@h/"}]}))
    answers.append(await api.put("/v1/clients/canary", {"endpoints": [target | {"secret": CANARY_SECRET + "!"}]}))
    answers.append(await api.put("/v1/clients/canary", {"endpoints": [target | {"headers": {"a": f"{HEADER}\n"}}]}))
    for action in ("pause", "resume", "test"):
        answers.append(await api.post(f"/v1/clients/canary/endpoints/default/{action}"))
    for path in ("/v1/clients", "/v1/clients/canary", "/v1/events", "/v1/events/e1", "/v1/status"):
        answers.append(await api.get(path))
    await now()
    flow.sender.script(CANARY_URL, 410)
    answers.append(await api.post("/v1/events", event | {"id": "e3"}))
    await now()
    answers.append(await api.get("/v1/clients/canary"))
    answers.append(await api.delete("/v1/clients/canary?end_unsettled=true"))
    return answers


@pytest.mark.parametrize("pretty", [False, True])
async def test_canaries_reach_neither_the_log_nor_an_answer(autojump_clock, nursery, pretty: bool) -> None:
    """Secret, payload, header value, query and fragment, through success, failure, crash, refusal and removal."""
    with Pipe(pretty=pretty) as pipe:
        api = await started(nursery, log=pipe.log)
        answers = await everything_with_canaries(api)
        pipe.log("client.repr", client=repr(api.flow.registry.find("acme")), target=repr(endpoint(url=CANARY_URL)))
    assert len(pipe.text.splitlines()) > 10
    assert b"attempt.crashed" in pipe.text
    shown = json.dumps([answer.body if isinstance(answer.body, dict) else str(answer.body) for answer in answers[:4]])
    unknown_key = answers.pop(4)  # names the key that the producer made up: the canary is its own word there
    assert unknown_key.status == 422
    shown += json.dumps([answer.body if isinstance(answer.body, dict) else str(answer.body) for answer in answers[4:]])
    for canary in CANARIES:
        assert canary.encode() not in pipe.text, canary
        assert canary not in shown, canary


async def test_canaries_are_in_no_outcome_of_the_real_sender() -> None:
    """What cannot be connected to, resolved, or sent is told without the query or a header's value."""
    texts = []
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    for url in (f"http://127.0.0.1:{port}/?t={QUERY}", f"http://a..b/?t={QUERY}", f"ftp://h/?t={QUERY}", QUERY):
        texts.append(repr((await send(url))[0]))
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as server:
        for value in (f"{HEADER}\r\nx: 1", f"{HEADER}\u20ac", f"{HEADER}\x00"):
            texts.append(repr((await send(server.url, DEV, ("authorization", value)))[0]))
        texts.append(repr((await send(f"{server.url}?t={QUERY}\r\n"))[0]))
        texts.append(repr((await send(f"{server.url}?t={QUERY}", Settings()))[0]))
    for canary in CANARIES:
        assert not [text for text in texts if canary in text]


@pytest.mark.parametrize("pretty", [False, True])
async def test_error_texts_cannot_forge_a_line_or_reach_a_terminal(autojump_clock, nursery, pretty: bool) -> None:
    """ESC, CR, LF, C1 and half of a surrogate pair in an error and in a traceback: escaped, one line a record."""
    with Pipe(pretty=pretty) as pipe:
        api = await started(nursery, log=pipe.log)
        api.flow.sender.script(URL, Unreachable(FORGED), Invalid(FORGED), ValueError(FORGED.replace("\udcff", "")), 200)
        events = api.flow.admit_many(4)
        await now()
        pipe.log("library", level="error", message=FORGED, traceback=FORGED)
        await at(10)
        assert statuses(events) == {Status.DELIVERED: 4}
    assert not {b"\x1b", b"\r", b"\x07"} & {bytes([byte]) for byte in pipe.text}
    lines = pipe.text.decode().split("\n")[:-1]
    if pretty:
        assert "\x9b" not in pipe.text.decode()
        records = [line for line in lines if not line.startswith("    ")]
        assert all(re.match(r"[0-9:.]{12} (info|warning|error) ", line) for line in records)
        assert not [line for line in lines if line.startswith("00:00:00.000")]
    else:
        records = [json.loads(line) for line in lines]
        assert not [record for record in records if record["event"] == "forged"]
        assert {record["level"] for record in records} == {"info", "error"}
