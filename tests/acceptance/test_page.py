"""The status page of a real daemon in a real browser: what on-call sees and presses, by keyboard, without any error.

The plain fetches of tests/edge/test_page.py hold what the server says; these hold what the script and the policy do.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread

import pytest

from tests.acceptance.harness import Daemon, wait_until
from tests.browser import Browser, needs_browser

pytestmark = needs_browser

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[31m\u202egpj"


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[Browser]:
    """It takes seconds to start."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(process: Browser) -> Browser:
    process.new_tab()
    process.look_like(width=1200, height=1000)
    return process


def refused_port(api: object, *client_ids: str) -> None:
    for client_id in client_ids:
        api.put_client(client_id, {"id": "default", "url": "http://127.0.0.1:1/hook"})  # type: ignore[attr-defined]


def held(browser: Browser, daemon: Daemon) -> None:
    """Nothing was complained of, and the daemon alone was asked. Chromium's own icons in fields are data."""
    assert browser.complaints == []
    assert all(url.startswith((daemon.url + "/", "data:image/svg+xml;")) for url in browser.requests), browser.requests


def test_outage_from_headline_to_retry_on_the_page_alone(tmp_path, browser) -> None:
    """The page names who is hurt; a link leads there; what was given up is retried; all by keyboard."""
    with Daemon(tmp_path / "d", settings={"retry.schedule": []}) as daemon, daemon.api as api:
        refused_port(api, "acme", "globex")
        assert api.ask("POST", "/v1/clients/globex/endpoints/default/pause").status == 200
        api.post("acme", "inv-1")
        api.post("globex", "inv-2")
        wait_until(lambda: api.status()["events"]["exhausted"] == 1)
        browser.open(daemon.url + "/")
        said = "1 delivery was given up in the last 15 minutes, the latest for acme/default (every attempt was used)."
        assert said in browser.text()
        assert "First: press resume, unless the pause is still wanted" in browser.text()
        assert "globex/default is paused by an operator since" in browser.text()
        browser.press("#troubles a[href^='clients/globex']")
        browser.wait_for_page("/clients/globex/endpoints/default")
        browser.press("button[data-post$=resume]")
        browser.wait_for("document.querySelector('dialog').open")
        assert "Resume globex/default: it ends a pause" in browser.text()
        browser.press("#confirm-yes")
        browser.wait_for("document.querySelector('#said').textContent.startsWith('resume: done')")
        wait_until(lambda: api.status()["events"]["exhausted"] == 2)
        browser.open(daemon.url + "/")
        browser.type("#find", "inv-1")
        browser.key("Enter", "\r")
        browser.wait_for_page("/find")
        assert "acme/inv-1 exhausted" in browser.text()
        browser.press("button[data-post$=retry]")
        browser.wait_for("document.querySelector('dialog').open")
        browser.press("#confirm-yes")
        browser.wait_for("document.querySelectorAll('.timeline li.bad').length === 2")
        assert "Attempt 2" in browser.text()
        held(browser, daemon)


def test_replay_and_cancel_say_first_how_many_and_a_new_secret_is_shown_once(tmp_path, browser) -> None:
    """The count is the daemon's, of a dry run; since a time, if one is given."""
    with Daemon(tmp_path / "d", settings={"retry.schedule": []}) as daemon, daemon.api as api:
        refused_port(api, "acme")
        api.post("acme", "inv-1")
        wait_until(lambda: api.status()["events"]["exhausted"] == 1)
        assert api.ask("POST", "/v1/clients/acme/endpoints/default/pause").status == 200
        browser.open(daemon.url + "/clients/acme/endpoints/default")
        browser.evaluate("document.querySelector('#since').value = '2999-01-01T00:00:00'")
        assert answered(browser, "replay", "replay: done. Sent again: 0.") == 0
        browser.evaluate("document.querySelector('#since').value = '2020-01-01T00:00:00'")
        assert answered(browser, "replay", "replay: done. Sent again: 1.") == 1
        assert api.status()["events"]["pending"] == 1
        browser.wait_for("document.querySelector('button[data-post$=cancel]') !== null")
        assert answered(browser, "cancel", "cancel: done. Given up: 1. In flight: 0.") == 1
        assert (
            answered(browser, "rotate-secret", "rotate-secret: done. The new secret, shown this once: whsec_") is None
        )
        assert "whsec_" not in browser.evaluate("document.querySelector('main').textContent")
        held(browser, daemon)


