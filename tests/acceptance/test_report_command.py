"""`hookd report` finds its directory wherever it is typed, and says if the report was taken up."""

import json
from pathlib import Path

import pytest

from tests.acceptance.harness import Daemon, environment, hookd, refusing_url, write_shutdown_report

URL = "http://127.0.0.1:9/hook"


@pytest.fixture(name="nobody")
def _nobody() -> object:
    """The environment of someone whose HOOKD_URL nobody answers at."""
    with refusing_url() as url:
        yield environment(None, HOOKD_URL=url.removesuffix("/hook"))


def test_report_of_the_configuration_is_found_from_anywhere(tmp_path: Path, nobody: dict[str, str]) -> None:
    """--config decides, and no daemon is asked."""
    path = write_shutdown_report(tmp_path / "kept", 3, URL)
    config = tmp_path / "hookd.toml"
    config.write_text(f'[drain]\nreport_directory = "{path.parent}"\n')
    shown = hookd("report", "--config", str(config), env=nobody, cwd=Path("/"))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"hookd resend {path}" in shown.stdout
    config.write_text("[drain]\nreport_directroy = 1\n")
    wrong = hookd("report", "--config", str(config), env=nobody, cwd=Path("/"))
    assert (wrong.returncode, wrong.stdout) == (78, "")
    assert "report_directory" in wrong.stderr  # the suggestion


def test_report_of_a_running_daemon_is_found_by_its_url(tmp_path: Path) -> None:
    """By flag or environment: the daemon says where it writes, and `/v1/status` shows that."""
    with Daemon(tmp_path / "first") as daemon:
        assert daemon.stop() == 0
    with Daemon(tmp_path / "first") as daemon:
        with daemon.api as api:
            assert api.status()["report_directory"] == str(daemon.reports)
        named = hookd("report", "--url", daemon.url, "--json", cwd=Path("/"))
        assert (named.returncode, named.stderr) == (0, "")
        by_environment = hookd("report", "--json", env=environment(None, HOOKD_URL=daemon.url), cwd=Path("/"))
        assert by_environment.stdout == named.stdout
        assert json.loads(named.stdout)["run_id"] in daemon.report().name
        for marker in daemon.reports.glob("run-*.open"):
            marker.unlink()  # as if another machine had a directory of this name
        doubted = hookd("report", "--url", daemon.url, cwd=Path("/"))
        assert doubted.returncode == 0
        assert f"the daemon at {daemon.url} runs on another machine, or writes to another" in doubted.stderr
        assert f"this is {daemon.report()}, of run" in doubted.stderr


def test_report_names_the_others_that_nobody_took_up(tmp_path: Path) -> None:
    """A run that was killed, then one that left nothing: the newest alone would be good news."""
    lost = write_shutdown_report(tmp_path / "reports", 2, URL)
    with Daemon(tmp_path) as daemon:
        assert daemon.stop() == 0
    shown = hookd("report", "--reports", str(lost.parent))
    assert "UNDELIVERED" not in shown.stdout
    assert shown.stderr == f"hookd: 1 other report that nobody took up, the newest first:\nhookd:   {lost}\n"
    (newest,) = set(daemon.reports.glob("*.jsonl")) - {lost}
    assert hookd("report", str(newest)).stderr == ""
    Path(f"{lost}.claimed-by-hand").touch()
    assert hookd("report", "--reports", str(lost.parent)).stderr == ""


def test_report_names_ten_others_and_counts_the_rest(tmp_path: Path) -> None:
    """What one screen holds; the newest of them are likeliest to be looked for."""
    oldest = write_shutdown_report(tmp_path / "reports", 1, URL)
    for minute in range(1, 13):
        oldest.with_name(f"shutdown-20261121T20{minute:02}00Z-longago.jsonl").write_bytes(oldest.read_bytes())
    shown = hookd("report", "--reports", str(oldest.parent))
    assert "12 other reports that nobody took up, the newest first:" in shown.stderr
    assert shown.stderr.count(".jsonl") == 10
    assert "and 2 more beside them, without a file NAME.claimed-by-RUN" in shown.stderr


