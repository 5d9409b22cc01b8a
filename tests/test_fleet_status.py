"""What `hookd status` shows of several daemons, made from their own answers in virtual time."""

from typing import Any

import pytest
import trio
from hookd.cli.api_client import Answer, Remote, Unreachable
from hookd.cli.fleet import DIFFERING_SHOWN, Fleet, fleet_json, fleet_screen, read_fleet
from hookd.core.run import Run

from tests.edge.test_api import Api, event, started
from tests.flow.harness import EPOCH, endpoint, now


class Recorded(Remote):
    """A daemon's answers; None: nobody is there."""

    def __init__(self, url: str, answers: dict[str, Any] | None) -> None:
        super().__init__(url)
        self._answers = answers

    def get(self, path: str) -> Answer:
        if self._answers is None:
            raise Unreachable(f"no hookd answers at {self.url}: refused")
        return Answer(200, {}, self._answers[path])


async def recorded(api: Api, url: str) -> Recorded:
    answers = {"/v1/status": (await api.get("/v1/status")).body}
    page = answers["/v1/clients?limit=500"] = (await api.get("/v1/clients?limit=500")).body
    for client in page["clients"]:
        answers[f"/v1/clients/{client['id']}"] = client
    return Recorded(url, answers)


async def fleet_of(nursery: trio.Nursery, *, clients: int = 3) -> Fleet:
    """a and b have the same clients but for the first, whose endpoint failed at a. The last is at b alone."""
    remotes = []
    for name in ("a", "b"):
        api = await started(nursery)
        api = Api(api.flow, run=Run("run_1", "0.0.test", "host", 1, EPOCH, name))
        for number in range(clients):
            if name == "b" or number < clients - 1:
                api.flow.put(f"c{number}", endpoint(url=f"https://c{number}.example/{name if number == 0 else ''}"))
        if name == "a":
            api.flow.sender.script("https://c0.example/a", 500)
            await api.post("/v1/events", event(client_id="c0"))
            await now()
        remotes.append(await recorded(api, f"http://{name}.example:1"))
    return read_fleet([*remotes, Recorded("http://c.example:1", None)])


async def test_unclaimed_reports_of_all_daemons_are_one_sum(autojump_clock, nursery) -> None:
    fleet = await fleet_of(nursery)
    for one, count in zip(fleet.answering, (2, 3), strict=True):
        assert one.status is not None
        one.status["unclaimed_reports"] = count
    assert "unclaimed    5 reports list undelivered deliveries; hookd report shows them" in fleet_screen(fleet)


async def test_screen_has_a_row_for_each_daemon_and_their_totals(autojump_clock, nursery) -> None:
    """Those that do not answer say why; whose endpoint needs someone says where."""
    lines = fleet_screen(await fleet_of(nursery))
    text = "\n".join(lines)
    assert lines[0] == "hookd: 3 daemons, 2 answer"
    assert [line.split()[:2] for line in lines[2:5]] == [["a", "running"], ["b", "running"], ["c.example:1", "silent"]]
    assert "no hookd answers at http://c.example:1" in lines[4]
    assert "events       1 accepted = 0 pending + 1 failed + 0 delivered + 0 exhausted" in lines
    assert "c0/default at a" in text
    assert max(map(len, lines)) <= 100


async def test_client_that_is_not_the_same_everywhere_is_named_with_what_differs(autojump_clock, nursery) -> None:
    """One that a daemon lacks is no difference; health is none either."""
    fleet = await fleet_of(nursery)
    assert [(one.client_id, one.daemons, one.fields) for one in fleet.differing] == [("c0", ["a", "b"], ["url"])]
    assert "             c0 on a, b: url" in fleet_screen(fleet)
    shown = fleet_json(fleet)
    assert shown["totals"]["clients"] == len({client for one in fleet.members for client in one.definitions})
    assert shown["differing"] == [{"client_id": "c0", "daemons": ["a", "b"], "fields": ["url"]}]
    assert [one["problem"] is None for one in shown["daemons"]] == [True, True, False]
    assert [(one["client_id"], one["daemon"]) for one in shown["needs_attention"]] == [("c0", "a")]


async def test_many_that_differ_are_counted_and_the_first_are_shown(autojump_clock, nursery) -> None:
    remotes = []
    for name in ("a", "b"):
        api = await started(nursery)
        for number in range(DIFFERING_SHOWN + 5):
            api.flow.put(f"n{number:03}", endpoint(url=f"https://{name}.example/"))
        remotes.append(await recorded(api, f"http://{name}.example:1"))
    fleet = read_fleet(remotes)
    assert (fleet.differing_count, len(fleet.differing)) == (DIFFERING_SHOWN + 5, DIFFERING_SHOWN)
    assert "             and 5 more" in fleet_screen(fleet)


def test_daemons_of_one_name_are_said_and_none_that_answers_is_an_error() -> None:
    """Without [shard] name each is called by its address."""
    with pytest.raises(Unreachable, match=r"a\.example.*b\.example"):
        read_fleet([Recorded("http://a.example:1", None), Recorded("http://b.example:1", None)])


async def test_same_shard_name_twice_is_said(autojump_clock, nursery) -> None:
    api = await started(nursery)
    api = Api(api.flow, run=Run("run_1", "0.0.test", "host", 1, EPOCH, "same"))
    lines = fleet_screen(read_fleet([await recorded(api, f"http://{name}.example:1") for name in "ab"]))
    assert "NAME         several daemons are called same: see [shard] name" in lines