def answered(browser: Browser, verb: str, said: str) -> int | None:
    """Presses it, says yes, waits until the page says so; the count that the person was told before, if any."""
    browser.press(f"button[data-post$={verb}]")
    browser.wait_for("document.querySelector('dialog').open")
    matched = re.search(r"match now: (\d+)\.", browser.evaluate("document.querySelector('#confirm-says').textContent"))
    browser.press("#confirm-yes")
    browser.wait_for(f"document.querySelector('#said').textContent.startsWith({json.dumps(said)})")
    return None if matched is None else int(matched[1])


def test_nothing_is_done_that_is_not_confirmed(tmp_path, browser) -> None:
    """No, and Escape, post nothing."""
    with Daemon(tmp_path / "d") as daemon, daemon.api as api:
        refused_port(api, "acme")
        browser.open(daemon.url + "/clients/acme/endpoints/default")
        for refuse in (lambda: browser.press("#confirm-no"), lambda: browser.key("Escape")):
            browser.press("button[data-post$=pause]")
            browser.wait_for("document.querySelector('dialog').open")
            refuse()
            browser.wait_for("!document.querySelector('dialog').open")
        assert not any("/v1/" in url for url in browser.requests)
        assert api.status()["endpoints"]["paused"] == 0
        held(browser, daemon)


def test_payload_is_shown_when_it_is_asked_for_and_is_text(tmp_path, browser) -> None:
    """Whatever stands in it runs nothing, and neither does what an endpoint answered."""
    with answering(HOSTILE) as hook, Daemon(tmp_path / "d") as daemon, daemon.api as api:
        api.put_client("w" * 64, {"id": "e" * 64, "url": hook})
        api.post("w" * 64, "i" * 64, json.dumps({"x": HOSTILE}).encode(), "t" * 128)
        wait_until(lambda: api.status()["events"]["failed"] == 1)
        for path in ("/", f"/clients/{'w' * 64}/endpoints/{'e' * 64}", f"/find?name={'i' * 64}"):
            browser.open(daemon.url + path)
            assert "w" * 64 in browser.text()
            assert browser.evaluate("document.images.length + document.querySelectorAll('main script').length") == 0
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert r"\x1b[31m\u202egpj" in browser.text()
        assert browser.evaluate("document.querySelector('#payload').hidden")
        browser.press("button[data-show]")
        browser.wait_for("!document.querySelector('#payload').hidden")
        assert "onerror" in browser.evaluate("document.querySelector('#payload').textContent")
        assert browser.evaluate("document.title") != "owned"
        held(browser, daemon)


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_page_asks_for_a_token_and_keeps_it_in_this_tab(tmp_path, browser, scope: str) -> None:
    """The shell asks; a wrong one is refused in the daemon's words; a read token sees the buttons greyed."""
    token = f"token-of-{scope}-0123456789"
    config = tmp_path / "hookd.toml"
    (tmp_path / "token").write_text(token)
    (tmp_path / "admin").write_text("token-of-ops-0123456789")
    config.write_text(
        f'[[http.tokens]]\nname = "desk"\nscope = "{scope}"\ntoken_file = "token"\n'
        '[[http.tokens]]\nname = "ops"\nscope = "admin"\ntoken_file = "admin"\n'
        '[[clients]]\nid = "acme"\n[[clients.endpoints]]\nurl = "http://127.0.0.1:1/hook"\n'
    )
    with Daemon(tmp_path / "d", "--config", str(config)) as daemon:
        browser.open(daemon.url + "/clients/acme/endpoints/default")
        browser.wait_for("!document.querySelector('#token-form').hidden")
        assert "acme" not in browser.text()
        browser.type("#token", "wrong")
        browser.key("Enter", "\r")
        browser.wait_for("document.querySelector('#trouble').textContent.includes('refuses')")
        assert all("401" in one for one in browser.complaints)
        browser.complaints.clear()
        browser.type("#token", token)
        browser.key("Enter", "\r")
        browser.wait_for("document.querySelector('#endpoint') !== null")
        assert "Nothing waits here." in browser.text()
        greyed = browser.evaluate("Array.from(document.querySelectorAll('[data-post]'), (one) => one.disabled)")
        assert greyed == [scope == "read"] * 5
        commands = browser.evaluate("Array.from(document.querySelectorAll('.action details'), (one) => one.open)")
        assert commands == greyed
        browser.open(daemon.url + "/")
        browser.wait_for("document.querySelector('#troubles') !== null")
        assert browser.evaluate("JSON.stringify([localStorage.length, document.cookie])") == '[0,""]'
        held(browser, daemon)


