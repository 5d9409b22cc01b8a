"""`config/alerts.yml`: each rule fires in its trouble, is silent short of it, and is explained in docs/alerts.md."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from hookd.edge.api.services import Standing

from tests.edge.test_api import started
from tests.edge.test_metrics import scrape
from tests.flow.harness import EPOCH, Reloaded

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "config" / "alerts.yml"
PAGE = ROOT / "docs" / "alerts.md"
RULES = re.findall(r"alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
# Prometheus' own, of each scrape.
NOT_OURS = {"up"}
DAYS_SECONDS = 86_400

Series = dict[str, str]


async def test_alerts_name_metrics_that_there_are(autojump_clock, nursery) -> None:
    """Every metric in config/alerts.yml is a series of a daemon that has just started, with the labels selected by."""
    standing = Standing((), Reloaded(), {"api": EPOCH})
    series = await scrape(await started(nursery, standing=lambda: standing))
    labels_of: dict[str, set[tuple[str, str]]] = {}
    for name, labels in series:
        labels_of.setdefault(name, set()).update(labels)
    rules = re.sub(r"summary:.*|description:.*|runbook_url:.*|#.*", "", ALERTS.read_text(encoding="utf-8"))
    named = set(re.findall(r"\b(?:hookd|process)_\w+", rules))
    assert len(named) >= 20
    assert named <= set(labels_of)
    for name, selector in re.findall(r"\b(hookd_\w+)\{(.*?)\}", rules):
        for label, values in re.findall(r'(\w+)=~?"(.*?)"', selector):
            assert {(label, each) for each in values.split("|")} <= labels_of[name]


def test_each_alert_has_a_section_that_says_what_to_do() -> None:
    """Its link leads there; what it means, what to look at, what to do; and whether it pages, as the rule has it."""
    rules = ALERTS.read_text(encoding="utf-8").split("- alert: ")[1:]
    sections = {part.partition("\n")[0]: part for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]}
    assert [name for name in sections if name.startswith("Hookd")] == RULES
    assert {name for name in RULES if f"`{name}`" not in sections["Whose it is"]} == set()
    for rule in rules:
        name = rule.partition("\n")[0]
        assert f"runbook_url: docs/alerts.md#{name.lower()}\n" in rule
        severity = re.search(r"severity: (\w+)", rule)
        assert severity is not None
        text = " ".join(sections[name].split())
        assert f"*{severity[1]}.* **Means**: " in text
        assert "**Look at**: " in text
        assert "**Do**: " in text


# An hour, by the minute. Each alert is asked for at minute 45.
HEALTHY: Series = {
    'up{job="hookd"}': "1x60",
    "hookd_longest_ready_seconds": "0x60",
    "hookd_oldest_overdue_seconds": "0x60",
    "hookd_unsettled_events": "10x60",
    "hookd_unsettled_events_max": "100x60",
    "hookd_unsettled_bytes": "10x60",
    "hookd_unsettled_bytes_max": "100x60",
    "hookd_recorder_bytes": "10x60",
    "hookd_recorder_bytes_max": "100x60",
    'hookd_problems_total{problem="full"}': "3x60",
    'hookd_problems_total{problem="client-full"}': "3x60",
    'hookd_problems_total{problem="internal"}': "1x60",
    'hookd_problems_total{problem="not-found"}': "0+5x60",
    "hookd_couriers_crashed_total": "1x60",
    'hookd_deliveries_exhausted_total{reason="attempts_used"}': "0+1x60",
    'hookd_deliveries_exhausted_total{reason="expired"}': "0x60",
    'hookd_deliveries_exhausted_total{reason="refused"}': "0+900x60",
    "hookd_deliveries_opened_total": "0+1000x60",
    "hookd_delivery_lag_seconds_count": "0+1000x60",
    'hookd_endpoints{state="ok"}': "90x60",
    'hookd_endpoints{state="paused"}': "10x60",
    "hookd_endpoints_failing": "10x60",
    "hookd_loop_lag_seconds": "0.01x60",
    "hookd_draining": "0x60",
    "hookd_report_directory_writable": "1x60",
    "hookd_recorder_failed": "0x60",
    "hookd_previous_run_undelivered": "0x60",
    "hookd_previous_run_recovered": "0x60",
    "hookd_previous_run_unlisted": "0x60",
    "hookd_unclaimed_reports": "0x60",
    "hookd_waiting_for_client_events": "0x60",
    "hookd_config_last_reload_successful": "1x60",
    'hookd_certificate_expiry_timestamp_seconds{certificate="api"}': f"{30 * DAYS_SECONDS}x60",
    "process_start_time_seconds": f"-{DAYS_SECONDS}x60",
}
# A platform of four endpoints, that posts now and then.
SMALL: Series = {
    'hookd_endpoints{state="ok"}': "4x60",
    'hookd_endpoints{state="paused"}': "0x60",
    "hookd_endpoints_failing": "0x60",
    'hookd_deliveries_exhausted_total{reason="attempts_used"}': "0x60",
    "hookd_deliveries_opened_total": "9x60",
    "hookd_delivery_lag_seconds_count": "0x60",
}
RESTARTED: Series = {"process_start_time_seconds": "0x60"}
FULL, CLIENT_FULL = 'hookd_problems_total{problem="full"}', 'hookd_problems_total{problem="client-full"}'
INTERNAL = 'hookd_problems_total{problem="internal"}'
USED_UP = 'hookd_deliveries_exhausted_total{reason="attempts_used"}'
EXPIRED = 'hookd_deliveries_exhausted_total{reason="expired"}'
OK, PAUSED = 'hookd_endpoints{state="ok"}', 'hookd_endpoints{state="paused"}'
CERTIFICATE = 'hookd_certificate_expiry_timestamp_seconds{certificate="api"}'


class Hour(NamedTuple):
    """What of it is not as in a healthy one, and which alerts fire at minute 45."""

    name: str
    series: Series
    firing: tuple[str, ...] = ()


HOURS = (
    Hour("healthy", {}),
    Hour("down", {'up{job="hookd"}': "1x40 0x20"}, ("HookdDown",)),
    Hour("one scrape missed", {'up{job="hookd"}': "1x44 0 1x20"}),
    Hour("restarted, 5 left", RESTARTED | {"hookd_previous_run_undelivered": "5x60"}, ("HookdRestartedUndelivered",)),
    Hour("killed without a list", RESTARTED | {"hookd_previous_run_unlisted": "1x60"}, ("HookdRestartedUndelivered",)),
    Hour(
        "restarted, all taken back",
        RESTARTED | {"hookd_previous_run_undelivered": "5x60", "hookd_previous_run_recovered": "5x60"},
    ),
    Hour("restarted clean", RESTARTED),
    Hour("5 left a day ago", {"hookd_previous_run_undelivered": "5x60"}),
    Hour("a report that nobody took up", {"hookd_unclaimed_reports": "1x60"}, ("HookdUnclaimedReports",)),
    Hour("a report that is taken up soon", {"hookd_unclaimed_reports": "0x35 1x10 0x20"}),
    Hour("client not registered", {"hookd_waiting_for_client_events": "7x60"}, ("HookdWaitingForClient",)),
    Hour("client registered late", {"hookd_waiting_for_client_events": "7x40 0x20"}),
    Hour("hookd late", {"hookd_longest_ready_seconds": "0+10x60"}, ("HookdOverdue",)),
    Hour("hookd late for a moment", {"hookd_longest_ready_seconds": "0x42 90x3 0x20"}),
    # 95 s at 1.4 ms of loop lag paged before: a customer's endpoint that has used up its own concurrency.
    Hour("slow endpoint", {"hookd_oldest_overdue_seconds": "95x60", "hookd_loop_lag_seconds": "0.0014x60"}),
    Hour("slow endpoint for an hour", {"hookd_oldest_overdue_seconds": "0+60x60"}),
    Hour("budget of bytes", {"hookd_unsettled_bytes": "81x60"}, ("HookdBudgetFilling",)),
    Hour("budget of events", {"hookd_unsettled_events": "81x60"}, ("HookdBudgetFilling",)),
    Hour("budget filled for a moment", {"hookd_unsettled_events": "79x41 99x3 79x20"}),
    Hour("recorder", {"hookd_recorder_bytes": "81x60"}, ("HookdRecorderFilling",)),
    Hour("recorder at 79 %", {"hookd_recorder_bytes": "79x60"}),
    Hour("recorder off", {"hookd_recorder_bytes": "0x60", "hookd_recorder_bytes_max": "0x60"}),
    Hour("full", {FULL: "0x30 0+1x30"}, ("HookdRefusing",)),
    Hour("full all the hour", {FULL: "0+1x60"}, ("HookdRefusing", "HookdRefusingInBursts")),
    Hour("full in bursts", {FULL: "0x3 50x9 100x9 150x9 200x9 250x20"}, ("HookdRefusingInBursts",)),
    Hour("full in one burst", {FULL: "0x20 50x40"}),
    Hour("one client full", {CLIENT_FULL: "0+1x60"}, ("HookdClientFull",)),
    Hour("one client full once", {CLIENT_FULL: "0x42 9x20"}),
    Hour("answered 500 once", {INTERNAL: "0x40 1x20"}, ("HookdInternal",)),
    Hour("courier crashed once", {"hookd_couriers_crashed_total": "0x40 1x20"}, ("HookdInternal",)),
    Hour("answered 500 long ago", {INTERNAL: "0x10 1x50"}),
    Hour("many given up", {EXPIRED: "0+20x60"}, ("HookdGivingUp",)),
    Hour("a few given up", {EXPIRED: "0+8x60"}),
    Hour("9 of 9 lost", SMALL | {USED_UP: "0x20 9x40"}, ("HookdLosingMost",)),
    Hour("3 of 9 lost", SMALL | {USED_UP: "0x20 3x40", "hookd_delivery_lag_seconds_count": "0x20 6x40"}),
    Hour(
        "all lost",
        {USED_UP: "0+1000x60", "hookd_delivery_lag_seconds_count": "9x60"},
        ("HookdGivingUp", "HookdLosingMost"),
    ),
    Hour(
        "4 of 4 paused",
        SMALL | {OK: "0x60", PAUSED: "4x60", "hookd_endpoints_failing": "4x60"},
        ("HookdEndpointsFailing",),
    ),
    Hour("4 of 4 answer 401", SMALL | {"hookd_endpoints_failing": "4x60"}, ("HookdEndpointsFailing",)),
    Hour("1 of 4 fails", SMALL | {"hookd_endpoints_failing": "1x60"}),
    Hour("30 of 100 fail", {"hookd_endpoints_failing": "30x60"}, ("HookdEndpointsFailing",)),
    Hour("19 of 100 fail", {"hookd_endpoints_failing": "19x60"}),
    Hour("an operator paused all of them", SMALL | {OK: "0x60", PAUSED: "4x60"}),
    Hour("loop lag", {"hookd_loop_lag_seconds": "0.4x60"}, ("HookdLoopLag",)),
    Hour("loop lag for a moment", {"hookd_loop_lag_seconds": "0.1x42 3x2 0.1x20"}),
    Hour("draining for ever", {"hookd_draining": "1x60"}, ("HookdStuckDraining",)),
    Hour("draining", {"hookd_draining": "0x44 1x1 0x20"}),
    Hour("report directory", {"hookd_report_directory_writable": "0x60"}, ("HookdReportDirectory",)),
    Hour("report directory for a moment", {"hookd_report_directory_writable": "1x43 0x1 1x20"}),
    Hour("recorder failed", {"hookd_recorder_failed": "1x60"}, ("HookdRecorderFailed",)),
    Hour("recorder fails later", {"hookd_recorder_failed": "0x50 1x10"}),
    Hour("reload refused", {"hookd_config_last_reload_successful": "0x60"}, ("HookdReloadRefused",)),
    Hour("reload mended at once", {"hookd_config_last_reload_successful": "1x42 0x2 1x20"}),
    Hour("certificate", {CERTIFICATE: f"{13 * DAYS_SECONDS}x60"}, ("HookdCertificateExpiring",)),
    Hour("certificate, 15 days left", {CERTIFICATE: f"{15 * DAYS_SECONDS}x60"}),
)


def test_each_alert_has_an_hour_in_which_it_fires_and_a_near_one_in_which_it_does_not() -> None:
    """A near miss changes a series that the alert's own trouble changes too, and nothing fires."""
    troubles: dict[str, set[str]] = {}
    for hour in HOURS:
        for alert in hour.firing:
            troubles.setdefault(alert, set()).update(hour.series)
    assert set(troubles) == set(RULES)
    near = {name for hour in HOURS if not hour.firing for name in hour.series}
    assert [alert for alert, series in troubles.items() if not series & near] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_alerts_fire_in_their_trouble_and_in_no_other(tmp_path) -> None:
    """All of them are asked in every hour: what fires is told, and nothing besides."""
    (tmp_path / "test.yml").write_text(
        json.dumps(
            {
                "rule_files": [str(ALERTS)],
                "tests": [
                    {
                        "name": hour.name,
                        "interval": "1m",
                        "input_series": [
                            {"series": name, "values": values} for name, values in (HEALTHY | hour.series).items()
                        ],
                        "promql_expr_test": [
                            {
                                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                                "eval_time": "45m",
                                "exp_samples": [
                                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in hour.firing
                                ],
                            }
                        ],
                    }
                    for hour in HOURS
                ],
            }
        )
    )
    tested = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_recording_rules_add_up_the_daemons_of_a_job(tmp_path) -> None:
    """Of three, one gone since minute 20: what it counted before is no part of the rate any more; no other job is."""
    each = {"8081": ("0+60x60", "10x60"), "8082": ("0+120x60", "90x60"), "8083": ("0+600x20", "20x20")}
    series = {}
    for instance, (accepted, unsettled) in each.items():
        of = f'{{job="hookd", instance="{instance}"}}'
        series |= {f"hookd_events_accepted_total{of}": accepted, f"hookd_unsettled_events{of}": unsettled}
        series |= {f"hookd_unsettled_events_max{of}": "100x60"}
    series['hookd_unsettled_events{job="other", instance="8081"}'] = "7x60"
    wanted = {
        "job:hookd_events_accepted_total:rate5m": {"hookd": 3.0},
        "job:hookd_unsettled_events:sum": {"hookd": 100, "other": 7},
        "job:hookd_unsettled_events:share_max": {"hookd": 0.9},
    }
    expectations = [
        {
            "expr": name,
            "eval_time": "45m",
            "exp_samples": [{"labels": f'{name}{{job="{job}"}}', "value": value} for job, value in values.items()],
        }
        for name, values in wanted.items()
    ]
    given = [{"series": name, "values": values} for name, values in series.items()]
    tests = [{"interval": "1m", "input_series": given, "promql_expr_test": expectations}]
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": tests}))
    tested = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
