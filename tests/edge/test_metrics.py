"""`GET /metrics`: names, balance with `/v1/status`, bounded series."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import trio
from hookd.core.outcome import Blocked, Unreachable
from hookd.core.run_history import PreviousRun
from hookd.core.settings import DeliverySettings, IntakeSettings, RetentionSettings, RetrySettings, Settings
from hookd.edge.api.problems import PROBLEMS
from hookd.edge.api.services import Connections, Standing
from hookd.flow.backlogs import CLIENTS_MAX
from hookd.flow.ports import Unclaimed
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.edge.test_api import Api, event, started
from tests.flow.harness import EPOCH, URL, Flow, Hang, Held, Reloaded, Slow, at, endpoint, now

SERIES_MAX = 160
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(api: Api) -> Series:
    """Every series and its value; the name is the sample's."""
    answer = await api.get("/metrics")
    assert answer.status == 200
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, frozenset(labels.items())]


def total(series: Series, name: str) -> float:
    return sum(number for (its_name, _), number in series.items() if its_name == name)


async def busy(nursery, **services: Any) -> Api:
    """Something of everything: delivered, failed, exhausted, forgotten, reopened, in flight, unrouted, refused."""
    api = await started(
        nursery,
        Settings(
            retry=RetrySettings(schedule_seconds=(5.0,)),
            delivery=DeliverySettings(timeout_seconds=10.0),
            intake=IntakeSettings(client_events_max=6),
            retention=RetentionSettings(exhausted_events_max=2),
        ),
        connections=lambda: Connections(3, 1000, 7, 5),
        log_lines_dropped=lambda: 11,
        **services,
    )
    api.flow.sender.script(URL, Slow(0.2, 200), 503, Blocked("10.0.0.1"), Hang(), 404, Unreachable("refused"), 404)
    for number in range(6):
        await api.post("/v1/events", event(id=f"e{number}"))
    await api.post("/v1/events", event(id="over"))
    await api.post("/v1/events/batch?partial=true", [event(id="over2"), event(client_id="nobody")])
    api.flow.put("picky", endpoint(url="https://picky.example/", event_types=("other.*",)))
    await api.post("/v1/events", event(client_id="picky"))
    await at(60)
    [first, *_] = api.flow.ledger.exhausted()
    await api.post(f"/v1/clients/acme/events/{first.id}/retry")
    await now()
    api.flow.sender.script(URL, 500, Hang())
    for number in range(2):
        await api.post("/v1/events", event(id=f"late{number}"))
    await at(61)
    return api


async def test_metrics_and_status_tell_the_same_totals(autojump_clock, nursery) -> None:
    """Each total of the status page is in the metrics, and both balance, in a daemon to which everything happened."""
    api = await busy(nursery)
    series = await scrape(api)
    status = (await api.get("/v1/status")).body
    assert value(series, "hookd_events_accepted_total") == status["events"]["accepted"] > 0
    assert value(series, "hookd_events_recovered_total") == status["events"]["recovered"]
    assert value(series, "hookd_events_unrouted") == status["events"]["unrouted"] == 1
    assert value(series, "hookd_deliveries_opened_total") == status["deliveries"]["opened"]
    for word in ("pending", "failed", "delivered", "exhausted"):
        assert value(series, "hookd_events", status=word) == status["events"][word]
        assert value(series, "hookd_deliveries", status=word) == status["deliveries"][word]
    assert value(series, "hookd_attempts_in_flight") == status["deliveries"]["in_flight"] == 1
    for name, number in status["memory"].items():
        assert value(series, f"hookd_{name}") == number
    for state, number in status["endpoints"].items():
        assert value(series, "hookd_endpoints", state=state) == number
    assert value(series, "hookd_clients") == status["clients"] == 2
    for name in ("oldest_unsettled_seconds", "oldest_overdue_seconds"):
        assert value(series, f"hookd_{name}") == pytest.approx(status[name] or 0.0, abs=0.001)
    assert value(series, "hookd_connections_open") == 3
    assert value(series, "hookd_connections_refused_total") == 7
    assert value(series, "hookd_connections_displaced_total") == 5
    assert value(series, "hookd_log_lines_dropped_total") == 11


