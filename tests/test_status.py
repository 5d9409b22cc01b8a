"""What `hookd status` shows, made from the API's own answers in virtual time."""

from typing import Any

import pytest
import trio
from hookd.cli.api_client import Answer
from hookd.cli.commands.status import Overview, read, screen
from hookd.cli.endpoint_rows import ROWS_MAX, Found, Row, table
from hookd.core.outcome import Unreachable
from hookd.edge.api.services import Standing
from hookd.flow.ports import Unclaimed

from tests.edge.test_api import Api, event, started
from tests.flow.harness import Reloaded, at, endpoint, now


class Pages:
    """Answers as the daemon did, page by page, to something that is no coroutine."""

    url = "http://hookd"

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    def get(self, path: str) -> Answer:
        return Answer(200, {}, self._answers[path])


async def overview_of(api: Api) -> Overview:
    answers = {"/v1/status": (await api.get("/v1/status")).body}
    path = "/v1/clients?limit=500"
    while True:
        answers[path] = page = (await api.get(path)).body
        if page["next_cursor"] is None:
            return read(Pages(answers))  # type: ignore[arg-type]  # as much of a Remote as is asked of it
        path = f"/v1/clients?limit=500&cursor={page['next_cursor']}"


def rows(overview: Overview) -> list[str]:
    return [f"{row.client_id}/{row.endpoint_id}" for row in overview.found.rows]


async def with_states(nursery: trio.Nursery) -> Api:
    """Clients named for what becomes of their endpoint."""
    api = await started(nursery)
    scripts = {
        "disabled": 410,
        "failing": 400,
        "throttled": 429,
        "well": 200,
        "unreachable": Unreachable("\x1b[31mno" * 20),
    }
    for name, step in scripts.items():
        url = f"https://{name}.example/"
        api.flow.put(name, endpoint(url=url))
        api.flow.sender.script(url, step)
        await api.post("/v1/events", event(client_id=name))
    await api.post("/v1/clients/acme/endpoints/default/pause")
    await at(1)
    await api.post("/v1/events", event())
    await now()
    return api


async def test_those_that_need_someone_come_first(autojump_clock, nursery) -> None:
    """Disabled, paused, throttled, failing, then the rest; the oldest first among equals."""
    overview = await overview_of(await with_states(nursery))
    assert [name.partition("/")[0] for name in rows(overview)] == [
        "disabled",
        "acme",
        "throttled",
        "failing",
        "unreachable",
        "well",
    ]
    assert (overview.found.endpoints, overview.found.needy) == (6, 5)


