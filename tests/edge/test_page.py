"""The status page: what it is served with, that nothing of the daemon's becomes markup, that a browser can show it."""

import base64
import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from tests.acceptance.harness import Daemon, wait_until
from tests.edge.test_api import started

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "daemon" / "hookd" / "edge" / "api" / "page.html"
TEXT = PAGE.read_text(encoding="utf-8")
[SCRIPT] = re.findall("<script>(.*?)</script>", TEXT, re.DOTALL)
[STYLE] = re.findall("<style>(.*?)</style>", TEXT, re.DOTALL)


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


async def test_page_is_served_under_a_policy_that_names_its_own_script_and_style(autojump_clock, nursery) -> None:
    """Nothing else runs, nothing is framed, kept, sniffed or told to others."""
    answer = await (await started(nursery)).get("/")
    assert answer.status == 200
    assert answer.body == PAGE.read_bytes()
    headers = dict(answer.headers)
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": sha256(STYLE),
        "script-src": sha256(SCRIPT),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_page_puts_in_text_never_markup() -> None:
    """Ids, URLs and error words are other people's; the token goes into a header and sessionStorage alone."""
    assert "textContent" in SCRIPT
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "createContextualFragment",
        "srcdoc",
        "eval(",
        "Function(",
        "setAttribute",
        "localStorage",
        "cookie",
        ".href",
        "location",
    ]:
        assert forbidden not in SCRIPT, forbidden
    assert "?token" not in TEXT


def test_page_needs_nothing_from_elsewhere() -> None:
    """One file: no address of another host, no inline style or handler that its policy would refuse."""
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\(", TEXT)
    markup = TEXT.replace(SCRIPT, "").replace(STYLE, "")
    assert not re.search(r"\s(style|on\w+|src)=", markup)
    assert "prefers-color-scheme: dark" in STYLE
    assert "prefers-reduced-motion" in STYLE


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_script_parses(tmp_path) -> None:
    """As a browser's engine reads it."""
    (tmp_path / "page.js").write_text(SCRIPT, encoding="utf-8")
    checked = subprocess.run(["node", "--check", tmp_path / "page.js"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def shown(url: str, profile: Path, *, expected: str = "nothing") -> str:
    """The page's text in a browser after some polls, in virtual time; it may complain of `expected` alone."""
    browsed = subprocess.run(
        [
            str(shutil.which("chromium")),
            *("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"),
            # Nothing of its own goes out: the page is all that is asked for.
            *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--disable-quic",
            *(f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in browsed.stderr.splitlines() if "CONSOLE" in line and expected not in line]
    assert not said, said
    body = browsed.stdout[browsed.stdout.index("<body>") : browsed.stdout.index("<script>")]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", body))


needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


@needs_browser
def test_browser_shows_what_on_call_needs(tmp_path) -> None:
    """The real page of a real daemon: totals in words, who is down and why, what was given up; not one error."""
    with Daemon(tmp_path / "d", settings={"retry.schedule": []}) as daemon, daemon.api as api:
        for client_id in ("acme", "globex"):
            api.put_client(client_id, {"id": "default", "url": "http://127.0.0.1:1/hook"})
        assert api.ask("POST", "/v1/clients/globex/endpoints/default/pause").status == 200
        api.post("acme", "inv-1")
        api.post("globex", "inv-2")
        wait_until(lambda: api.status()["events"]["exhausted"] == 1)
        text = shown(daemon.url + "/", tmp_path / "profile")
    for words in (
        "running",
        "2 accepted = 0 delivered + 1 pending + 0 failed (another attempt is due) + 1 exhausted (given up).",
        "They balance.",
        "globex / default paused an operator paused it someone resumes it 1, 0 of them in flight",
        "acme / default ok, failing cannot connect",
        "inv-1 acme order.paid default: every attempt was used cannot connect",
        "1 of 100,000 unsettled events",
    ):
        assert words in text


@contextmanager
def in_front_of(daemon: Daemon, refuse: Callable[[BaseHTTPRequestHandler, int], bool]) -> Iterator[str]:
    """A proxy that asks of each request for the status, the first being 1, whether to let it through."""
    asked = count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/status" and refuse(self, next(asked)):
                return
            with daemon.api as api:
                answer = api.ask("GET", self.path)
            self.send_response(answer.status)
            for name in ("content-type", "content-security-policy"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@needs_browser
def test_page_says_when_the_daemon_last_answered(tmp_path) -> None:
    """Once it is gone, what is shown is marked as of then."""
    with (
        Daemon(tmp_path / "d") as daemon,
        in_front_of(daemon, lambda _request, number: number > 1) as url,  # closed without an answer
    ):
        text = shown(url, tmp_path / "profile", expected="ERR_EMPTY_RESPONSE")
    assert re.search(
        r"No answer: it has stopped, or cannot be reached. The last good answer was at \d\d:\d\d:\d\d; "
        r"what stands below is of then.",
        text,
    )
    assert "0 accepted" in text


@needs_browser
def test_page_asks_for_a_token_where_one_is_needed(tmp_path) -> None:
    """The daemon's own words for it, and a field."""

    def refuse(request: BaseHTTPRequestHandler, _number: int) -> bool:
        request.send_response(401)
        request.end_headers()
        request.wfile.write(b'{"detail": "<b>no</b> token"}')
        return True

    with Daemon(tmp_path / "d") as daemon, in_front_of(daemon, refuse) as url:
        text = shown(url, tmp_path / "profile", expected="401")
    assert "token needed" in text
    assert "The daemon refuses: &lt;b&gt;no&lt;/b&gt; token. It has not answered yet." in text