def test_report_beside_a_daemon_that_is_down_is_found_where_it_usually_is(
    tmp_path: Path, nobody: dict[str, str]
) -> None:
    """./reports counts; that nobody answered is said, since somebody was named."""
    path = write_shutdown_report(tmp_path / "reports", 2, URL)
    shown = hookd("report", env=nobody, cwd=tmp_path)
    assert shown.returncode == 0
    assert "UNDELIVERED: 2 deliveries" in shown.stdout
    assert f"hookd resend {path}" in shown.stdout
    assert f"no hookd answers at {nobody['HOOKD_URL']}" in shown.stderr
    assert "looking in /var/lib/hookd/reports and reports" in shown.stderr
    run_id = path.stem.rpartition("-")[2]
    assert f"it may be another daemon's; this is {path}, of run {run_id} on" in shown.stderr


def test_report_that_is_nowhere_is_66_and_names_the_places(tmp_path: Path, nobody: dict[str, str]) -> None:
    """Also a file that was named and is not there."""
    none = hookd("report", env=nobody, cwd=tmp_path)
    assert (none.returncode, none.stdout) == (66, "")
    assert "no report in /var/lib/hookd/reports or reports" in none.stderr
    missing = hookd("report", str(tmp_path / "none.jsonl"))
    assert (missing.returncode, missing.stdout) == (66, "")
    assert "No such file or directory" in missing.stderr


def test_report_of_a_daemon_that_never_stopped_says_that_one_comes_at_its_stop(tmp_path: Path) -> None:
    """And what to ask until then: nothing is wrong. However its directory was found."""
    config = tmp_path / "hookd.toml"
    with Daemon(tmp_path) as daemon:
        config.write_text(
            f'[http]\nbind = ["127.0.0.1:{daemon.port}"]\n[drain]\nreport_directory = "{daemon.reports}"\n'
        )
        there = f"hookd: no report in {daemon.reports} yet: a daemon runs there, and writes one when it stops."
        for found_by in (["--url", daemon.url], ["--config", str(config)]):
            none = hookd("report", *found_by, cwd=Path("/"))
            asks = f"What it holds now: hookd status --url {daemon.url}"
            assert (none.returncode, none.stdout, none.stderr) == (66, "", f"{there} {asks}\n")
        none = hookd("report", "--reports", str(daemon.reports))
        assert (none.returncode, none.stderr) == (66, f"{there} What it holds now: hookd status\n")
        for marker in daemon.reports.glob("run-*.open"):
            marker.unlink()
        (daemon.reports / ".lock").unlink()  # as if another machine had a directory of this name
        none = hookd("report", "--url", daemon.url, cwd=Path("/"))
        assert none.returncode == 66
        assert f"no report in {daemon.reports}; the daemon at {daemon.url} runs on another machine" in none.stderr


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_report_says_that_it_was_taken_up(tmp_path: Path, form: list[str]) -> None:
    """Whoever reads it must not send it a second time, so no command is there to paste."""
    path = write_shutdown_report(tmp_path / "reports", 2, URL)
    assert hookd("report", str(path), *form).stderr == ""
    Path(f"{path}.claimed-by-run7").touch()
    shown = hookd("report", str(path), *form)
    assert "run run7 took up what this report lists" in shown.stderr
    assert "Nothing will be sent" not in shown.stdout
    assert "hookd resend" not in shown.stdout


def test_report_that_was_claimed_by_hand_names_no_run(tmp_path: Path) -> None:
    """As the documents say: `touch FILE.claimed-by-hand`."""
    path = write_shutdown_report(tmp_path / "reports", 2, URL)
    Path(f"{path}.claimed-by-hand").touch()
    assert "someone, by hand, took up what this report lists" in hookd("report", str(path)).stderr
