"""A start takes back what unclaimed reports list (contract section 7, One way back), in virtual time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
import trio
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.report import class_of, undelivered
from hookd.core.retry import Reason
from hookd.core.run_history import PastRun, PreviousRun
from hookd.core.settings import IntakeSettings, RetrySettings, Settings
from hookd.flow.ports import Unclaimed
from hookd.flow.recovery import HELD_BACK, UNACCOUNTED, Recovery

from tests.flow.harness import EPOCH, URL, Flow, Hang, at, endpoint, now, only, standing
from tests.flow.test_resend import written as line

OTHER = "https://other.example/hook"


class Shelf:
    """Reports in memory, each a list of lines; what was claimed is kept, and one thing can be made to fail."""

    def __init__(self, **reports: list[bytes]) -> None:
        self.reports = reports
        self.claims: dict[str, str] = {}
        self.unreadable: set[str] = set()
        self.failing = ""
        self.at_slice: Callable[[], object] = lambda: None

    def unclaimed(self) -> list[Unclaimed]:
        if self.failing == "unclaimed":
            raise OSError(5, "Input/output error")
        return [
            Unclaimed(path, None if path in self.unreadable else f"run-{path}")
            for path in self.reports
            if path not in self.claims
        ]

    def slices(self, path: str) -> Iterator[list[bytes]]:
        for read in self.reports[path]:
            self.at_slice()
            if self.failing == "slices":
                raise OSError(5, "Input/output error")
            yield [read]

    def claim(self, path: str, run_id: str) -> bool:
        if self.failing == "claim":
            raise OSError(28, "No space left on device")
        assert path not in self.claims
        self.claims[path] = run_id
        return True


async def in_turn(work: Callable[..., Any], *args: Any) -> Any:
    """Virtual time has no threads."""
    await trio.lowlevel.checkpoint()
    return work(*args)


class Start:
    """A flow that recovers from a shelf, before its pacer runs."""

    def __init__(
        self,
        shelf: Shelf,
        settings: Settings | None = None,
        *,
        past_runs: Sequence[PastRun] = (),
        is_unaccounted: bool = False,
    ) -> None:
        self.shelf = shelf
        self.flow = Flow(settings) if settings is not None else Flow()
        self.recovery = Recovery(
            "new",
            past_runs=past_runs,
            is_unaccounted=is_unaccounted,
            reports=shelf,
            resend=self.flow.resend,
            in_thread=in_turn,
            clock=self.flow.clock,
            log=self.flow.log,
        )
        self.forced = trio.Event()

    async def recover(self, nursery: trio.Nursery, *clients: str) -> None:
        await self.flow.stand_by(nursery)
        for client_id in clients:
            self.flow.put(client_id)
        await self.recovery.run(self.forced)

    def event(self, event_id: str, client_id: str = "acme") -> Event:
        event = self.flow.ledger.find(client_id, event_id)
        assert event is not None
        return event

    def logged(self, name: str) -> list[dict[str, Any]]:
        return self.flow.log.of(name)


async def test_reports_are_taken_up_oldest_first_and_claimed(autojump_clock, nursery) -> None:
    """Each under its own id and acceptance, attempts counted on, its age anew; attempts begin only afterwards."""
    shelf = Shelf(
        one=[line("e1", attempt_count=2, **{"class": "attempted_failed"}), line("done", kind="exhausted")],
        two=[line("e2")],
    )
    start = Start(shelf)
    await at(100)
    await start.recover(nursery, "acme")
    assert shelf.claims == {"one": "new", "two": "new"}
    assert [event.id for event in reversed(start.flow.events())] == ["e1", "e2"]
    assert (start.event("e1").accepted_at, only(start.event("e1")).opened_at) == (EPOCH - 3600, 100)
    assert standing(start.event("e1")) == (Status.PENDING, None, 2)
    assert not start.flow.sender.transcript
    start.flow.begin(nursery)
    await now()
    assert {(sent.event_id, sent.attempt_number) for sent in start.flow.sender.transcript} == {("e1", 3), ("e2", 1)}
    totals = start.flow.ledger.totals()
    assert (totals.accepted, totals.recovered, totals.opened) == (2, 2, 2)
    assert start.flow.balanced()
    [first, second] = start.logged("report.recovered")
    assert (first["deliveries"], second["deliveries"]) == ({"admitted": 1}, {"admitted": 1})


async def test_budgets_are_exceeded_and_intake_refuses(autojump_clock, nursery) -> None:
    """What was promised goes before what is new."""
    settings = Settings(intake=IntakeSettings(unsettled_events_max=2, client_events_max=2))
    start = Start(Shelf(one=[line(f"e{n}") for n in range(5)]), settings)
    await start.recover(nursery, "acme")
    assert start.flow.ledger.totals().unsettled_events == 5
    with pytest.raises(Exception, match="5 unsettled events"):
        start.flow.admit()


async def test_event_to_several_endpoints_comes_back_whole(autojump_clock, nursery) -> None:
    """One event, a delivery for each line, counted once as recovered."""
    start = Start(Shelf(one=[line("e1", endpoint_id="a"), line("e1", endpoint_id="b", attempt_count=1)]))
    await start.flow.stand_by(nursery)
    start.flow.put("acme", endpoint("a"), endpoint("b", url=OTHER))
    await start.recovery.run(start.forced)
    event = start.event("e1")
    assert [(one.endpoint_id, one.attempt_count) for one in event.deliveries] == [("a", 0), ("b", 1)]
    totals = start.flow.ledger.totals()
    assert (totals.accepted, totals.recovered, totals.opened) == (1, 1, 2)


async def test_endpoint_that_is_gone_ends_its_deliveries(autojump_clock, nursery) -> None:
    """`endpoint_removed`, counted as recovered; nothing of the endpoint stays behind."""
    start = Start(Shelf(one=[line("e1", endpoint_id="old")]))
    await start.recover(nursery, "acme")
    assert standing(start.event("e1")) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 0)
    assert start.flow.ledger.health("acme", "old") is None
    [given_up] = start.logged("delivery.exhausted")
    assert (given_up["event_id"], given_up["reason"]) == ("e1", "endpoint_removed")
    assert start.flow.balanced()


async def test_unregistered_client_waits_for_its_put(autojump_clock, nursery) -> None:
    """Pending and recovered at once, never due; its PUT begins them at its URL and ends those of no endpoint of it."""
    start = Start(Shelf(one=[line("e1"), line("e2", endpoint_id="old"), line("e3", attempt_count=9)]))
    await start.recover(nursery)
    flow = start.flow
    flow.begin(nursery)
    await at(60)
    assert not flow.sender.transcript
    assert {standing(event)[:2] for event in flow.events()} == {(Status.PENDING, None)}
    assert flow.begins_at(start.event("e1")) is None
    assert (await flow.gauge_collector.take()).waiting_for_client == 3
    assert len(list(undelivered(flow.ledger))) == 3
    assert not flow.retry_now.retry(start.event("e1"))
    flow.put("acme", endpoint(url=OTHER))
    await now()
    sent = sorted((one.event_id, one.attempt_number, one.request.url) for one in flow.sender.transcript)
    assert sent == [("e1", 1, OTHER), ("e3", 10, OTHER)]
    assert standing(start.event("e2")) == (Status.EXHAUSTED, Reason.ENDPOINT_REMOVED, 0)
    assert (await flow.gauge_collector.take()).waiting_for_client == 0
    assert flow.balanced()


async def test_client_that_is_never_registered_expires_by_age(autojump_clock, nursery) -> None:
    """Its age began anew at the start, and nothing waits for ever."""
    start = Start(Shelf(one=[line("e1")]), Settings(retry=RetrySettings(age_seconds_max=600.0)))
    await at(1000)
    await start.recover(nursery)
    start.flow.begin(nursery)
    await at(1500)
    assert standing(start.event("e1")) == (Status.PENDING, None, 0)
    await at(1700)
    assert standing(start.event("e1")) == (Status.EXHAUSTED, Reason.EXPIRED, 0)


async def test_report_without_payloads_is_left(autojump_clock, nursery) -> None:
    """Unclaimed and logged; but where all of it is known already, it has nothing more to say."""
    shelf = Shelf(bare=[line("e1", payload=...)], full=[line("e2")], twin=[line("e2", payload=...)])
    start = Start(shelf)
    await start.recover(nursery, "acme")
    assert shelf.claims == {"full": "new", "twin": "new"}
    [left] = start.logged("report.not_recovered")
    assert (left["path"], left["run_id"]) == ("bare", "run-bare")
    assert "no payloads" in left["error"]


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\n",
        b'{"kind": "undelivered"}\n',
        b'{"kind": "undelivered"',
        b"\0\n",
        line("e3", attempt_count=msgspec.Raw(b"9" * 4300)),
        line("e3", payload_base64="/w=="),
    ],
)
async def test_report_with_one_bad_line_is_left_whole(autojump_clock, nursery, damage: bytes) -> None:
    """Nothing of it is admitted; the next report is taken up."""
    shelf = Shelf(bad=[line("e1"), damage], good=[line("e2")])
    start = Start(shelf)
    await start.recover(nursery, "acme")
    assert shelf.claims == {"good": "new"}
    assert [event.id for event in start.flow.events()] == ["e2"]
    assert [left["path"] for left in start.logged("report.not_recovered")] == ["bad"]


async def test_what_cannot_be_read_is_left(autojump_clock, nursery) -> None:
    """A file that is no report, one that fails as it is read, a directory that does not answer."""
    shelf = Shelf(none=[], failing=[line("e1")])
    shelf.unreadable.add("none")
    shelf.failing = "slices"
    start = Start(shelf)
    await start.recover(nursery, "acme")
    assert [left["path"] for left in start.logged("report.not_recovered")] == ["none", "failing"]
    shelf.failing = "unclaimed"
    await start.recovery.run(start.forced)
    [failed] = start.logged("recovery.failed")
    assert "Input/output error" in failed["error"]
    assert start.flow.events() == []


async def test_report_that_cannot_be_claimed_ends_the_start(autojump_clock, nursery) -> None:
    """Or the next start would take up again what this one delivered."""
    shelf = Shelf(one=[line("e1")])
    shelf.failing = "claim"
    start = Start(shelf)
    with pytest.raises(OSError, match="No space left"):
        await start.recover(nursery, "acme")
    assert not start.flow.sender.transcript
    assert len(list(undelivered(start.flow.ledger))) == 1


async def test_same_delivery_in_two_reports_is_admitted_once(autojump_clock, nursery) -> None:
    """A run that was killed as it recovered left both; what the later one knows of it is believed too."""
    later = line("e1", attempt_count=3, crash_count=1, **{"class": "outcome_unknown"})
    shelf = Shelf(one=[line("e1", attempt_count=1, **{"class": "attempted_failed"})], two=[later])
    start = Start(shelf)
    await start.recover(nursery, "acme")
    assert set(shelf.claims) == {"one", "two"}
    assert start.flow.ledger.totals().recovered == 1
    delivery = only(start.event("e1"))
    assert (delivery.attempt_count, delivery.crash_count, class_of(delivery)) == (3, 1, "outcome_unknown")
    start.flow.begin(nursery)
    await now()
    assert [one.attempt_number for one in start.flow.sender.transcript] == [4]


@pytest.mark.parametrize("endpoint_id", ["a", "b"])
async def test_other_event_under_a_known_id_is_logged(autojump_clock, nursery, endpoint_id) -> None:
    """Ids are never reused by whoever follows the contract; the first one stands, and its past is its own."""
    other = line("e1", endpoint_id=endpoint_id, attempt_count=9, payload=msgspec.Raw(b"2"))
    start = Start(Shelf(one=[line("e1", endpoint_id="a")], two=[other]))
    await start.recover(nursery)
    assert [(one.endpoint_id, one.attempt_count) for one in start.event("e1").deliveries] == [("a", 0)]
    [conflict] = start.logged("event.conflicting")
    assert (conflict["client_id"], conflict["event_id"]) == ("acme", "e1")


@pytest.mark.parametrize("client", ["acme", None])
async def test_event_in_flight_at_three_crashes_is_given_up(autojump_clock, nursery, client: str | None) -> None:
    """`crashed`, whether or not its client is there; two crashes may be bad luck."""
    start = Start(
        Shelf(one=[line("luck", attempt_count=2, crash_count=2), line("poison", attempt_count=3, crash_count=3)])
    )
    await start.recover(nursery, *([client] if client else []))
    assert standing(start.event("luck")) == (Status.PENDING, None, 2)
    assert only(start.event("luck")).crash_count == 2
    assert standing(start.event("poison")) == (Status.EXHAUSTED, Reason.CRASHED, 3)
    totals = start.flow.ledger.totals()
    assert (totals.recovered, totals.events[Status.EXHAUSTED]) == (2, 1)
    assert start.flow.ledger.counters.given_up[Reason.CRASHED] == 1
    assert start.flow.balanced()


async def test_crashed_event_can_be_tried_again_by_hand(autojump_clock, nursery) -> None:
    """Reopened, it is suspected of nothing any more."""
    start = Start(Shelf(one=[line("poison", attempt_count=3, crash_count=3)]))
    await start.recover(nursery, "acme")
    assert start.flow.retry_now.retry(start.event("poison"))
    assert only(start.event("poison")).crash_count == 0
    start.flow.begin(nursery)
    await now()
    assert standing(start.event("poison")) == (Status.DELIVERED, None, 4)


async def test_forced_stop_leaves_the_rest_to_its_reports(autojump_clock, nursery) -> None:
    """Between two slices: what was admitted stands in this run's report, and neither report is claimed."""
    shelf = Shelf(one=[line(f"e{n}") for n in range(4)], two=[line("f")])
    start = Start(shelf)
    slices = 0

    def force_in_the_second_pass() -> None:
        nonlocal slices
        slices += 1
        if slices == 4 + 2:
            start.forced.set()

    shelf.at_slice = force_in_the_second_pass
    await start.recover(nursery, "acme")
    assert sorted(event.id for event in start.flow.events()) == ["e0", "e1"]
    assert shelf.claims == {}


