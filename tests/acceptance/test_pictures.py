"""The pictures in docs/page.md: what the page shows at night, of a real daemon in a real browser.

Each is looked at before it is taken. HOOKD_TEST_PICTURES=1 puts them into docs/pictures, where they are kept; else they
go to where nobody keeps them.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.harness import Api, Daemon, Receiver, wait_until
from tests.browser import Browser, needs_browser

pytestmark = needs_browser

IS_KEPT = os.environ.get("HOOKD_TEST_PICTURES") == "1"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
WIDE, PHONE = {"width": 1100, "height": 760}, {"width": 390, "height": 760}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def pictures(tmp_path) -> Path:
    if not IS_KEPT:
        return Path(tmp_path)
    PICTURES.mkdir(exist_ok=True)
    return PICTURES


def taken(browser: Browser, url: str, picture: Path, *said: str, width: int, height: int, dark: bool = False) -> None:
    """Once the page says all of it; for keeps, once its charts have lines. None is empty, whatever the browser is."""
    browser.new_tab()
    browser.look_like(width=width, height=height, dark=dark)
    browser.open(url)
    if IS_KEPT:
        browser.wait_for("Array.from(document.querySelectorAll('svg')).every((one) => one.childElementCount)")
    text = browser.text()
    assert all(words in text for words in said), text
    browser.screenshot(picture)
    assert 10_000 < picture.stat().st_size < 150_000


def held_up(api: Api, client_id: str, count: int) -> None:
    """So many events that wait for an endpoint that an operator paused."""
    api.put_client(client_id, {"id": "default", "url": "http://127.0.0.1:1/hook", "paused": True})
    for number in range(count):
        assert api.post(client_id, f"{client_id}-{number}").status == 202


def test_budget_is_full(tmp_path, browser, pictures) -> None:
    """Who is refused, and who holds the budget."""
    limits = {"intake.unsettled_events_max": 20, "intake.client_events_max": 20}
    with Daemon(tmp_path / "d", settings=limits) as daemon, daemon.api as api:
        held_up(api, "initech", 13)
        held_up(api, "acme", 7)
        assert api.post("acme", "one-more").status == 503
        first = "Producers are refused (503): the budget is full; initech/default holds 65 % of it, paused by operator"
        taken(browser, daemon.url, pictures / "full.png", first, "20 of 20 unsettled events", **WIDE)


def test_run_before_was_killed(browser, pictures) -> None:
    """What it left, and the command that sends it: its path is on the picture."""
    with TemporaryDirectory(prefix="hookd-") as path:
        with Daemon(Path(path)) as daemon:
            with daemon.api as api:
                held_up(api, "initech", 12)
            daemon.kill()
        with Daemon(Path(path)) as daemon:
            first = (
                "The run before was killed and left 12 deliveries undelivered. Nothing sends them until someone does."
            )
            taken(browser, daemon.url, pictures / "killed.png", first, "hookd resend", **WIDE)


def test_outage_and_its_events(tmp_path, browser, pictures) -> None:
    """Who is down, since when, what waits and what was given up: wide, on a phone, in the dark; one event's attempts.

    An endpoint is down after 30 s of failures, so only the pictures that are kept show one.
    """
    schedule = ["100ms", "200ms", *["5s"] * 12, "1h"] if IS_KEPT else ["100ms", "200ms", "1h"]
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
        wait_until(
            lambda: len(api.ask("GET", "/v1/clients/initech/events/inv-1").json["deliveries"][0]["attempts"]) > 2
        )
        if IS_KEPT:
            wait_until(lambda: api.status()["endpoints"]["paused"] == 2, seconds=90)
        state = "initech/default is down since" if IS_KEPT else "initech/default"
        said = ("5 deliveries were given up in the last 15 minutes", state, "globex/default is paused")
        taken(browser, daemon.url, pictures / "outage.png", *said, **WIDE)
        if IS_KEPT:  # tests/acceptance/test_page.py looks at such screens each time
            taken(browser, daemon.url, pictures / "phone.png", *said, **PHONE)
            taken(browser, daemon.url, pictures / "dark.png", *said, **WIDE, dark=True)
        event = daemon.url + "/clients/initech/events/inv-1"
        taken(browser, event, pictures / "event.png", "failed", "Attempt 3", "503", "retry", **WIDE)