async def test_screen_has_every_total_and_fits_100_columns(autojump_clock, nursery) -> None:
    """In words and with units; what endpoints wrote is harmless."""
    api = await with_states(nursery)
    [young] = [line for line in screen(await overview_of(api), "") if line.startswith("failing/default")]
    assert "  ok, 1 failed  " in young
    await at(61)
    lines = screen(await overview_of(api), "http://hookd")
    assert all(len(line) <= 100 for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "hookd 0.0.test running, up 1m 1s, run run_1, http://hookd"
    text = "\n".join(lines)
    for words in (
        "events       6 accepted = ",
        "1 delivered + 1 exhausted",
        "deliveries   6 opened = ",
        "in flight    0\n",
        "oldest       unsettled 1m 1s, overdue -",
        "of 256MiB (0 %), 4 of 100,000 events (0 %)",
        "0.0 accepted, ",
        "connections  1 of 1,000",
        "endpoints    3 ok, 1 throttled, 1 paused, 1 disabled; 6 clients",
        "paused: operator         1         0    1m 0s",
        "answered 410",
        "failing/default                failing                  1         0    1m 1s  answered 400",
    ):
        assert words in text, (words, text)


@pytest.mark.parametrize("columns", [80, 100])
async def test_narrow_screen_keeps_every_total_and_the_last_column(autojump_clock, nursery, columns: int) -> None:
    """With millions of events: totals go on in the next line, and rows take what they lack from the names."""
    overview = await overview_of(await with_states(nursery))
    sums = {"pending": 12_345, "failed": 6_789, "delivered": 9_876_543, "exhausted": 54_321}
    totals = {**overview.status["events"], **sums, "accepted": sum(sums.values())}
    deliveries = {**overview.status["deliveries"], **sums, "opened": sum(sums.values())}
    lines = screen(
        overview._replace(status=overview.status | {"events": totals, "deliveries": deliveries}),
        "http://hookd",
        columns,
    )
    assert all(len(line) <= columns for line in lines)
    words = " ".join(" ".join(lines).split())
    assert words.count("= 12,345 pending + 6,789 failed + 9,876,543 delivered + 54,321 exhausted") == 2
    assert next(line for line in lines if line.startswith("disabled")).endswith("  answered 410")
    assert next(line for line in lines if line.startswith("client/endpoint")).endswith("  last failure")


async def test_long_list_is_cut_and_counted(autojump_clock, nursery) -> None:
    """Twenty rows and how many more, over several pages; those that are well come last."""
    api = await started(nursery)
    for number in range(520):
        api.flow.put(f"c{number:03}")
    for number in range(30):
        await api.post(f"/v1/clients/c{number + 490}/endpoints/default/pause")
    overview = await overview_of(api)
    assert len(overview.found.rows) == ROWS_MAX
    assert rows(overview)[0] == "c490/default"
    assert screen(overview, "")[-1] == "and 501 more, of which 10 need attention"


async def test_empty_daemon_says_that_there_are_no_clients(autojump_clock, nursery) -> None:
    """Rather than a table of nothing."""
    api = await started(nursery)
    await api.delete("/v1/clients/acme")
    assert screen(await overview_of(api), "")[-1] == "no clients are registered"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("cannot connect: 127.0.0.1: Connection refused", "Connection refused"),
        ("cannot connect: ::1: Connection refused", "Connection refused"),
        ("cannot connect: no such name", "no such name"),
        ("no answer within 15 s", "no answer within 15 s"),
    ],
)
def test_last_failure_begins_with_the_reason(error: str, shown: str) -> None:
    """On 80 columns each failure to connect read the same, `cannot connect:…`."""
    health = {"state": "ok", "consecutive_failures": 1, "unsettled": 1, "in_flight": 0, "failing": False}
    last = {"outcome": "unreachable", "status_code": None, "error": error}
    health |= {"oldest_unsettled_seconds": 1.0, "last_outcome": last, "paused_by": None}
    assert table(Found([Row("acme", "default", health)], 1, 1), 80)[-1].endswith(f"1s  {shown}")


async def test_what_was_recovered_and_the_run_before_are_said(autojump_clock, nursery) -> None:
    """Who waits for a PUT, and how the last run ended; what it left is not always known."""
    api = await started(nursery)
    status = (await api.get("/v1/status")).body
    previous = {"run_id": "a1", "ended": "crash", "undelivered": None, "recovered": 0}
    seen = Overview(status | {"waiting_for_client": 3, "previous_run": previous}, Found([], 0, 0))
    text = "\n".join(screen(seen, ""))
    assert "recovered    waiting for their client's PUT: 3 deliveries" in text
    assert "run before   a1 crashed or was killed: unknown undelivered, 0 recovered" in text
    previous |= {"undelivered": 1200, "recovered": 1100}
    assert "1,200 undelivered, 1,100 recovered" in "\n".join(screen(seen, ""))


async def test_reports_that_nobody_took_up_are_counted(autojump_clock, nursery) -> None:
    """As the page and the metrics have it, and where to look; without any, no line."""
    left = [Unclaimed(f"/reports/{number}", f"r{number}") for number in range(2)]
    for unclaimed, line in (
        (left, "unclaimed    2 reports list undelivered deliveries; hookd report shows them"),
        (left[:1], "unclaimed    1 report lists undelivered deliveries; hookd report shows them"),
        ([], None),
    ):
        api = await started(nursery, standing=lambda unclaimed=unclaimed: Standing(unclaimed, Reloaded(), {}))
        overview = await overview_of(api)
        assert overview.status["unclaimed_reports"] == len(unclaimed)
        found = [one for one in screen(overview, "") if one.startswith("unclaimed")]
        assert found == ([] if line is None else [line])