async def test_counts_balance_among_themselves(autojump_clock, nursery) -> None:
    """Accepted = by status; opened likewise; begun = ended + in flight; given up = exhausted now + reopened."""
    series = await scrape(await busy(nursery))
    assert value(series, "hookd_events_accepted_total") == total(series, "hookd_events")
    assert value(series, "hookd_deliveries_opened_total") == total(series, "hookd_deliveries")
    ended = total(series, "hookd_attempts_total")
    assert value(series, "hookd_attempts_begun_total") == ended + value(series, "hookd_attempts_in_flight")
    given_up, reopened = total(series, "hookd_deliveries_exhausted_total"), 1
    assert value(series, "hookd_deliveries_reopened_total") == reopened
    assert value(series, "hookd_deliveries", status="exhausted") == given_up - reopened
    assert value(series, "hookd_deliveries_exhausted_forgotten_total") > 0
    cut = value(series, "hookd_attempts_total", outcome="cut", status_class="")
    assert value(series, "hookd_attempt_duration_seconds_count") == ended - cut
    delivered = value(series, "hookd_deliveries", status="delivered")
    assert value(series, "hookd_delivery_lag_seconds_count") == delivered == 1
    assert value(series, "hookd_delivery_lag_seconds_sum") == pytest.approx(0.2)
    assert value(series, "hookd_delivery_lag_seconds_bucket", le="0.1") == 0
    assert value(series, "hookd_delivery_lag_seconds_bucket", le="0.25") == 1


async def test_attempts_are_told_by_what_came_of_them(autojump_clock, nursery) -> None:
    """Outcome, and the class of the status where there is one."""
    series = await scrape(await busy(nursery))
    for outcome, status_class in (
        ("responded", "2xx"),
        ("responded", "4xx"),
        ("responded", "5xx"),
        ("timed_out", ""),
        ("unreachable", ""),
        ("blocked", ""),
    ):
        assert value(series, "hookd_attempts_total", outcome=outcome, status_class=status_class) > 0
    assert value(series, "hookd_attempts_total", outcome="invalid", status_class="") == 0


async def test_refusals_are_told_by_problem(autojump_clock, nursery) -> None:
    """Each problem answered counts once, and each refused item of a partial batch; all are there from the start."""
    api = await busy(nursery)
    before = await scrape(api)
    assert value(before, "hookd_problems_total", problem="client-full") == 2
    assert value(before, "hookd_problems_total", problem="unknown-client") == 1
    assert {slug for name, labels in before if name == "hookd_problems_total" for _, slug in labels} == set(PROBLEMS)
    await api.post("/v1/events", b"{")
    await api.get("/nowhere")
    await api.call("DELETE", "/v1/events")
    after = await scrape(api)
    for slug in ("malformed-json", "not-found", "method-not-allowed"):
        assert value(after, "hookd_problems_total", problem=slug) == 1


async def test_cut_attempts_have_no_duration(autojump_clock) -> None:
    """A stop that cuts an attempt is no outcome, and no short answer either."""
    flow = Flow()
    flow.sender.script(URL, Hang())
    flow.put()
    async with trio.open_nursery() as nursery:
        await flow.start(nursery)
        flow.admit()
        await at(1)
        nursery.cancel_scope.cancel()
    assert flow.ledger.counters.attempts["cut", ""] == flow.ledger.totals().attempts == 1
    assert flow.ledger.counters.attempt_seconds.count == 0