async def test_recovered_event_that_fails_goes_on_where_its_schedule_was(autojump_clock, nursery) -> None:
    """Two attempts were made: the third's delay is the third's, and what is left is left."""
    schedule = RetrySettings(schedule_seconds=(5.0, 30.0, 120.0), jitter=0.0)
    start = Start(Shelf(one=[line("e1", attempt_count=2)]), Settings(retry=schedule))
    await start.recover(nursery, "acme")
    start.flow.sender.script(URL, 500, 200)
    start.flow.begin(nursery)
    await at(119)
    assert [sent.at for sent in start.flow.sender.transcript] == [0]
    await at(120)
    assert [sent.at for sent in start.flow.sender.transcript] == [0, 120]
    assert standing(start.event("e1")) == (Status.DELIVERED, None, 4)


async def test_cut_attempt_of_a_recovered_event_is_listed_as_maybe_received(autojump_clock, nursery) -> None:
    """What an earlier run did not know stays unknown in the next report, whatever this one tried."""
    start = Start(Shelf(one=[line("e1", attempt_count=1, **{"class": "outcome_unknown"})]))
    await start.recover(nursery, "acme")
    start.flow.sender.script(URL, Hang())
    [(_, delivery)] = undelivered(start.flow.ledger)
    assert class_of(delivery) == "outcome_unknown"


