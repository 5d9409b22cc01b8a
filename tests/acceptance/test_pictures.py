"""The pictures in docs/page.md: what the page shows at night, of a real daemon in a real browser.

Each is looked at before it is kept. They are taken by hand: HOOKD_TEST_PICTURES=1 puts them into docs/pictures. In CI
tests/acceptance/test_page.py looks at such pages in the browser, and these would take some 30 s of CPU more.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.harness import Api, Daemon, Receiver, wait_until
from tests.browser import Browser, needs_browser

IS_ASKED_FOR = os.environ.get("HOOKD_TEST_PICTURES") == "1"
pytestmark = [needs_browser, pytest.mark.skipif(not IS_ASKED_FOR, reason="HOOKD_TEST_PICTURES=1 takes them")]

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
WIDE, PHONE = {"width": 1100, "height": 760}, {"width": 390, "height": 760}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def taken(browser: Browser, url: str, picture: str, *said: str, width: int, height: int, dark: bool = False) -> None:
    """Once its charts have lines and the page says all of it. None is empty, and none is large."""
    browser.new_tab()
    browser.look_like(width=width, height=height, dark=dark)
    browser.open(url)
    browser.wait_for("Array.from(document.querySelectorAll('svg')).every((one) => one.childElementCount)")
    text = browser.text()
    assert all(words in text for words in said), text
    browser.screenshot(PICTURES / picture)
    assert 10_000 < (PICTURES / picture).stat().st_size < 150_000


def held_up(api: Api, client_id: str, count: int) -> None:
    """So many events that wait for an endpoint that an operator paused."""
    api.put_client(client_id, {"id": "default", "url": "http://127.0.0.1:1/hook", "paused": True})
    for number in range(count):
        assert api.post(client_id, f"{client_id}-{number}").status == 202


def test_budget_is_full(tmp_path, browser) -> None:
    """Who is refused, and who holds the budget."""
    limits = {"intake.unsettled_events_max": 20, "intake.client_events_max": 20}
    with Daemon(tmp_path / "d", settings=limits) as daemon, daemon.api as api:
        held_up(api, "initech", 13)
        held_up(api, "acme", 7)
        assert {api.post("acme", f"more-{number}").status for number in range(34)} == {503}
        first = "Producers are refused (503) for all clients, 34 requests since"
        why = "the budget is full; initech/default holds 65 % of it, paused by operator"
        taken(browser, daemon.url, "full.png", first, why, "First: ", "20 of 20 unsettled events", **WIDE)


def test_run_before_was_killed(browser) -> None:
    """What it left, and the command that sends it: its path is on the picture."""
    with TemporaryDirectory(prefix="hookd-") as path:
        with Daemon(Path(path), settings={"recorder.payloads": True}) as daemon:
            with daemon.api as api:
                held_up(api, "initech", 12)
            daemon.kill()
        with Daemon(Path(path)) as daemon:
            first = "The run before was killed and left 12 deliveries undelivered: initech/default 12, the oldest of "
            taken(browser, daemon.url, "killed.png", first, "hookd resend", **WIDE)


def test_outage_and_its_events(tmp_path, browser) -> None:
    """Who is down, since when, what waits and what was given up: wide, on a phone, in the dark; one event's attempts.

    An endpoint is down after 30 s of failures.
    """
    schedule = ["100ms", "200ms", *["5s"] * 12, "1h"]
    with (
        Receiver(503) as down,
        Receiver(404) as gone,
        Receiver(200) as up,
        Daemon(tmp_path / "d", settings={"retry.schedule": schedule}) as daemon,
        daemon.api as api,
    ):
        api.put_client("initech", {"id": "default", "url": down.url})
        api.put_client("umbrella", {"id": "default", "url": gone.url, "schedule": []})
        api.put_client("acme", {"id": "eu", "url": up.url})
        held_up(api, "globex", 3)
        for number in range(5):
            for client_id in ("initech", "umbrella", "acme"):
                api.post(client_id, f"inv-{number}")
        wait_until(lambda: api.status()["events"]["exhausted"] == 5)
        wait_until(lambda: api.status()["endpoints"]["paused"] == 2, seconds=90)
        said = (
            "5 deliveries were given up in the last 15 minutes, the latest for umbrella/default (every attempt",
            "initech/default is down since",
            "globex/default is paused",
        )
        taken(browser, daemon.url, "outage.png", *said, **WIDE)
        taken(browser, daemon.url, "phone.png", *said, **PHONE)
        taken(browser, daemon.url, "dark.png", *said, **WIDE, dark=True)
        event = daemon.url + "/clients/initech/events/inv-1"
        taken(browser, event, "event.png", "failed", "Attempt 3", "503", "retry", **WIDE)
