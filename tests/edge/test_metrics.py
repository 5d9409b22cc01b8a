"""`GET /metrics`: names, balance with `/v1/status`, bounded series; the alert rules name nothing that is not there."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio
from hookd.core.outcome import Blocked, Unreachable
from hookd.core.settings import DeliverySettings, IntakeSettings, RetentionSettings, RetrySettings, Settings
from hookd.edge.api.problems import PROBLEMS
from hookd.edge.api.services import Connections
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.edge.test_api import Api, event, started
from tests.flow.harness import URL, Flow, Hang, Slow, at, endpoint, now

ALERTS = Path(__file__).parents[2] / "config" / "alerts.yml"
SERIES_MAX = 150
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


async def busy(nursery) -> Api:
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
    """No label holds an id: the number of series has a bound, and stays within it."""
    api = await started(nursery)
    alone = await scrape(api)
    for number in range(1000):
        api.flow.put(f"c{number}", endpoint(url=f"https://c{number}.example/"))
        api.flow.admit(f"c{number}")
    await at(1)
    among_many = await scrape(api)
    assert set(among_many) == set(alone)
    assert len(alone) <= SERIES_MAX
    assert value(among_many, "hookd_endpoints", state="ok") == 1001
    names = {name for _, labels in alone for name, _ in labels}
    of_build = {"version", "python_version", "shard"}
    assert names - of_build == {"le", "outcome", "port", "problem", "reason", "state", "status", "status_class"}


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


async def test_alerts_name_metrics_that_there_are(autojump_clock, nursery) -> None:
    """Every metric in config/alerts.yml is a series of a daemon that has just started, with the labels selected by."""
    series = await scrape(await started(nursery))
    labels_of: dict[str, set[tuple[str, str]]] = {}
    for name, labels in series:
        labels_of.setdefault(name, set()).update(labels)
    rules = ALERTS.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:hookd|process)_\w+", rules))
    assert len(named) >= 10
    assert named <= set(labels_of)
    for name, selector in re.findall(r"\b(hookd_\w+)\{(.*?)\}", rules):
        for label, values in re.findall(r'(\w+)=~?"(.*?)"', selector):
            assert {(label, each) for each in values.split("|")} <= labels_of[name]


HEALTHY = {
    "hookd_oldest_overdue_seconds": "0x60",
    "hookd_unsettled_events": "10x60",
    "hookd_unsettled_events_max": "100x60",
    "hookd_unsettled_bytes": "10x60",
    "hookd_unsettled_bytes_max": "100x60",
    'hookd_problems_total{problem="full"}': "3x60",
    'hookd_problems_total{problem="not-found"}': "0+5x60",
    'hookd_deliveries_exhausted_total{reason="attempts_used"}': "0+1x60",
    'hookd_deliveries_exhausted_total{reason="expired"}': "0x60",
    "hookd_deliveries_opened_total": "0+1000x60",
    'hookd_endpoints{state="ok"}': "90x60",
    'hookd_endpoints{state="paused"}': "10x60",
    "hookd_loop_lag_seconds": "0.01x60",
    "hookd_draining": "0x60",
    "hookd_report_directory_writable": "1x60",
    "hookd_recorder_failed": "0x60",
}
TROUBLES = {
    "HookdOverdue": {"hookd_oldest_overdue_seconds": "0+60x60"},
    "HookdBudgetFilling": {"hookd_unsettled_bytes": "81x60"},
    "HookdRefusing": {'hookd_problems_total{problem="full"}': "0+1x60"},
    "HookdGivingUp": {'hookd_deliveries_exhausted_total{reason="expired"}': "0+20x60"},
    "HookdEndpointsPaused": {'hookd_endpoints{state="paused"}': "30x60"},
    "HookdLoopLag": {"hookd_loop_lag_seconds": "0.4x60"},
    "HookdStuckDraining": {"hookd_draining": "1x60"},
    "HookdReportDirectory": {"hookd_report_directory_writable": "0x60"},
    "HookdRecorderFailed": {"hookd_recorder_failed": "1x60"},
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_alerts_fire_in_their_trouble_and_in_no_other(tmp_path) -> None:
    """Each alone in its own, none in a healthy daemon's hour."""
    alerts = re.findall(r"alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    assert set(TROUBLES) == set(alerts)
    hours = [({}, [])] + [
        (trouble, [{"labels": f'{{alertname="{alert}"}}', "value": 1}]) for alert, trouble in TROUBLES.items()
    ]
    (tmp_path / "test.yml").write_text(
        json.dumps(
            {
                "rule_files": [str(ALERTS)],
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [{"series": name, "values": values} for name, values in series.items()],
                        "promql_expr_test": [
                            {
                                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                                "eval_time": "45m",
                                "exp_samples": firing,
                            }
                        ],
                    }
                    for trouble, firing in hours
                    for series in [HEALTHY | trouble]
                ],
            }
        )
    )
    tested = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
