"""How an endpoint's page shows its last attempts, the equal ones as one line, and in which order its buttons stand."""

import re

import pytest
from hookd.core.outcome import Responded

from tests.edge.test_api import started
from tests.edge.test_page import shown, text_of
from tests.flow.harness import URL, at

PATH = "/clients/acme/endpoints/default"


async def test_equal_attempts_are_one_line_with_the_newest_above(autojump_clock, nursery) -> None:
    """How many, from when to when, what came; each is still in the page, for who opens it."""
    api = await started(nursery)
    api.flow.sender.script(URL, Responded(404), *[Responded(503)] * 4)
    for number in range(5):
        await at(number)
        api.flow.admit(event_id=f"evt_{number}")
    await at(4.5)
    page = await shown(api, PATH)
    newest, rest = page[page.index('id="attempts"') :].split("<details", 1)
    assert re.findall(r"evt_\d</a>", newest) == ["evt_4</a>"]
    folded, after = rest.split("</details>", 1)
    said = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", folded))
    assert re.search(r"3 attempts before it, \S+01Z to \S+03Z, all 503, 0 ms Event", said), said
    assert re.findall(r"evt_\d</a>", folded) == [f"evt_{number}</a>" for number in (3, 2, 1)]
    assert re.findall(r"evt_\d</a>", after) == ["evt_0</a>"]


@pytest.mark.parametrize("statuses", [(404, 404, 404), (404, 500, 404, 500)])
async def test_few_equal_attempts_and_unequal_ones_are_rows(autojump_clock, nursery, statuses: tuple[int, ...]) -> None:
    """A fold that saves no line would only hide."""
    api = await started(nursery)
    api.flow.sender.script(URL, *map(Responded, statuses))
    for number in range(len(statuses)):
        await at(number)
        api.flow.admit(event_id=f"evt_{number}")
    await at(len(statuses) - 0.5)
    page = await shown(api, PATH)
    assert "before it" not in text_of(page)
    assert len(re.findall(r"evt_\d</a>", page)) == len(statuses)


async def test_what_ends_something_stands_apart_and_last(autojump_clock, nursery) -> None:
    """Test first; what is safe; then cancel and rotate-secret in a part of their own, each with what it does."""
    api = await started(nursery)
    api.flow.registration.pause("acme", "default")
    api.flow.admit(event_id="evt_1")
    page = await shown(api, PATH)
    offers, endings = page[page.index('id="offers"') :].split('id="endings"')
    buttons = re.compile("<button [^>]*>([^<]*)</button>")
    assert buttons.findall(offers) == ["test", "resume", "pause", "replay", "retry-all"]
    assert buttons.findall(endings.split('id="attempts"')[0]) == ["cancel", "rotate-secret"]
    said = text_of(page)
    assert "resume ends a pause, disabled and Retry-After as a command" in said
    assert "What ends something cancel gives up what is unsettled" in said