def test_page_refreshes_itself_and_keeps_the_place_of_the_reader(tmp_path, browser) -> None:
    """New numbers come without a load; an open command stays open, and the focus where it was."""
    with Daemon(tmp_path / "d") as daemon, daemon.api as api:
        refused_port(api, "acme")
        browser.open(daemon.url + "/clients/acme/endpoints/default")
        browser.evaluate("document.querySelector('#command-pause').open = true")
        browser.evaluate("document.querySelector('button[data-post$=pause]').focus()")
        assert api.ask("POST", "/v1/clients/acme/endpoints/default/pause").status == 200
        browser.wait_for("document.querySelector('#endpoint').textContent.includes('paused by operator')")
        assert browser.evaluate("document.querySelector('#command-pause').open")
        assert browser.evaluate("document.activeElement.textContent") == "pause"
        browser.press("button[data-post$=pause]")  # it would change nothing now, and says so beside
        assert "pause not now: an operator holds it already" in browser.text()
        assert not browser.evaluate("document.querySelector('dialog').open")
        held(browser, daemon)


def test_page_says_when_the_daemon_last_answered(tmp_path, browser) -> None:
    """Once it is gone, what is shown is marked as of then."""
    with (
        Daemon(tmp_path / "d") as daemon,
        in_front_of(daemon, lambda number: number > 2) as url,  # closed without an answer
    ):
        browser.open(url)
        browser.wait_for("!document.querySelector('#trouble').hidden")
        said = browser.text()
    assert re.search(r"No answer: it has stopped, or cannot be reached. What stands below is of \d\d:\d\d:\d\dZ.", said)
    assert "0 events accepted" in said


def test_overview_needs_no_script(tmp_path, browser) -> None:
    """It reads the same, narrows by its form, and asks for itself again."""
    with Daemon(tmp_path / "d") as daemon, daemon.api as api:
        refused_port(api, "acme", "globex")
        browser.look_like(width=1200, height=1000, script=False)
        browser.open(daemon.url + "/?name=glob")
        page = browser.document_text()
        assert "2 endpoints of 2 clients" in page
        assert "globex/default" in page
        assert "acme/default" not in page


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])  # the colours know no width
def test_page_fits_its_screen_and_can_be_read(tmp_path, browser, width: int, dark: bool) -> None:
    """No sideways scrolling; the headline is in the first screen; axe-core finds nothing serious."""
    with Daemon(tmp_path / "d", settings={"retry.schedule": []}) as daemon, daemon.api as api:
        refused_port(api, "a-client-with-quite-a-long-name-as-uuids-are-0123456789", "b")
        api.ask("POST", "/v1/clients/b/endpoints/default/pause")
        api.post("b", "inv-1")
        api.post("a-client-with-quite-a-long-name-as-uuids-are-0123456789", "inv-2")
        wait_until(lambda: api.status()["events"]["exhausted"] == 1)
        browser.look_like(width=width, height=800, dark=dark)
        for path in ("/", "/clients/b/endpoints/default", "/clients/b/events/inv-1"):
            browser.open(daemon.url + path)
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert browser.evaluate("document.querySelector('.headline').getBoundingClientRect().bottom < 800")
            assert browser.axe_findings() == [], path
            for role in ("button", "link", "meter", "textbox", "image"):
                assert all(browser.accessible_names(role)), (path, role)
        held(browser, daemon)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(body: str) -> Iterator[str]:
    """An endpoint that always answers 500 with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(500)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url


@contextmanager
def in_front_of(daemon: Daemon, refuse: Callable[[int], bool]) -> Iterator[str]:
    """A proxy that asks of each request, the first being 1, whether to leave it without an answer."""
    asked = count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if refuse(next(asked)):
                return
            with daemon.api as api:
                answer = api.ask("GET", self.path)
            self.send_response(answer.status)
            for name in ("content-type", "content-security-policy"):
                self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url
