"""The status page as it is served: its policy, what it says, what a token opens, and that no text becomes markup."""

import base64
import hashlib
import re
import shutil
import subprocess
from html import unescape
from importlib import resources
from typing import Any

import pytest
import trio
from hookd.core.client import Client
from hookd.core.health import PausedBy
from hookd.core.loss import loss_of
from hookd.core.notice import Kind, Notice
from hookd.core.outcome import Responded
from hookd.core.run_history import PreviousRun
from hookd.core.settings import HttpSettings, IntakeSettings, Settings, TokenSettings
from hookd.core.timestamps import rfc3339
from hookd.edge.api.page.document import Document
from hookd.edge.api.sent_routes import EVENTS_AT_ONCE
from hookd.edge.api.services import Standing
from hookd.flow.oldest_deadline import LOOKED_AT_MAX
from hookd.flow.ports import Unclaimed

from tests.core.test_loss import EARLY, line, summary
from tests.edge.test_api import Api, started
from tests.edge.test_auth import DASHBOARD, OPS, bearer, with_tokens
from tests.flow.harness import EPOCH, URL, Flow, Hang, Reloaded, at, endpoint, now
from tests.turns import turns_of_another

FILES = resources.files("hookd.edge.api.page")
STYLE = FILES.joinpath("page.css").read_text(encoding="utf-8")
SCRIPT = FILES.joinpath("page.js").read_text(encoding="utf-8")
TEMPLATES = {one.name: one.read_text(encoding="utf-8") for one in FILES.joinpath("templates").iterdir()}
PAGES = ["/", "/clients/acme/endpoints/default", "/clients/acme/events/evt_1", "/find?name=acme"]
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202egpj\u2028\n" + "w" * 128


async def shown(api: Api, path: str, **headers: str) -> str:
    answer = await api.call("GET", path, **headers)
    assert answer.status == 200, answer.body
    return str(answer.body.decode())


def text_of(page: str) -> str:
    """What a person reads in it."""
    body = page[page.index("<main") : page.index("</main>")]
    return unescape(" ".join(re.sub("<[^>]*>", " ", body).split()))


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("path", PAGES)
async def test_page_is_served_under_a_policy_that_names_its_own_script_and_style(
    autojump_clock, nursery, path: str
) -> None:
    """Nothing else runs, nothing is framed, kept, sniffed or told to others."""
    api = await started(nursery)
    api.flow.admit(event_id="evt_1")
    answer = await api.get(path)
    headers = dict(answer.headers)
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": sha256(STYLE),
        "script-src": sha256(SCRIPT),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("path", PAGES)
async def test_page_has_the_very_style_and_script_that_its_policy_names(autojump_clock, nursery, path: str) -> None:
    """Once each, unescaped, and nothing in line beside them."""
    api = await started(nursery)
    api.flow.admit(event_id="evt_1")
    page = await shown(api, path)
    assert re.findall("<style>(.*?)</style>", page, re.DOTALL) == [STYLE]
    assert re.findall("<script>(.*?)</script>", page, re.DOTALL) == [SCRIPT]
    markup = page.replace(SCRIPT, "").replace(STYLE, "")
    assert not re.search(r"<[^>]*\s(style|on\w+|src)=", markup)
    assert not re.search(r"<(link|a|form)[^>]*(href|action)=\"(https?:)?//", markup)