async def test_series_are_as_many_with_a_thousand_clients_as_with_one(autojump_clock, nursery) -> None:
    """But for those of the clients with the largest backlogs, no label holds an id, and the number has a bound."""
    api = await started(nursery)
    alone = await scrape(api)
    api.flow.sender.script(URL, Hang())
    for number in range(1000):
        api.flow.put(f"c{number}")
        for _ in range(1 + number % 3):
            api.flow.admit(f"c{number}")
    await at(1)
    among_many = await scrape(api)
    of_clients = {(name, labels) for name, labels in among_many if name.startswith("hookd_client_")}
    assert set(among_many) - of_clients == set(alone)
    assert len(alone) <= SERIES_MAX
    assert len(of_clients) == 2 * CLIENTS_MAX
    assert value(among_many, "hookd_endpoints", state="ok") == 1001
    names = {name for _, labels in alone for name, _ in labels}
    of_build = {"version", "python_version", "shard"}
    fixed = {"le", "outcome", "paused_by", "port", "problem", "reason", "state", "status", "status_class"}
    assert names - of_build == fixed
    assert {name for _, labels in of_clients for name, _ in labels} == {"client_id"}


async def test_clients_with_the_largest_backlogs_are_named_with_what_they_hold(autojump_clock, nursery) -> None:
    """Registered or not matters not; one without a backlog is not named, and one whose backlog is gone no more."""
    api = await started(nursery)
    held = Held()
    api.flow.sender.script(URL, held)
    api.flow.put("idle")
    for number in range(1, 31):
        api.flow.put(f"c{number}")
        for _ in range(number):
            api.flow.admit(f"c{number}")
    await at(1)
    series = await scrape(api)
    for number in range(11, 31):
        assert value(series, "hookd_client_unsettled_events", client_id=f"c{number}") == number
        assert value(series, "hookd_client_unsettled_bytes", client_id=f"c{number}") == number * (13 + 512 + 512)
    assert sum(name == "hookd_client_unsettled_events" for name, _ in series) == CLIENTS_MAX
    held.release(200)
    await at(30)
    assert not [name for name, _ in await scrape(api) if name.startswith("hookd_client_")]


async def test_failing_and_paused_by_an_operator_are_told_apart(autojump_clock, nursery) -> None:
    """4xx alone, straight: the endpoint is ok by its state, and failing. A pause of either kind is told by whom."""
    api = await started(nursery)
    api.flow.sender.script(URL, 404)
    api.flow.sender.script("https://down.example/", 500)
    api.flow.put("down", endpoint(url="https://down.example/"))
    api.flow.put("held", endpoint(url="https://held.example/"))
    await api.post("/v1/clients/held/endpoints/default/pause", b"")
    for number in range(12):
        for client_id in ("acme", "down"):
            await api.post("/v1/events", event(client_id=client_id, id=f"e{number}"))
    await at(29)
    assert value(await scrape(api), "hookd_endpoints_failing") == 0
    await at(60)
    series = await scrape(api)
    assert value(series, "hookd_endpoints_failing") == 2
    assert value(series, "hookd_endpoints", state="ok") == 1
    assert value(series, "hookd_endpoints", state="paused") == 2
    assert value(series, "hookd_endpoints_paused", paused_by="failures") == 1
    assert value(series, "hookd_endpoints_paused", paused_by="operator") == 1
    health = (await api.get("/v1/clients/acme")).body["endpoints"][0]["health"]
    assert (health["state"], health["failing"]) == ("ok", True)
    api.flow.sender.script(URL, 200)
    await api.post("/v1/events", event(id="well"))
    await at(61)
    assert value(await scrape(api), "hookd_endpoints_failing") == 1


async def test_slow_endpoint_alone_makes_nothing_ready(autojump_clock, nursery) -> None:
    """Its backlog is overdue for a minute and a half, and waits for its own window: none of it waits for hookd."""
    api = await started(nursery, Settings(delivery=DeliverySettings(concurrency=1, timeout_seconds=200.0)))
    api.flow.sender.script(URL, Slow(100, 200))
    for number in range(3):
        await api.post("/v1/events", event(id=f"e{number}"))
    await at(95)
    series = await scrape(api)
    assert value(series, "hookd_oldest_overdue_seconds") == 95
    assert value(series, "hookd_longest_ready_seconds") == 0


