"""The README's words: few enough to read at night, and every figure and name in it is the code's."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hookd.cli.command_line import COMMANDS
from hookd.core.delivery import Status
from hookd.core.health import (
    PAUSE_AFTER_ATTEMPTS,
    PAUSE_AFTER_SECONDS,
    PROBE_SECONDS_MAX,
    PROBE_SECONDS_MIN,
    THROTTLING,
    State,
)
from hookd.core.retry_after import RETRY_AFTER_SECONDS_MAX
from hookd.core.settings import DEFAULTS
from hookd.edge.api.problems import PROBLEMS
from hookd.flow.backlogs import CLIENTS_MAX
from hookd.flow.final_report import REPORT_SECONDS_MAX
from hookd.process.exit_codes import ExitCode

from tests.acceptance.harness import hookd
from tests.edge.test_api import started
from tests.edge.test_metrics import scrape

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FLOWING = " ".join(README.split())  # wherever its lines end
WORDS_BEFORE_COMMAND_MAX = 150
PARAGRAPH_WORDS_MAX = 90
# The pages that a reader of the README is sent to, to do something.
TASKS = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{page}.md" for page in ("api", "receiving", "restarts", "upgrading", "alerts")),
]
# Every page but the decisions, which are looked up one by one.
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem != "decisions")]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
TARGET = re.compile(r"\]\([^)]*\)")


def words(text: str) -> int:
    """As they are read: where a link leads is not."""
    return len(TARGET.sub("]", text).split())


def paragraphs(text: str) -> list[str]:
    """Without code, tables and headings; each item of a list is one."""
    blocks = re.split(r"\n\s*\n|\n(?=\* |\d\. )", FENCE.sub("\n", text))
    return ["\n".join(line for line in block.splitlines() if not line.startswith(("|", "#"))) for block in blocks]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_first_command_stands_on_the_first_screen() -> None:
    """A reader in a hurry meets it within so many words, and the second soon after."""
    before, _, after = README.partition("```console\n")
    assert words(before) <= WORDS_BEFORE_COMMAND_MAX
    assert after.index("venv/bin/pytest") < after.index("\n## ")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_paragraph_is_long(path: Path) -> None:
    """Where there are cases there is a table."""
    lengths = {words(one): one for one in paragraphs(path.read_text(encoding="utf-8"))}
    assert max(lengths) <= PARAGRAPH_WORDS_MAX, lengths[max(lengths)]


# Figures

FIGURES = {
    f"`drain.timeout` ({DEFAULTS.drain.timeout_seconds:.0f} s)",
    f"`drain.timeout`, {DEFAULTS.drain.timeout_seconds:.0f} s; a second SIGTERM",
    f"`delivery.timeout` ({DEFAULTS.delivery.timeout_seconds:.0f} s)",
    f"window of up to {DEFAULTS.delivery.concurrency} attempts",
    f"both sign for {DEFAULTS.delivery.secret_overlap_seconds / 3600:.0f} h",
    f"`retry.age_max` ({DEFAULTS.retry.age_seconds_max / 3600:.0f} h)",
    f"Jitter ({DEFAULTS.retry.jitter:.0%})".replace("%", " %"),
    f"at {DEFAULTS.intake.client_events_max:,} or {DEFAULTS.intake.client_bytes_max >> 20} MiB, or its share of the",
    f"at {DEFAULTS.intake.unsettled_events_max:,} or {DEFAULTS.intake.unsettled_bytes_max >> 20} MiB",
    f"for {DEFAULTS.retention.age_seconds_max / 3600:.0f} h after it settled",
    f"{DEFAULTS.retention.delivered_events_max:,} delivered and {DEFAULTS.retention.exhausted_events_max:,} exhausted",
    f"all {DEFAULTS.http.connections_max:,} connections of the API are in use",
    f"the {CLIENTS_MAX} clients with the largest backlog",
    f"ten timeouts, 5xx or failed connects in a row, over {PAUSE_AFTER_SECONDS:.0f} s or more",
    f"goes out as a probe after {PROBE_SECONDS_MIN:.0f} s, then at growing waits of up to {PROBE_SECONDS_MAX:.0f} s",
    f"beyond {DEFAULTS.intake.client_events_max:,} events or {DEFAULTS.intake.client_bytes_max >> 20} MiB its",
    f"then the file | {REPORT_SECONDS_MAX:.0f} s; then exit code {ExitCode.BUG.value} |",
    f"Kubernetes' 30 s leave the report {30 - DEFAULTS.drain.timeout_seconds:.0f} s",
    f"it answered {', '.join(map(str, sorted(THROTTLING)[:-1]))} or {max(THROTTLING)}, or",
}


@pytest.mark.parametrize("figure", sorted(FIGURES))
def test_figure_is_the_default(figure: str) -> None:
    """Whoever changes a default meets the sentence that names it."""
    assert figure in FLOWING


def test_shares_of_one_client_are_what_the_defaults_come_to() -> None:
    """A fifth of the events, a quarter of the bytes and of the recorder, half of the connections."""
    intake = DEFAULTS.intake
    assert intake.unsettled_events_max == 5 * intake.client_events_max
    assert intake.unsettled_bytes_max == 4 * intake.client_bytes_max
    assert "share of the flight recorder (by default a quarter)" in FLOWING
    assert f"half of the connections, {intake.client_events_max:,} events" in FLOWING
    assert "four or five clients that are down for long fill the budget" in FLOWING


def test_endpoint_states_begin_and_end_as_the_readme_says() -> None:
    """Figures that are written as words."""
    assert PAUSE_AFTER_ATTEMPTS == 10
    assert "| ten timeouts, 5xx or failed connects in a row" in FLOWING
    assert RETRY_AFTER_SECONDS_MAX == 3600
    assert "none before its `Retry-After` (an hour at most)" in FLOWING


def test_time_to_stop_is_that_of_the_shipped_files() -> None:
    """Of systemd's unit, and of the pods."""
    unit = (ROOT / "config" / "hookd.service").read_text(encoding="utf-8")
    pods = (ROOT / "config" / "kubernetes.yaml").read_text(encoding="utf-8")
    (unit_seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    (pod_seconds,) = re.findall(r"terminationGracePeriodSeconds: (\d+)$", pods, re.MULTILINE)
    assert f"`hookd print kubernetes.yaml` gives {pod_seconds} s, the shipped unit {unit_seconds} s" in FLOWING


def test_sum_of_the_waits_and_the_odds_are_worked_out() -> None:
    """The default schedule's sum, and what is left of 10,000 events where each attempt fails one time in five."""
    minutes, seconds = divmod(sum(DEFAULTS.retry.schedule_seconds), 60)
    assert f"The waits sum to {minutes:.0f} min {seconds:.0f} s" in FLOWING
    assert f"again {minutes:.0f} min {seconds:.0f} s after its post" in FLOWING
    attempts = 1 + len(DEFAULTS.retry.schedule_seconds)
    left = [10_000 * 0.2**number for number in range(1, attempts + 1)]
    assert f"= {0.2**attempts:.6f}. Of 10,000 events that is {left[-1]:.2f}" in FLOWING
    second, third, fourth, fifth, sixth = (f"{one:,.0f}" for one in left[:-1])
    said = f"{second} need a second attempt, {third} a third, {fourth} a fourth, {fifth} a fifth, {sixth} a sixth"
    assert said in FLOWING


def test_memory_for_half_a_million_events_is_what_check_says(tmp_path: Path) -> None:
    """The README's file is valid, holds them by the README's formula, and costs what the README says."""
    block = re.search(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert block
    file = tmp_path / "hookd.toml"
    file.write_text(block[1], encoding="utf-8")
    checked = hookd("check", str(file))
    assert checked.returncode == 0, checked.stderr
    limit = re.search(r"limit for a container: \d+MiB", checked.stdout)
    assert limit
    assert limit[0] in README
    report = re.search(r"disk for reports: \S+ for one", checked.stdout)
    assert report
    assert report[0] in README
    recorded = re.search(r"flight recorder: about ([\d,]+) unsettled", checked.stdout)
    assert recorded
    intake = tomllib.loads(block[1])["intake"]
    assert int(recorded[1].replace(",", "")) >= intake["unsettled_events_max"] == 500_000
    assert f"so it takes {500_000 // DEFAULTS.intake.client_events_max} to fill it" in FLOWING
    bytes_of_event = 2000 + 512 + 512
    assert (
        f"{bytes_of_event:,} B \N{MULTIPLICATION SIGN} 500,000 = {bytes_of_event * 500_000 / 2**20:,.0f} MiB" in FLOWING
    )
    assert int(intake["unsettled_bytes_max"].removesuffix("MiB")) << 20 >= bytes_of_event * 500_000


def test_memory_by_default_is_what_check_says(tmp_path: Path) -> None:
    """An empty file is the defaults."""
    (tmp_path / "empty.toml").touch()
    checked = hookd("check", str(tmp_path / "empty.toml"))
    limit = re.search(r"limit for a container: (\d+MiB)", checked.stdout)
    assert limit
    assert f"by default {limit[1]}" in README


# Names


def test_exit_codes_are_all_explained() -> None:
    """In the table for who was paged: every code there is, and no other."""
    rows = re.findall(r"^\| [^|]*exit code ([^|]+?)\s*\|", README, re.MULTILINE)
    named = {int(number) for row in rows for number in re.findall(r"\b\d+\b", row)}
    assert named == {code.value for code in ExitCode}


def test_statuses_and_states_stand_in_the_readme() -> None:
    """Every word that an answer may show for a delivery or an endpoint that is not well."""
    named = {status.value for status in Status} | {state.value for state in State} - {State.OK.value}
    assert [one for one in sorted(named) if f"`{one}`" not in README] == []


def test_settings_and_log_lines_that_are_named_exist() -> None:
    """`section.key` in backticks is a setting of config/hookd.toml, or a line of the log."""
    sections = tomllib.loads((ROOT / "config" / "hookd.toml").read_text(encoding="utf-8"))
    settings = {f"{section}.{key}" for section, keys in sections.items() for key in keys}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "daemon").rglob("*.py"))
    named = set()
    for path in TASKS:
        named |= set(re.findall(r"`([a-z]+\.[a-z_]+)(?=[`: ])", path.read_text(encoding="utf-8")))
    named = {one for one in named if not one.endswith((".py", ".md", ".toml", ".yml", ".json", ".cfg", ".service"))}
    named -= {"express.raw", "request.raw_post"}
    assert len(named) > 20
    assert [one for one in sorted(named) if one not in settings and f'"{one}"' not in sources] == []