def test_script_makes_no_markup_of_its_own() -> None:
    """What it puts in as HTML is the server's page; all else is text. The token goes into one header alone."""
    for forbidden in [
        "innerHTML", "outerHTML = ", "insertAdjacentHTML", "document.write", "createContextualFragment", "srcdoc",
        "eval(", "Function(", "setAttribute", "localStorage", "cookie", ".href", "import(",
    ]:  # fmt: skip
        assert forbidden not in SCRIPT, forbidden
    assert SCRIPT.count("DOMParser") == 1
    assert not re.search(r"https?://|@import|url\(", SCRIPT + STYLE)
    assert "prefers-color-scheme: dark" in STYLE
    assert "prefers-reduced-motion" in STYLE
    assert not any("|safe" in text or "autoescape" in text for text in TEMPLATES.values())


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_script_parses(tmp_path) -> None:
    """As a browser's engine reads it."""
    (tmp_path / "page.js").write_text(SCRIPT, encoding="utf-8")
    checked = subprocess.run(["node", "--check", tmp_path / "page.js"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_whatever_is_put_into_a_page_is_escaped_and_harmless() -> None:
    """Markup, quotes, terminal codes, bidi marks and line breaks, in text and in an attribute."""
    visit: Any = {"root": "", "is_stranger": False}
    page = Document().text("absent.html", visit=visit, title=HOSTILE, detail=HOSTILE)
    body = page[page.index("<main") : page.index("</main>")]
    assert "alert(1)" in body
    assert "<script" not in body
    assert not {"\x1b", "\u202e", "\u2028", "'"} & set(body)
    assert r"\x1b[31m\u202egpj\u2028\n" in body
    assert "&lt;script&gt;" in body
    assert "&#34;&#39;&amp;" in body


async def test_overview_says_the_worst_first(autojump_clock, nursery) -> None:
    """The headline, what else is wrong, and where to look, without any script."""
    flow = Flow(Settings(intake=IntakeSettings(client_events_max=4, unsettled_events_max=4)))
    await flow.start(nursery)
    unclaimed = [Unclaimed("/reports/crash-9f0c.jsonl", "9f0c", loss_of(summary(line("initech", 4997))))]
    standing = Standing(unclaimed, Reloaded(), {})
    api = Api(flow, previous_run=lambda: PreviousRun("9f0c", "crash", 4997, 0), standing=lambda: standing)
    flow.put("initech")
    flow.registration.pause("initech", "default")
    flow.admit_many(4, "initech")
    page = await shown(api, "/")
    said = text_of(page)
    assert said.startswith(
        "Producers are refused (503) for all clients: the budget is full; initech/default holds 100 % of it, paused by "
        "operator since"
    )
    assert "First: on initech/default: press resume, unless the pause is still wanted. Else raise intake." in said
    assert "; initech's own budget is full too (429)." in said
    assert "The run before was killed and left 4,997 deliveries undelivered: initech/default 4,997, the oldest" in said
    assert "1 endpoint of 1 client." in said
    assert "hookd resend /reports/crash-9f0c.jsonl --url http://localhost" in said
    assert 'href="clients/initech/endpoints/default"' in page
    assert 'href="#run-before"' in page
    assert re.search(r"initech/default paused by operator 100 % 4 0 0s never in this run none none yet", said)
    assert "4 of 4 unsettled events" in said
    unclaimed.clear()
    said = text_of(await shown(api, "/"))
    assert "The run before" not in said
    assert "4,997 deliveries undelivered. Somebody took up what it lists." in said


async def test_what_earlier_runs_left_is_listed_by_whose_it_is(autojump_clock, nursery) -> None:
    """The newest report first, each with its command; what has no payloads cannot be sent, which is said."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme")
    owed = [line("acme", 30, last_error="answered 503", failing_since=EARLY), line("<b>", 2, EARLY)]
    many = [line(f"c{number}", 1) for number in range(12)]
    unclaimed = [
        Unclaimed("/reports/unread.jsonl", None),
        Unclaimed("/reports/shutdown-1.jsonl", "one", loss_of(summary(*many))),
        Unclaimed("/my reports/crash-2.jsonl", "two", loss_of(summary(*owed, trigger="crash", payloads=False))),
    ]
    api = Api(flow, standing=lambda: Standing(unclaimed, Reloaded(), {}))
    page = await shown(api, "/")
    said = text_of(page)
    newest, older = said[said.index("32 deliveries that") :].split("12 deliveries that nobody took up, of run one")
    assert newest.startswith("32 deliveries that nobody took up, of run two It was last heard of at 2026-11-30 03:")
    assert "The oldest was accepted at 2026-11-30 01:00:00Z. Not arrived: 32. Endpoint Undelivered" in newest
    assert "acme/default 30 2026-11-30 02:00:00Z answered 503, failing since 2026-11-30 01:00:00Z" in newest
    assert "<b>/default, not registered now 2 2026-11-30 01:00:00Z none: it was not failing" in newest
    steps = [
        "Register who is missing: <b>/default, each as before: curl -X PUT http://localhost/v1/clients/CLIENT -H",
        "Of an endpoint that is not registered nothing is taken.",
        "List the events, each with its client: jq -r 'select(.kind ==",
        "hookd cannot send them: the report has no payloads. Of class outcome_unknown are those that may have arrived.",
        "Post each again from your own records, under its old id: curl -X POST http://localhost/v1/clients/CLIENT/events",
        "Last, take it off this list: hookd resend '/my reports/crash-2.jsonl' --url http://localhost Despite its name",
    ]
    found = [newest.index(step) for step in steps]
    assert found == sorted(found)
    assert "It stopped at 2026-11-30 03:00:00Z." in older
    assert "May have arrived" not in said
    steps = [
        "And 2 more endpoints with 2 deliveries. Register who is missing: c0/default, c1/default, c2/default",
        "Look at the 2 more endpoints as well. Of an endpoint",
        "Look at what it is: hookd report /reports/shutdown-1.jsonl Send them: hookd resend /reports/shutdown-1.jsonl",
        "Once hookd has taken all of it, this marks the report as done, and it leaves this list.",
    ]
    found = [older.index(step) for step in steps]
    assert found == sorted(found)
    assert "Beside these, reports that nobody took up: 1, in" in older
    assert 'href="clients/acme/endpoints/default"' in page
    assert 'href="clients/c1/' not in page


async def test_overview_of_a_daemon_that_is_well(autojump_clock, nursery) -> None:
    """It says so, and how many take what comes."""
    api = await started(nursery)
    said = text_of(await shown(api, "/"))
    assert said.startswith("All is well: the 1 endpoint takes what comes; 0 deliveries are unsettled, none overdue.")
    assert "None to list." in said
    assert "Given up, the latest first None is held." in said


async def test_charts_are_drawn_from_the_last_fifteen_minutes(autojump_clock, nursery) -> None:
    """A line for each, and its words for those who do not see it."""
    api = await started(nursery)
    await at(11)
    api.flow.admit_many(10)
    await at(21)
    page = await shown(api, "/")
    assert page.count("<polyline points=") == 5
    assert 'aria-label="accepted a second: 0.0, at most 2.0"' in page
    assert 'aria-label="unsettled events: 0, at most 0"' in page


async def test_endpoints_can_be_narrowed_by_state_and_name(autojump_clock, nursery) -> None:
    """Chips are links, the field is a form: neither needs a script."""
    api = await started(nursery)
    for client_id in ("globex", "initech"):
        api.flow.put(client_id)
    api.flow.registration.pause("globex", "default")
    assert "acme/default" not in text_of(await shown(api, "/"))
    assert "acme/default ok" in text_of(await shown(api, "/?name=acm"))
    said = text_of(await shown(api, "/?state=paused_by_operator&name="))
    assert "globex/default paused by operator" in said
    assert "initech/default" not in said
    page = await shown(api, "/?name=%3Cb%3E%22")
    assert 'value="&lt;b&gt;&#34;"' in page
    assert "None to list." in text_of(page)
    assert (await api.get("/?state=nonsense")).status == 422


async def test_endpoint_page_has_explains_words_its_attempts_and_commands(autojump_clock, nursery) -> None:
    """Why, since when, what happens next, what to press."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(404), Responded(404), Responded(404))
    api.flow.admit(event_id="evt_1")
    await at(6)
    page = await shown(api, "/clients/acme/endpoints/default")
    said = text_of(page)
    assert "Its last 2 attempts failed, the first" in said
    assert "answered 404" in said
    assert re.search(r"evt_1 2 \S+Z \([\d.]+s ago\) 0 ms 404", said)
    assert re.search(
        r"The oldest has its last attempt about in 42m \d+s, at 08:42:\d\dZ, and is given up if that", said
    )
    assert "Nothing is given up while you pause the endpoint." in said
    assert 'href="../../../clients/acme/events/evt_1"' in page
    for verb in ("pause", "resume", "test", "rotate-secret"):
        assert f'data-post="../../../v1/clients/acme/endpoints/default/{verb}"' in page
        assert f"curl -X POST http://localhost/v1/clients/acme/endpoints/default/{verb}" in said
    body = """-H 'content-type: application/json' -d '{"endpoint_id":"default"}'"""
    for verb in ("replay", "cancel"):
        [action] = re.findall(f"<button[^>]*v1/clients/acme/{verb}[^>]*>(?={verb}<)", page)
        assert 'data-range="{&#34;endpoint_id&#34;:&#34;default&#34;}"' in action
        assert "Deliveries that match now: {matched}." in action
        assert f"curl -X POST http://localhost/v1/clients/acme/{verb} {body}" in said


async def test_endpoint_page_of_strict_order_leads_to_the_event_that_holds_up_the_others(
    autojump_clock, nursery
) -> None:
    """There it can be retried or cancelled. While an operator holds the endpoint, nothing is given up."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(order="strict"))
    api.flow.sender.script(URL, Responded(500))
    api.flow.admit(event_id="first")
    api.flow.admit(event_id="behind")
    await at(1)
    page = await shown(api, "/clients/acme/endpoints/default")
    assert 'retry or cancel: <a href="../../../clients/acme/events/first">first</a>' in page
    assert "; the oldest is given up about 08:42" in text_of(page)
    api.flow.registration.pause("acme", "default")
    assert "the oldest is given up" not in text_of(await shown(api, "/clients/acme/endpoints/default"))


async def test_endpoint_page_has_its_own_last_notices(autojump_clock, nursery) -> None:
    """The newest first, ten at most; those of another endpoint are on its own page."""
    api = await started(nursery)
    for number in range(11):
        notice(api, f"error of acme {number}")
    notice(api, "error of acme's other", endpoint_id="other")
    notice(api, "error of globex", client_id="globex")
    said = text_of(await shown(api, "/clients/acme/endpoints/default"))
    assert re.findall(r"hookd\.endpoint\.paused paused \S+Z error of (\w+ \d+)", said) == [
        f"acme {number}" for number in range(10, 0, -1)
    ]
    assert "error of globex" not in said
    assert "other" not in said


def notice(api: Api, error: str, *, client_id: str = "acme", endpoint_id: str = "default") -> None:
    since = rfc3339(EPOCH)
    told = {"client_id": client_id, "endpoint_id": endpoint_id, "state": "paused", "since": since, "error": error}
    api.flow.notices.feed.note(Notice(id=f"n-{error}", type=Kind.PAUSED, at=since, counts={}, **told))


async def test_endpoint_page_offers_what_its_client_allows(autojump_clock, nursery) -> None:
    """Nothing waits: there is nothing to cancel. A client of the config file rotates there."""
    api = await started(nursery)
    verbs = ["test", "resume", "pause", "replay", "replay", "rotate-secret"]  # retry-all is a replay of what failed
    path = "/clients/acme/endpoints/default"
    assert re.findall('data-post="[^"]*/([a-z-]+)"', await shown(api, path)) == verbs
    managed = Client(id="globex", endpoints=(endpoint(),), managed_by_config=True)
    api.flow.registration.take_config([managed])
    page = await shown(api, path.replace("acme", "globex"))
    assert re.findall('data-post="[^"]*/([a-z-]+)"', page) == verbs[:-1]


async def test_event_page_has_its_time_line_and_what_comes_next(autojump_clock, nursery) -> None:
    """Each attempt, the next one, and when it is too old; the payload is asked for apart."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(503))
    api.flow.admit(event_id="evt_1", payload=b'{"secret": "s3cret"}')
    await at(1)
    page = await shown(api, "/clients/acme/events/evt_1")
    said = text_of(page)
    assert "acme/evt_1 failed, to be retried Type invoice.paid, accepted" in said
    assert re.search(r"Attempt 1 \S+Z, 0 ms: 503", said)
    assert re.search(r"Attempt 2 of 6: in [\d.]+s, at \S+Z", said)
    assert re.search(r"It has its last attempt about in 42m \d+s, at 08:42:\d\dZ, and is given up if that fails", said)
    assert 'data-show="../../../v1/clients/acme/events/evt_1/payload"' in page
    assert "s3cret" not in page
    assert 'data-post="../../../v1/clients/acme/events/evt_1/retry"' in page


async def test_event_page_offers_what_there_is_to_do(autojump_clock, nursery) -> None:
    """What waits can be retried and cancelled, what is settled sent once more; each says to how many."""
    api = await started(nursery)
    api.flow.registration.pause("acme", "default")
    api.flow.admit(event_id="evt_1")
    path = "/clients/acme/events/evt_1"
    assert re.findall('data-post="[^"]*/([a-z]+)"', await shown(api, path)) == ["retry", "cancel"]
    api.flow.registration.resume("acme", "default")
    await now()
    page = await shown(api, path)
    assert re.findall('data-post="[^"]*/([a-z]+)"', page) == ["redeliver"]
    assert "what is settled of it (1 of 1) is sent once more" in page
    answer = await api.call("POST", "/v1/clients/acme/events/evt_1/redeliver")
    assert answer.status == 202


async def test_event_page_counts_what_is_in_flight_apart(autojump_clock, nursery) -> None:
    """It cannot be retried, and is cancelled only if it fails."""
    api = await started(nursery)
    api.flow.sender.script(URL, Hang())
    api.flow.admit(event_id="evt_1")
    await now()
    page = await shown(api, "/clients/acme/events/evt_1")
    assert re.findall('data-post="[^"]*/([a-z]+)"', page) == ["cancel"]
    assert "what waits of it (0 of 1) is given up; what is in flight (1) runs out" in page


async def test_event_that_went_to_nobody_can_be_sent_to_who_wants_it_now(autojump_clock, nursery) -> None:
    """As the API does it."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(event_types=("none",)))
    api.flow.admit(event_id="evt_1")
    page = await shown(api, "/clients/acme/events/evt_1")
    assert re.findall('data-post="[^"]*/([a-z]+)"', page) == ["redeliver"]
    assert "it went to nobody" in page
    api.flow.put("acme", endpoint())
    assert (await api.call("POST", "/v1/clients/acme/events/evt_1/redeliver")).status == 202


async def test_what_is_not_there_is_said_on_a_page(autojump_clock, nursery) -> None:
    """In the API's words, with its status; and as its problem, unless HTML is asked for by name."""
    api = await started(nursery)
    for path, words in [
        ("/clients/nobody/endpoints/default", "No such client: no client 'nobody' is registered"),
        ("/clients/acme/endpoints/other", "client 'acme' has no endpoint 'other'"),
        ("/clients/acme/events/evt_9", "No such event: no event 'evt_9' is held"),
    ]:
        response = await api.client.get(path, headers={"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
        assert (response.status_code, response.content_type) == (404, "text/html; charset=utf-8")
        assert words in text_of(await response.get_data(as_text=True))
        for accept in ("*/*", "text/*", "application/problem+json, text/html;q=0"):
            response = await api.client.get(path, headers={"accept": accept})
            assert response.status_code in (404, 406)
            assert response.content_type == "application/problem+json"


async def test_search_finds_events_clients_and_endpoints(autojump_clock, nursery) -> None:
    """One event alone is shown; where there are several things of the name, each is a link."""
    api = await started(nursery)
    api.flow.put("globex")
    api.flow.admit(event_id="evt_1")
    for client_id in ("acme", "globex"):
        api.flow.admit(client_id, "evt_2")
    await now()
    assert "acme/evt_1 delivered" in text_of(await shown(api, "/find?name=evt_1"))
    assert "acme/evt_2 delivered" in text_of(await shown(api, "/find?name=acme/evt_2"))
    both = await shown(api, "/find?name=evt_2")
    assert 'href="clients/acme/events/evt_2"' in both
    assert 'href="clients/globex/events/evt_2"' in both
    assert 'href="clients/acme/endpoints/default"' in await shown(api, "/find?name=acme")
    assert 'href="clients/acme/endpoints/default"' in await shown(api, "/find?name=acme/default")
    for name in ("", "nothing", "/", "acme/", "/evt_1", "%3Cscript%3E", "x" * 5000):
        page = await shown(api, f"/find?name={name}")
        assert "Nothing is called so" in text_of(page)
        assert len(page) < 30_000
        assert "<script>" not in page[page.index("<main") : page.index("</main>")]


@pytest.mark.parametrize("path", PAGES)
async def test_with_tokens_a_stranger_gets_the_shell_and_nothing_else(autojump_clock, nursery, path: str) -> None:
    """A browser's. It is the same for every path, and tells neither versions nor whether something is there."""
    api = await started(nursery, with_tokens(DASHBOARD, OPS))
    api.flow.admit(event_id="evt_1")
    page = await shown(api, path, accept="text/html")
    assert text_of(page).startswith("This daemon asks for a token.")
    assert "acme" not in page
    assert api.services.run.run_id not in page
    assert page == await shown(api, path.replace("acme", "nobody"), accept="text/html")
    assert (await api.call("GET", path, accept="text/html", authorization="Bearer wrong")).status == 401
    assert (await api.call("GET", path)).status == 401  # a program: it would take the shell for the page
    assert (await api.call("GET", path, accept="text/html," * 500)).status == 401  # before what else is wrong


async def test_token_of_scope_read_sees_actions_greyed_with_their_commands(autojump_clock, nursery) -> None:
    """An admin's are not; neither's page has the token in it."""
    api = await started(nursery, with_tokens(DASHBOARD, OPS))
    api.flow.admit(event_id="evt_1")
    for path in PAGES[1:3]:
        read = await shown(api, path, **bearer(DASHBOARD))
        admin = await shown(api, path, **bearer(OPS))
        assert read.count("disabled>") == read.count("data-post=") >= (1 if "endpoints" in path else 0)
        assert " disabled>" not in admin
        assert DASHBOARD.token not in read
        assert OPS.token not in admin
    read = await shown(api, PAGES[1], **bearer(DASHBOARD))
    assert "Your token may read. These take one of scope admin." in read
    assert 'curl -X POST http://localhost/v1/clients/acme/endpoints/default/pause -H "authorization: Bearer $(cat' in (
        text_of(read)
    )
    assert "To see it takes a token of scope admin." in await shown(api, PAGES[2], **bearer(DASHBOARD))


async def test_token_held_to_clients_sees_their_pages_alone(autojump_clock, nursery) -> None:
    """The overview and the search speak of the whole daemon."""
    held = TokenSettings(name="acme-only", scope="read", token="token-of-acme-only-0123", clients=("acme",))
    api = await started(nursery, Settings(http=HttpSettings(tokens=(held, OPS))))
    api.flow.put("globex")
    assert (await api.call("GET", "/clients/acme/endpoints/default", **bearer(held))).status == 200
    for path in ("/", "/find?name=acme", "/clients/globex/endpoints/default"):
        assert (await api.call("GET", path, **bearer(held))).status == 403


async def test_without_tokens_no_page_of_another_site_is_answered(autojump_clock, nursery) -> None:
    """As for the API: neither read, nor pressed."""
    api = await started(nursery)
    for headers in ({"host": "evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "http://evil.example"}):
        for path in ("/", "/clients/acme/endpoints/default"):
            assert (await api.call("GET", path, **headers)).status == 403
        assert (await api.call("POST", "/v1/clients/acme/endpoints/default/pause", **headers)).status == 403


async def test_what_an_admin_did_is_logged_with_the_tokens_name(autojump_clock, nursery) -> None:
    """One line for each that was not refused; reading is none."""
    api = await started(nursery, with_tokens(DASHBOARD, OPS))
    pause = "/v1/clients/acme/endpoints/default/pause"
    assert (await api.call("POST", pause, **bearer(OPS))).status == 200
    assert (await api.call("POST", pause, **bearer(DASHBOARD))).status == 403
    assert (await api.call("POST", pause.replace("acme", "nobody"), **bearer(OPS))).status == 404
    await api.call("GET", "/", **bearer(OPS))
    [line] = api.flow.log.of("admin.acted")
    assert {name: line[name] for name in ("token", "method", "path", "status")} == {
        "token": "ops",
        "method": "POST",
        "path": pause,
        "status": 200,
    }
    health = api.flow.ledger.health("acme", "default")
    assert health is not None
    assert health.paused_by is PausedBy.OPERATOR


async def test_pages_of_an_endpoint_that_many_ask_for_are_made_one_after_the_other(autojump_clock, nursery) -> None:
    """Each looks through all of a client's events, in slices: so many slices are so many turns for others."""
    api = await started(nursery)
    api.flow.admit_many(4000)
    await now()
    async with turns_of_another() as turns, trio.open_nursery() as pages:
        for _ in range(10):
            pages.start_soon(shown, api, "/clients/acme/endpoints/default")
    assert turns.count > 10 * 4000 / EVENTS_AT_ONCE


@pytest.mark.parametrize(("before", "is_said"), [(LOOKED_AT_MAX - 1, True), (LOOKED_AT_MAX, False)])
async def test_what_waits_longest_is_looked_for_among_the_first_events(
    autojump_clock, nursery, before: int, is_said: bool
) -> None:
    """Behind so many of the client's other endpoints it is not: that would hold up everyone."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("busy", event_types=("other",)), endpoint("quiet", event_types=("rare",)))
    flow.registration.pause("acme", "busy")
    flow.sender.script(URL, Responded(404))
    for _ in range(before):
        flow.admit("acme", type="other")
    flow.admit("acme", type="rare")
    await at(1)
    said = text_of(await shown(Api(flow), "/clients/acme/endpoints/quiet"))
    assert ("The oldest has its last attempt" in said) == is_said