@pytest.mark.parametrize(("run_id", "recovered"), [("run-one", 2), ("run-two", 1), ("other", 0)])
async def test_previous_run_says_how_much_of_it_came_back(autojump_clock, nursery, run_id: str, recovered: int) -> None:
    """Its deliveries that were admitted, whichever other reports were taken up."""
    last = PastRun(run_id, EPOCH - 90, EPOCH - 60, crashed=False, undelivered=2)
    start = Start(Shelf(one=[line("e1"), line("e2")], two=[line("e3")]), past_runs=[last])
    await start.recover(nursery, "acme")
    assert start.recovery.previous_run() == PreviousRun(run_id, "reported", 2, recovered)


async def test_run_without_its_report_yet_holds_it_back(autojump_clock, nursery) -> None:
    """Its report, once it can be written, may list what others list: delivered meanwhile, it would be sent again."""
    start = Start(Shelf(one=[line("e1")]), is_unaccounted=True)
    await start.recover(nursery, "acme")
    assert start.flow.events() == []
    assert start.shelf.claims == {}
    assert start.flow.log.texts == [f"NOTHING IS RECOVERED: {UNACCOUNTED}\n"]


async def test_three_crashes_in_a_row_hold_it_back(autojump_clock, nursery) -> None:
    """Nothing is read, nothing is claimed, and the log and stderr say why."""
    crashes = [PastRun(f"r{n}", EPOCH - 300 + n, EPOCH - 200 + n, crashed=True, undelivered=1) for n in range(3)]
    start = Start(Shelf(one=[line("e1")]), past_runs=crashes)
    await start.recover(nursery, "acme")
    assert start.flow.events() == []
    assert start.shelf.claims == {}
    assert start.logged("recovery.held_back")
    assert start.flow.log.texts == [f"NOTHING IS RECOVERED: {HELD_BACK}\n"]
    await at(700)
    await start.recovery.run(start.forced)
    assert [event.id for event in start.flow.events()] == ["e1"]