def test_commands_and_options_that_are_named_exist() -> None:
    """`hookd NAME --option …`, wherever it stands in the pages for those who do something."""
    commands = {command.name: {option for one in command.params for option in one.opts} for command in COMMANDS}
    found = 0
    for path in TASKS:
        for named, rest in re.findall(r"(?:`|bin/|^)hookd ([a-z]+)\b([^`\n]*)", path.read_text(encoding="utf-8"), re.M):
            if named in ("is", "alone"):
                continue
            assert named in commands, f"{name(path)}: hookd {named}"
            options = set(re.findall(r"(?<=\s)--[a-z-]+", rest.partition("#")[0].partition(" | ")[0]))
            assert options <= commands[named], f"{name(path)}: hookd {named}{rest}"
            found += 1
    assert found > 50


def test_alerts_of_the_readme_are_those_of_the_rules() -> None:
    """Each has its action, in one row."""
    table = README[README.index("### Alerts") :].partition("\n## ")[0]
    rules = re.findall(r"- alert: (\w+)", (ROOT / "config" / "alerts.yml").read_text(encoding="utf-8"))
    assert sorted(re.findall(r"`(Hookd\w+)`", table)) == sorted(rules)


async def test_metrics_and_routes_that_are_named_exist(autojump_clock, nursery) -> None:
    """Series are counted with one client that has a backlog of none; routes are those of openapi.json."""
    api = await started(nursery)
    series = await scrape(api)
    names = {metric for metric, _ in series}
    for metric, labels in re.findall(r"`(hookd_\w+)(?:\{(\w+)=)?", README):
        assert metric in names, metric
        assert not labels or any(dict(given).get(labels) for its, given in series if its == metric), labels
    alone = sum(1 for metric, _ in series if not metric.startswith("hookd_client_"))
    assert f"{alone} series for Prometheus" in FLOWING
    routes = set((await api.get("/openapi.json")).body["paths"])
    known = {re.sub(r"\{(\w+?)(?:_id)?\}", lambda found: found[1].upper(), route) for route in routes}
    for route in re.findall(r"`(?:GET |POST |PUT )?(/(?!var/|etc/)[^`? ]*)[`?]", README):
        generic = re.sub(r"^/problems/[\w-]+$", "/problems/SLUG", route)
        assert generic in known, route


def test_problems_that_are_named_exist() -> None:
    """With their status before them, as producers see them."""
    rows: Mapping[str, int] = {slug: problem.status for slug, problem in PROBLEMS.items()}
    named = re.findall(r"^\| (\d{3}) `([\w-]+)`", README, re.MULTILINE)
    assert len(named) >= 4
    assert [(status, slug) for status, slug in named if rows.get(slug) != int(status)] == []