async def test_what_waits_for_connections_of_others_is_ready(autojump_clock, nursery) -> None:
    """Every connection is in use: an endpoint that does well has room, and its delivery waits for hookd."""
    api = await started(nursery, Settings(delivery=DeliverySettings(connections_max=2, timeout_seconds=200.0)))
    api.flow.sender.script("https://slow.example/", Slow(100, 200))
    for client_id in ("slow1", "slow2"):
        api.flow.put(client_id, endpoint(url="https://slow.example/"))
        await api.post("/v1/events", event(client_id=client_id, id="e"))
    await at(10)
    await api.post("/v1/events", event(id="mine"))
    await at(80)
    assert value(await scrape(api), "hookd_longest_ready_seconds") == 70
    await at(101)
    assert value(await scrape(api), "hookd_longest_ready_seconds") == 0


async def test_what_the_run_before_left_and_what_the_process_knows_is_told(autojump_clock, nursery) -> None:
    """A run that left a list, one that left none, and no run before; reloads, certificates, reports."""
    none = await scrape(await started(nursery))
    names = ("undelivered", "recovered", "unlisted")
    assert [value(none, f"hookd_previous_run_{name}") for name in names] == [0, 0, 0]
    assert value(none, "hookd_config_last_reload_successful") == 1
    unclaimed = [Unclaimed(f"/reports/crash-{number}.jsonl", None) for number in range(3)]
    standing = Standing(unclaimed, Reloaded(False, EPOCH + 5), {"api": EPOCH + 7, "egress": EPOCH + 9})
    before = PreviousRun("r", "reported", 12, 5)
    left = await scrape(await started(nursery, standing=lambda: standing, previous_run=lambda: before))
    assert [value(left, f"hookd_previous_run_{name}") for name in names] == [12, 5, 0]
    assert value(left, "hookd_unclaimed_reports") == 3
    assert value(left, "hookd_config_last_reload_successful") == 0
    assert value(left, "hookd_config_last_reload_success_timestamp_seconds") == EPOCH + 5
    assert value(left, "hookd_certificate_expiry_timestamp_seconds", certificate="api") == EPOCH + 7
    assert value(left, "hookd_certificate_expiry_timestamp_seconds", certificate="egress") == EPOCH + 9
    killed = PreviousRun("r", "crash", None, 0)
    unlisted = await scrape(await started(nursery, previous_run=lambda: killed))
    assert [value(unlisted, f"hookd_previous_run_{name}") for name in names] == [0, 0, 1]


async def test_names_follow_prometheus_conventions(autojump_clock, nursery) -> None:
    """One prefix, counters end in _total, base units."""
    answer = await (await started(nursery)).get("/metrics")
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation
        assert family.name.startswith(("hookd_", "process_"))
        assert (family.type == "counter") == any(sample.name.endswith("_total") for sample in family.samples)
        assert not re.search("_(ms|milliseconds|kb|mb|minutes|count)$", family.name)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_no_fault_with_the_metrics() -> None:
    """Prometheus' own linter."""

    async def exposition() -> bytes:
        async with trio.open_nursery() as nursery:
            answer = await (await started(nursery)).get("/metrics")
            nursery.cancel_scope.cancel()
        return bytes(answer.body)

    checked = subprocess.run(["promtool", "check", "metrics"], input=trio.run(exposition), capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text", "application/openmetrics-text"),
        ("application/openmetrics-text;version=x, text/plain;q=0.5", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0, text/*", "text/plain"),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.3", "text/plain"),
        (PROMETHEUS_2, "application/openmetrics-text"),
        ("text/plain;version=\xb2,;;;=,q=,*", "text/plain"),
    ],
)
async def test_form_is_negotiated(autojump_clock, nursery, accept: str | None, expected: str) -> None:
    """As Prometheus 2 and 3 ask, as curl asks, and as nobody should."""
    api = await started(nursery)
    answer = await api.call("GET", "/metrics", **({} if accept is None else {"accept": accept}))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(f"{expected}; version=")
    if expected == "text/plain":
        assert list(text_string_to_metric_families(answer.body.decode()))
    else:
        assert {family.name for family in openmetrics.text_string_to_metric_families(answer.body.decode())} >= {
            "hookd_events_accepted",
            "hookd_build",
        }
